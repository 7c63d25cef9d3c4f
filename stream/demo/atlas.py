"""Shows what a fleet's history is worth: an atlas of the pings before the replay, which the demo's worker
serves, and what the model alone answers for the same pings.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from stream.adapters.files import Row
from stream.config.settings import UNLIMITED, Settings
from stream.wire import Forecast, Topics, loads_forecast

if TYPE_CHECKING:  # the model takes a second to import, which is not lost while the worker starts
    from model.api import Atlas

# Of history: two hours of a few buses show what one hour does not, and less than an hour shows nothing.
MOST_MS, LEAST_MS = 7_200_000, 3_600_000
SAMPLE_S: Final = 0.1  # no ping comes before the announcement


def after_history(times_ms: Sequence[int], span_ms: int) -> int:
    """Returns the index of the sorted times at which to begin, so that there is history before, and `span_ms` after it,
    or an hour at least. It is 0 if the recording is too short for both."""
    length_ms = times_ms[-1] - times_ms[0]
    history_ms = min(MOST_MS, max(LEAST_MS, length_ms - span_ms))
    fits = length_ms - history_ms >= min(span_ms, LEAST_MS)
    return bisect_left(times_ms, times_ms[0] + history_ms) if fits else 0


def history(rows: Sequence[Row], begin: int) -> Sequence[Row]:
    """Returns those of the rows, which are sorted by time, that are before the one at `begin`, at most MOST_MS."""
    times_ms = [row.ts_ms or 0 for row in rows[: begin + 1]]
    return rows[bisect_left(times_ms, times_ms[begin] - MOST_MS) : bisect_left(times_ms, times_ms[begin])]


def written(rows: Sequence[Row], folder: Path) -> Atlas:
    """Makes a version of these rows, as `pathcast atlas build` does, and writes its file into the folder."""
    from model.api import Atlas
    from stream.atlas.building import Rules, of_rows
    from stream.atlas.replaying import bytes_of
    from stream.versions.files import path_of

    raw = bytes_of(of_rows(rows), Rules())
    atlas = Atlas.of(raw)
    path_of(folder, atlas.version).write_bytes(raw)
    return atlas


def announce(bootstrap: str, topics: Topics, atlas: Atlas) -> None:
    """Brings the version into service, as the one that all later pings ask but the first few. Raises as
    `Announcer.opened` and `Announcer.announce`."""

    from stream.versions.announcing import Announcer

    async def work() -> None:
        async with Announcer.opened(bootstrap, topics, lead_s=0.0, sample_s=SAMPLE_S) as announcer:
            await announcer.announce(atlas.version, includes={}, contains=atlas.contains)

    asyncio.run(work())


def alone(weights: str, rows: Sequence[Row], done: Callable[[], None]) -> list[Forecast]:
    """Returns what the model answers for these rows without an atlas. `done` is called now and then."""
    from stream.commands.replay import BATCH_ROWS, engine_of, records_of

    settings = Settings(weights=weights, max_stored_entities=UNLIMITED)  # there is no store
    engine, published_ms = engine_of(settings), int(time.time() * 1000)
    found: list[Forecast] = []
    for begin in range(0, len(rows), BATCH_ROWS):
        done()
        records = records_of(rows[begin : begin + BATCH_ROWS], begin, settings.topics.pings, published_ms)
        answers = asyncio.run(engine.process(records, started_ms=0.0, fetched_ms=0.0))
        found += [loads_forecast(one.value or b"") for one in answers if one.topic == settings.topics.forecasts]
    return found
