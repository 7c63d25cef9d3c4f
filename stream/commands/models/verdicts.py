"""Judges, by live scores, weights that were promoted, and canaries. Pure: scores in, a verdict with its numbers out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

from stream.services.scores.changes import Change, changes
from stream.wire import Score

PERCENT: Final = 100


@dataclass(frozen=True)
class VerdictBounds:
    """The bounds of a verdict."""

    last: int = 3_000  # forecasts of each version that are looked at, the newest
    fewest: int = 300  # forecasts of the newer version at a horizon: fewer say nothing
    fewest_entities: int = 8
    # The mean of log(error / damped velocity's error) by which a version may be farther off than the one before. Half
    # of it already is what a refresh gains on a good day.
    margin: float = 0.05


class Verdict(NamedTuple):
    """What live scores say of a version against the one before it."""

    finding: Literal["worse", "no worse", "too few"]
    reason: str
    numbers: dict[str, Any]


def verdict(newer: Sequence[Score], older: Sequence[Score], rules: VerdictBounds) -> Verdict:
    """Returns "worse" if at some horizon the newer version is farther off by more than the margin, and for certain: the
    whole interval is beyond it, because this is asked every minute; "no worse" if there are scores enough and it is
    not.
    """
    found = [
        one
        for one in changes(newer[-rules.last :], older[-rules.last :])
        if one.forecasts >= rules.fewest and one.entities >= rules.fewest_entities
    ]
    numbers = {"margin": rules.margin, "horizons": {one.horizon: _numbers(one) for one in found}}
    if not found:
        return Verdict("too few", "too few forecasts of the same entities were scored under both", numbers)
    worst = max(found, key=lambda one: one.log_ratio.value)
    said = f"{_where(worst)}: {_percent(worst.log_ratio.value)} farther off than before, over {worst.entities} entities"
    if any(one.log_ratio.low is not None and one.log_ratio.low > rules.margin for one in found):
        return Verdict("worse", said, numbers)
    best = min(found, key=lambda one: one.log_ratio.value)
    return Verdict("no worse", f"at best {_percent(-best.log_ratio.value)} nearer ({_where(best)}); {said}", numbers)


def _where(one: Change) -> str:
    return "at the next ping" if one.horizon == "next" else f"{one.horizon} s ahead"


def _percent(log_ratio: float) -> str:
    return f"{PERCENT * log_ratio:.1f} %"


def _numbers(one: Change) -> dict[str, Any]:
    return {"entities": one.entities, "forecasts": one.forecasts, **one.log_ratio._asdict()}
