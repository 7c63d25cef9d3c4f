"""Compares two versions that answered the same entities, one after the other. Pure.

What is compared is the log of a forecast's error over damped velocity's on the same ping: by how hard a ping is, and
how the traffic is now, both errors change alike. An entity's own mean before is taken from its own mean since, so that
entities that are easy to forecast do not count for a version that happens to have more of them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

import numpy as np

from stream.services.scores.scoring.drift import log_skill
from stream.services.scores.summaries import Interval, first_scores, mean_of_entities, outcomes
from stream.wire import Score

FEWEST: Final = 3  # forecasts of an entity under each version: fewer say little of it


class Change(NamedTuple):
    """How much farther off the newer version is than the older one, at one horizon."""

    horizon: str  # "next" or seconds
    entities: int  # that both answered
    forecasts: int  # of the newer one
    log_ratio: Interval  # of their errors, with its 95 % interval over entities; above 0 the newer one is farther off


def changes(newer: Iterable[Score], older: Iterable[Score]) -> list[Change]:
    """Returns the change at each horizon that both have scores of."""
    ours, theirs = _by_entity(newer), _by_entity(older)
    found = []
    for horizon in sorted(ours.keys() & theirs.keys()):
        now, then = ours[horizon], theirs[horizon]
        both = [one for one in now if len(now[one]) >= FEWEST and len(then.get(one, ())) >= FEWEST]
        if both:
            apart = np.array([np.mean(now[one]) - np.mean(then[one]) for one in both])
            forecasts = sum(len(now[one]) for one in both)
            found.append(Change(horizon, len(both), forecasts, mean_of_entities(apart, both)))
    return found


def _by_entity(scores: Iterable[Score]) -> Mapping[str, Mapping[str, list[float]]]:
    """Returns the log skills by horizon and entity."""
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for score in first_scores(scores):
        for horizon, one in outcomes(score):
            if one.error_m is not None and one.damped_error_m is not None:
                found[horizon][score.entity_id].append(log_skill(one.error_m, one.damped_error_m))
    return found
