"""Watches what a partition's scores have in common, and says when that has changed for good.

Four numbers of each score of the next ping are watched: the logs of its error, and of that over damped velocity's;
whether it was inside the 90 % region; and the log of the seconds since the anchor. Each is averaged over BLOCK scores
in a row, because one entity's errors are alike and have long tails. The first REFERENCE averages say what is usual:
their mean and standard deviation. Then Page's test (river's PageHinkley) adds up how far the averages, in such
deviations, are from their mean.

Then the change is measured, and told as a drift if the means before and after it differ by MATERIAL or more. Either way
the watch begins anew: the next REFERENCE averages are what is usual from then on, and nothing is told of them.

A watch is a few numbers (`State`), which go along with the committed offset. ADWIN was the other candidate; what it
keeps grows with the log of its window, and its compiled state can only be pickled.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, pstdev
from typing import Any, Final, NamedTuple

import msgspec

from stream.wire import MEASURED, Drift, Measured, Score, drift_id

BLOCK: Final = 64  # scores
REFERENCE: Final = 30  # blocks: their deviation is then known to 13 %
SLACK: Final = 0.5  # deviations: half of the smallest lasting change that is looked for
THRESHOLD: Final = 15.0  # deviations, added up: white noise reaches it once in 3 million blocks
MOST: Final = 8.0  # deviations of one block: a single odd one is no change
# Blocks, from the one that shows a change on, that say how large it is: where it began is known less well than that.
AFTER: Final = 4
MATERIAL: Final[dict[Measured, float]] = {"error": 0.2, "skill": 0.15, "coverage": 0.05, "cadence": 0.3}
FLOOR: Final = 0.1  # of MATERIAL: a deviation is taken as that at least
FLOOR_M: Final = 1.0  # errors of less than a metre are a metre: below that they are the receiver's, not a forecast's
JUDGED: Final = ("ok", "fallback_cv")  # forecasts that claim to be good ones


class State(msgspec.Struct, array_like=True):
    """A watch. All numbers are finite."""

    block: tuple[int, float] = (0, 0.0)  # scores, and their sum
    reference: list[float] = []  # averages, until there are REFERENCE
    usual: tuple[float, float] | None = None  # their mean and deviation, from then on
    page: tuple[float, ...] | None = None  # Page's test: see `_numbers`
    seen: tuple[int, float] = (0, 0.0)  # averages that Page's test got, and their sum
    low: tuple[int, float] = (0, 0.0)  # the same where an increase would have begun
    high: tuple[int, float] = (0, 0.0)  # and a decrease
    # Of a change that was found: the averages before it, and those before the one that showed it.
    found: tuple[tuple[int, float], tuple[int, float]] | None = None


class Change(NamedTuple):
    """Means before and after, and over how many scores."""

    before: float
    after: float
    before_n: int
    after_n: int


class Watch:
    """Watches one number."""

    def __init__(self, floor: float, state: State | None = None) -> None:
        """`floor` is the least that a deviation is taken for."""
        self._floor = floor
        self.state = state or State()
        self._test = _page(self.state.page)

    def add(self, value: float) -> Change | None:
        """Takes one score's number. Returns a change if it shows one."""
        count, total = self.state.block[0] + 1, self.state.block[1] + value
        self.state.block = (count, total)
        if count < BLOCK:
            return None
        self.state.block = (0, 0.0)
        if self.state.usual is not None:
            return self._look(total / BLOCK)
        self.state.reference.append(total / BLOCK)
        if len(self.state.reference) < REFERENCE:
            return None
        known, self.state.reference = self.state.reference, []
        self.state.usual = fmean(known), max(pstdev(known), self._floor)
        for average in known:
            if (change := self._look(average)) is not None:
                return change
        return None

    def _look(self, average: float) -> Change | None:
        state, test = self.state, self._test
        assert state.usual is not None
        mean, deviation = state.usual
        before, state.seen = state.seen, (state.seen[0] + 1, state.seen[1] + average)
        if state.found is not None:
            return self._measure(*state.found)
        test.update(min(MOST, max(-MOST, (average - mean) / deviation)))
        if test._sum_increase <= test._min_increase:
            state.low = state.seen
        if test._sum_decrease >= test._max_decrease:
            state.high = state.seen
        state.page = _numbers(test)
        if test.drift_detected:
            rises = test._sum_increase - test._min_increase > THRESHOLD
            state.found = (state.low if rises else state.high), before
        return None

    def _measure(self, usual: tuple[int, float], shown: tuple[int, float]) -> Change | None:
        """Returns the change, once there are averages enough to say how large it is, and begins anew."""
        count, total = self.state.seen[0] - shown[0], self.state.seen[1] - shown[1]
        if count < AFTER:
            return None
        self.state = State(block=self.state.block)
        self._test = _page(None)
        return Change(usual[1] / usual[0], total / count, usual[0] * BLOCK, count * BLOCK)


class Watches:
    """The watches of one partition."""

    def __init__(self, topic: str, partition: int, states: Sequence[State] = ()) -> None:
        self._topic, self._partition = topic, partition
        given = dict(zip(MEASURED, states, strict=False))
        self._watches = {name: Watch(FLOOR * MATERIAL[name], given.get(name)) for name in MEASURED}

    def add(self, score: Score, offset: int) -> list[Drift]:
        """Takes the next score, which was decided by the record at `offset`. Returns what it shows to have changed."""
        found = []
        for name, value in numbers(score).items():
            change = self._watches[name].add(value)
            if change is not None and abs(change.after - change.before) >= MATERIAL[name]:
                found.append(self._drift(name, change, score, offset))
        return found

    def states(self) -> list[State]:
        return [self._watches[name].state for name in MEASURED]

    def _drift(self, name: Measured, change: Change, score: Score, offset: int) -> Drift:
        return Drift(
            drift_id=drift_id(self._topic, self._partition, offset, name),
            measured=name,
            topic=self._topic,
            partition=self._partition,
            offset=offset,
            anchor_ts=score.anchor_ts,
            before=change.before,
            after=change.after,
            before_n=change.before_n,
            after_n=change.after_n,
        )


def numbers(score: Score) -> dict[Measured, float]:
    """Returns what is watched of a score; nothing of a forecast that did not claim to be good, or that no ping
    followed.
    """
    step = score.next
    if score.status not in JUDGED or step.dt_s is None or step.error_m is None:
        return {}
    found: dict[Measured, float] = {"error": math.log(max(step.error_m, FLOOR_M))}
    found |= {"coverage": float(bool(step.inside90)), "cadence": math.log(step.dt_s)}
    if step.damped_error_m is not None:
        found["skill"] = log_skill(step.error_m, step.damped_error_m)
    return found


def log_skill(error_m: float, damped_error_m: float) -> float:
    """Returns the log of error over damped velocity's: below 0 the forecast was the better one."""
    return math.log(max(error_m, FLOOR_M) / max(damped_error_m, FLOOR_M))


def check_installed() -> None:
    """Raises ValueError, which says what to do, if river is not installed."""
    try:
        import river.drift  # noqa: F401
    except ImportError as error:
        raise ValueError(
            "drift alarms need river: pip install 'pathcast[scores]', or give --no-drift to do without them"
        ) from error


def _page(numbers: tuple[float, ...] | None) -> Any:
    """Returns Page's test, new or as it was. A test fails if river keeps other numbers than these."""
    from river.drift import PageHinkley  # two seconds, for which --help should not wait

    test: Any = PageHinkley(min_instances=1, delta=SLACK, threshold=THRESHOLD, alpha=1.0)
    if numbers is not None:
        test._x_mean.n, test._x_mean._mean = numbers[:2]
        test._sum_increase, test._sum_decrease, test._min_increase, test._max_decrease = numbers[2:]
    return test


def _numbers(test: Any) -> tuple[float, ...]:
    mean = test._x_mean.n, test._x_mean._mean
    return (*mean, test._sum_increase, test._sum_decrease, test._min_increase, test._max_decrease)
