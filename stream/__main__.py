"""`python -m pathcast`: wheels and editable installs have this file as pathcast/__main__.py (pyproject.toml)."""

from stream.commands.main import main

if __name__ == "__main__":
    main()
