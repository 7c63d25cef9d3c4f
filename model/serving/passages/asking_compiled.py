"""Moves forecasts to where passages went: the fast version of `model.atlas.asking`.

Shapes: N rows, Q questions of each, I ways in, P passages, M branches.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.atlas import asking, believing
from model.atlas.asking import Estimate
from model.atlas.atlas import Atlas
from model.atlas.branching import Branches
from model.atlas.passages import Ids
from model.atlas.published import Published
from model.atlas.questions import Questions
from model.atlas.ways import I64, Approach
from model.jit import compiled
from model.kinematics.geo import F64
from model.serving.passages.believing_compiled import combine
from model.serving.passages.branching_compiled import set_branches
from model.serving.passages.nearest_compiled import (
    PER_S,
    TIMES_S,
    columns_of,
    east_scale,
    find_nearest,
    new_room,
    place,
    read_only,
    set_beside,
    set_way,
    upper_of,
)
from model.serving.passages.ways_compiled import approaches_of

_NOBODY: Final = np.empty(0, np.uint64)


def estimate(
    version: Published,
    fixes: NDArray[Any],
    approach: Approach,
    dt_s: F64,
    vehicle: Ids = _NOBODY,
    mine: Ids = _NOBODY,
) -> Estimate:
    """Returns where pings, FIX [N], that came by `approach` will be dt_s [N, Q] seconds later. If it is known whose the
    passages are, `vehicle` [P], and whose the pings, `mine` [N], nobody is compared with itself.
    """
    shape = dt_s.shape
    found = Estimate(np.zeros((*shape, 2)), np.zeros((*shape, 3)), np.zeros(shape))
    whose = read_only(vehicle), read_only(mine)
    _estimate(*columns_of(version), *whose, fixes, approach.in_m, approach.velocity_mps, dt_s, *found, new_room())
    return found


def answer_questions(version: Published, questions: Questions, vehicle: Ids) -> Estimate:
    """Returns where the things of questions were later, at believing.HORIZONS_S, by the passages of others. It is known
    whose the passages are: `vehicle` [P]."""
    dt_s = np.tile(believing.HORIZONS_S, (len(questions), 1))
    approach = approaches_of(questions.windows)
    found = estimate(version, questions.last, approach, dt_s, vehicle, questions.rows["id"])
    return found._replace(n=np.where(approach.came[:, None], found.n, 0.0))


def move(
    mean: F64,
    cov: F64,
    sound: NDArray[np.bool_],
    last: NDArray[Any],
    dt_s: F64,
    atlases: Sequence[Atlas],
    which: I64,
    approach: Approach,
) -> tuple[I64, Branches]:
    """Moves means [N, Q, 2] and covariances [N, Q, 3] of sound rows [N], in place, to where passages went that came as
    the row's last fix did: an index `which` [N] into `atlases`, or -1 for none. Returns how many passages [N] each row
    rests on; one with 0 is not changed. With it come the branches of the rows at all questions but the first, which is
    the next ping.
    """
    rests_on = np.zeros(len(mean), np.int64)
    parted = Branches.none(len(mean), dt_s.shape[1] - 1)
    for number, atlas in enumerate(atlases):
        if (rows := sound & (which == number) & approach.came).any():
            believed = 1.0 / atlas.belief.scale, atlas.belief.log_wide
            asked = rows, last, *approach[:2], dt_s, np.log(dt_s)
            _move(*columns_of(atlas.passages), *believed, *asked, mean, cov, rests_on, *parted, new_room())
    return rests_on, parted


@compiled
def _estimate(  # type: ignore[no-untyped-def]
    bucket,
    stop,
    origin_e7,
    signature,
    on,
    known,
    mark,
    vehicle,
    mine,
    fixes,
    in_m,
    velocity_mps,
    dt_s,
    mean,
    cov,
    n,
    room,
):
    near = room[0]
    for i in range(len(fixes)):
        me = mine[i] if len(mine) else np.uint64(0)
        count = _ask(
            bucket, stop, origin_e7, signature, on, known, mark, vehicle, me, fixes, in_m, velocity_mps, i, near
        )
        for q in range(dt_s.shape[1] if count else 0):
            n[i, q], e, north, ee, en, nn = _middle(on, near, count, dt_s[i, q])
            mean[i, q, 0], mean[i, q, 1] = e, north
            cov[i, q, 0], cov[i, q, 1], cov[i, q, 2] = ee, en, nn


@compiled
def _move(  # type: ignore[no-untyped-def]
    bucket, stop, origin_e7, signature, on, known, mark, over_scale, log_wide,
    rows, last, in_m, velocity_mps, dt_s, log_dt, mean, cov, rests_on, share, branch, room,
):  # fmt: skip
    near, vehicle, me = room[0], np.empty(0, np.uint64), np.uint64(0)
    for i in range(len(rows)):
        if not rows[i]:
            continue
        count = _ask(
            bucket, stop, origin_e7, signature, on, known, mark, vehicle, me, last, in_m, velocity_mps, i, near
        )
        for q in range(dt_s.shape[1] if count else 0):
            found = _middle(on, near, count, dt_s[i, q])
            if found[0] >= asking.LEAST and combine(mean, cov, i, q, found, log_dt[i, q], over_scale, log_wide):
                rests_on[i] = count
        if rests_on[i]:
            set_branches(on, near, count, dt_s, i, share, branch)


@compiled
def _ask(  # type: ignore[no-untyped-def]
    bucket, stop, origin_e7, signature, on, known, mark, vehicle, me, fixes, in_m, velocity_mps, i, near
):
    """Finds the passages nearest to a ping, how much each counts and where it was beside the ping. Returns how many
    there are."""
    count = find_nearest(bucket, stop, origin_e7, signature, mark, vehicle, me, fixes[i], in_m, velocity_mps, i, near)
    wide2 = max(near.apart[asking.RANK], asking.NEAR_M**2) if count > asking.RANK else asking.NEAR_M**2
    scale = east_scale(fixes[i])
    for j in range(count):
        near.weight[j] = np.exp(-0.5 * near.apart[j] * (1 / wide2 + 1 / asking.KERNEL_M**2))
        set_way(stop, origin_e7, signature, on, known, near.row[j], near.place[j], fixes[i], scale, near, j)
    set_beside(near, count)
    return count


@compiled
def _middle(on, near, count, dt):  # type: ignore[no-untyped-def]
    """Returns the sum of the weights of the nearest passages of which it is known how far they went in dt seconds, and
    the mean and the covariance of that."""
    total, sum_e, sum_n = 0.0, 0.0, 0.0
    for j in range(count):
        near.counts[j], near.went[0, j], near.went[1, j] = 0.0, 0.0, 0.0
        at_s = near.begin[0, j] + dt
        upper = upper_of(at_s)
        share = (at_s - TIMES_S[upper - 1]) * PER_S[upper]
        if near.last[j] < upper or at_s > TIMES_S[upper]:
            continue
        low_e, low_n = place(on, near, j, upper - 1)
        high_e, high_n = place(on, near, j, upper)
        went_e = low_e + (high_e - low_e) * share - near.begin[1, j]
        went_n = low_n + (high_n - low_n) * share - near.begin[2, j]
        near.counts[j], near.went[0, j], near.went[1, j] = near.weight[j], went_e, went_n
        total, sum_e, sum_n = total + near.weight[j], sum_e + near.weight[j] * went_e, sum_n + near.weight[j] * went_n
    if total < asking.LEAST:
        return 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    # From here on those that do not count come along, with no weight: so several are counted at a time.
    e, north = sum_e / total, sum_n / total
    for _ in range(asking.ROUNDS):
        pulls, sum_e, sum_n = 0.0, 0.0, 0.0
        for j in range(count):
            off_e, off_n = near.went[0, j] - e, near.went[1, j] - north
            pull = near.counts[j] / max(np.sqrt(off_e * off_e + off_n * off_n), asking.MIDDLE_M)
            pulls, sum_e, sum_n = pulls + pull, sum_e + pull * near.went[0, j], sum_n + pull * near.went[1, j]
        e, north = sum_e / pulls, sum_n / pulls
    ee, en, nn = 0.0, 0.0, 0.0
    for j in range(count):
        off_e, off_n = near.went[0, j] - e, near.went[1, j] - north
        ee, en = ee + near.counts[j] * off_e * off_e, en + near.counts[j] * off_e * off_n
        nn += near.counts[j] * off_n * off_n
    return total, e, north, ee / total, en / total, nn / total
