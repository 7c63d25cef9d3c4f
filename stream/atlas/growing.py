"""Counts a partition's records as they come, and keeps what it must know for that as bytes.

offset  size  what
0       4     "PCAG"
4       1     the version of this layout: 1
5       16    a hash of the forms of the arrays below, and of what the days mean that are counted with them: another
              program may have these otherwise, and its days must not be added to ours
21      ...   compressed by zlib, which checks it: a `stream.atlas.follower.Stored`, and the waiting pings of
              `model.atlas.growth`, as msgpack

It grows with the entities of the last week. Redis takes no value above 512 MiB, so that a partition with more entities
than fit in it cannot be counted: `SumsStore.put` says so.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterator
from hashlib import blake2b
from typing import Final

import msgspec
import numpy as np

from model.api import FIX
from model.atlas.cells import CAME_M
from model.atlas.days import LAYOUT, Day
from model.atlas.growth import WAITING, Growth
from model.atlas.outcomes import MAX_APART_MS, MAX_MPS, MIN_STEP_S
from model.atlas.sums import BUCKETS, SLOT_MS
from model.atlas.version import MEANING
from stream.atlas.follower import POLICY, Follower
from stream.kafka.records.record_columns import Records
from stream.tracks.clean import Foreign
from stream.tracks.track_table import ROW
from stream.wire.forgetting import forgets

MAGIC: Final = b"PCAG\1"
_RULES: Final = (SLOT_MS, BUCKETS, CAME_M, MAX_APART_MS, MAX_MPS, MIN_STEP_S)  # by which days are counted
_QUICK: Final = 1  # zlib's level


def _forms() -> bytes:
    what = FIX, ROW, WAITING, POLICY, LAYOUT, MEANING, _RULES
    return blake2b(repr(what).encode(), digest_size=16).digest()


_FORMS: Final = _forms()


class NoGrowth(ValueError):
    """These bytes are no growth, or another program's."""


class PartitionGrowth:
    """Follows and counts the pings of one partition, in its order."""

    def __init__(self, without: Collection[str] = ()) -> None:
        """Takes the names of entities of which nothing is to be counted."""
        self._follower = Follower(without)
        self._growth = Growth()

    @property
    def records(self) -> int:
        """How many records it has taken."""
        return self._follower.records

    @property
    def left_out(self) -> int:
        """How many of them are no pings in order."""
        return self._follower.left_out

    def add(self, records: Records, foreign: Foreign | None = None) -> Iterator[tuple[int, Day]]:
        """Takes the next records, and returns what is new, as `Growth.add` does. `foreign` is as of `Follower.fold`.

        An entity that is to be forgotten is, at its record: no later ping is counted against its earlier ones. What was
        counted stays.
        """
        begin = 0
        for row in np.flatnonzero(records.values.lengths < 0).tolist():
            if (name := forgets(records[row])) is not None:
                yield from self._growth.add(*self._follower.fold(records[begin:row], foreign))
                self._growth.forget(self._follower.drop(name))
                begin = row
        yield from self._growth.add(*self._follower.fold(records[begin:] if begin else records, foreign))

    def go_back(self, offset: int) -> None:
        """Takes records from this offset on as new ones, after the log was cut there. What was counted stays."""
        self._follower.go_back(offset)

    def dumps(self) -> bytes:
        """Returns it as bytes, without entities that were silent for long, which it forgets."""
        self._growth.forget(self._follower.forget())
        parts = msgspec.msgpack.encode((self._follower.dumps(), self._growth.dumps()))
        return MAGIC + _FORMS + zlib.compress(parts, _QUICK)

    @classmethod
    def loads(cls, raw: bytes, without: Collection[str] = ()) -> PartitionGrowth:
        """Returns what `dumps` wrote; of some entities nothing more is counted. Raises NoGrowth."""
        head = MAGIC + _FORMS
        if not raw.startswith(head):
            raise NoGrowth("what an atlas was growing from is of another version of this program, or damaged")
        try:
            follower, growth = msgspec.msgpack.decode(zlib.decompress(raw[len(head) :]), type=tuple[bytes, bytes])
            made = cls()
            made._follower, made._growth = Follower.loads(follower, without), Growth.loads(growth)
        except (zlib.error, ValueError) as error:
            raise NoGrowth(f"what an atlas was growing from is damaged: {error}") from error
        return made
