"""Opens outputs that appear whole or not at all, and standard input as a file."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

from model.files import writing_whole

STD: Final = "-"  # standard input, or output


def check(out: str, *, force: bool) -> None:
    """Raises ValueError if OUT exists and may not be replaced, or its folder does not exist."""
    if out == STD:
        return
    if not Path(out).absolute().parent.is_dir():
        raise ValueError(f"no such directory: {Path(out).parent}")
    if Path(out).is_dir():
        raise ValueError(f"{out} is a directory")
    if Path(out).exists() and not force:
        raise ValueError(f"{out} exists: --force replaces it")


@contextmanager
def to_stdout() -> Iterator[BinaryIO]:
    """Yields standard output. It is no error if its reader has ended, as `head` does."""
    try:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # otherwise Python complains when it exits


@contextmanager
def writing(out: str, *, force: bool) -> Iterator[BinaryIO]:
    """Yields the output. A file is written beside its place, and gets its name when all of it is on the disk; after an
    exception nothing is left of it. Raises as `check`."""
    check(out, force=force)
    if out == STD:
        with to_stdout() as stdout:
            yield stdout
        return
    place = Path(out).absolute()
    with writing_whole(place, os.replace if force else _name_first) as part, part.open("xb") as sink:
        yield sink


def _name_first(part: Path, place: Path) -> None:
    with suppress(OSError):
        # A link is refused where a file of that name has come meanwhile; some file systems have none.
        place.hardlink_to(part)
        return
    check(str(place), force=False)
    part.replace(place)


@contextmanager
def as_file(given: str, suffix: str) -> Iterator[Path]:
    """Yields the path of the input. Standard input is copied to a temporary file first, as it is read twice."""
    if given != STD:
        yield Path(given)
        return
    with tempfile.TemporaryDirectory(prefix="pathcast-") as folder:
        path = Path(folder) / f"stdin{suffix}"
        with path.open("xb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        yield path
