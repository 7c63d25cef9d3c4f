"""Estimates when an entity is at its destination: quantiles of the seconds that it takes, provided it goes there.

Two things are known. The forecast's path comes nearer to the destination, or does not: `path_s` is the least of t and
what remains then at TYPICAL_MPS, over all times t of the path. And earlier entities went from about here to there
(`model.arrivals.passages`). The logarithm of each quantile, FLOOR_S later, is linear in a few numbers of these. The
coefficients are a `Belief`, which each fleet finds out by itself (`model.arrivals.believing`); PRIOR is for one of
which nothing is known. There is one set for where passages are known, one for where they are not.

Shapes: N questions, K knots of a path, Q = len(LEVELS).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from statistics import NormalDist
from typing import Final, NamedTuple

import numpy as np

from model.arrivals.passages import Like
from model.kinematics.geo import F64

LEVELS: Final = np.array([0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95])
MEDIAN: Final = 3  # the number of the level 0.5
TYPICAL_MPS: Final = 5.0  # in a straight line, by day in a town
FLOOR_M: Final = 50.0  # below, distances and times say nothing of each other
FLOOR_S: Final = 15.0
LEAST_S: Final = 1.0  # of any quantile
PATH_OFF: Final = 0.8  # of a fleet unknown, nine of ten arrive within a quarter to four times the path's time
PASSAGE_OFF: Final = 0.5
_STEPS: Final = 16  # of a path between two knots


class Belief(NamedTuple):
    """Coefficients: a row for each of LEVELS, a column for each number of `alone` and `with_passages`."""

    alone: F64  # [Q, 3]
    with_passages: F64  # [Q, 7]


def _prior() -> Belief:
    """Returns what is believed of a fleet of which nothing is known. Half arrive within the path's time, or within the
    geometric mean of it and the passages' median. Without passages logarithms are off like a normal distribution, by
    PATH_OFF; with n of them they are off as the passages were, and by PASSAGE_OFF / √n.
    """
    normal = np.array([NormalDist().inv_cdf(level) for level in LEVELS])
    of_passages, none, half = normal / normal[-1], np.zeros(len(LEVELS)), np.full(len(LEVELS), 0.5)
    early, late = np.minimum(of_passages, 0.0), np.maximum(of_passages, 0.0)
    return Belief(
        np.stack([PATH_OFF * normal, none + 1.0, none], axis=-1),
        np.stack([none, half, none, half, early, late, PASSAGE_OFF * normal], axis=-1),
    )


PRIOR: Final = _prior()


class Times(NamedTuple):
    """Seconds [N, Q] from the anchors of forecasts until the entities arrive, at LEVELS; rising."""

    seconds: F64

    def chance_by(self, seconds: F64) -> F64:
        """Returns the chances [N] of having arrived by these seconds [N], below 0 never.

        Between two levels the chance is a straight line over the logarithm of the time. Beyond the outer ones what is
        missing to 0, or to 1, is a power of the time.
        """
        at = np.log(np.maximum(np.asarray(seconds, np.float64), 1e-9))
        return np.array([_chance(one, np.log(of)) for one, of in zip(at, self.seconds, strict=True)])


def path_s(knots_s: F64, distance_m: F64) -> F64:
    """Returns the seconds [N] in which a forecast's path leads into the destination, or near it and then at
    TYPICAL_MPS.

    Args:
        knots_s: rising times [K] of the path, of which the first is 0.
        distance_m: [N, K] from the places there to the edge of the destination; below 0 inside.
    """
    fine = np.concatenate([np.linspace(a, b, _STEPS, endpoint=False) for a, b in pairwise(knots_s)])
    fine = np.append(fine, knots_s[-1])
    away = np.array([np.interp(fine, knots_s, one) for one in distance_m]).reshape(-1, len(fine))
    return np.asarray((fine + np.maximum(away, 0.0) / TYPICAL_MPS).min(axis=1))


def arrive(distance_m: F64, path: F64, like: Sequence[Like | None], belief: Belief = PRIOR) -> Times:
    """Returns when entities arrive at their destinations.

    Args:
        distance_m: [N] from the anchors to the edges of the destinations.
        path: [N] of `path_s`.
        like: N passages, or None where none are known.
        belief: what the fleet has found out of itself.
    """
    known = np.array([one is not None for one in like], np.bool_)
    out = np.empty((len(like), len(LEVELS)))
    out[~known] = alone(distance_m[~known], path[~known]) @ belief.alone.T
    some = [one for one in like if one is not None]
    out[known] = with_passages(distance_m[known], path[known], some) @ belief.with_passages.T
    return Times(np.sort(np.maximum(np.exp(out) - FLOOR_S, LEAST_S), axis=1))


def alone(distance_m: F64, path: F64) -> F64:
    """Returns the numbers [N, 3] that the logarithms of the quantiles are linear in, where no passages are known."""
    return np.stack(
        [np.ones_like(path), np.log(path + FLOOR_S), np.log(np.maximum(distance_m, 0.0) + FLOOR_M)], axis=-1
    )


def with_passages(distance_m: F64, path: F64, like: Sequence[Like]) -> F64:
    """Returns the same numbers where passages are known, and four more [N, 7]: the logarithm of their median, how far
    the 5 % and 95 % quantiles are from it, and how few they are.
    """
    low, middle, high = (
        np.log(np.maximum([one.at(np.array([0.05, 0.5, 0.95])) for one in like], LEAST_S) + FLOOR_S).reshape(-1, 3).T
    )
    few = 1 / np.sqrt([max(one.passages, 1.0) for one in like])
    return np.concatenate(
        [alone(distance_m, path), np.stack([middle, middle - low, high - middle, few], axis=-1)], axis=1
    )


def _chance(at: float, levels: F64) -> float:
    if at < levels[0]:
        power = np.log(LEVELS[1] / LEVELS[0]) / max(levels[1] - levels[0], 1e-3)
        return float(LEVELS[0] * np.exp((at - levels[0]) * power))
    if at > levels[-1]:
        power = np.log((1 - LEVELS[-2]) / (1 - LEVELS[-1])) / max(levels[-1] - levels[-2], 1e-3)
        return float(1 - (1 - LEVELS[-1]) * np.exp((levels[-1] - at) * power))
    return float(np.interp(at, levels, LEVELS))
