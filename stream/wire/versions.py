"""The records of the models topic: which versions of the atlas and of the weights answer which pings.

The topic is compacted and has one partition. The key of an atlas is `atlas:<version>`. Weights can come back, so each
announcement of theirs has a number: its key is `weights:<number>`. A version is announced, and then serves; a null
value withdraws it or retires it. `stream.versions.ledger` and `stream.versions.weights` say what follows from that.
"""

from __future__ import annotations

from collections.abc import Sized
from typing import Annotated, Any, Final, Literal

import msgspec

from stream.wire.messages import EPOCH_MS, decode, means

VERSION_KEY: Final = "atlas:"
WEIGHTS_KEY: Final = "weights:"
ALL: Final = 10_000  # parts of the fleet
LAST_SERIAL: Final = 2**31 - 1
# What a reader takes, so that no record costs it much.
MAX_VERSION_BYTES: Final = 1 << 18
MOST_PARTITIONS: Final = 4_096  # named by a record
_Offset = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]  # int64
_Offsets = dict[int, _Offset]  # by partition of the pings topic
_Count = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
_HASH = "^[0-9a-f]{16}$"
_State = Literal["announced", "serving"]
_Pings = Annotated[str, means("the pings topic")]
_IssuedTime = Annotated[int, means(f"when it was announced, {EPOCH_MS}")]


class VersionRecord(msgspec.Struct, frozen=True, kw_only=True, rename={"first": "from"}):
    """An announcement of a version of the atlas, and of the pings from which on it may answer.

    Partitions that it does not name have none.
    """

    kind: Annotated[Literal["atlas"], means("atlas")] = "atlas"
    version: Annotated[str, msgspec.Meta(pattern=_HASH, description="the hash of the atlas")]
    state: Annotated[_State, means("announced: it may still be withdrawn; serving: it answers from its offsets on")]
    first: Annotated[_Offsets, means("the first ping that it may answer, an offset by partition of the pings topic")]
    topic: _Pings
    # Empty if it was made of something else.
    includes: Annotated[_Offsets, means("the offsets that follow the last pings in it, by partition")]
    contains: Annotated[dict[str, Any], means("what its file states of itself")]
    issued_ts: _IssuedTime

    @property
    def key(self) -> bytes:
        return f"{VERSION_KEY}{self.version}".encode()


class WeightsRecord(msgspec.Struct, frozen=True, kw_only=True, rename={"first": "from"}, omit_defaults=True):
    """An announcement of weights: the entities that ask them, and the pings from which on they do.

    Partitions that it does not name have none.

    role     who asks them
    all      every entity: the first at `from`, the others one after the other over the next `ramp` offsets
    canary   `parts` in 10,000 of the entities, from `from` to before `until`, if that is stated
    """

    kind: Annotated[Literal["weights"], means("weights")]
    serial: Annotated[int, means("the number of the announcement: the last one that applies counts", 1, LAST_SERIAL)]
    version: Annotated[str, msgspec.Meta(pattern=_HASH, description="the hash of the weights")]
    name: Annotated[str, means("the name of the weights")]
    role: Annotated[Literal["all", "canary"], means("all: every entity asks them; canary: a part of the entities")]
    state: Annotated[_State, means("announced: it may still be withdrawn; serving: it holds from its offsets on")]
    parts: Annotated[int, means("how many of 10,000 parts of the fleet ask them", 0, ALL)]
    first: Annotated[_Offsets, means("the first ping, an offset by partition of the pings topic")]
    ramp: Annotated[
        dict[int, _Count], means("over how many offsets the entities follow one after the other, by partition")
    ]
    until: Annotated[_Offsets | None, means("the first ping that is not theirs any more, by partition")] = None
    topic: _Pings
    reason: Annotated[str, means("why, in one sentence")]
    issued_ts: _IssuedTime

    @property
    def key(self) -> bytes:
        return f"{WEIGHTS_KEY}{self.serial:010}".encode()


_WEIGHTS: Final = msgspec.json.Decoder(WeightsRecord)
_DECODER: Final = msgspec.json.Decoder(VersionRecord)


def loads_version(raw: bytes) -> VersionRecord:
    """Raises msgspec.DecodeError (a ValueError) for bytes that are no such record."""
    record = decode(_DECODER, _bounded(raw))
    _check(record.first, record.includes)
    return record


def loads_weights(raw: bytes) -> WeightsRecord:
    """Raises as `loads_version`."""
    record = decode(_WEIGHTS, _bounded(raw))
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
