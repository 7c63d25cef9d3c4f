"""Divides a feed into the time before other weights are announced, until their first ping, until the last entity has
followed, and after. Pure.

    before     nothing is announced
    announced  the worker loads the other weights, and every entity keeps its own
    moving     from the announcement's first offset until the last entity has followed
    after      the other weights answer everybody

A ping belongs to the phase in which it is due. N are the pings of the feed, in the order of their due times.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream.bench.harness.stats import percentile
from stream.wire import WeightsRecord

PHASES: Final = ("before", "announced", "moving", "after")
PERCENTS: Final = (50.0, 99.0, 100.0)
F64 = NDArray[np.float64]


class Answer(NamedTuple):
    """Holds what the log says of one ping's forecast."""

    entity_id: str
    version: str
    late: bool
    partition: int
    offset: int


class Load(NamedTuple):
    """The seconds of the worker on a core so far, and of its threads ready without one, at one moment."""

    at_s: float
    cpu_s: float
    waited_s: float


class Phase(NamedTuple):
    """Holds what the pings of one phase met: their sorted latencies; and parts of a core: what the worker took, and how
    many of its threads were ready and had none, in the mean."""

    seconds: float
    cpu_part: float
    waited_part: float
    latencies_ms: list[float]

    @property
    def ranks(self) -> list[float]:
        return [percentile(self.latencies_ms, percent) for percent in PERCENTS]


class Swap(NamedTuple):
    """One change of weights."""

    phases: Mapping[str, Phase]
    entities: int  # that followed
    rebuilt_s: float  # from when the first ping of the other weights was due to the last entity's forecast by them
    bound_s: float  # the longest that it may take: until the ramp is over, and then each entity has sent a ping
    moved: int  # states, by the worker's metric
    late: int  # forecasts that say so
    missing: int

    @property
    def ratios(self) -> list[float]:
        """The p99 of each phase over that before."""
        before = percentile(self.phases["before"].latencies_ms, 99.0)
        return [percentile(self.phases[name].latencies_ms, 99.0) / before for name in PHASES]

    @property
    def ms_per_state(self) -> float:
        """The CPU that moving took beyond that of the time before, for each state."""
        moving = self.phases["moving"]
        return 1000 * (moving.cpu_part - self.phases["before"].cpu_part) * moving.seconds / max(self.moved, 1)


def swap_of(
    due_s: F64,
    came_s: F64,
    answers: Sequence[Answer | None],
    record: WeightsRecord,
    announced_s: float,
    loads: Sequence[Load],
    *,
    entities: int,
    rate_per_s: float,
    settle_s: float,
    moved: int,
) -> Swap:
    """Takes when each of N pings was due and its forecast came (NaN: never), and what the log says of it.

    `announced_s` is when the announcement began, `record` what it said, and `loads` are samples during the feed. The
    pings of the first `settle_s` are not counted.

    Raises RuntimeError if an entity did not follow.
    """
    opened = [at for at, one in enumerate(answers) if one is not None and one.offset >= record.first[one.partition]]
    followed: dict[str, int] = {}
    for at in opened:
        one = answers[at]
        if one is not None and one.version == record.version:
            followed.setdefault(one.entity_id, at)
    if len(followed) < entities:
        raise RuntimeError(f"{len(followed):,} of {entities:,} entities followed: did the feed end too early?")
    last = max(followed.values())
    edges = [due_s[0] + settle_s, announced_s, due_s[opened[0]], due_s[last], due_s[-1]]
    latencies = (came_s - due_s) * 1000
    phases = {}
    for name, begin, end in zip(PHASES, edges[:-1], edges[1:], strict=True):
        phases[name] = _phase(latencies[(due_s >= begin) & (due_s < end)], begin, end, loads)
    return Swap(
        phases=phases,
        entities=len(followed),
        rebuilt_s=float(max(came_s[at] for at in followed.values()) - due_s[opened[0]]),
        bound_s=(sum(record.ramp.values()) + entities) / rate_per_s,
        moved=moved,
        late=sum(one is not None and one.late for one in answers),
        missing=int(np.isnan(came_s).sum()),
    )


def _phase(latencies_ms: F64, begin_s: float, end_s: float, loads: Sequence[Load]) -> Phase:
    at_s, *kinds = np.array(loads).T
    spent, lost = (np.interp(end_s, at_s, some) - np.interp(begin_s, at_s, some) for some in kinds)
    came: list[float] = np.sort(latencies_ms[np.isfinite(latencies_ms)]).tolist()
    seconds = float(end_s - begin_s)
    return Phase(seconds, float(spent) / max(seconds, 1e-9), float(lost) / max(seconds, 1e-9), came)
