"""Summarises scores, and compares versions. All functions are pure: scores in, numbers out.

Intervals are 95 %, bootstrapped over entities: one entity's errors are alike, so resampling scores would give intervals
that are too narrow. With one entity there is none.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Final, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from stream.services.scores.scoring.drift import FLOOR_M, JUDGED
from stream.services.scores.sums import NEXT, Labels
from stream.wire import Outcome, Score

RESAMPLES: Final = 400
F64 = NDArray[np.float64]
K = TypeVar("K", bound=Hashable)


class Interval(NamedTuple):
    value: float
    low: float | None
    high: float | None


class Row(NamedTuple):
    """What came of one horizon of some forecasts. `skill` is 1 - error / damped velocity's error, both summed over the
    forecasts that have the latter: 0 is damped velocity, 1 is perfect.
    """

    n: int
    unscored: int
    entities: int
    mean_m: Interval
    median_m: float
    damped_m: float | None  # mean, of the forecasts that have one
    skill: Interval | None
    inside50: Interval
    inside90: Interval


class Summary(NamedTuple):
    """What came of one version's forecasts."""

    forecasts: int
    entities: int
    from_ts: int  # of the anchors
    to_ts: int
    horizons: dict[str, Row]  # by "next" or seconds; without those that have no score


class Paired(NamedTuple):
    """Two versions on the same pings and horizons. `log_ratio` is the mean of log(error of one / error of other), which
    is their difference in log skill, as damped velocity's error is the same for both; below 0 the first is better.
    """

    n: int
    entities: int
    log_ratio: Interval

    @property
    def is_better(self) -> bool:
        """Returns whether the first is better for certain."""
        return self.log_ratio.high is not None and self.log_ratio.high < 0

    @property
    def is_worse(self) -> bool:
        return self.log_ratio.low is not None and self.log_ratio.low > 0


def first_scores(scores: Iterable[Score]) -> list[Score]:
    """Returns the first score of each forecast id, of forecasts that claimed to be good ones."""
    seen: set[str] = set()
    found = []
    for score in scores:
        if score.status in JUDGED and score.forecast_id not in seen:
            seen.add(score.forecast_id)
            found.append(score)
    return found


def model_version(score: Score) -> str:
    return score.model.version


def atlas_version(score: Score) -> str:
    """Returns the version of the atlas that was asked; empty for none."""
    return "" if score.atlas is None or score.atlas.version is None else score.atlas.version


def atlas_asked(score: Score) -> str:
    return "asked" if atlas_version(score) else "none"


def summaries(scores: Iterable[Score]) -> dict[Labels, Row]:
    """Returns a row for each model version, whether an atlas was asked, and horizon that has a score. Scores that occur
    twice count once; those of forecasts with another status than JUDGED do not.
    """
    parts = _group(first_scores(scores), lambda one: (model_version(one), atlas_asked(one)))
    return {
        Labels(model, atlas, name): row
        for (model, atlas), part in sorted(parts.items())
        for name, row in _rows(part).items()
    }


def by_version(
    scores: Iterable[Score], last_n: int | None = None, of: Callable[[Score], str] = model_version
) -> dict[str, Summary]:
    """Returns a summary for each version, of its newest `last_n` forecasts by their anchors, or of all."""
    found = {}
    for version, part in sorted(_group(first_scores(scores), of).items()):
        part.sort(key=lambda one: (one.anchor_ts, one.forecast_id))
        some = part if last_n is None else part[max(0, len(part) - last_n) :]
        if some:
            entities = len({one.entity_id for one in some})
            found[version] = Summary(len(some), entities, some[0].anchor_ts, some[-1].anchor_ts, _rows(some))
    return found


def compare_paired(
    scores: Iterable[Score],
    one: str,
    other: str,
    *,
    horizon: str | None = None,
    of: Callable[[Score], str] = model_version,
    seed: int = 0,
) -> Paired | None:
    """Compares two versions on the pings that both answered, at one horizon or at all of them. None if there are none.

    Errors below FLOOR_M count as that.
    """
    ours: dict[tuple[str, int, str], tuple[float, float]] = {}
    theirs: dict[tuple[str, int, str], tuple[float, float]] = {}
    for score in first_scores(scores):
        into = ours if of(score) == one else theirs if of(score) == other else None
        if into is None:
            continue
        for name, outcome in outcomes(score):
            if outcome.error_m is not None and outcome.dt_s is not None and horizon in (None, name):
                into[score.entity_id, score.anchor_ts, name] = outcome.error_m, outcome.dt_s
    # A copy of a record may have been compared with another ping; then the two errors are of different things.
    both = [key for key, found in ours.items() if key in theirs and theirs[key][1] == found[1]]
    if not both:
        return None
    logs = np.array([np.log(max(ours[key][0], FLOOR_M) / max(theirs[key][0], FLOOR_M)) for key in both])
    entities = [key[0] for key in both]
    return Paired(len(both), len(set(entities)), _mean(logs, entities, seed))


def _group(scores: Iterable[Score], key: Callable[[Score], K]) -> dict[K, list[Score]]:
    found: dict[K, list[Score]] = defaultdict(list)
    for score in scores:
        found[key(score)].append(score)
    return found


def outcomes(score: Score) -> list[tuple[str, Outcome]]:
    """Returns the outcomes of a score, each with the name of its horizon."""
    return [(NEXT, score.next), *((f"{one.h_s:g}", one) for one in score.horizons)]


def _rows(scores: Sequence[Score]) -> dict[str, Row]:
    columns: dict[str, list[tuple[str, Outcome]]] = defaultdict(list)
    for score in scores:
        for name, outcome in outcomes(score):
            columns[name].append((score.entity_id, outcome))
    rows = {name: _row(cases) for name, cases in columns.items()}
    return {name: row for name, row in rows.items() if row is not None}


def _row(cases: list[tuple[str, Outcome]]) -> Row | None:
    known = [(entity, one) for entity, one in cases if one.error_m is not None]
    if not known:
        return None
    entities = [entity for entity, _ in known]
    error_m = np.array([one.error_m for _, one in known], np.float64)
    compared = [(entity, one.error_m, one.damped_error_m) for entity, one in known if one.damped_error_m is not None]
    damped_m = np.array([damped for _, _, damped in compared], np.float64)
    beside_m = np.array([error for _, error, _ in compared], np.float64)
    has_skill = bool(damped_m.sum() > 0)
    return Row(
        n=len(known),
        unscored=len(cases) - len(known),
        entities=len(set(entities)),
        mean_m=_mean(error_m, entities, 0),
        median_m=float(np.median(error_m)),
        damped_m=float(damped_m.mean()) if compared else None,
        skill=_skill(beside_m, damped_m, [entity for entity, _, _ in compared]) if has_skill else None,
        inside50=_mean(np.array([bool(one.inside50) for _, one in known], np.float64), entities, 0),
        inside90=_mean(np.array([bool(one.inside90) for _, one in known], np.float64), entities, 0),
    )


def _skill(error_m: F64, damped_m: F64, entities: Sequence[str]) -> Interval:
    found = _ratio(error_m, damped_m, entities, 0)
    low = None if found.high is None else 1 - found.high
    return Interval(1 - found.value, low, None if found.low is None else 1 - found.low)


def mean_of_entities(values: F64, entities: Sequence[str]) -> Interval:
    """Returns the mean of these values [N], one of each entity [N], and its interval."""
    return _mean(values, entities, 0)


def _mean(values: F64, entities: Sequence[str], seed: int) -> Interval:
    return _ratio(values, np.ones(len(values)), entities, seed)


def _ratio(over: F64, under: F64, entities: Sequence[str], seed: int) -> Interval:
    """Returns sum(over) / sum(under) and its interval, of resampled entities."""
    value = float(over.sum() / under.sum())
    names, of = np.unique(np.array(entities), return_inverse=True)
    if len(names) < 2:
        return Interval(value, None, None)
    tops, bottoms = np.bincount(of, weights=over), np.bincount(of, weights=under)
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=RESAMPLES)
    sums = drawn @ bottoms
    low, high = np.quantile((drawn @ tops)[sums > 0] / sums[sums > 0], (0.025, 0.975))
    return Interval(value, float(low), float(high))
