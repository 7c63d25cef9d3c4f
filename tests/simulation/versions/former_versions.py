"""Remembers what a topic of versions said before it was deleted and made anew.

`pathcast verify` reads the present topic alone, and takes any weights for right that it never announced, but no atlas.
So where the new topic announces the same weights once more, for later pings, and for any atlas, nobody who reads it can
know that earlier forecasts named them rightly, by the topic that is gone. This can.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from networks import make_predictor
from plans import CUTS

from stream.verify.report import Example
from stream.verify.versions import Announced, ForecastAtlas
from stream.verify.weights import AnnouncedWeights
from stream.versions.ledger import KNOWN_AHEAD
from stream.wire import Forecast, loads_forecast

if TYPE_CHECKING:
    from stage import Stage

VERDICTS: Final = ("wrong_weights", "wrong_atlas")
PLACE: Final = re.compile(r"\(at (.+)/(\d+)@(\d+)\)$")  # of the forecast, in the reason of a finding


class Former(NamedTuple):
    """A topic of versions that is gone."""

    said: AnnouncedWeights
    atlases: Announced
    ends: dict[int, int]  # by partition, where the pings ended when it was deleted


class FormerVersions:
    """The topics of versions of a world that are gone."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._gone: list[Former] = []

    def note(self) -> None:
        """Notes what the topic of versions says, just before it is deleted."""
        stage, topics = self._stage, self._stage.settings.topics
        said, atlases = AnnouncedWeights(topics.pings, make_predictor().version), Announced(topics.pings)
        log = stage.kafka.protocol.log((topics.models, 0))
        for batch in log.batches:
            for record in batch.records:
                if log.start <= record.offset < log.last_stable_offset and not batch.aborted:
                    said.add(record.key, record.value)
                    atlases.add(record.key, record.value)
        pings = stage.kafka.cluster.topics.get(topics.pings)
        logs = () if pings is None else pings.logs
        self._gone.append(Former(said, atlases, {number: log.end for number, log in enumerate(logs)}))

    def excuse(self, one: Example) -> bool:
        """Returns whether a forecast names what a topic that is gone said of its ping. A worker that had looked into
        that one was sure of the pings up to KNOWN_AHEAD beyond the end of their log; a forecast of a later one says
        that it is late."""
        if one.verdict not in VERDICTS or one.offset is None or one.entity is None or not self._gone:
            return False
        found = self._read_forecast(one.reason)
        if one.verdict == "wrong_atlas":
            return found is not None and any(self._named_atlas(former, one, found) for former in self._gone)
        return found is not None and any(
            found.model.version in former.said.versions
            and former.said.wrong(one.partition, one.offset, one.entity, found.model) is None
            and (found.model.late or one.offset < self._first_unsure(former, one.partition))
            for former in self._gone
        )

    def _named_atlas(self, former: Former, one: Example, found: Forecast) -> bool:
        """Returns whether a forecast names the version of the atlas that a topic which is gone gave its ping."""
        named = ForecastAtlas.of(found.atlas)
        if named is None or one.offset is None or former.atlases.wrong(one.partition, one.offset, named) is not None:
            return False
        return named.late or one.offset < self._first_unsure(former, one.partition)

    def _first_unsure(self, former: Former, number: int) -> float:
        if self._stage.plan.kinds & CUTS:
            return float("inf")  # the log had another end at another time
        return former.ends.get(number, 0) + KNOWN_AHEAD

    def _read_forecast(self, reason: str) -> Forecast | None:
        """Returns the forecast that a finding is about; None if it is about something else."""
        topics, place = self._stage.settings.topics, PLACE.search(reason)
        if place is None or place[1] != topics.forecasts:
            return None
        log = self._stage.kafka.protocol.log((place[1], int(place[2])))
        records = (one for batch in log.batches for one in batch.records)
        return next((loads_forecast(one.value or b"") for one in records if one.offset == int(place[3])), None)
