"""Keeps the files of the page in memory, as they are sent: whole, and compressed once.

Their paths begin with a digest of all of them, so that a browser may keep each for good: after a change, all have other
paths. One digest is enough, as the page's modules name each other by relative paths.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

INDEX: Final = "index.html"
TYPES: Final = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".json": "application/json",
    ".svg": "image/svg+xml",
}
OTHER_TYPE: Final = "text/plain"  # licenses
LEVEL: Final = 6  # 0.1 s for all of them; 9 takes more than twice as long, and makes 1 % of difference


class File(NamedTuple):
    body: bytes
    gzipped: bytes
    content_type: str
    tag: str  # of the body, by which a browser asks whether it has changed


class Files:
    """The files of a folder, 3 MB of the page. They are read once: no path of a request leads to a disk."""

    def __init__(self, folder: Path) -> None:
        bodies = {
            str(file.relative_to(folder).as_posix()): file.read_bytes()
            for file in sorted(folder.rglob("*"))
            if file.is_file() and not file.is_symlink()
        }
        self.digest = _digest(bodies)
        if INDEX in bodies:  # which names the others
            bodies[INDEX] = bodies[INDEX].replace(b'"static/', b'"static/%s/' % self.digest.encode())
        self._files = {name: _file(name, body) for name, body in bodies.items()}

    def get(self, name: str) -> File | None:
        return self._files.get(name)


def _digest(bodies: Mapping[str, bytes]) -> str:
    digest = hashlib.sha256()
    for name, body in bodies.items():
        digest.update(f"{name}\n{len(body)}\n".encode() + body)
    return digest.hexdigest()[:16]


def _file(name: str, body: bytes) -> File:
    content_type = TYPES.get(Path(name).suffix, OTHER_TYPE)
    return File(body, gzip.compress(body, LEVEL, mtime=0), content_type, hashlib.sha256(body).hexdigest()[:16])
