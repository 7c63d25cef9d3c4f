"""One version of an atlas, as it is served: read only, and named by its bytes."""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from model.atlas.published import Published
from model.atlas.version import CHECKSUM_BYTES, loads

VERSION_BYTES: Final = 8


@dataclass(frozen=True, eq=False)
class Atlas:
    """The sums of one version, what they contain, and its name: a hash of its bytes."""

    sums: Published
    contains: Mapping[str, Any]
    version: str

    @classmethod
    def of(cls, raw: bytes | memoryview) -> Self:
        """Returns the atlas that these bytes are, and shares them. Raises AtlasError."""
        sums, contains = loads(raw)
        return cls(sums, contains, version_of(raw))

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
