"""Says which version of the atlas each forecast had to ask. Pure.

A forecast names the version that it asked, and says whether its worker could not wait to know the right one ("late"):

    it names           that is right if
    a version          the rule of `stream.versions.ledger` gives it for the ping's offset
    null               the rule gives none
    either, and late   the version is the due one, or an older one that began at or before this offset; or it is null
    nothing            its worker had no --atlases, which is no error

The replay answers each ping with the version that its forecast names. So a wrong version is one finding, and a wrong
number for a version another. Where copies name different versions, one is replayed, and the partition once more for the
other: no state depends on an atlas.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from model.api import Atlas, Predictor
from stream.engine.assignment import VersionChoice
from stream.kafka.records.columns import I64
from stream.versions.ledger import Ledger
from stream.wire import AtlasRef, Forecast, ModelRef


class ForecastAtlas(NamedTuple):
    """What a forecast says of the atlas that it asked."""

    version: str | None
    late: bool

    @classmethod
    def of(cls, atlas: AtlasRef | None) -> ForecastAtlas | None:
        return None if atlas is None else cls(atlas.version, atlas.late)


class ForecastVersions(NamedTuple):
    """What a forecast says of the versions that it asked."""

    atlas: ForecastAtlas | None = None  # None: its worker asks none
    model: ModelRef = ModelRef("", "")

    @classmethod
    def of(cls, forecast: Forecast) -> ForecastVersions:
        return cls(ForecastAtlas.of(forecast.atlas), forecast.model)


class Announced:
    """Holds what the models topic says of one pings topic's atlases, from its first record to its last.

    A version that served may retire. Workers that answered before asked it, and workers that are behind do not, so both
    are right.
    """

    def __init__(self, topic: str) -> None:
        self._ledger = Ledger(topic)  # in which nothing retires
        self._retired: set[str] = set()

    def add(self, key: bytes | None, value: bytes | None) -> None:
        """Takes the next record of the topic."""
        version, record = self._ledger.parse_record(key, value)
        if version is None:
            return
        before = self._ledger.get(version)
        if record is None and before is not None and before.state == "serving":
            self._retired.add(version)
        else:
            self._ledger.add(key, value)
            self._retired.discard(version)

    def due(self, number: int, offset: int) -> Sequence[str | None]:
        """Returns which versions may answer this ping: one, or, if that has retired, those that answered after it."""
        version = self._ledger.version_at(number, offset)
        if version not in self._retired:
            return (version,)
        found: list[str | None] = []
        for record in reversed(self._ledger.serving):
            if number in record.first and record.first[number] <= offset:
                found.append(record.version)
                if record.version not in self._retired:
                    return found
        return [*found, None]

    def wrong(self, number: int, offset: int, named: ForecastAtlas) -> str | None:
        """Returns why a forecast of this ping should not have asked what it did, in words; None if it should."""
        (version, late), (due, *others) = named, self.due(number, offset)
        if version == due or version in others or (version is None and late):
            return None
        if version is None:
            return f"it asked no atlas, instead of {due}"
        record, why = self._ledger.get(version), ""
        if record is None or record.state != "serving":
            why = "does not serve"
        elif number not in record.first:
            why = "answers no ping of this partition"
        elif record.first[number] > offset:
            why = f"answers from offset {record.first[number]} on"
        elif not late:
            why = "is older, and not said to be late"
        return f"it asked {version}, which {why}, instead of {due or 'no atlas'}" if why else None


def owed(due: Forecast, asked: ForecastVersions) -> Forecast | None:
    """Returns what is due to a published forecast that names this, given the replay's; None if the replay asked another
    version."""
    named, model = asked
    if due.model.version != model.version:
        return None
    if due.model.late != model.late:
        due = replace(due, model=replace(due.model, late=model.late))
    if named is None:
        if due.atlas is None:
            return due
        return replace(due, atlas=None) if due.atlas.version is None else None
    if due.atlas is None or due.atlas.version != named.version:
        return None
    return due if due.atlas.late == named.late else replace(due, atlas=replace(due.atlas, late=named.late))


@dataclass(frozen=True)
class PublishedAtlases:
    """A `stream.engine.assignment.AtlasChoice`: each ping asks the atlas that its published forecast names."""

    atlases: Sequence[Atlas]
    which: I64  # by what a forecast names: an index of `atlases`, or -1 for none
    late: NDArray[np.bool_]
    said: Callable[[I64], I64]  # what the forecasts of pings name, by their offsets

    def of(self, number: int, offsets: I64) -> tuple[I64, NDArray[np.bool_]]:
        said = self.said(offsets)
        return self.which[said], self.late[said]


@dataclass(frozen=True)
class PublishedWeights:
    """A `stream.engine.assignment.WeightsChoice`: the same of weights."""

    networks: Sequence[Predictor]
    which: I64  # by what a forecast names: an index of `networks`
    late: NDArray[np.bool_]
    said: Callable[[I64], I64]

    def settle(self, number: int, first: int, last: int) -> int | None:
        return None

    def of(self, number: int, offsets: I64, places: NDArray[np.uint32]) -> tuple[I64, NDArray[np.bool_]]:
        said = self.said(offsets)
        return self.which[said], self.late[said]


@dataclass(frozen=True)
class PublishedVersions:
    """What the published forecasts of a partition name, and what the replay asks therefore."""

    begin: int
    said: NDArray[np.uint32]  # by offset, from `begin` on: an index of what forecasts name
    atlases: tuple[Sequence[Atlas], I64, NDArray[np.bool_]] | None  # as the fields of SaidAtlases; None: none is asked
    weights: tuple[Sequence[Predictor], I64, NDArray[np.bool_]] | None

    @property
    def choice(self) -> VersionChoice:
        def said(offsets: I64) -> I64:
            return self.said[offsets - self.begin].astype(np.int64)

        return VersionChoice(
            None if self.atlases is None else PublishedAtlases(*self.atlases, said),
            None if self.weights is None else PublishedWeights(*self.weights, said),
        )

    def instead(self, named: Mapping[int, int]) -> PublishedVersions:
        """Returns the same, but for some pings, by offset."""
        said = self.said.copy()
        for offset, one in named.items():
            said[offset - self.begin] = one
        return PublishedVersions(self.begin, said, self.atlases, self.weights)
