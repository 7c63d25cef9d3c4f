"""Finds where the passages part that are nearest to a ping: the fast version of `model.atlas.branching`.

Shapes: M branches, H horizons.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from model.atlas import asking, branching, filling
from model.atlas.ways import ON_M
from model.jit import compiled
from model.serving.passages.nearest_compiled import FAR, TIMES_S, J, place_at, set_reached

_LESS: Final = 1 - 1e-9  # so that no rounding ends a search too early


@compiled
def set_branches(on, near, count, dt_s, i, share, branch):  # type: ignore[no-untyped-def]
    """Sets the shares [N, M] and the places [N, M, H, 2] of the branches of row i at its questions [N, 1 + H] but the
    first."""
    ahead_s = _known_ahead_s(near, count, dt_s, i)
    if ahead_s == 0.0:
        return
    ways, total = _tell_apart(on, near, count, ahead_s)
    if ways < 2:
        return
    chosen, together = 0, 0.0
    while chosen < branching.MOST:
        most = -1
        for way in range(ways):
            enough = near.led_by_many[way] and near.led_weight[way] >= branching.LEAST_SHARE * total
            if enough and (most < 0 or near.led_weight[way] > near.led_weight[most]):
                most = way
        if most < 0:
            break
        share[i, chosen] = near.led_weight[most] / total
        for h in range(branch.shape[2]):
            if dt_s[i, 1 + h] <= ahead_s:
                branch[i, chosen, h, 0], branch[i, chosen, h, 1] = _middle_of_way(on, near, count, most, dt_s[i, 1 + h])
        together += near.led_weight[most]
        near.led_by_many[most] = 0
        chosen += 1
    if chosen == 1 or together < branching.LEAST_TOGETHER * total:
        share[i] = 0.0
        branch[i] = np.nan


@compiled
def _known_ahead_s(near, count, dt_s, i):  # type: ignore[no-untyped-def]
    """Returns the longest of the questions of row i but the first, up to which half of the passages are known, by
    weight; 0 if there is none."""
    ahead_s, total = 0.0, 0.0
    for j in range(count):
        total += near.weight[j]
    for q in range(1, dt_s.shape[1]):
        known = 0.0
        for j in range(count):
            if near.begin[0, j] + dt_s[i, q] <= TIMES_S[near.last[j]]:
                known += near.weight[j]
        if known >= total / 2 and total >= asking.LEAST and dt_s[i, q] > ahead_s:
            ahead_s = dt_s[i, q]
    return ahead_s


@compiled
def _tell_apart(on, near, count, ahead_s):  # type: ignore[no-untyped-def]
    """Finds which way each passage goes that is known for ahead_s: the nearest of those that go none yet leads the next
    way, until those left are too few for a branch, or the ways that are none are too many for any. Returns how many
    ways there are, and the weight of these passages."""
    ways, total, near_m2 = 0, 0.0, filling.BESIDE_M**2
    for j in range(J):
        near.led[j] = -1
        near.went[0, j], near.went[1, j] = FAR, FAR
    for j in range(count):
        if near.begin[0, j] + ahead_s <= TIMES_S[near.last[j]]:
            at_e, at_n = place_at(on, near, j, near.begin[0, j] + ahead_s)
            near.went[0, j], near.went[1, j] = at_e + near.own[0, j], at_n + near.own[1, j]
            near.led[j] = branching.WAYS
            total += near.weight[j]
    left, none = total, 0.0
    for leader in range(count):
        if left < _LESS * branching.LEAST_SHARE * total or _LESS * none > (1 - branching.LEAST_TOGETHER) * total:
            break
        if near.led[leader] != branching.WAYS or ways == branching.WAYS:
            continue
        near.led_weight[ways], near.led_by_many[ways] = 0.0, 0
        to_e, to_n = near.went[0, leader], near.went[1, leader]
        _set_far_from(on, near, leader, count, ahead_s)
        for j in range(leader, count):
            if near.led[j] != branching.WAYS:
                continue
            if (
                j == leader
                or near.far[j] <= near_m2
                or set_reached(on, near.row[j], near, j, to_e, to_n, ahead_s) <= near_m2
            ):
                near.led[j] = ways
                near.led_weight[ways] += near.weight[j]
                if near.mark[j] != near.mark[leader]:
                    near.led_by_many[ways] = 1
        left -= near.led_weight[ways]
        if not near.led_by_many[ways] or near.led_weight[ways] < branching.LEAST_SHARE * total:
            none += near.led_weight[ways]
        ways += 1
    return ways, total


@compiled
def _set_far_from(on, near, leader, count, ahead_s):  # type: ignore[no-untyped-def]
    """Sets how far, squared, a passage came from where the others went in ahead_s, if it took about as long: several at
    a time."""
    p, own_e, own_n = near.row[leader], near.own[0, leader], near.own[1, leader]
    first_s, last_s = (
        near.begin[0, leader] + filling.QUICKEST * ahead_s,
        near.begin[0, leader] + filling.SLOWEST * ahead_s,
    )
    for j in range(count):
        near.far[j] = FAR
    for number in range(1, near.last[leader]):
        from_s, to_s = TIMES_S[number], TIMES_S[number + 1]
        if to_s < first_s:
            continue
        if from_s > last_s:
            break
        low = max((first_s - from_s) / (to_s - from_s), 0.0)
        high = min((last_s - from_s) / (to_s - from_s), 1.0)
        a_e, a_n = own_e, own_n
        if number > 1:
            a_e, a_n = own_e + on[p, number - 2, 0] * ON_M, own_n + on[p, number - 2, 1] * ON_M
        d_e, d_n = own_e + on[p, number - 1, 0] * ON_M - a_e, own_n + on[p, number - 1, 1] * ON_M - a_n
        over = 1 / max(d_e * d_e + d_n * d_n, 1e-9)
        for j in range(count):
            off_e, off_n = near.went[0, j] - a_e, near.went[1, j] - a_n
            share = min(max((off_e * d_e + off_n * d_n) * over, low), high)
            apart = (off_e - share * d_e) ** 2 + (off_n - share * d_n) ** 2
            near.far[j] = min(near.far[j], apart)


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
