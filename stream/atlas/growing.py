"""Counts a partition's records as they come, and keeps what it must know for that as bytes.

offset  size  what
0       4     "PCAG"
4       1     the version of this layout: 2
5       16    a hash of the forms of the arrays below, and of what the days mean that are counted with them: another
              program may have these otherwise, and its days must not be added to ours
21      ...   compressed by zlib, which checks it: a `stream.atlas.follower.Stored`, and the waiting pings of
              `model.atlas.growth`, as msgpack

It grows with the entities of the last week. Redis takes no value above 512 MiB, so that a partition with more entities
than fit in it cannot be counted: `DaysStore.put` says so.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterator
from hashlib import blake2b
from typing import Final, NamedTuple

import msgspec
import numpy as np

from model.api import FIX
from model.atlas import passages, questions
from model.atlas.buckets import CAME_M
from model.atlas.days import LAYOUT, Day, days_of
from model.atlas.growth import LOST_MS, WAITING, Growth
from model.atlas.passages import Ids, entity_ids
from model.atlas.version import MEANING
from model.atlas.ways import FULL_MPS, MAX_APART_MS, MAX_MPS, MIN_STEP_S
from stream.atlas.follower import POLICY, Follower
from stream.kafka.records.record_columns import Records
from stream.tracks.clean import Foreign
from stream.tracks.track import Policy
from stream.tracks.track_table import ROW
from stream.wire.record import parse_forget

MAGIC: Final = b"PCAG\2"
_RULES: Final = (  # by which days are counted
    *(CAME_M, FULL_MPS, LOST_MS, MAX_APART_MS, MAX_MPS, MIN_STEP_S),
    *(passages.MOST_VEHICLES, passages.MOST_OF_ONE, questions.MOST, questions.MOST_OF_ONE),
    *(questions.OF_PINGS, questions.WINDOW, questions.WINDOW_MS),
)
_QUICK: Final = 1  # zlib's level


def _forms() -> bytes:
    what = FIX, ROW, WAITING, POLICY, LAYOUT, MEANING, _RULES
    return blake2b(repr(what).encode(), digest_size=16).digest()


_FORMS: Final = _forms()


class Grown(NamedTuple):
    """What records have made known, after what was counted before of some entities is forgotten."""

    forgotten: Ids
    days: list[tuple[int, Day]]


class NoGrowth(ValueError):
    """These bytes are no growth, or another program's."""


class PartitionGrowth:
    """Follows and counts the pings of one partition, in its order."""

    def __init__(self, without: Collection[str] = (), policy: Policy = POLICY) -> None:
        """Takes the names of entities of which nothing is to be counted; `policy` is as of `Follower`."""
        self._follower = Follower(without, policy)
        self._growth = Growth()

    @property
    def records(self) -> int:
        """How many records it has taken."""
        return self._follower.records

    @property
    def left_out(self) -> int:
        """How many of them are no pings in order."""
        return self._follower.left_out

    def add(self, records: Records, foreign: Foreign | None = None) -> Iterator[Grown]:
        """Takes the next records, and yields what is new. `foreign` is as of `Follower.fold`.

        An entity that is to be forgotten is, at its record, with all that was counted of it; its later pings count.
        What gave way to it, where more vehicles passed than are kept, does not come back.
        """
        begin, forgotten = 0, np.empty(0, np.uint64)
        for row in np.flatnonzero(records.values.lengths < 0).tolist():
            if (name := parse_forget(records[row])) is not None:
                yield Grown(forgotten, self._days(records[begin:row], foreign))
                self._growth.forget(self._follower.drop(name))
                begin, forgotten = row, entity_ids([name])
        yield Grown(forgotten, self._days(records[begin:] if begin else records, foreign))

    def _days(self, records: Records, foreign: Foreign | None) -> list[tuple[int, Day]]:
        ids, fixes, begins = self._follower.fold(records, foreign)
        return list(days_of(ids, fixes["ts_ms"], *self._growth.add(ids, fixes, begins))) if len(ids) else []

    def known_so_far(self) -> list[tuple[int, Day]]:
        """Returns what is known of passages that are not over, by day; their pings are in what `add` has yielded."""
        none = np.empty(0, np.uint64)
        return list(days_of(none, none.astype(np.int64), *self._growth.known_so_far()))

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
