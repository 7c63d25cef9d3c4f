"""Shows what a fleet's history is worth: an atlas of the pings before the replay, which the demo's worker serves and
which grows while the replay goes on, and what the model alone answers for the same pings.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from model.files import write_whole
from stream.adapters.files import RecordedRow
from stream.adapters.recorded import recording
from stream.config.settings import UNLIMITED, Settings
from stream.versions.files import path_of
from stream.wire import Forecast, Record, Topics, loads_forecast

# The model, and what announces versions, take a second to import, which is not lost while the worker starts.
if TYPE_CHECKING:
    from model.api import Atlas

log = logging.getLogger(__name__)
DAY: Final = Path(__file__).parent / "sample" / "austin_day.csv.gz"  # a working day of the fleet, before the sample's

# Of history: two hours of a few buses show what one hour does not, and less than an hour shows nothing.
MOST_MS, LEAST_MS = 7_200_000, 3_600_000
SAMPLE_S: Final = 0.1  # no ping comes before the first announcement
# A fleet's atlas has a new version each hour. Each half hour of a replay shows within a minute how it grows; a fast
# replay gets one in ten seconds, as each costs half a second of a core.
EVERY_MS, LEAST_S = 1_800_000, 10.0
LEAD_S, RATE_S = 1.0, 0.5  # of the pings that come meanwhile: the next version begins as soon as it can


def after_history(times_ms: Sequence[int], span_ms: int) -> int:
    """Returns the index of the sorted times at which to begin, so that there is history before, and `span_ms` after it,
    or an hour at least. It is 0 if the recording is too short for both."""
    length_ms = times_ms[-1] - times_ms[0]
    history_ms = min(MOST_MS, max(LEAST_MS, length_ms - span_ms))
    fits = length_ms - history_ms >= min(span_ms, LEAST_MS)
    return bisect_left(times_ms, times_ms[0] + history_ms) if fits else 0


def history(rows: Sequence[RecordedRow], begin: int) -> Sequence[RecordedRow]:
    """Returns those of the rows, which are sorted by time, that are before the one at `begin`, at most MOST_MS."""
    times_ms = [row.ts_ms or 0 for row in rows[: begin + 1]]
    return rows[bisect_left(times_ms, times_ms[begin] - MOST_MS) : bisect_left(times_ms, times_ms[begin])]


class Growth:
    """The versions of the demo's atlas, as `pathcast train atlas` makes them of the pings that were added so far."""

    def __init__(self, folder: Path, min_entities: int, weights: str) -> None:
        """Takes where the files of versions lie, and the weights of the worker that asks them: beside its forecasts it
        is found how far passages are believed."""
        from model.api import Predictor
        from stream.atlas.building import Builder, Rules

        self._folder = folder
        self._predictor = Predictor.load(weights)
        self._builder = Builder()
        self._rules = Rules(min_entities=min_entities)

    def add(self, rows: Iterable[RecordedRow]) -> None:
        """Takes the next pings, in the order of their times."""
        from stream.kafka.records.record_columns import Records

        places = enumerate(rows, self._builder.records)
        self._builder.add(Records.of([Record("", 0, place, -1, row.key, row.value) for place, row in places]))

    def write(self) -> Atlas:
        """Makes a version, and writes its file into the folder."""
        from model.api import Atlas
        from stream.atlas.replaying import bytes_of

        raw = bytes_of(self._builder.built(), self._rules, self._predictor)
        atlas = Atlas.of(raw)
        write_whole(path_of(self._folder, atlas.version), [raw])
        return atlas


def of_history(before: Sequence[RecordedRow], folder: Path, weights: str, *, bundled: bool) -> Growth:
    """Returns what is known before the replay begins: of the bundled sample also the fleet's day. Its buses drive in
    public, and the atlas ends with the demo, so that what one of them did is enough to be in it."""
    growth = Growth(folder, 1 if bundled else 3, weights)
    if bundled:
        growth.add(recording(DAY).rows())
    growth.add(before)
    return growth


def announce(bootstrap: str, topics: Topics, atlas: Atlas) -> None:
    """Brings the version into service, as the one that all later pings ask but the first few. Raises as
    `Announcer.open` and `Announcer.announce`."""
    from stream.versions.announcing import Announcer

    async def work() -> None:
        async with Announcer.open(bootstrap, topics, lead_s=0.0, sample_s=SAMPLE_S) as announcer:
            await announcer.announce(atlas.version, includes={}, contains=atlas.contains)

    asyncio.run(work())


def grow(
    bootstrap: str,
    topics: Topics,
    growth: Growth,
    replayed: Sequence[RecordedRow],
    pause_s: float,
    stop: threading.Event,
) -> None:
    """Announces a new version now and then, until `stop` is set, with the pings that were replayed meanwhile:
    `replayed` gets longer while this works. If Kafka or the disk fails, the last version serves on."""
    from aiokafka.errors import KafkaError

    from stream.versions.announcing import Announcer, NotAnnounced

    async def work() -> None:
        done = 0
        async with Announcer.open(bootstrap, topics, lead_s=LEAD_S, sample_s=RATE_S) as announcer:
            while not await asyncio.to_thread(stop.wait, pause_s):
                new = replayed[done:]
                if not new:
                    continue
                done += len(new)
                growth.add(new)
                atlas = growth.write()
                await announcer.announce(atlas.version, includes={}, contains=atlas.contains)

    try:
        asyncio.run(work())
    except (KafkaError, NotAnnounced, OSError, TimeoutError) as error:
        log.warning("the demo's atlas does not grow any more: %r", error)


def alone(weights: str, rows: Sequence[RecordedRow], done: Callable[[], None]) -> list[Forecast]:
    """Returns what the model answers for these rows without an atlas. `done` is called now and then."""
    from stream.commands.replay import BATCH_ROWS, engine_of, records_of

    settings = Settings(weights=weights, max_stored_entities=UNLIMITED)  # there is no store
    engine, published_ms = engine_of(settings), int(time.time() * 1000)
    forecasts: list[Forecast] = []
    for begin in range(0, len(rows), BATCH_ROWS):
        done()
        records = records_of(rows[begin : begin + BATCH_ROWS], begin, settings.topics.pings, published_ms)
        answers = asyncio.run(engine.process(records, started_ms=0.0, fetched_ms=0.0))
        forecasts += [loads_forecast(one.value or b"") for one in answers if one.topic == settings.topics.forecasts]
    return forecasts
