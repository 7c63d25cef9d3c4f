"""The records of the models topic: which versions of the atlas answer which pings.

The topic is compacted and has one partition. The key is `atlas:<version>`. A version is announced, and then serves; a
null value withdraws it or retires it. `stream.versions.ledger` says what follows from the records.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec

VERSION_KEY: Final = "atlas:"
_Offsets = dict[int, Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]]  # int64, by partition of the pings topic


class VersionRecord(msgspec.Struct, frozen=True, kw_only=True, rename={"first": "from"}):
    """One version of the atlas, and the first ping of each partition that it may answer. Partitions that it does not
    name have none."""

    kind: Literal["atlas"] = "atlas"
    version: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{16}$")]
    state: Literal["announced", "serving"]
    first: _Offsets  # "from" in the JSON
    topic: str  # the pings topic
    includes: _Offsets  # the offsets that follow the last pings in it; empty if it was made of something else
    contains: dict[str, Any]  # as the file says
    issued_ts: int

    @property
    def key(self) -> bytes:
        return f"{VERSION_KEY}{self.version}".encode()


_DECODER: Final = msgspec.json.Decoder(VersionRecord)


def loads_version(raw: bytes) -> VersionRecord:
    """Raises msgspec.MsgspecError (a ValueError) for bytes that are no such record, and RecursionError for some."""
    return _DECODER.decode(raw)
