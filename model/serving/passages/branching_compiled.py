"""Finds where the passages part that are nearest to a ping: the fast version of `model.atlas.branching`.

Shapes: M branches, H horizons.
"""

from __future__ import annotations

import numpy as np

from model.atlas import asking, branching, filling
from model.jit import compiled
from model.serving.passages.nearest_compiled import TIMES_S, place_at, set_reached


@compiled
def set_branches(on, near, count, dt, share, branch):  # type: ignore[no-untyped-def]
    """Sets the shares [M] and the places [M, H, 2] of the branches of a ping at some times [H]."""
    ahead_s = _known_ahead_s(near, count, dt)
    if ahead_s == 0.0:
        return
    ways, total = _tell_apart(on, near, count, ahead_s)
    chosen, together = 0, 0.0
    while chosen < branching.MOST:
        most = -1
        for way in range(ways):
            enough = near.led_by_many[way] and near.led_weight[way] >= branching.LEAST_SHARE * total
            if enough and (most < 0 or near.led_weight[way] > near.led_weight[most]):
                most = way
        if most < 0:
            break
        share[chosen] = near.led_weight[most] / total
        for h in range(len(dt)):
            if dt[h] <= ahead_s:
                branch[chosen, h, 0], branch[chosen, h, 1] = _middle_of_way(on, near, count, most, dt[h])
        together += near.led_weight[most]
        near.led_by_many[most] = 0
        chosen += 1
    if chosen == 1 or together < branching.LEAST_TOGETHER * total:
        share[:] = 0.0
        branch[:] = np.nan


@compiled
def _known_ahead_s(near, count, dt):  # type: ignore[no-untyped-def]
    """Returns the longest of some times [H] up to which half of the passages are known, by weight; 0 if there is
    none."""
    ahead_s, total = 0.0, 0.0
    for j in range(count):
        total += near.weight[j]
    for h in range(len(dt)):
        known = 0.0
        for j in range(count):
            if near.begin[0, j] + dt[h] <= TIMES_S[near.last[j]]:
                known += near.weight[j]
        if known >= total / 2 and total >= asking.LEAST and dt[h] > ahead_s:
            ahead_s = dt[h]
    return ahead_s


@compiled
def _tell_apart(on, near, count, ahead_s):  # type: ignore[no-untyped-def]
    """Finds which way each passage goes that is known for ahead_s. Returns how many ways there are, and the weight of
    these passages."""
    ways, total, near_m2 = 0, 0.0, filling.BESIDE_M**2
    for j in range(count):
        near.led[j] = -1
        if near.begin[0, j] + ahead_s > TIMES_S[near.last[j]]:
            continue
        at_e, at_n = place_at(on, near, j, near.begin[0, j] + ahead_s)
        e, north = at_e + near.own[0, j], at_n + near.own[1, j]
        near.went[0, j], near.went[1, j] = e, north
        total += near.weight[j]
        near.led[j] = branching.WAYS
        for way in range(ways):
            leader = near.leader[way]
            to_e, to_n = near.went[0, leader], near.went[1, leader]
            # Whoever is near at the same time came near: the quick case.
            if (
                (to_e - e) ** 2 + (to_n - north) ** 2 <= near_m2
                or set_reached(on, near.row[leader], near, leader, e, north, ahead_s) <= near_m2
                or set_reached(on, near.row[j], near, j, to_e, to_n, ahead_s) <= near_m2
            ):
                near.led[j] = way
                break
        if near.led[j] == branching.WAYS and ways < branching.WAYS:
            near.leader[ways], near.led_weight[ways], near.led_by_many[ways] = j, 0.0, 0
            near.led[j] = ways
            ways += 1
        if near.led[j] < branching.WAYS:
            near.led_weight[near.led[j]] += near.weight[j]
            if near.mark[j] != near.mark[near.leader[near.led[j]]]:
                near.led_by_many[near.led[j]] = 1
    return ways, total


@compiled
def _middle_of_way(on, near, count, way, dt):  # type: ignore[no-untyped-def]
    """Returns where the passages of a way were after dt seconds: their mean, in metres from the ping."""
    sum_e, sum_n = 0.0, 0.0
    for j in range(count):
        if near.led[j] == way:
            at_e, at_n = place_at(on, near, j, near.begin[0, j] + dt)
            sum_e += near.weight[j] * (at_e + near.own[0, j])
            sum_n += near.weight[j] * (at_n + near.own[1, j])
    return sum_e / near.led_weight[way], sum_n / near.led_weight[way]
