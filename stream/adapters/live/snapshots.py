"""Leaves out what repeats in feeds of snapshots: each answer shows every vehicle as it is now, whether or not it has
moved on.

A reader of such a format returns sightings, each with its own part of the snapshot. `SentSightings` knows which of them
were sent already, and is told so only after they were.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final, NamedTuple

from stream.adapters.live.parsed import Parsed, Skip

MAX_VEHICLES: Final = 100_000  # of one feed; some 400 bytes each. The largest feeds have a fifth of that
# Servers behind one address may be a snapshot apart, so that a feed goes back and forth between two or three of them.
KEPT_TIMES: Final = 4
UNCHANGED: Final = Skip("unchanged")

Mark = int | str  # the time of a position in ms; of what has none the code of its reject


class Sighting(NamedTuple):
    """One vehicle in one snapshot."""

    who: str  # the same from one snapshot to the next
    mark: Mark
    parsed: Parsed
    raw: bytes = b""  # of a reject: its own part of the snapshot, in the feed's format


class SentSightings:
    """Remembers which sightings were sent. It forgets first what has been in no snapshot for the longest time."""

    def __init__(self, tolerance_ms: int = 0, most: int = MAX_VEHICLES) -> None:
        """Times that differ by at most `tolerance_ms` are the same: a feed that gives ages rounds them."""
        self._tolerance_ms = tolerance_ms
        self._most = most
        self._marks: OrderedDict[str, tuple[Mark, ...]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._marks)

    def skip_sent(self, sightings: Iterable[Sighting]) -> list[Sighting]:
        """Returns all sightings, those that were sent already as skips. A vehicle that one snapshot shows twice with
        the same time is sent once."""
        within: dict[str, tuple[Mark, ...]] = {}
        found = []
        for one in sightings:
            before = (*self._marks.get(one.who, ()), *within.get(one.who, ()))
            if isinstance(one.parsed, Skip):
                found.append(one)
            elif any(self._same(one.mark, mark) for mark in before):
                found.append(one._replace(parsed=UNCHANGED, raw=b""))
            else:
                within[one.who] = (*within.get(one.who, ()), one.mark)
                found.append(one)
        return found

    def remember(self, sent: Iterable[Sighting]) -> None:
        """Notes what `skip_sent` returned, once it was sent."""
        for one in sent:
            marks = self._marks.pop(one.who, ())
            if not isinstance(one.parsed, Skip):
                marks = (*marks, one.mark)[-KEPT_TIMES:]
            if marks:
                self._marks[one.who] = marks  # at the end: it was seen last
        while len(self._marks) > self._most:
            self._marks.popitem(last=False)

    def _same(self, one: Mark, other: Mark) -> bool:
        if isinstance(one, int) and isinstance(other, int):
            return abs(one - other) <= self._tolerance_ms
        return one == other
