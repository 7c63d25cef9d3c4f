"""`pathcast dev bench worker --atlas`: workers that drain a filled topic, with an atlas and without, in turn.

    an atlas of the benchmark's own pings, filled up to `--atlas-passages`, is announced before the first ping
    pings -> Apache Kafka
    runs times: a fresh worker drains them without --atlases | another one with them; the other way round in every other
    once more with the atlas, sampled by py-spy

So every ping but the first few of each partition asks the atlas. How many find something in it is read from what the
workers have published.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Final, NamedTuple

from model.api import Atlas
from stream.bench.atlas import filled
from stream.bench.harness import topics
from stream.bench.harness.drain import too_short
from stream.bench.harness.launch import Failed
from stream.bench.harness.report import Cell, Report, Table
from stream.bench.harness.servers import Servers
from stream.bench.harness.stats import Rate, middle, plus_minus
from stream.bench.harness.workload import Workload
from stream.bench.workers.profile import Profile
from stream.bench.workers.worker import NOT_PROFILED, Options, drained, profiled, stages
from stream.kafka.reading import bounds, reread
from stream.versions.announcing import Announcer
from stream.versions.files import path_of
from stream.wire import Topics, loads_forecast

Show = Callable[[str], None]
SAMPLE_S: Final = 0.1  # no ping comes before the announcement
COLUMNS: Final = ("what", "without an atlas", "with an atlas", "with / without", "±")
ASKED: Final = 500  # forecasts of each partition that are read: the last ones


class Served(NamedTuple):
    """How many of some forecasts asked the atlas, and how many it moved."""

    forecasts: int
    asked: int
    moved: int


class Found(NamedTuple):
    """The rates by run, and what the workers with an atlas published."""

    plain: list[Rate]
    guided: list[Rate]
    served: list[Served]

    @property
    def ratios(self) -> list[float]:
        """The rate with an atlas over that without, per CPU second, of runs side by side."""
        return [one.per_cpu_s / other.per_cpu_s for one, other in zip(self.guided, self.plain, strict=True)]


def run(options: Options, passages: int, servers: Servers, show: Show) -> Report:
    """Raises launch.Failed or ConnectionError when something of it stops; WeightsError for bad weights."""
    show(f"making {options.pings:,} pings of {options.entities:,} entities")
    pings = list(Workload(options.entities, options.data).rounds(options.rounds))
    with tempfile.TemporaryDirectory(prefix="pathcast-bench-") as folder:
        show(f"making an atlas of {passages:,} passages")
        atlas = write_atlas(filled.bytes_of(pings, passages), Path(folder))
        with fresh_with(atlas, servers, options.partitions) as names:
            show("filling the topic")
            topics.prefill(servers.bootstrap, names.pings, options.partitions, pings)
            found = Found([], [], [])
            for number in range(1, options.runs + 1):
                _both(options, servers, names, Path(folder), atlas, found, show, number)
            seen, why = profiled(options, servers, names, show, atlases=folder)
        return _report(options, servers, atlas, found, seen, why)


def _both(
    options: Options, servers: Servers, names: Topics, folder: Path, atlas: Atlas, found: Found, show: Show, number: int
) -> None:
    what = f"run {number} of {options.runs}"
    for guided in in_turn(number):
        if guided:
            found.guided.append(drained(options, servers, names, show, f"{what} with the atlas", atlases=folder))
            found.served.append(read_served(servers.bootstrap, names, options.partitions, atlas))
        else:
            found.plain.append(drained(options, servers, names, show, f"{what} without an atlas"))


def in_turn(number: int) -> tuple[bool, bool]:
    """Returns in which order a run measures: False is without an atlas, True with it."""
    return (False, True) if number % 2 else (True, False)


def write_atlas(raw: bytes, folder: Path) -> Atlas:
    """Writes an atlas where workers look for it."""
    atlas = Atlas.of(raw)
    path_of(folder, atlas.version).write_bytes(raw)
    return atlas


@contextmanager
def fresh_with(atlas: Atlas, servers: Servers, partitions: int) -> Iterator[Topics]:
    """Yields new topics, with an announcement of the atlas in that of the models."""
    with topics.fresh(servers.bootstrap, partitions) as names:
        asyncio.run(_announced(servers.bootstrap, names, atlas))
        yield names


async def _announced(bootstrap: str, names: Topics, atlas: Atlas) -> None:
    async with Announcer.opened(bootstrap, names, lead_s=0.0, sample_s=SAMPLE_S) as announcer:
        await announcer.announce(atlas.version, includes={}, contains=atlas.contains)


def read_served(bootstrap: str, names: Topics, partitions: int, atlas: Atlas) -> Served:
    """Reads the last forecasts of each partition. Raises launch.Failed if the atlas moved none of them."""
    served = asyncio.run(_served(bootstrap, names, partitions, atlas))
    if not served.moved:
        raise Failed("the worker with the atlas found nothing in it: what was measured is no atlas")
    return served


async def _served(bootstrap: str, names: Topics, partitions: int, atlas: Atlas) -> Served:
    servers = bootstrap.split(",")
    logs = await bounds(servers, [(names.forecasts, number) for number in range(partitions)])
    forecasts = []
    for partition, (begin, end) in logs.items():
        if end > begin:
            async for records in reread(servers, partition, max(begin, end - ASKED), end):
                forecasts += [loads_forecast(value or b"") for value in records.values.each()]
    asked = [one.atlas for one in forecasts if one.atlas is not None and one.atlas.version == atlas.version]
    return Served(len(forecasts), len(asked), sum(one.pings > 0 for one in asked))


def _report(options: Options, servers: Servers, atlas: Atlas, found: Found, seen: Profile | None, why: str) -> Report:
    tables = [_rates(found)]
    notes = [
        f"{options.entities:,} entities, {options.rounds} pings each, {options.partitions} partitions, "
        f"batches of at most {options.max_batch}, weights {options.weights}; medians of {options.runs} runs, "
        "with and without in turn",
        note_of(atlas, found.served),
        *too_short([*found.plain, *found.guided]),
    ]
    if seen is not None:
        tables.append(stages(seen, 1e6 / middle([one.per_cpu_s for one in found.guided])))
    else:
        notes.append(NOT_PROFILED + why)
    numbers = {
        "options": {**asdict(options), "data": str(options.data or "")},
        "passages": len(atlas.passages.known),
        "without": [one._asdict() for one in found.plain],
        "with": [one._asdict() for one in found.guided],
        "served": [one._asdict() for one in found.served],
        "ratio": middle(found.ratios),
        "stages": seen.stages if seen is not None else None,
    }
    return Report("worker with an atlas", tables, numbers, notes, servers.what)


def note_of(atlas: Atlas, served: Sequence[Served]) -> str:
    """Says how large the atlas is, and how many forecasts asked it."""
    forecasts, asked, moved = map(sum, zip(*served, strict=True))
    return (
        f"an atlas of {len(atlas.passages.known):,} passages; of {forecasts:,} forecasts {asked / forecasts:.1%} "
        f"asked it, and it moved {moved / forecasts:.1%}"
    )


def row_of(what: str, plain: Sequence[float], guided: Sequence[float]) -> tuple[Cell, ...]:
    """Returns the medians without and with an atlas, and of their ratios, of runs side by side."""
    ratios = [one / other for one, other in zip(guided, plain, strict=True)]
    return what, middle(plain), middle(guided), middle(ratios), plus_minus(ratios)


def _rates(found: Found) -> Table:
    kinds: dict[str, Callable[[Rate], float]] = {
        "pings/s of its CPU": lambda one: one.per_cpu_s,
        "pings/s of wall": lambda one: one.per_wall_s,
        "CPU µs per ping": lambda one: one.cpu_us_per_ping,
    }
    rows = [row_of(what, list(map(of, found.plain)), list(map(of, found.guided))) for what, of in kinds.items()]
    return Table("one worker, a filled topic", COLUMNS, rows)
