"""Plans what a file is filled with: which filled row comes after which row, and which rows were no pings. It writes
nothing.

A filled row of a file in the order of time comes where its time belongs, among the rows of all entities. In any other
file it comes after the row of its own entity that precedes it in time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.api import Predictor
from stream.adapters.recorded import Recording
from stream.atlas.own import OwnAtlas, for_fills, read_own
from stream.commands.files import times
from stream.commands.files.answering import RejectedRow, RowCounts, answers, bad, gap_policy
from stream.commands.files.showing import Steps
from stream.commands.files.survey import NO_TIME, Survey, batches, survey
from stream.config.settings import UNLIMITED, Settings
from stream.wire import GapFill, loads_gapfill
from stream.wire.positions import max_sigma_m

FILLED: Final = "filled"  # the column that is true for a filled row, false for one that the file had
SIGMA: Final = "sigma_m"  # the column of a filled row's spread in metres; empty for one that the file had
NAMED: Final = 1_000  # rows that were no pings and are told one by one; all are counted


class FilledPoint(NamedTuple):
    """A filled row."""

    entity_id: str
    ts_ms: int
    lat: float
    lon: float
    sigma_m: float  # one standard deviation, in the direction where it is largest


class GapPoints:
    """Takes gap fills as the engine publishes them. The last revision of each gap counts."""

    def __init__(self) -> None:
        self._gaps: dict[str, list[FilledPoint]] = {}
        self._along: set[str] = set()

    def add(self, fill: GapFill) -> None:
        self._along.discard(fill.gap_id)
        if fill.status == "retracted":
            self._gaps.pop(fill.gap_id, None)
            return
        if fill.atlas is not None and fill.atlas.pings and fill.points:
            self._along.add(fill.gap_id)
        self._gaps[fill.gap_id] = [
            FilledPoint(fill.entity_id, one.ts, one.lat, one.lon, round(max_sigma_m(one.cov_m2), 1))
            for one in fill.points
        ]

    @property
    def gaps(self) -> int:
        return sum(1 for points in self._gaps.values() if points)

    @property
    def along(self) -> int:
        """Returns how many gaps were filled along passages."""
        return len(self._along)

    @property
    def points(self) -> list[FilledPoint]:
        return [point for points in self._gaps.values() for point in points]


class RejectedRows:
    """Counts the rows that were no pings, and keeps the first ones."""

    def __init__(self) -> None:
        self.codes: Counter[str] = Counter()
        self.first: list[RejectedRow] = []
        self._rows: list[int] = []

    def add(self, found: RejectedRow) -> None:
        self.codes[found.code] += 1
        self._rows.append(found.row)
        if len(self.first) < NAMED:
            self.first.append(found)

    @property
    def rows(self) -> list[int]:
        """Returns the numbers of these rows, rising."""
        return sorted(self._rows)


@dataclass(frozen=True)
class Plan:
    """The P filled rows in the order in which they are written, and after which row each comes."""

    after: NDArray[np.int64]  # P
    points: Sequence[FilledPoint]  # P
    rejects: Sequence[int] = ()  # the numbers of rows that were no pings, rising

    @classmethod
    def of(cls, found: Survey, points: Sequence[FilledPoint], rejects: Iterable[int] = ()) -> Plan:
        ts_ms = np.array([point.ts_ms for point in points], np.int64)
        entity = np.array([found.names[point.entity_id] for point in points], np.int64)
        after = _by_time(found, ts_ms) if found.order == "time" else _by_entity(found, entity, ts_ms)
        order = np.lexsort((entity, ts_ms, after))
        return cls(after[order], [points[at] for at in order.tolist()], list(rejects))


def _by_time(found: Survey, ts_ms: NDArray[np.int64]) -> NDArray[np.int64]:
    newest = np.maximum.accumulate(found.ts_ms) if len(found) else found.ts_ms
    return np.searchsorted(newest, ts_ms, side="right").astype(np.int64) - 1


def _by_entity(found: Survey, entity: NDArray[np.int64], ts_ms: NDArray[np.int64]) -> NDArray[np.int64]:
    rows = np.flatnonzero((found.ts_ms != NO_TIME) & (found.entity >= 0))
    rows = rows[np.lexsort((rows, found.ts_ms[rows], found.entity[rows]))]
    of, at = found.entity[rows], found.ts_ms[rows]
    after = np.empty(len(ts_ms), np.int64)
    for code in np.unique(entity).tolist():
        begin, end = np.searchsorted(of, [code, code + 1]).tolist()
        mine = entity == code
        after[mine] = rows[begin + np.searchsorted(at[begin:end], ts_ms[mine], side="right") - 1]
    return after


@dataclass
class Cursor:
    """Goes through a plan while a file is copied, row by row in the file's order."""

    plan: Plan
    asked: Iterable[int] = ()  # rows whose lines are to be noted
    lines: dict[int, int] = field(default_factory=dict)  # by row; the first line of a file is 1
    written: int = 0
    _reject: int = 0

    def __post_init__(self) -> None:
        self.entities = frozenset(point.entity_id for point in self.plan.points)
        self._asked = frozenset(self.asked)

    def at(self, row: int, line: int) -> bool:
        """Notes on which line a row begins, and returns whether the row is one that was no ping."""
        if row in self._asked:
            self.lines[row] = line
        rejects = self.plan.rejects
        if self._reject < len(rejects) and rejects[self._reject] == row:
            self._reject += 1
            return True
        return False

    def after(self, row: int) -> Sequence[FilledPoint]:
        """Returns the filled rows that come after a row, and those after earlier ones that were not asked for."""
        begin = self.written
        while self.written < len(self.plan.after) and self.plan.after[self.written] <= row:
            self.written += 1
        return self.plan.points[begin : self.written]


@dataclass(frozen=True)
class Filling:
    """Holds what a file is to be filled with."""

    survey: Survey
    plan: Plan
    rejects: RejectedRows
    counts: RowCounts
    gaps: int
    along: int  # of these gaps, filled along passages of an atlas
    own: OwnAtlas | None


def find_fills(
    found: Recording,
    form: Any,
    weights: str,
    atlas: Path | None,
    step_ms: int,
    steps: Steps,
    *,
    makes_own: bool = False,
) -> Filling:
    """Reads a file twice, and once more if it `makes_own` atlas. `form` is a time as the file has it; `step_ms` is
    between filled rows, 0 for each track's own cadence.

    Raises ValueError if no row is a ping, and the errors of reading the file, the weights or the atlas.
    """
    with steps.step("reading") as progress:
        seen = survey(found.rows(), progress)
    settings = Settings(weights=weights, max_stored_entities=UNLIMITED)  # there is no store
    fills, rejects, counts = GapPoints(), RejectedRows(), RowCounts()
    spacing = {"step_ms": step_ms, "unit_ms": times.unit_ms(form, found.columns)}
    own = None
    if makes_own and atlas is None:
        policy = gap_policy(Predictor.load(weights).history)
        with steps.step("reading where they went", len(seen)) as progress:
            own = for_fills(read_own((row for some in batches(found.rows, seen) for _, row in some), policy, progress))
    rows = batches(found.rows, seen)
    with steps.step("filling", len(seen)) as progress:
        for row, answer in answers(rows, settings, counts, progress, forecasts=False, atlas=atlas, own=own, **spacing):
            if answer.topic == settings.topics.gapfills:
                fills.add(loads_gapfill(answer.value or b""))
            elif answer.topic == settings.topics.dead_letters:
                rejects.add(bad(row, answer))
    raise_if_none(found, counts, rejects)
    plan = Plan.of(seen, fills.points, rejects.rows)
    return Filling(seen, plan, rejects, counts, fills.gaps, fills.along, own)


def raise_if_none(found: Recording, counts: RowCounts, rejects: RejectedRows) -> None:
    """Raises ValueError if a file has rows, and none is a ping."""
    if rejects.first and not counts.pings:
        one = rejects.first[0]
        raise found.without_pings(counts.rows, one.code, one.message)
