"""Finds out how far a fleet's passages, and the paths of its forecasts, are to be believed: by its own tracks.

A question is a ping, and the place where its track is AHEAD_S later; when the entity was there is known. The passages
of all other entities answer it, also later ones, and the path of a thing that goes on at its velocity, which decays:
past pings have no forecasts. Quantile regressions over these questions are the fleet's `Belief`. The fewer questions
there are, the nearer it stays to PRIOR. The same tracks always give the same belief.

Shapes: N questions, K = len(KNOTS_S).
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from model.arrivals.passages import I64, Like, Passages, one_line
from model.arrivals.times import FLOOR_S, LEVELS, PRIOR, Belief, alone, path_s, with_passages
from model.config import ModelConfig
from model.kinematics.geo import F64
from model.kinematics.motion import damped_s
from model.quantile_regression import fit_line

MOST: Final = 1_500  # questions: 2 s of a core for two years of 300 buses, 8 s for four days of 400 taxis
EVERY_S: Final = 600.0  # of all tracks together, one question: closer ones know the same
AHEAD_S: Final = (120.0, 2_700.0)  # uniform in the logarithm, so that short and long ways count alike
RADIUS_M: Final = 150.0  # of the places that are asked for
BEHIND_S: Final = 60.0  # the least over which a velocity is measured
KNOTS_S: Final = np.array([0.0, 60.0, 300.0, 900.0])  # of the paths, as the bundled weights have horizons
# So many questions move the belief half of the way from PRIOR; fewer than FEW do not tell seven levels apart.
HALF: Final = 50
FEW: Final = 20


class Fleet(NamedTuple):
    """The passages of a fleet's own tracks, and how far they are believed."""

    passages: Passages
    belief: Belief

    @classmethod
    def of(cls, passages: Passages) -> Fleet:
        """Finds the belief, which takes seconds for a million pings."""
        return cls(passages, believe(passages))


class Questions(NamedTuple):
    """N questions of a fleet's own tracks."""

    row: I64  # (N,) the point at which it is asked
    velocity_mps: F64  # (N, 2) over BEHIND_S or more before it
    place_m: F64  # (N, 2) from there
    seconds: F64  # (N,) until the entity is within RADIUS_M of the place


def believe(passages: Passages) -> Belief:
    """Returns the belief that fits a fleet's own tracks best; PRIOR if they are too few to say anything."""
    asked = questions(passages)
    distance_m, path, like = ask_others(passages, asked)
    log_s, known = np.log(asked.seconds + FLOOR_S), np.array([one is not None for one in like], np.bool_)
    some = [one for one in like if one is not None]
    return Belief(
        fit_from(PRIOR.alone, alone(distance_m, path), log_s),
        fit_from(PRIOR.with_passages, with_passages(distance_m[known], path[known], some), log_s[known]),
    )


def questions(passages: Passages, *, seed: int = 0) -> Questions:
    """Returns questions at pings that are spread evenly over the time that all tracks last, of entities that are not
    there already."""
    pings = np.flatnonzero(passages.is_ping)
    track, at_ms = passages.track[pings], one_line(passages.ts_ms, passages.track)[pings]
    lasted_ms = np.cumsum(np.append(np.where(np.diff(track) == 0, np.diff(at_ms), 0), 0)[: len(pings)])
    total_ms = int(lasted_ms[-1]) if len(pings) else 0
    number = min(MOST, int(total_ms / 1000 / EVERY_S))
    anchor = np.searchsorted(lasted_ms, (np.arange(number) + 0.5) / max(number, 1) * total_ms)
    low, high = np.log(AHEAD_S)
    ahead_s = np.exp(np.random.default_rng(seed).uniform(low, high, number))
    then = np.searchsorted(at_ms, at_ms[anchor] + 1000 * ahead_s)
    before = np.searchsorted(at_ms, at_ms[anchor] - int(1000 * BEHIND_S), side="right") - 1
    before = np.maximum(before, np.searchsorted(track, track[anchor]))
    found = []
    for here, there, behind in zip(anchor, then, before, strict=True):
        if there == len(pings) or track[there] != track[here]:
            continue
        way = slice(pings[here], pings[there] + 1)
        way_m = passages.en_m[way].astype(np.float64) - passages.en_m[pings[here]]
        at_s = (passages.ts_ms[way] - passages.ts_ms[pings[here]]) / 1000.0
        seconds = first_inside(way_m, at_s, way_m[-1], RADIUS_M)
        if seconds > 0:
            moved_m = passages.en_m[pings[here]] - passages.en_m[pings[behind]].astype(np.float64)
            velocity = moved_m / max((at_ms[here] - at_ms[behind]) / 1000.0, 1.0)
            found.append((pings[here], *velocity, *way_m[-1], seconds))
    columns = np.array(found, np.float64).reshape(-1, 6)
    return Questions(columns[:, 0].astype(np.int64), columns[:, 1:3], columns[:, 3:5], columns[:, 5])


def ask_others(passages: Passages, asked: Questions) -> tuple[F64, F64, list[Like | None]]:
    """Returns what `times.arrive` takes of each question: the distance (N,), the path (N,), and the N passages, which
    are other entities'."""
    ahead_m = damped_s(KNOTS_S, ModelConfig.damping_s)[:, None] * asked.velocity_mps[:, None]  # (N, K, 2)
    away_m = np.linalg.norm(ahead_m - asked.place_m[:, None], axis=-1) - RADIUS_M
    like = []
    for row, ahead, place in zip(asked.row, ahead_m, asked.place_m, strict=True):
        start, ts_ms, entity = (
            passages.en_m[row].astype(np.float64),
            int(passages.ts_ms[row]),
            int(passages.entity[row]),
        )
        velocity = ahead[1] / KNOTS_S[1]
        like.append(passages.between(start, start + place, RADIUS_M, velocity, ts_ms, without=entity))
    return away_m[:, 0], path_s(KNOTS_S, away_m), like


def first_inside(way_m: F64, at_s: F64, place_m: F64, radius_m: float) -> float:
    """Returns when a way (M, 2), at rising times (M,), is first within radius_m of a place: its last place, at the
    latest."""
    begin, step = way_m[:-1] - place_m, np.diff(way_m, axis=0)
    a, b = (step**2).sum(-1), (begin * step).sum(-1)
    c = (begin**2).sum(-1) - radius_m**2
    if c[0] <= 0:
        return 0.0
    root = b * b - a * c
    share = np.where((root >= 0) & (a > 0), (-b - np.sqrt(np.maximum(root, 0.0))) / np.where(a > 0, a, 1.0), np.inf)
    inside = np.flatnonzero((share >= 0) & (share <= 1))
    if not len(inside):
        return float(at_s[-1])
    first = int(inside[0])
    return float(at_s[first] + share[first] * (at_s[first + 1] - at_s[first]))


def fit_from(prior: F64, terms: F64, log_s: F64) -> F64:
    """Returns coefficients (a row for each of LEVELS) between the prior's and those that fit questions best."""
    if len(log_s) < FEW:
        return prior
    even, share = np.ones(len(log_s)), len(log_s) / (len(log_s) + HALF)
    off = [fit_line(terms, log_s - terms @ row, float(level), even) for level, row in zip(LEVELS, prior, strict=True)]
    return np.asarray(prior + share * np.array(off))
