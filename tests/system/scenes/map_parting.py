"""A made-up bus on its way to where the passages of an atlas part. Tests import this; it tests nothing itself."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import bus_feed
import numpy as np
from map_rig import forecast

from model.api import Atlas
from stream.adapters.files import RecordedRow
from stream.atlas.showing.passages import Line, compare
from stream.wire import Branch, BranchPosition

AHEAD_S: Final = (60.0, 300.0, 900.0)
SHARES: Final = (0.62, 0.38)
NEAREST, FIRST = 16, 8  # passages that are drawn, and of which branches are made
Point = tuple[int, float, float]


class Parting(NamedTuple):
    """The bus: its track, the passages that it is compared with, and two of them as branches."""

    entity_id: str
    version: str
    track: Sequence[Point]
    lines: Sequence[Line]
    branches: tuple[Branch, ...]

    @property
    def ts_ms(self) -> int:
        return self.track[-1][0]

    def records(self) -> Iterator[bus_feed.Raw]:
        """Its forecasts, ping by ping."""
        for at in self.track:
            yield self._record(at, is_compared=True)

    def later(self, seconds: int, *, is_compared: bool = True) -> bus_feed.Raw:
        """That of a ping so many seconds after the last one, at the same place."""
        _, lat, lon = self.track[-1]
        return self._record((self.ts_ms + 1000 * seconds, lat, lon), is_compared=is_compared)

    def _record(self, at: Point, *, is_compared: bool) -> bus_feed.Raw:
        to = [(h_s, at[1] + h_s / 1e5, at[2]) for h_s in AHEAD_S]
        version, branches = (self.version, self.branches or None) if is_compared else (None, None)
        raw = forecast(self.entity_id, *at, to=to, cov_m2=(1e5, 0.0, 1e5), atlas=version, branches=branches)
        return self.entity_id.encode(), raw, ()


def parting(entity_id: str, atlas: Atlas, rows: Sequence[RecordedRow]) -> Parting:
    """One of the buses of rows: that of whose nearest passages two were farthest apart after the last of AHEAD_S."""
    tracks: dict[bytes | None, list[Point]] = {}
    for row in rows:
        ping = json.loads(row.value)
        tracks.setdefault(row.key, []).append((ping["ts"], ping["lat"], ping["lon"]))
    found = [(track, compare(atlas.passages, track)) for track in tracks.values()]
    track, lines, pair = max(
        (
            (track, lines, pair)
            for track, lines in found
            if len(lines) == NEAREST
            for pair in itertools.combinations(lines[:FIRST], 2)
        ),
        key=lambda one: math.dist(*(_place(line, AHEAD_S[-1])[1:] for line in one[2])),
    )
    branches = tuple(
        Branch(share, tuple(BranchPosition(*_place(line, h_s)) for h_s in AHEAD_S))
        for share, line in zip(SHARES, pair, strict=True)
    )
    return Parting(entity_id, atlas.version, track, lines, branches)


def _place(line: Line, h_s: float) -> tuple[float, float, float]:
    """Where a passage was so many seconds later; that of the last that is known."""
    seconds, lat, lon = (np.array(column) for column in zip(*line.way, strict=True))
    return h_s, float(np.interp(h_s, seconds, lat)), float(np.interp(h_s, seconds, lon))
