"""Keeps files below one root: a folder of this machine, or a URL of fsspec (s3://bucket/pings, memory://pings).

Files have names relative to the root: "folder/file". A folder exists if something lies in it. A file appears whole or
not at all, and `create` lets one of several writers win. Nothing is ever changed in place. The registry and the archive
of pings stand on it.

    folder   files of this machine, which need no package; says what each method does
    url      objects behind a URL; fsspec is imported when one is opened
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from stream.storage.folder import PIECE_BYTES, LocalFolder, pieces
from stream.storage.url import UrlFolder

__all__ = ["PIECE_BYTES", "LocalFolder", "Storage", "UrlFolder", "open_storage", "pieces"]

Storage = LocalFolder | UrlFolder

# Whose `pipe_file(mode="create")` is one atomic request (S3 by If-None-Match). fsspec's default looks first and writes
# then, so that two writers could both win.
_EXCLUSIVE: Final = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "memory"}


def open_storage(url: str | Path, what: str, *, to_create: bool = False) -> Storage:
    """Returns the storage at a path or URL, and connects to nothing yet. Errors call it `what`, such as "the archive".

    Raises ValueError if fsspec or what it needs for this URL is not installed, or if files are to be created, and the
    kind of URL has no way to let one of several writers win.
    """
    text = str(url)
    kind, _, rest = text.partition("://")
    if kind == "file":
        return LocalFolder(Path(rest))
    if "://" not in text and "::" not in text:
        return LocalFolder(Path(text))
    if to_create and kind not in _EXCLUSIVE:
        known = ", ".join(sorted(_EXCLUSIVE))
        raise ValueError(f"{text}: {kind}:// cannot create a file for one of several writers only; {known} can")
    return UrlFolder(text, what)
