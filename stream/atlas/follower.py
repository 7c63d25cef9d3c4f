"""Finds the pings of a partition's records that are in order, by the rules by which a worker follows tracks: clean,
then track.

A late ping, a duplicate, a jump and a reject are left out. A silence after which a worker begins a new session begins a
new track here.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.atlas.sums import Ids, entity_ids
from stream.engine.batch import firsts
from stream.engine.pings import Pings
from stream.kafka.record_columns import Records
from stream.tracks.track import Accepted, Policy, observe
from stream.tracks.track_table import TrackTable

WINDOW_FIXES: Final = 32  # what the rules of a track look at


class InOrder(NamedTuple):
    """N pings in order, those of one entity one after the other in the order of their times."""

    ids: Ids  # [N] of their entities
    fixes: NDArray[Any]  # FIX [N]
    begins: NDArray[np.bool_]  # [N] whether the ping begins a track


class Follower:
    """Follows the tracks of a partition's entities."""

    def __init__(self, without: Collection[str] = ()) -> None:
        """Takes the names of entities of which nothing is to be counted."""
        self._policy = Policy(window_fixes=WINDOW_FIXES)
        self._tracks = TrackTable(self._policy)
        self._numbers: dict[str, int] = {}
        self._ids = np.empty(0, np.uint64)  # by number
        self._without = without
        self.records = 0
        self.left_out = 0

    def fold(self, records: Records) -> InOrder:
        """Returns the pings of the next records that are in order. All are of the same partition, in its order."""
        pings = Pings.read(records)
        of_name = self._numbered(list(pings.names))
        index = np.flatnonzero(pings.of >= 0)
        if self._without:
            wanted = np.array([name not in self._without for name in pings.names], np.bool_)
            index = index[wanted[pings.of[index]]]
        slots = of_name[pings.of[index]]
        by_slot = np.argsort(slots, kind="stable")
        index, slots = index[by_slot], slots[by_slot]
        fixes, offsets = pings.fixes[index], records.offsets[index]
        accepted, begins = self._observed(slots, fixes, offsets, records.timestamps_ms[index])
        self.records += len(records)
        self.left_out += len(records) - int(accepted.sum())
        return InOrder(self._ids[slots[accepted]], fixes[accepted], begins[accepted])

    def _numbered(self, names: list[str]) -> NDArray[np.int64]:
        """Returns the numbers of entities; new ones get the next ones."""
        known = len(self._numbers)
        numbers = [self._numbers.setdefault(name, len(self._numbers)) for name in names]
        fresh = [name for name, number in zip(names, numbers, strict=True) if number >= known]
        self._tracks.clear(np.arange(known, len(self._numbers)))
        self._ids = np.concatenate([self._ids, entity_ids(fresh)])
        return np.array(numbers, np.int64)

    def _observed(
        self, slots: NDArray[np.int64], fixes: NDArray[Any], offsets: NDArray[np.int64], published_ms: NDArray[np.int64]
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Folds all pings, and returns which were in order, and which of these begin a track."""
        accepted, begins = np.zeros((2, len(slots)), np.bool_)
        left = np.arange(len(slots))
        while len(left):
            plain = self._tracks.observe_plain(slots[left], fixes[left], offsets[left]).plain
            accepted[left[plain]] = True
            left = left[~plain]
            first = firsts(slots[left])  # the pings before them were plain
            for row in left[first].tolist():
                before = self._tracks.read(int(slots[row]))
                raw, at_ms = fixes[row].tobytes(), int(published_ms[row])
                track, verdict = observe(before, raw, int(offsets[row]), self._policy, at_ms)
                self._tracks.write(int(slots[row]), track)
                if isinstance(verdict, Accepted):
                    accepted[row], begins[row] = True, before is None or verdict.restart
            left = left[~first]
        return accepted, begins
