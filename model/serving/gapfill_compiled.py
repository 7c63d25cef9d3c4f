"""The compiled computations of gap fills outside the network, one row at a time: the ends of gaps for `gaps.stack`, and
the fast version of `queries.gap` and `calibration_terms.gap_terms`. Training uses the latter two and finds the ends in
`train.batches.batches`; tests/model/serving/test_gapfill_compiled.py holds this module to them: a change there needs a
change here.

Shapes: N gaps, P asked times of all gaps together, each a row of one query.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.config import ModelConfig
from model.jit import compiled
from model.kinematics.answer_bounds import CHORD_FLOOR_M, MAX_GAP_AGE, REACH_MEMORY_S
from model.kinematics.calibration_terms import MAX_LOG_SCALE
from model.kinematics.geo import F64
from model.kinematics.motion import MOST_DOUBT, REPORTED_OFF, REPORTED_OFF_MPS, REPORTED_WITHIN_S, STEADY_S
from model.kinematics.queries import GAP_FEATURES, GAP_OTHERS, MIN_QUERY_S, GapEnds, Question
from model.serving.step_compiled import displaced, least_s, signed_log, velocity


def ends(
    before: NDArray[Any],
    before_stop: NDArray[np.int64],
    after: NDArray[Any],
    after_stop: NDArray[np.int64],
    doubt: F64,
) -> GapEnds:
    """Returns the ends of gaps [N] from the FIX records on both sides. The records of all gaps are concatenated; those
    of the i-th gap end before stop[i]. doubt [N] is `motion.doubt` at the fix where each is asked for.
    """
    n = len(before_stop)
    found = GapEnds(np.empty((n, 2)), np.empty(n), np.empty((n, 2)), np.empty((n, 2)), *np.empty((4, n)))
    _ends(before, before_stop, after, after_stop, doubt, found)
    return found


def question(
    gap: GapEnds, fixes_after: F64, scale_mps: F64, of: NDArray[np.int64], t_s: F64, config: ModelConfig
) -> Question:
    """`queries.gap` of gaps [N] at t_s [P] seconds into the gap `of` [P]: rows [P, 1], with features in float32."""
    p = len(t_s)
    shapes = ((p, 1, 2), (p, 1, GAP_OTHERS, 2), (p, 1), (p, 1), (p, 1, 2), (p, 1))
    asked = Question(np.empty((p, 1, GAP_FEATURES), np.float32), *(np.zeros(shape) for shape in shapes))
    _question(gap, fixes_after, scale_mps, of, t_s, config.fix_sigma_m**2, asked)
    return asked


def calibrate(mean: F64, cov: F64, gap_s: F64, of: NDArray[np.int64], t_s: F64, coefficients: F64) -> NDArray[np.bool_]:
    """Multiplies covariances [P, 1, 3], in place, by `Calibration.of_gap`. Returns whether each gap's covariances and
    means [P, 1, 2] are finite: [N].
    """
    sound = np.ones(len(gap_s), np.bool_)
    _calibrate(mean, cov, gap_s, of, t_s, coefficients, sound)
    return sound


@compiled
def _ends(before, before_stop, after, after_stop, doubt, out):  # type: ignore[no-untyped-def]
    oldest, end = 0, 0
    for i in range(len(before_stop)):
        start, newest = before_stop[i] - 1, after_stop[i] - 1
        seconds = (after[end].ts_ms - before[start].ts_ms) / 1000.0
        out.gap_s[i], chord = seconds, out.chord_en[i]
        chord[0], chord[1] = displaced(before[start], after[end])
        has, has_report = _velocity(before, start, oldest, -1, chord, seconds, doubt[i], out.before_mps[i])
        out.has_before[i], out.reported_before[i] = has, has_report
        has, has_report = _velocity(after, end, newest, 1, chord, seconds, doubt[i], out.after_mps[i])
        out.has_after[i], out.reported_after[i] = has, has_report
        oldest, end = before_stop[i], after_stop[i]


@compiled
def _velocity(fixes, near, last, way, chord, gap_s, doubt, out):  # type: ignore[no-untyped-def]
    """Computes the velocity at one end of a gap. It is that of the step beside the gap, together with as many further
    steps as make STEADY_S, if there are enough; or the reported one, unless the step or earlier reports contradict it.
    Returns whether it is one of these two, and whether it is the reported one.
    """
    far, dt, east, north = near, 0.0, 0.0, 0.0
    while far != last and dt < STEADY_S:
        d_e, d_n = displaced(fixes[min(far, far + way)], fixes[max(far, far + way)])
        far, east, north = far + way, east + d_e, north + d_n
        dt = way * (fixes[far].ts_ms - fixes[near].ts_ms) / 1000.0
    out[0], out[1] = chord[0] / gap_s, chord[1] / gap_s
    has_report, report_e, report_n = velocity(fixes[near])
    has_report &= doubt <= MOST_DOUBT
    if dt > 0:
        lately_mps = np.sqrt(out[0] * out[0] + out[1] * out[1])
        least = least_s(dt, np.sqrt(east * east + north * north), lately_mps)
        out[0], out[1] = east / least, north / least
        has_report &= _agrees(report_e, report_n, out[0], out[1], dt)
    if has_report:
        out[0], out[1] = report_e, report_n
    return has_report or dt > 0, has_report


@compiled
def _agrees(report_e, report_n, step_e, step_n, step_s):  # type: ignore[no-untyped-def]
    """`motion.agrees`."""
    off = np.sqrt((report_e - step_e) ** 2 + (report_n - step_n) ** 2)
    mps = np.sqrt(step_e * step_e + step_n * step_n)
    return off <= (REPORTED_OFF_MPS + REPORTED_OFF * mps) * max(1.0, step_s / REPORTED_WITHIN_S)


@compiled
def _question(gap, fixes_after, scale, of, t_s, noise, out):  # type: ignore[no-untyped-def]
    for p in range(len(t_s)):
        i = of[p]
        chord, before, after = gap.chord_en[i], gap.before_mps[i], gap.after_mps[i]
        gap_s = max(gap.gap_s[i], MIN_QUERY_S)
        metres = np.sqrt(chord[0] * chord[0] + chord[1] * chord[1])
        chord_mps = metres / gap_s + 0.5
        floored = np.sqrt(metres * metres + CHORD_FLOOR_M * CHORD_FLOOR_M)
        unit_e, unit_n = chord[0] / floored, chord[1] / floored
        u = min(max(t_s[p] / gap_s, 0.0), 1.0)
        bump = 4.0 * u * (1.0 - u)
        worth_s = -REACH_MEMORY_S * np.expm1(-gap_s / REACH_MEMORY_S)
        reach = 0.1 + bump * (0.25 * metres + 0.25 * scale[i] * worth_s)
        base, straight = out.base_en[p, 0], out.others_en[p, 0, 0]
        v = t_s[p] / gap.gap_s[i]
        for k in range(2):
            leave, arrive = before[k] * gap.gap_s[i], after[k] * gap.gap_s[i]
            base[k] = v * v * (3 - 2 * v) * chord[k] + v * (1 - v) * (1 - v) * leave - v * v * (1 - v) * arrive
            straight[k] = v * chord[k]
        out.base_var[p, 0], out.reach_m[p, 0] = noise + 0.25 * reach * reach, reach
        out.frame[p, 0, 0], out.frame[p, 0, 1] = unit_e, unit_n
        x = out.features[p, 0]
        x[0], x[1] = np.log(gap_s) / 4.0, np.log(metres + 1.0) / 4.0
        x[2], x[3] = np.log(scale[i]), np.log(chord_mps)
        x[4], x[5] = gap.has_before[i], gap.has_after[i]
        ordinal = min(max(fixes_after[i], 1.0), MAX_GAP_AGE)
        for k in range(MAX_GAP_AGE):
            x[6 + k] = 1.0 if ordinal == k + 1 else 0.0
        at = 6 + MAX_GAP_AGE
        x[at], x[at + 1] = unit_e, unit_n
        x[at + 2], x[at + 3] = signed_log(before[0], before[1])
        x[at + 4], x[at + 5] = signed_log(after[0], after[1])
        fast = chord_mps + scale[i]
        x[at + 6] = (before[0] * unit_e + before[1] * unit_n) / fast
        x[at + 7] = (unit_e * before[1] - unit_n * before[0]) / fast
        x[at + 8] = (after[0] * unit_e + after[1] * unit_n) / fast
        x[at + 9] = (unit_e * after[1] - unit_n * after[0]) / fast
        at += 10
        x[at], x[at + 1], x[at + 2] = u, bump, np.sin(2 * np.pi * u)
        x[at + 3], x[at + 4] = np.log(reach) / 4.0, u * u
        x[at + 5], x[at + 6] = (straight[0] - base[0]) / (reach + 1.0), (straight[1] - base[1]) / (reach + 1.0)
        x[at + 7], x[at + 8] = gap.reported_before[i], gap.reported_after[i]


@compiled
def _calibrate(mean, cov, gap_s, of, t_s, weight, sound):  # type: ignore[no-untyped-def]
    for p in range(len(t_s)):
        seconds = max(gap_s[of[p]], 1.0)
        x, inside = np.log(seconds) / 4.0, t_s[p] / seconds
        log_scale = weight[0] + x * weight[1] + x * x * weight[2] + 4.0 * inside * (1.0 - inside) * weight[3]
        scale = np.exp(min(max(log_scale, -MAX_LOG_SCALE), MAX_LOG_SCALE))
        finite = np.isfinite(mean[p, 0, 0]) and np.isfinite(mean[p, 0, 1])
        for k in range(3):
            cov[p, 0, k] *= scale
            finite &= np.isfinite(cov[p, 0, k])
        sound[of[p]] &= finite
