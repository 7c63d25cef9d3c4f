"""Finds the pings of records that are in order, by the rules by which a worker follows tracks: clean, then track.

A late ping, a duplicate, a jump and a reject are left out. A silence after which a worker begins a new session begins a
new track here.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream.engine.batch import firsts
from stream.engine.pings import Pings
from stream.kafka.record_columns import Partition, Records
from stream.tracks.track import Accepted, Policy, observe
from stream.tracks.track_table import TrackTable

WINDOW_FIXES: Final = 32  # what the rules of a track look at


class InOrder(NamedTuple):
    """N pings in order, those of one entity one after the other in the order of their times."""

    entity: NDArray[np.int64]  # [N] numbers, in the order in which entities came
    fixes: NDArray[Any]  # FIX [N]
    begins: NDArray[np.bool_]  # [N] whether the ping begins a track


class Follower:
    """Follows the tracks of all entities."""

    def __init__(self) -> None:
        self._policy = Policy(window_fixes=WINDOW_FIXES)
        self._tracks = TrackTable(self._policy)
        self._numbers: dict[tuple[Partition, str], int] = {}
        self.records = 0
        self.left_out = 0

    @property
    def names(self) -> list[str]:
        """The ids of the entities, by number; one that is in two partitions has two numbers, as it has two tracks."""
        return [name for _, name in self._numbers]

    def fold(self, records: Records) -> InOrder:
        """Returns the pings of the next records that are in order. Records of one partition come in their order."""
        pings = Pings.read(records)
        fresh = len(self._numbers)
        homes = [records.partitions[which] for which in records.which[pings.first].tolist()]
        numbers = [self._numbers.setdefault(one, len(self._numbers)) for one in zip(homes, pings.names, strict=True)]
        of_name = np.array(numbers, np.int64)
        self._tracks.clear(np.arange(fresh, len(self._numbers)))
        index = np.flatnonzero(pings.of >= 0)
        slots = of_name[pings.of[index]]
        by_slot = np.argsort(slots, kind="stable")
        index, slots = index[by_slot], slots[by_slot]
        fixes, offsets = pings.fixes[index], records.offsets[index]
        accepted, begins = self._observed(slots, fixes, offsets, records.timestamps_ms[index])
        self.records += len(records)
        self.left_out += len(records) - int(accepted.sum())
        return InOrder(slots[accepted], fixes[accepted], begins[accepted])

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
