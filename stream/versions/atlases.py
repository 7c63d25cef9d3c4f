"""Which atlas the pings of a worker ask, and which files are loaded for it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.api import Atlas
from stream.kafka.records.columns import I64
from stream.versions.announcement_reader import AnnouncementReader
from stream.versions.ledger import Answering
from stream.versions.loading import Loader
from stream.versions.weights import NEVER
from stream.wire import VersionRecord


@dataclass(frozen=True)
class Partition:
    """Which atlas answers a partition's pings, at one moment."""

    answering: Answering
    which: I64  # by version of `answering`, and none at the end: the index of its atlas, or of the one before it
    missing: NDArray[np.bool_]  # by version, and none: it is not loaded
    sure_below: int
    plain: range  # offsets that one version answers, or none, and it is loaded: empty if others were chosen for


@dataclass(frozen=True)
class ChosenAtlases:
    """A `stream.engine.assignment.AtlasChoice`. It is good for later pings, too, if they are `plain`, until a record or
    a file comes."""

    atlases: Sequence[Atlas]
    partitions: Mapping[int, Partition]

    def of(self, number: int, offsets: I64) -> tuple[I64, NDArray[np.bool_]]:
        one = self.partitions[number]
        places = one.answering.at(offsets)
        return one.which[places], one.missing[places] | (offsets >= one.sure_below)


class Atlases:
    """A `stream.versions.serving.Side`."""

    kind = "atlas"

    def __init__(self, announcements: AnnouncementReader, loader: Loader[Atlas]) -> None:
        self._announcements = announcements
        self.loader = loader
        self._last = ChosenAtlases([], {})  # what was chosen last, for all partitions that were asked for
        self._seen: Sequence[VersionRecord] = ()  # what served then

    def version_at(self, number: int, offset: int) -> str | None:
        return self._announcements.ledger.version_at(number, offset)

    def list_unconfirmed(self, number: int, last: int) -> Iterator[str]:
        for record in self._announcements.ledger.announced:
            if record.first.get(number, NEVER) <= last:
                yield record.version

    def missing(self, number: int, first: int, last: int) -> Iterator[str]:
        for version in self._between(number, first, last):
            if version not in self.loader.loaded:
                yield version

    def is_plain(self, spans: Mapping[int, tuple[int, int]]) -> bool:
        if self._seen is not self._announcements.ledger.serving:
            return False
        found = [(self._last.partitions.get(number), span) for number, span in spans.items()]
        return all(one is not None and first in one.plain and last in one.plain for one, (first, last) in found)

    def load(self, recent: Iterable[tuple[int, int, int]]) -> None:
        """Has the versions loaded that pings ask now or will next, and those before, which answer where one is missing:
        of the partitions that have pings. And the last one that serves, for partitions that come."""
        ledger = self._announcements.ledger
        needed = {record.version for record in [*ledger.serving[-1:], *ledger.announced]}
        for number, first, last in recent:
            needed.update(self._between(number, first, last, around=1))
        if self.loader.need(needed):
            self._last = ChosenAtlases([], {})  # which would keep it

    @property
    def last(self) -> ChosenAtlases:
        """What was chosen last."""
        return self._last

    def _between(self, number: int, first: int, last: int, around: int = 0) -> Sequence[str]:
        """Returns the versions that answer offsets from `first` to `last`, and so many before and after them."""
        answering = self._announcements.ledger.answering(number)
        begin, end = answering.at(np.array([first, last])).tolist()
        return answering.versions[max(begin - around, 0) : end + 1 + around]

    def choose(self, spans: Mapping[int, tuple[int, int]], certain: Mapping[int, int]) -> None:
        """Chooses for these pings. What was chosen for other partitions stays, as long as nothing is new."""
        ledger, loaded = self._announcements.ledger, self.loader.loaded
        if self._seen is not ledger.serving:
            self._last, self._seen = ChosenAtlases([], {}), ledger.serving
        index = {atlas.version: at for at, atlas in enumerate(self._last.atlases)}
        partitions = dict(self._last.partitions)
        for number, (first, last) in spans.items():
            whole = ledger.answering(number)
            begin, end = whole.at(np.array([first, last])).tolist()
            asked = range(max(begin, 0), end + 1)
            which = [-1] * (len(asked) + 1)  # the last is for none
            for place, at in enumerate(asked):
                known = next((whole.versions[i] for i in range(at, -1, -1) if whole.versions[i] in loaded), None)
                if known is not None:
                    which[place] = index.setdefault(known, len(index))
            missing = [whole.versions[at] not in loaded for at in asked]
            undecided = ledger.first_undecided(number)
            open_from = NEVER if undecided is None else undecided
            sure_below, plain = min(certain.get(number, 0), open_from), range(0)
            if begin == end and last < sure_below and not any(missing):
                plain = range(*_bounds(whole, end, open_from))
                sure_below = plain.stop
            partitions[number] = Partition(
                Answering(whole.starts[asked.start : asked.stop], whole.versions[asked.start : asked.stop]),
                np.array(which, np.int64),
                np.array([*missing, False]),
                sure_below,
                plain,
            )
        kept = self._last.atlases
        self._last = ChosenAtlases([*kept, *(loaded[version] for version in list(index)[len(kept) :])], partitions)


def _bounds(answering: Answering, at: int, open_from: int) -> tuple[int, int]:
    """Returns the first offset that the version `at` answers (-1: none does), and the one after the last, as far as
    that is not open."""
    starts = answering.starts
    return int(starts[at]) if at >= 0 else 0, min(int(starts[at + 1]) if at + 1 < len(starts) else NEVER, open_from)
