"""`pathcast`, and `python -m pathcast`: wheels and editable installs have this file as pathcast/__main__.py, too
(pyproject.toml)."""

from __future__ import annotations

import sys


def main() -> None:
    """Runs the root command. Ctrl-C is no error while that is being imported, either."""
    try:
        from stream.commands.main import main as run
    except KeyboardInterrupt:
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
