"""Asks passages where a thing goes that came the same way: the definition.

Of the passages in the buckets around it, the NEAREST are taken, at most two of one vehicle. How far apart they are is a
sum of squares, in metres: of the places now, of those before, which count the less the older they are, and of the last
step's velocities. Each has a weight by that, and is followed from where it was beside the ping. What became of them is
a robust middle of their ways: near the geometric median (Weiszfeld, 1937).

Shapes: N pings, Q questions of each, I ways in, C candidates, J = NEAREST, W = len(TIMES_S) places of a way.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.atlas.buckets import around
from model.atlas.passages import firsts, ranks
from model.atlas.published import Published
from model.atlas.ways import I64, IN_M, IN_S, ON_M, ON_S, SPEED_MPS
from model.kinematics.geo import F64, displacement_m

NEAREST: Final = 16
MOST_OF_ONE: Final = 2
IN_WEIGHTS: Final = (0.6, 0.4, 0.3)  # of the places at IN_S before; of the place now it is 1
SPEED_S: Final = 10.0  # a velocity that differs by 1 m/s is as far as a place that differs by so many metres
KERNEL_M: Final = 600.0  # what is much farther apart does not count
NEAR_M: Final = 100.0  # what is nearer than this counts the same
RANK: Final = 3  # beyond that, weights fall with the distance of the one of this rank
MIDDLE_M: Final = 50.0  # of the robust middle: what lies nearer to it counts the same
ROUNDS: Final = 3
LEAST: Final = 1e-6  # of evidence: less is none
BESIDE: Final = 7  # straight pieces of a way on which a passage may have been beside a ping: until 120 s later
TIMES_S: Final = np.array([-IN_S[0], 0.0, *ON_S])  # of the places of a way
assert TIMES_S[BESIDE] == IN_S[0]


class Neighbours(NamedTuple):
    """The passages that pings are compared with."""

    row: I64  # [N, J], nearest first; -1 where there are no more
    apart_m2: F64  # [N, J] squared distances


class Estimate(NamedTuple):
    """The positions of pings later on, as passages suggest them."""

    mean_m: F64  # [N, Q, 2] east and north from the ping
    cov_m2: F64  # [N, Q, 3] ee, en, nn of what became of them, around the mean
    n: F64  # [N, Q] how much evidence there is: the sum of weights of at most 1


def neighbours(version: Published, fixes: NDArray[Any], in_m: F64, velocity_mps: F64) -> Neighbours:
    """Returns the passages nearest to pings, FIX [N], that were in_m [N, I, 2] metres away before, and move with
    velocity_mps [N, 2] (`ways.velocities`).
    """
    asked = around(fixes["lat_e7"], fixes["lon_e7"], -in_m[:, 0])
    out = Neighbours(np.full((len(fixes), NEAREST), -1), np.full((len(fixes), NEAREST), np.inf))
    for ping in range(len(fixes)):
        rows = rows_in(version, asked[ping])
        apart = _apart_m2(version, rows, fixes[ping], in_m[ping], velocity_mps[ping])
        order = np.argsort(apart, kind="stable")
        chosen = at_most_two(version.mark[rows[order]])
        order = order[chosen][:NEAREST]
        out.row[ping, : len(order)], out.apart_m2[ping, : len(order)] = rows[order], apart[order]
    return out


def estimate(version: Published, near: Neighbours, fixes: NDArray[Any], dt_s: F64) -> Estimate:
    """Returns where pings, FIX [N], will be dt_s [N, Q] seconds later, by the passages near them."""
    if not len(version.known):
        return Estimate(np.zeros((*dt_s.shape, 2)), np.zeros((*dt_s.shape, 3)), np.zeros(dt_s.shape))
    row = np.maximum(near.row, 0)
    way, last = ways(version, row), version.known[row] + 1  # [N, J, W, 2], [N, J]: the last place that is known
    begin_s, begin_m = beside(way, last, -_here_m(version, row, fixes))
    at_s = begin_s[..., None] + dt_s[:, None]  # [N, J, Q]
    upper = np.clip(np.searchsorted(TIMES_S, at_s), 1, len(TIMES_S) - 1)
    share = (at_s - TIMES_S[upper - 1]) / (TIMES_S[upper] - TIMES_S[upper - 1])
    index = np.arange(len(row))[:, None, None], np.arange(NEAREST)[None, :, None]
    low, high = way[(*index, upper - 1)], way[(*index, upper)]
    went = low + (high - low) * share[..., None] - begin_m[:, :, None]
    known = (near.row >= 0)[..., None] & (upper <= last[..., None]) & (share <= 1)
    weight = np.where(known, weights(near.apart_m2)[..., None], 0.0)
    n = weight.sum(axis=1)
    mean = _mean(weight, went)
    for _ in range(ROUNDS):
        off = np.hypot(*np.moveaxis(went - mean[:, None], -1, 0))
        mean = _mean(weight / np.maximum(off, MIDDLE_M), went)
    e, north = np.moveaxis(went - mean[:, None], -1, 0)
    squares = ((weight * one * other).sum(axis=1) for one, other in ((e, e), (e, north), (north, north)))
    cov = np.stack([square / np.maximum(n, LEAST) for square in squares], axis=-1)
    some = n >= LEAST
    return Estimate(np.where(some[..., None], mean, 0.0), np.where(some[..., None], cov, 0.0), np.where(some, n, 0.0))


def ways(version: Published, row: I64) -> F64:
    """Returns where passages [N, J] were at TIMES_S, in metres [N, J, W, 2] from their own ping."""
    came, on = version.signatures(row).in_m[:, :, :1] * IN_M, version.on[row] * ON_M
    return np.concatenate([came, np.zeros_like(came), on], axis=2)


def _here_m(version: Published, row: I64, fixes: NDArray[Any]) -> F64:
    """Returns where passages [N, J] are, in metres from pings [N]."""
    lat, lon = (np.broadcast_to(fixes[name][:, None], row.shape) for name in ("lat_e7", "lon_e7"))
    return displacement_m(lat, lon, *version.signatures(row)[:2])


def beside(way_m: F64, last: NDArray[Any], ping_m: F64) -> tuple[F64, F64]:
    """Returns when passages, which went by way_m [N, J, W, 2], were nearest to pings, which are ping_m [N, J, 2] from
    theirs: seconds [N, J] and places [N, J, 2]. So one that is ahead of a ping does not turn before it.
    """
    far = np.full(last.shape, np.inf)
    seconds, place = np.zeros(last.shape), np.zeros(ping_m.shape)
    for number in range(BESIDE):
        a, b = way_m[:, :, number], way_m[:, :, number + 1]
        length2 = np.maximum(((b - a) ** 2).sum(-1), 1e-9)
        share = np.clip(((ping_m - a) * (b - a)).sum(-1) / length2, 0.0, 1.0)
        there = a + share[..., None] * (b - a)
        apart = ((ping_m - there) ** 2).sum(-1)
        nearer = (number < last) & (apart < far)
        at_s = TIMES_S[number] + share * (TIMES_S[number + 1] - TIMES_S[number])
        far, seconds = np.where(nearer, apart, far), np.where(nearer, at_s, seconds)
        place = np.where(nearer[..., None], there, place)
    return seconds, place


def weights(apart_m2: F64) -> F64:
    """Returns the weights [N, J] of passages by their squared distances."""
    of_rank = apart_m2[:, RANK, None]
    wide2 = np.where(np.isfinite(of_rank), np.maximum(of_rank, NEAR_M**2), NEAR_M**2)
    return np.asarray(np.exp(-0.5 * apart_m2 / wide2) * np.exp(-0.5 * apart_m2 / KERNEL_M**2))


def rows_in(version: Published, keys: I64) -> I64:
    """Returns the passages of some buckets, bucket by bucket."""
    if not len(version.bucket):
        return np.empty(0, np.int64)
    place = np.minimum(np.searchsorted(version.bucket, keys), len(version.bucket) - 1)
    found = place[version.bucket[place] == keys]
    return np.concatenate(
        [np.empty(0, np.int64), *(np.arange(version.stop[at - 1] if at else 0, version.stop[at]) for at in found)]
    )


def _apart_m2(version: Published, rows: I64, fix: Any, in_m: F64, velocity_mps: F64) -> F64:
    """Returns the squared distances [C] of passages from a ping."""
    lat, lon = (np.full(len(rows), fix[name]) for name in ("lat_e7", "lon_e7"))
    of = version.signatures(rows)
    here = displacement_m(lat, lon, of.lat_e7, of.lon_e7)
    before = here[:, None] + of.in_m * IN_M - in_m
    velocity = (of.velocity * SPEED_MPS - velocity_mps) * SPEED_S
    ways = ((before * before).sum(-1) * np.array(IN_WEIGHTS) ** 2).sum(-1)
    return np.asarray((here * here).sum(-1) + ways + (velocity * velocity).sum(-1))


def at_most_two(marks: NDArray[np.uint16]) -> NDArray[np.bool_]:
    """Returns which of passages [C] are among the first two of their vehicle."""
    order = np.argsort(marks, kind="stable")
    out = np.empty(len(marks), np.bool_)
    out[order] = ranks(firsts(marks[order])) < MOST_OF_ONE
    return out


def _mean(weight: F64, way: F64) -> F64:
    total = np.maximum(weight.sum(axis=1), 1e-300)
    return np.asarray((weight[..., None] * way).sum(axis=1) / total[..., None])
