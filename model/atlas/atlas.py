"""One version of an atlas, as it is served: read only, and named by its bytes."""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

from model.atlas.believing import Belief
from model.atlas.published import Published
from model.atlas.version import CHECKSUM_BYTES, AtlasError, loads

VERSION_BYTES: Final = 8
MAX_MS: Final = 2**53  # of a time: what any JSON reader keeps, and a difference of two fits an int64


class Span(NamedTuple):
    """The times of the first and the last ping that a version knows."""

    from_ms: int
    to_ms: int  # its cut-off: the time of the last ping that it knows

    @classmethod
    def of(cls, contains: Mapping[str, Any]) -> Span:
        """Returns the span that a version says (`days.contents`); one that says none is of 1970. Raises AtlasError."""
        found = [contains.get(name, 0) for name in cls._fields]
        if not all(isinstance(ms, int) and abs(ms) <= MAX_MS for ms in found):
            raise AtlasError(f"an atlas of pings from {found[0]!r:.50} to {found[1]!r:.50}: these are no times in ms")
        return cls(*found)


@dataclass(frozen=True, eq=False)
class Atlas:
    """The passages of one version, how far they are believed, what they contain, and its name: a hash of its bytes."""

    passages: Published
    belief: Belief
    contains: Mapping[str, Any]
    version: str

    @classmethod
    def of(cls, raw: bytes | memoryview) -> Self:
        """Returns the atlas that these bytes are, and shares them. Raises AtlasError."""
        found = loads(raw)
        Span.of(found.contains)
        return cls(*found, version_of(raw))

    @property
    def span(self) -> Span:
        return Span.of(self.contains)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Maps a file into memory and checks it whole. Raises OSError, and AtlasError for a file that is no atlas or is
        damaged.
        """
        with Path(path).open("rb") as file:
            if not file.seek(0, 2):
                return cls.of(b"")
            return cls.of(memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)))


def version_of(raw: bytes | memoryview) -> str:
    """Returns the name of the version with these bytes, or these last ones, of an atlas that `loads` accepts: 16
    hexadecimal digits, the first half of its checksum.
    """
    return bytes(raw[-CHECKSUM_BYTES:][:VERSION_BYTES]).hex()
