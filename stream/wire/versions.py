"""The records of the models topic: which versions of the atlas and of the weights answer which pings.

The topic is compacted and has one partition. The key of an atlas is `atlas:<version>`. Weights can come back, so each
announcement of theirs has a number: its key is `weights:<number>`. A version is announced, and then serves; a null
value withdraws it or retires it. `stream.versions.ledger` and `stream.versions.weights` say what follows from that.
"""

from __future__ import annotations

from collections.abc import Sized
from typing import Annotated, Any, Final, Literal

import msgspec

from stream.wire.messages import decoded

VERSION_KEY: Final = "atlas:"
WEIGHTS_KEY: Final = "weights:"
ALL: Final = 10_000  # parts of the fleet
LAST_SERIAL: Final = 2**31 - 1
# What a reader takes, so that no record costs it much.
MAX_VERSION_BYTES: Final = 1 << 18
MOST_PARTITIONS: Final = 4_096  # named by a record
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


_Parts = Annotated[int, msgspec.Meta(ge=0, le=ALL)]
_Many = dict[int, Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]]


class WeightsRecord(msgspec.Struct, frozen=True, kw_only=True, rename={"first": "from"}, omit_defaults=True):
    """An announcement of weights: who asks them, and from which ping of each partition on. Partitions that it does not
    name have none.

    role     who asks them
    all      every entity: the first at `from`, the others one after the other over the next `ramp` offsets
    canary   `parts` in 10,000 of the entities, from `from` to before `until`, if that is stated
    """

    kind: Literal["weights"]
    serial: Annotated[int, msgspec.Meta(ge=1, le=LAST_SERIAL)]  # of the announcement
    version: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{16}$")]
    name: str
    role: Literal["all", "canary"]
    state: Literal["announced", "serving"]
    parts: _Parts
    first: _Offsets  # "from" in the JSON
    ramp: _Many  # offsets, by partition
    until: _Offsets | None = None
    topic: str  # the pings topic
    reason: str  # one sentence
    issued_ts: int

    @property
    def key(self) -> bytes:
        return f"{WEIGHTS_KEY}{self.serial:010}".encode()


_WEIGHTS: Final = msgspec.json.Decoder(WeightsRecord)
_DECODER: Final = msgspec.json.Decoder(VersionRecord)


def loads_version(raw: bytes) -> VersionRecord:
    """Raises msgspec.DecodeError (a ValueError) for bytes that are no such record."""
    record = decoded(_DECODER, _bounded(raw))
    _check(record.first, record.includes)
    return record


def loads_weights(raw: bytes) -> WeightsRecord:
    """Raises as `loads_version`."""
    record = decoded(_WEIGHTS, _bounded(raw))
    _check(record.first, record.ramp, record.until or {})
    return record


def _bounded(raw: bytes) -> bytes:
    if len(raw) > MAX_VERSION_BYTES:
        raise msgspec.ValidationError(f"{len(raw):,} bytes, of at most {MAX_VERSION_BYTES:,}")
    return raw


def _check(*by_partition: Sized) -> None:
    most = max(map(len, by_partition))
    if most > MOST_PARTITIONS:
        raise msgspec.ValidationError(f"{most:,} partitions, of at most {MOST_PARTITIONS:,}")
