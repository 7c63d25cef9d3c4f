"""Writes files that appear whole or not at all. `stream` and `train` write theirs with it, too."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

WRITING: Final = ".writing"  # how the names of unfinished files end; they begin with a dot


@contextmanager
def writing_whole(path: Path, place: Callable[[Path, Path], Any] = os.replace) -> Iterator[Path]:
    """Yields a path in the same folder to be filled. When that ends well, the disk has all of it, and `place` gives it
    its name; by default in place of a file that has it. After an exception, nothing is left of it.
    """
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}{WRITING}")
    try:
        yield part
        flush(part)
        place(part, path)
    finally:
        part.unlink(missing_ok=True)
    flush(path.parent)


def write_whole(path: Path, pieces: Iterable[bytes | memoryview]) -> None:
    """Writes a file of these pieces that everybody may read: they see the old file or the new one. Raises OSError with
    the name of the file.
    """
    try:
        with writing_whole(path) as part:
            with part.open("xb") as file:
                file.writelines(pieces)
            part.chmod(0o644)
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)  # the error of a full disk has no file name
        raise


def flush(path: Path) -> None:
    """Waits until the disk has a file, or the names in a folder."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
