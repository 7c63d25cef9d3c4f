"""Finds where the passages part that a ping was compared with: the definition.

Of the nearest passages (`asking.neighbours`) those count that are known up to the longest asked horizon up to which
half of them are, by weight. Nearest first, each joins the first way on which it goes, or begins one: two passages go
one way if one of them came within filling.BESIDE_M of where the other was at that horizon, and took half to twice as
long. So a bus that waits longer at a light does not part from the one before it. A way that two or more vehicles went,
with LEAST_SHARE of the weight, is a branch, and where there is but one of them, nobody parts. Where branches have less
than LEAST_TOGETHER of the weight, passages scatter, as those of taxis do, and there are none.

Shapes: N pings, J = asking.NEAREST, W = len(asking.TIMES_S), H horizons, M = MOST.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.atlas import asking, filling
from model.atlas.asking import Neighbours
from model.atlas.published import Published
from model.kinematics.geo import F64, displacement_m

MOST: Final = 3  # branches of a ping
WAYS: Final = 6  # that are told apart; a passage of a further one went elsewhere
LEAST_SHARE: Final = 0.15
LEAST_TOGETHER: Final = 2 / 3


class Branches(NamedTuple):
    """The branches of pings, the largest share first. A ping whose passages go one way has none."""

    share: F64  # [N, M] of the passages that went there, by weight; 0 where there is no branch
    mean_m: F64  # [N, M, H, 2] east and north from the ping; NaN where there is none, and beyond what is known

    @classmethod
    def none(cls, pings: int, horizons: int) -> Branches:
        return cls(np.zeros((pings, MOST)), np.full((pings, MOST, horizons, 2), np.nan))


def branches(version: Published, near: Neighbours, fixes: NDArray[Any], horizons_s: F64) -> Branches:
    """Returns the branches of pings, FIX [N], whose passages are `near`, at horizons_s [N, H]."""
    found = Branches.none(*horizons_s.shape)
    for ping in range(len(fixes)):
        count = int((near.row[ping] >= 0).sum())
        if count:
            weight = asking.weights(near.apart_m2[ping : ping + 1])[0, :count]
            passages = _follow(version, near.row[ping, :count], fixes[ping])
            mark = version.mark[near.row[ping, :count]]
            _set_branches(found, ping, weight, mark, *passages, horizons_s[ping])
    return found


def _follow(version: Published, row: NDArray[np.int64], fix: Any) -> tuple[F64, NDArray[Any], F64]:
    """Returns where passages [J] were at asking.TIMES_S, in metres from a ping, the last of these that is known, and
    when they were beside the ping."""
    lat, lon = (np.full(len(row), fix[name]) for name in ("lat_e7", "lon_e7"))
    own_m = displacement_m(lat, lon, *version.signatures(row)[:2])
    way, last = asking.ways(version, row[None]), version.known[row] + 1
    begin_s, _ = asking.beside(way, last[None], -own_m[None])
    return way[0] + own_m[:, None], last, begin_s[0]


def _set_branches(
    found: Branches,
    ping: int,
    weight: F64,
    mark: NDArray[np.uint16],
    way: F64,
    last: NDArray[Any],
    begin_s: F64,
    horizons_s: F64,
) -> None:
    known = begin_s[:, None] + horizons_s <= asking.TIMES_S[last][:, None]  # [J, H]
    enough = (weight[:, None] * known).sum(axis=0) >= weight.sum() / 2
    if not enough.any() or weight.sum() < asking.LEAST:
        return
    ahead_s = horizons_s[enough].max()
    going = np.flatnonzero(begin_s + ahead_s <= asking.TIMES_S[last])
    end_m = filling.places_at(way[going], begin_s[going, None] + ahead_s)[:, 0]
    leaders: list[int] = []
    led = np.full(len(going), WAYS)
    for j in range(len(going)):
        for number, leader in enumerate(leaders):
            if _reaches(way, last, begin_s, going[leader], end_m[j], ahead_s) or _reaches(
                way, last, begin_s, going[j], end_m[leader], ahead_s
            ):
                led[j] = number
                break
        else:
            if len(leaders) < WAYS:
                led[j] = len(leaders)
                leaders.append(j)
    total = weight[going].sum()
    shares = np.array([weight[going[led == number]].sum() / total for number in range(len(leaders))])
    many = np.array([len(np.unique(mark[going[led == number]])) > 1 for number in range(len(leaders))])
    order = np.argsort(-shares, kind="stable")
    chosen = order[(many & (shares >= LEAST_SHARE))[order]][:MOST]
    if len(chosen) < 2 or shares[chosen].sum() < LEAST_TOGETHER:
        return
    asked = np.flatnonzero(horizons_s <= ahead_s)
    for place, number in enumerate(chosen):
        mine = going[led == number]
        at_m = filling.places_at(way[mine], begin_s[mine, None] + horizons_s[asked])
        found.share[ping, place] = shares[number]
        found.mean_m[ping, place, asked] = np.einsum("j,jha->ha", weight[mine] / weight[mine].sum(), at_m)


def _reaches(way: F64, last: NDArray[Any], begin_s: F64, one: int, end_m: F64, ahead_s: float) -> bool:
    """Returns whether a passage came by a place, in about as long."""
    only = slice(one, one + 1)
    _, far = filling.reach(way[only], last[only], end_m, begin_s[only], ahead_s)
    return bool(far[0] <= filling.BESIDE_M**2)
