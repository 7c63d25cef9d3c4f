"""Reads records into the fleet."""

from __future__ import annotations

from typing import Final

import msgspec

from stream.api.live.newest import Published
from stream.api.live.topics import Source, now_ms
from stream.api.map.fleet.fleet import Fleet
from stream.api.options import Kind
from stream.kafka.records.record_columns import Records
from stream.wire import Score, Topics, loads_gapfill, loads_scored
from stream.wire.arrivals import loads_arrival
from stream.wire.latest import forecast_of

SCORES_MS: Final = 6 * 3_600_000  # how far back the learning curve goes


class FleetReader:
    """Takes the records of each topic."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self.unreadable = 0

    def sources(self, topics: Topics, kind: Kind, forecasts_ms: int, fills_ms: int) -> list[Source]:
        """Returns what is followed: forecasts of so long, or the compacted topic from its begin; gap fills of so
        long; scores and arrivals, if there are any."""
        newest = (
            Source(topics.latest, self._latest, None)
            if kind == "latest"
            else Source(topics.forecasts, self._forecasts, forecasts_ms)
        )
        return [
            newest,
            Source(topics.gapfills, self._fills, fills_ms),
            Source(topics.scores, self._scores, SCORES_MS),
            Source(topics.arrivals, self._arrivals, forecasts_ms),
        ]

    def _forecasts(self, records: Records) -> None:
        columns = zip(records.values.each(), records.timestamps_ms.tolist(), strict=True)
        self._fleet.update([Published(value, time_ms) for value, time_ms in columns if value is not None], now_ms())

    def _latest(self, records: Records) -> None:
        published: list[Published] = []
        columns = (records.keys.each(), records.values.each(), records.timestamps_ms.tolist())
        for key, value, time_ms in zip(*columns, strict=True):
            if value is None:
                self._fleet.update(published, now_ms())  # in the order of the log
                published = []
                self._fleet.end((key or b"").decode(errors="replace"))
                continue
            try:
                published.append(Published(forecast_of(value), time_ms))
            except ValueError:
                self.unreadable += 1
        self._fleet.update(published, now_ms())

    def _fills(self, records: Records) -> None:
        for value in records.values.each():
            try:
                self._fleet.fill(loads_gapfill(value or b""))
            except msgspec.DecodeError:
                self.unreadable += 1

    def _arrivals(self, records: Records) -> None:
        for value in records.values.each():
            try:
                self._fleet.arrivals.update(loads_arrival(value or b""))
            except msgspec.DecodeError:
                self.unreadable += 1

    def _scores(self, records: Records) -> None:
        for value in records.values.each():
            try:
                score = loads_scored(value or b"")
            except msgspec.DecodeError:
                self.unreadable += 1
                continue
            if isinstance(score, Score):
                self._fleet.score(score)
