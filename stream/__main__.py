"""`python -m pathcast`, and `python -m stream`, which is the same: wheels and editable installs have this file under
both names (pyproject.toml)."""

from stream.cli import main

if __name__ == "__main__":
    main()
