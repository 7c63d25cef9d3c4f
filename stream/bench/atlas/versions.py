"""`pathcast bench atlas`: what it takes to make a version for a fleet, from its pings to the file, in one process.

simulated pings (not counted) -> Growth -> days, most of them compressed -> published, examined by the model ->
the file -> a worker's check
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.api import Atlas, Predictor
from model.atlas.days import days_of
from model.atlas.growth import Growth, Known
from model.atlas.passages import Ids, entity_ids
from model.atlas.version import pieces
from model.files import write_whole
from stream.atlas.building import CHUNK_ROWS, DEFAULT_RULES, published_of
from stream.atlas.growing_days import GrowingDays
from stream.bench.atlas.fleet import Fleet
from stream.bench.harness import proc
from stream.bench.harness.report import UNKNOWN, Cell, Report, Table
from stream.bench.workers.step import Stopwatch
from stream.config.settings import Settings

Show = Callable[[str], None]
MIB: Final = 2**20
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
    at_once: int = CHUNK_ROWS  # pings that are counted together, but whole rounds: as `pathcast atlas build` does
    weights: str = Settings.weights  # of the model that examines the version

    @property
    def rounds(self) -> int:
        return max(int(self.days * 86_400 / self.every_s), 1)


def run(options: Options, show: Show) -> Report:
    """Raises WeightsError for bad weights."""
    predictor = Predictor.load(options.weights)
    days, watches = _grown(options, show)
    show("making the version")
    watches |= {name: Stopwatch() for name in TIMED if name not in watches}
    made = watches["published"].timed(partial(published_of, days, DEFAULT_RULES, predictor))
    with tempfile.TemporaryDirectory(prefix="pathcast-bench-") as folder:
        file = Path(folder) / "atlas"
        watches["written"].timed(lambda: write_whole(file, pieces(*made)))
        peak_bytes, size = proc.peak_bytes(os.getpid()), file.stat().st_size
        watches["loaded"].timed(lambda: Atlas.load(file))
    numbers = {
        "options": asdict(options),
        "pings": made.contains["pings"],
        "passages": len(made.passages.known),
        "buckets": len(made.passages.bucket),
        "questions": made.contains["report"]["questions"],
        "bytes": size,
        "peak_bytes": peak_bytes,
        **{f"{name}_s": watch.wall_s for name, watch in watches.items()},
        **{f"{name}_cpu_s": watch.cpu_s for name, watch in watches.items()},
    }
    return Report("atlas", [_table(numbers)], numbers, [_note(options)])


def _grown(options: Options, show: Show) -> tuple[GrowingDays, dict[str, Stopwatch]]:
    """Counts the pings of a fleet. Returns the days, and how long it took to find passages and to add them up."""
    fleet, growth, days = Fleet(options.vehicles, options.every_s), Growth(), GrowingDays()
    ids = entity_ids([f"v{number:06d}" for number in range(options.vehicles)])
    watches = {"growth": Stopwatch(), "days": Stopwatch()}
    some = max(options.at_once // options.vehicles, 1)
    for begin in range(0, options.rounds, some):
        show(f"counting: {begin * options.vehicles:,} of {options.rounds * options.vehicles:,} pings")
        rounds = [fleet.round() for _ in range(min(some, options.rounds - begin))]
        begins = np.zeros((len(rounds), options.vehicles), np.bool_)
        begins[0] = begin == 0
        pings = np.tile(ids, len(rounds)), np.concatenate(rounds), begins.ravel()
        known = watches["growth"].timed(partial(growth.add, *pings))
        watches["days"].timed(partial(_add, days, *pings[:2], known))
    return days, watches


def _add(days: GrowingDays, ids: Ids, fixes: NDArray[Any], known: Known) -> None:
    days.add(days_of(ids, fixes["ts_ms"], *known))


def _table(numbers: dict[str, Any]) -> Table:
    counting = {kind: numbers[f"growth_{kind}"] + numbers[f"days_{kind}"] for kind in ("s", "cpu_s")}
    rows: list[Sequence[Cell]] = [
        ("pings", numbers["pings"], UNKNOWN),
        ("passages", numbers["passages"], UNKNOWN),
        ("buckets: map cells by the octant of the way that they came", numbers["buckets"], UNKNOWN),
        ("questions of the examination", numbers["questions"], UNKNOWN),
        ("file, MB", numbers["bytes"] / 1e6, UNKNOWN),
        ("peak memory of all this, MiB", numbers["peak_bytes"] / MIB, UNKNOWN),
        ("counting and adding, pings/s", *(numbers["pings"] / seconds for seconds in counting.values())),
    ]
    rows += [(what, numbers[f"{name}_s"], numbers[f"{name}_cpu_s"]) for name, what in TIMED.items()]
    return Table("a version of the atlas", ("what", "how much, by wall", "by CPU"), rows)


def _note(options: Options) -> str:
    return (
        f"{options.vehicles:,} simulated vehicles on {options.days:g} days, a ping each {options.every_s:g} s, "
        f"{options.at_once:,} pings at once, examined by weights {options.weights}; in one process without broker "
        "and store"
    )
