"""Which weights the pings of a worker ask, and which are loaded for it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.api import Predictor
from stream.kafka.records.columns import I64
from stream.versions.announcement_reader import AnnouncementReader
from stream.versions.loading import Loader
from stream.versions.weights import NEVER, OWN, U32, PartitionRules, first_open_offset
from stream.wire import WeightsRecord

OWN_NAME: Final = "own"  # the worker's own weights, among versions


@dataclass(frozen=True)
class Partition:
    """Which weights answer a partition's pings, at one moment."""

    due: PartitionRules
    usable: PartitionRules  # without what is not loaded
    sure_below: int


@dataclass(frozen=True)
class ChosenWeights:
    """A `stream.engine.assignment.WeightsChoice`."""

    networks: Sequence[Predictor]
    index: Mapping[str, int]  # by version; with the worker's own weights under OWN_NAME
    partitions: Mapping[int, Partition]

    def settle(self, number: int, first: int, last: int) -> int | None:
        one = self.partitions[number]
        if last >= one.sure_below:
            return None
        found = {
            self.index.get(OWN_NAME if at == OWN else one.due.rules[at].version) for at in one.due.among(first, last)
        }
        return found.pop() if len(found) == 1 else None

    def of(self, number: int, offsets: I64, places: U32) -> tuple[I64, NDArray[np.bool_]]:
        one = self.partitions[number]
        # The index of OWN is the last. Where even a worker's own weights are not loaded, others have to do.
        due = self._indices(one.due, -1)[one.due.at(offsets, places)]
        which = self._indices(one.usable, 0)[one.usable.at(offsets, places)]
        return which, (which != due) | (offsets >= one.sure_below)

    def _indices(self, rules: PartitionRules, missing: int) -> I64:
        versions = [*(rule.version for rule in rules.rules), OWN_NAME]
        return np.array([self.index.get(version, missing) for version in versions], np.int64)


class Networks:
    """A `stream.versions.serving.Side`."""

    kind = "weights"

    def __init__(self, announcements: AnnouncementReader, loader: Loader[Predictor], own: str) -> None:
        """Takes `own`, the version of the worker's own weights."""
        self._announcements = announcements
        self.loader = loader
        self._own = own
        self._seen: Sequence[WeightsRecord] = ()  # what was announced when weights were chosen last

    def list_unconfirmed(self, number: int, last: int) -> Iterator[str]:
        for record in self._announcements.weights.announced:
            if (at := first_open_offset(record, number)) is not None and at <= last:
                yield record.version

    def missing(self, number: int, first: int, last: int) -> Iterator[str]:
        yield from sorted(self._among(number, first, last) - self.loader.loaded.keys())

    def is_plain(self, spans: Mapping[int, tuple[int, int]]) -> bool:
        weights = self._announcements.weights
        if self._seen is not weights.records or weights.announced:
            return False
        asked = [self._among(number, first, last) for number, (first, last) in spans.items()]
        return all(len(versions) == 1 and versions <= self.loader.loaded.keys() for versions in asked)

    def load(self, recent: Iterable[tuple[int, int, int]]) -> None:
        self.loader.need(self._list_needed(recent))

    def is_ready(self) -> bool:
        """Returns whether all is loaded, or refused, that a worker without pings needs."""
        return self._list_needed(()) <= self.loader.loaded.keys() | self.loader.refused.keys()

    def choose(self, spans: Mapping[int, tuple[int, int]], certain: Mapping[int, int]) -> ChosenWeights:
        """Chooses for these pings."""
        ledger, loaded = self._announcements.weights, self.loader.loaded
        self._seen = ledger.records
        index = {version: at for at, version in enumerate(loaded)}
        if self._own in index:
            index[OWN_NAME] = index[self._own]
        partitions = {}
        for number in spans:
            due, open_from = ledger.rules(number), ledger.first_undecided(number)
            missing = {rule.version for rule in due.rules} - loaded.keys()
            sure_below = min(certain.get(number, 0), NEVER if open_from is None else open_from)
            partitions[number] = Partition(due, due.without(missing) if missing else due, sure_below)
        return ChosenWeights(list(loaded.values()), index, partitions)

    def _among(self, number: int, first: int, last: int) -> set[str]:
        """Returns the versions that may answer offsets from `first` to `last`."""
        rules = self._announcements.weights.rules(number)
        return {self._own if at == OWN else rules.rules[at].version for at in rules.among(first, last)}

    def _list_needed(self, recent: Iterable[tuple[int, int, int]]) -> set[str]:
        """Returns the versions that pings ask now or will, of the partitions that have pings; what is announced; and
        the last one that serves all, or else the worker's own, for partitions that come."""
        ledger = self._announcements.weights
        serving = [record.version for record in ledger.records if record.role == "all" and record.state == "serving"]
        needed = {serving[-1] if serving else self._own}
        needed.update(record.version for record in ledger.announced)
        for number, first, _ in recent:
            needed |= self._among(number, first, NEVER - 1)
        return needed
