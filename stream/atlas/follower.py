"""Finds the pings of a partition's records that are in order, by the rules by which a worker follows tracks: clean,
then track.

A late ping, a duplicate, a jump and a reject are left out. A silence after which a worker begins a new session begins a
new track here. An entity that was silent for IDLE_MS, by the times at which records were published, is forgotten: so
what is kept does not grow for ever where ids are used once. Recordings have no such times, and nobody is forgotten.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from model.api import FIX
from model.atlas.growth import ANEW, LOST_MS
from model.atlas.passages import Ids, entity_ids
from stream.engine.pings import Pings
from stream.kafka.records.record_columns import Records
from stream.tracks.clean import Foreign
from stream.tracks.track import Accepted, PendingGap, Policy, observe
from stream.tracks.track_table import ROW, Copied, Observed, TrackTable, firsts

WINDOW_FIXES: Final = (
    8  # a ping that is in order depends on the last one; the others tell a late one from a false clock
)
# Nothing is filled here, so that a silence is no gap.
POLICY: Final = Policy(WINDOW_FIXES, gap_min_s=Policy(WINDOW_FIXES).session_gap_s)
IDLE_MS: Final = 7 * 86_400_000  # as long as a worker's states live by default (`Settings.state_ttl_s`)
LEAP_MS: Final = 86_400_000
assert LOST_MS < IDLE_MS
I64 = NDArray[np.int64]


class InOrder(NamedTuple):
    """N pings in order, those of one entity one after the other in the order of their times."""

    ids: Ids  # [N] of their entities
    fixes: NDArray[Any]  # FIX [N]
    begins: NDArray[np.uint8]  # [N] 1 for a ping that begins a track, ANEW if nothing is known of its entity


class Stored(msgspec.Struct, array_like=True):
    """A follower as bytes. Arrays are as they are in memory: `stream.atlas.growing` says for which program."""

    names: list[str]
    heard_ms: bytes
    ring: bytes
    book: bytes
    odd: dict[int, tuple[bytes, tuple[PendingGap, ...]]]
    watermark_ms: int
    records: int
    left_out: int


class Follower:
    """Follows the tracks of a partition's entities."""

    def __init__(self, without: Collection[str] = (), policy: Policy = POLICY) -> None:
        """Takes the names of entities of which nothing is to be counted. A gap by `policy` ends a track."""
        self._policy = policy
        self._tracks = TrackTable(policy)
        self._numbers: dict[str, int] = {}
        self._ids: Ids = np.empty(0, np.uint64)  # by number
        self._heard_ms: I64 = np.empty(0, np.int64)  # by number: `_watermark_ms` when its last record came
        self._watermark_ms = -1  # the latest time at which a record was published, so far: see `_watermarks`
        self._without = without
        self.records = 0
        self.left_out = 0

    def fold(self, records: Records, foreign: Foreign | None = None) -> InOrder:
        """Returns the pings of the next records that are in order. All are of the same partition, in its order.

        `foreign` reads what has not the form of a ping of ours.
        """
        pings = Pings.read(records, foreign)
        wanted = np.array([name not in self._without for name in pings.names], np.bool_)
        of_name = np.full(len(wanted), -1, np.int64)
        of_name[wanted] = self._number([name for name in pings.names if name not in self._without])
        index = np.flatnonzero(pings.of >= 0)
        index = index[wanted[pings.of[index]]]
        slots = of_name[pings.of[index]]
        by_slot = np.argsort(slots, kind="stable")
        index, slots = index[by_slot], slots[by_slot]
        silent = self._silent(slots, index, records.timestamps_ms)
        fixes, offsets = pings.fixes[index], records.offsets[index]
        accepted, begins = self._observe(slots, fixes, offsets, records.timestamps_ms[index], silent)
        self.records += len(records)
        self.left_out += len(records) - int(accepted.sum())
        return InOrder(self._ids[slots[accepted]], fixes[accepted], begins[accepted])

    def _number(self, names: list[str]) -> I64:
        """Returns the numbers of entities; new ones get the next ones."""
        known = len(self._numbers)
        numbers = [self._numbers.setdefault(name, len(self._numbers)) for name in names]
        fresh = [name for name, number in zip(names, numbers, strict=True) if number >= known]
        self._tracks.clear(np.arange(known, len(self._numbers)))
        self._ids = np.concatenate([self._ids, entity_ids(fresh)])
        self._heard_ms = np.append(self._heard_ms, np.full(len(fresh), self._watermark_ms))
        return np.array(numbers, np.int64)

    def _silent(self, slots: I64, index: I64, published_ms: I64) -> NDArray[np.bool_]:
        """Returns which pings come after a silence of IDLE_MS or more, and notes when each entity was heard."""
        watermark_ms = _watermarks(published_ms, self._watermark_ms)
        self._watermark_ms = int(watermark_ms[-1]) if len(watermark_ms) else self._watermark_ms
        if not len(slots):
            return np.zeros(0, np.bool_)
        now_ms, first = watermark_ms[index], firsts(slots)
        before_ms = np.append(0, now_ms[:-1])
        before_ms[first] = self._heard_ms[slots[first]]
        self._heard_ms[slots] = now_ms  # of several, numpy takes the last
        return np.asarray(now_ms - before_ms >= IDLE_MS)

    def _observe(
        self, slots: I64, fixes: NDArray[Any], offsets: I64, published_ms: I64, silent: NDArray[np.bool_]
    ) -> tuple[NDArray[np.bool_], NDArray[np.uint8]]:
        """Folds all pings, and returns which were in order, and which of these begin a track."""
        accepted, begins = np.zeros(len(slots), np.bool_), np.zeros(len(slots), np.uint8)
        windows = np.zeros((2, len(slots)), np.int64)  # not asked for

        def fold_odd(row: int) -> None:
            before = self._tracks.read(int(slots[row]))
            raw, at_ms = fixes[row].tobytes(), int(published_ms[row])
            track, verdict = observe(before, raw, int(offsets[row]), self._policy, at_ms)
            self._tracks.write(int(slots[row]), track)
            if isinstance(verdict, Accepted):
                begins_track = verdict.restart or verdict.gap is not None
                accepted[row], begins[row] = True, ANEW if before is None else begins_track

        for some in _between_silences(slots, silent):
            self._tracks.clear(slots[some[silent[some]]])
            self._tracks.fold(slots, fixes, offsets, Observed(accepted, *windows), fold_odd, some)
        return accepted, begins

    def forget(self) -> Ids:
        """Forgets the entities that were silent for IDLE_MS or more, and returns their ids, sorted. It changes nothing
        of what is found in later pings.
        """
        gone = self._watermark_ms - self._heard_ms >= IDLE_MS
        if not gone.any():
            return np.empty(0, np.uint64)
        ids = np.sort(self._ids[gone])
        self._restore(self._to_stored(np.flatnonzero(~gone)))
        return ids

    def drop(self, name: str) -> Ids:
        """Forgets one entity, as its record asks (`stream.wire.record`), and returns its id, if it was known."""
        number = self._numbers.get(name)
        if number is None:
            return np.empty(0, np.uint64)
        others = np.delete(np.arange(len(self._numbers)), number)
        self._restore(self._to_stored(others))
        return entity_ids([name])

    def go_back(self, offset: int) -> None:
        """Takes records from this offset on as new ones."""
        self._tracks.go_back(offset)

    def dumps(self) -> bytes:
        return msgspec.msgpack.encode(self._to_stored(np.arange(len(self._numbers))))

    @classmethod
    def loads(cls, raw: bytes, without: Collection[str] = ()) -> Follower:
        """Returns the follower that `dumps` wrote. Raises ValueError for other bytes."""
        follower = cls(without)
        follower._restore(msgspec.msgpack.decode(raw, type=Stored))
        return follower

    def _to_stored(self, numbers: I64) -> Stored:
        names, tracks = list(self._numbers), self._tracks.copy_slots(numbers)
        place = {number: at for at, number in enumerate(numbers.tolist())}
        return Stored(
            [names[number] for number in numbers.tolist()],
            self._heard_ms[numbers].tobytes(),
            tracks.ring.tobytes(),
            tracks.book.tobytes(),
            {place[number]: odd for number, odd in tracks.odd.items()},
            self._watermark_ms,
            self.records,
            self.left_out,
        )

    def _restore(self, stored: Stored) -> None:
        slots = np.arange(len(stored.names))
        self._numbers = {name: number for number, name in enumerate(stored.names)}
        self._ids = entity_ids(stored.names)
        self._heard_ms = np.frombuffer(stored.heard_ms, np.int64).copy()
        ring = np.frombuffer(stored.ring, FIX).reshape(len(slots), WINDOW_FIXES)
        self._tracks = TrackTable(POLICY)
        self._tracks.clear(slots)
        self._tracks.put_back(slots, Copied(ring, np.frombuffer(stored.book, ROW), stored.odd))
        self._watermark_ms, self.records, self.left_out = stored.watermark_ms, stored.records, stored.left_out


def _watermarks(published_ms: I64, before_ms: int) -> I64:
    """Returns the latest time of publication so far, at each record. A record moves it by LEAP_MS at most, so that one
    false time makes nobody silent; the first one, of which nothing tells whether it is false, as far as it says.
    """
    found = np.maximum.accumulate(np.maximum(published_ms, before_ms))
    earlier = np.append(before_ms, found)[:-1]
    if (found - earlier <= LEAP_MS)[earlier >= 0].all():
        return np.asarray(found)
    now = before_ms
    for row, at_ms in enumerate(published_ms.tolist()):
        now = at_ms if now < 0 else max(now, min(at_ms, now + LEAP_MS))
        found[row] = now
    return np.asarray(found)


def _between_silences(slots: I64, silent: NDArray[np.bool_]) -> Iterator[I64]:
    """Yields the rows of each entity up to its next long silence, then those up to the one after it, and so on: nearly
    always all rows at once. A row after a silence is the first of its entity.
    """
    if not len(slots):
        return
    first = firsts(slots)
    count = np.cumsum(silent & ~first)
    turn: I64 = count - np.repeat(count[first], np.diff(np.append(np.flatnonzero(first), len(slots))))
    for one in range(int(turn.max()) + 1):
        yield np.flatnonzero(turn == one)
