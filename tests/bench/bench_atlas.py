"""Measures what it takes to make a version of the atlas for a fleet, from its pings to the file, in one process.

simulated pings (not counted) -> Growth -> days, most of them compressed -> published, examined by the model ->
the file -> a worker's check
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
from bench_rig import Show, Stopwatch
from simulated_fleet import Fleet

from model.api import Atlas, Predictor
from model.atlas.days import days_of
from model.atlas.growth import Growth
from model.atlas.passages import entity_ids
from model.atlas.version import pieces
from model.files import write_whole
from stream.atlas.building import CHUNK_ROWS, DEFAULT_RULES, published_of
from stream.atlas.growing_days import GrowingDays
from stream.bench.harness.report import UNKNOWN, Cell, Report, Table

TIMED: Final = {
    "growth": "finding passages, s",
    "days": "adding them up by day, s",
    "published": "publishing: days fade, what few show is left out, the model examines it, s",
    "written": "writing the file, s",
    "loaded": "a worker's load and check of it, s",
}


@dataclass(frozen=True)
class Options:
    """The options of the benchmark."""

    vehicles: int = 500
    days: float = 7.0
    every_s: float = 60.0  # between two pings of a vehicle
    at_once: int = CHUNK_ROWS  # pings that are counted together, but whole rounds: as `pathcast train atlas` does
    weights: str = "small"  # of the model that examines the version

    @property
    def rounds(self) -> int:
        return max(int(self.days * 86_400 / self.every_s), 1)


def run(options: Options, show: Show) -> Report:
    """Raises WeightsError for bad weights."""
    predictor = Predictor.load(options.weights)
    watches: dict[str, Stopwatch] = defaultdict(Stopwatch)
    days = _grow(options, watches, show)
    show("making the version")
    made = watches["published"].timed(partial(published_of, days, DEFAULT_RULES, predictor))
    with tempfile.TemporaryDirectory(prefix="pathcast-bench-") as folder:
        file = Path(folder) / "atlas"
        watches["written"].timed(lambda: write_whole(file, pieces(*made)))
        peak_mib, size = _peak_mib(), file.stat().st_size
        watches["loaded"].timed(lambda: Atlas.load(file))
    counting = [watches["growth"].wall_s + watches["days"].wall_s, watches["growth"].cpu_s + watches["days"].cpu_s]
    pings = made.contains["pings"]
    rows: list[tuple[str, Cell, Cell]] = [
        ("pings", pings, UNKNOWN),
        ("passages", len(made.passages.known), UNKNOWN),
        ("buckets: map cells by the octant of the way that they came", len(made.passages.bucket), UNKNOWN),
        ("questions of the examination", made.contains["report"]["questions"], UNKNOWN),
        ("file, MB", size / 1e6, UNKNOWN),
        ("peak memory of all this, MiB", peak_mib, UNKNOWN),
        ("counting and adding, pings/s", pings / counting[0], pings / counting[1]),
        *((what, watches[name].wall_s, watches[name].cpu_s) for name, what in TIMED.items()),
    ]
    table = Table("a version of the atlas", ("what", "how much, by wall", "by CPU"), rows)
    note = (
        f"{options.vehicles:,} simulated vehicles on {options.days:g} days, a ping each {options.every_s:g} s, "
        f"{options.at_once:,} pings at once, examined by weights {options.weights}; in one process without broker "
        "and store"
    )
    return Report("atlas", [table], {what: both for what, *both in rows}, [note])


def _grow(options: Options, watches: dict[str, Stopwatch], show: Show) -> GrowingDays:
    """Counts the pings of a fleet, and returns the days."""
    fleet, growth, days = Fleet(options.vehicles, options.every_s), Growth(), GrowingDays()
    ids = entity_ids([f"v{number:06d}" for number in range(options.vehicles)])
    some = max(options.at_once // options.vehicles, 1)
    for begin in range(0, options.rounds, some):
        show(f"counting: {begin * options.vehicles:,} of {options.rounds * options.vehicles:,} pings")
        rounds = [fleet.round() for _ in range(min(some, options.rounds - begin))]
        begins = np.zeros((len(rounds), options.vehicles), np.bool_)
        begins[0] = begin == 0
        whose, fixes = np.tile(ids, len(rounds)), np.concatenate(rounds)
        known = watches["growth"].timed(partial(growth.add, whose, fixes, begins.ravel()))
        added = watches["days"].timed(partial(days_of, whose, fixes["ts_ms"], *known))
        watches["days"].timed(partial(days.add, added))
    return days


def _peak_mib() -> float:
    """Returns the most that was resident of this process at one moment."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))
