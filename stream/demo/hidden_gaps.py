"""Judges gap fills on somebody's own tracks: hides stretches of them, fills these, and compares with what was hidden.

Each vehicle is silent for HIDDEN_MS in every EVERY_MS of the pings' own times, and a worker's engine fills that. Beside
it stands a straight line between the ends of the silence, driven at an even speed.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple

from stream.adapters.files import RecordedRow
from stream.config.settings import UNLIMITED, Settings
from stream.wire import GapFill, Ping, Record, loads_gapfill
from stream.wire.scoring import distance_m

HIDDEN_MS: Final = 300_000
EVERY_MS: Final = 1_500_000


class GapErrors(NamedTuple):
    """Says how far fills of hidden stretches are from the pings that were hidden, in metres on average."""

    gaps: int
    pings: int
    fill_m: float
    line_m: float


def judge_fills(rows: Sequence[RecordedRow], weights: str, atlas: Path | None, done: Callable[[], None]) -> GapErrors:
    """Returns the errors of fills in these rows, which are in the order of their times; 0 gaps if none could be hidden.

    `done` is called now and then. Raises as `stream.commands.files.answering.answers`.
    """
    from stream.commands.files.answering import RowCounts, answers
    from stream.commands.files.survey import BATCH_ROWS

    hidden: dict[str, list[Ping]] = {}
    shown = _hide(rows, hidden)
    batches = iter(lambda: [(0, row) for row in islice(shown, BATCH_ROWS)], [])
    settings = Settings(weights=weights, max_stored_entities=UNLIMITED)  # there is no store
    fills: dict[str, GapFill] = {}  # by gap id: its last record
    answered = answers(batches, settings, RowCounts(), lambda rows: done(), forecasts=False, atlas=atlas)
    for _, answer in answered:
        if answer.topic == settings.topics.gapfills:
            fill = loads_gapfill(answer.value or b"")
            fills[fill.gap_id] = fill
    gaps, sums, pings = 0, [0.0, 0.0], 0
    for fill in fills.values():
        inside = [ping for ping in hidden.get(fill.entity_id, ()) if fill.start.ts < ping.ts < fill.end.ts]
        if fill.points and inside:
            gaps, pings = gaps + 1, pings + len(inside)
            for ping in inside:
                sums[0] += _distance_m((fill.start, *fill.points, fill.end), ping)
                sums[1] += _distance_m((fill.start, fill.end), ping)
    return GapErrors(gaps, pings, *(total / max(1, pings) for total in sums))


def _hide(rows: Iterable[RecordedRow], hidden: dict[str, list[Ping]]) -> Iterator[RecordedRow]:
    """Yields the rows that are shown, and puts the pings of the others into `hidden`, by entity."""
    from stream.tracks.clean import parse

    begins: dict[bytes, int] = {}
    for row in rows:
        if row.key is None or row.ts_ms is None:
            continue
        since_ms = row.ts_ms - begins.setdefault(row.key, row.ts_ms)
        if since_ms % EVERY_MS < EVERY_MS - HIDDEN_MS:
            yield row
        elif isinstance(ping := parse(Record("", 0, 0, row.ts_ms, row.key, row.value)), Ping):
            hidden.setdefault(ping.entity_id, []).append(ping)


def _distance_m(path: Sequence[Any], ping: Ping) -> float:
    """Returns how far a ping is from the place on a path of points with times where it was expected at its time."""
    after = bisect_right([point.ts for point in path], ping.ts)
    before, end = path[after - 1], path[min(after, len(path) - 1)]
    share = (ping.ts - before.ts) / max(1, end.ts - before.ts)
    lat = before.lat + share * (end.lat - before.lat)
    ahead = (end.lon - before.lon + 180) % 360 - 180  # the short way round
    return distance_m(lat, before.lon + share * ahead, ping.lat, ping.lon)
