"""Builds the network's questions and the physics under them: position after Δt, position in a gap, next interval.
Float64, no weights.

Shapes: ... any batch, Q queries per row, A alternatives (other physics), K = motion.WIDTH.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.config import ModelConfig
from model.kinematics import baselines
from model.kinematics import motion as m
from model.kinematics.answer_bounds import CHORD_FLOOR_M, HEADING_FLOOR_MPS, MAX_GAP_AGE, REACH_MEMORY_S
from model.kinematics.features import Context, drop_doubtful, reported_mps, signed_log
from model.kinematics.geo import E7, F64, displacement_m

REPORT_FEATURES: Final = 9
FORECAST_FEATURES: Final = 13 + REPORT_FEATURES
FORECAST_OTHERS: Final = 4
DAMPED: Final = 0  # index of the damped velocity among them; the last is the reported velocity
GAP_REPORT_FEATURES: Final = 2
GAP_FEATURES: Final = 26 + GAP_REPORT_FEATURES
GAP_OTHERS: Final = 1
INTERVAL_FEATURES: Final = 8
INTERVAL_OTHERS: Final = 2
MOST_APART: Final = 6.0  # limit of log ratios of intervals in the network's inputs
ALIKE: Final = 4.0  # intervals that differ by a factor of e^(1 / ALIKE) hardly count as alike
MIN_QUERY_S: Final = 1e-3
PACE_FLOOR_MPS: Final = 0.5  # added to speeds before their log: reported speeds far below it are alike
HEARD_MPS: Final = 5.0  # value of `motion.BOTH` at which the input for the amount of evidence is 1/2


class Question(NamedTuple):
    """`model.network.heads.QuestionTensors` as float64 numpy arrays, with the same fields."""

    features: F64
    base_en: F64
    others_en: F64
    base_var: F64
    reach_m: F64
    frame: F64
    is_reported: F64


class GapEnds(NamedTuple):
    """The two ends of a gap: the fix before it, which is the origin of all metres, and the fixes after it."""

    chord_en: F64  # [..., 2] m, from the last fix before the gap to the first fix after it
    gap_s: F64  # [...]
    # [..., 2] velocities at the ends. They are the reported ones (speed and course) if these agree with the steps
    # (`motion.agrees`) and are not in doubt (`motion.MOST_DOUBT`); else those of the last step before the gap and of
    # the first step after it, or of the last and first STEADY_S where fixes are closer, limited by `motion.least_s`;
    # else, without a step, that of the chord
    before_mps: F64
    after_mps: F64
    has_before: F64  # [...] 1 where the velocity is not that of the chord
    has_after: F64
    reported_before: F64  # [...] 1 where the velocity is the reported one
    reported_after: F64


class Interval(NamedTuple):
    """The question for the next interval: the network's inputs for the last intervals [..., E], and the log ratios
    [..., 2] of the last interval and the one before it to the running interval; 0 where an interval does not exist.
    """

    features: F64
    others_log: F64


def forecast(
    kin: F64, dt_s: F64, config: ModelConfig, at_en: F64 | None = None, *, context: Context | None = None
) -> Question:
    """Builds the question for the position dt_s [..., Q] seconds ahead; kin [..., K].

    at_en [..., 2] is the last fix in metres from the config's origin (`from_origin`); only "absolute" targets need it.
    context [...] is that of the last fix, for its reported speed and course.
    """
    dt = np.maximum(dt_s, MIN_QUERY_S)
    law = m.after(kin, dt, config)
    scale = m.speed_scale_mps(kin)[..., None]
    reach = 1.0 + scale * m.damped_s(dt, REACH_MEMORY_S)
    x = np.log(dt)
    features = np.stack(
        [
            x / 4.0,
            *_waves(x),
            np.log(reach) / 4.0,
            np.log(law.var_m2) / 8.0,
            np.clip(x - kin[..., m.LOG_DT, None], -6.0, 6.0) / 2.0,
            np.clip(x - np.log(np.where(kin[..., m.DT] == 0.0, 1.0, kin[..., m.DT]))[..., None], -6.0, 6.0) / 2.0,
        ],
        axis=-1,
    )
    velocity = kin[..., None, m.V_E : m.V_N + 1]
    frame = velocity / np.sqrt((velocity * velocity).sum(-1, keepdims=True) + HEADING_FLOOR_MPS**2)
    frame = np.broadcast_to(frame, law.mean_en.shape).copy()
    context = None if context is None else drop_doubtful(kin, context)
    report_mps = np.full((*kin.shape[:-1], 2), np.nan) if context is None else reported_mps(kin, context)
    reckoned = np.where(np.isnan(report_mps)[..., None, :], law.mean_en, report_mps[..., None, :] * dt[..., None])
    report = np.zeros((*features.shape[:-1], REPORT_FEATURES))
    if context is not None and config.target == "kalman":
        report = _report(kin, report_mps, context, frame, (reckoned - law.mean_en) / reach[..., None])
    features = np.concatenate([features, report], axis=-1)
    if config.target == "kalman":
        others = np.concatenate([_going_on(kin, dt, config), reckoned[..., None, :]], axis=-2)
        reported = np.broadcast_to(~np.isnan(report_mps[..., :1]), reach.shape).astype(np.float64)
        return Question(features, law.mean_en, others, law.var_m2, reach, frame, reported)
    zero = np.zeros_like(law.mean_en)
    if config.target == "delta":
        return Question(features, zero, _alike(zero), law.var_m2, reach, frame, np.zeros_like(reach))
    if at_en is None:
        raise ValueError("absolute targets need to know where the last fix is")
    origin = zero - at_en[..., None, :]
    unit = np.full_like(reach, config.region_m)
    return Question(features, origin, _alike(origin), unit**2, unit, zero, np.zeros_like(unit))


def from_origin(fixes: NDArray[Any], config: ModelConfig) -> F64:
    """Returns the east and north metres [..., 2] of FIX records from the origin of the config's region."""
    lat, lon = (np.full(fixes.shape, round(deg * E7)) for deg in (config.origin_lat_deg, config.origin_lon_deg))
    return displacement_m(lat, lon, fixes["lat_e7"], fixes["lon_e7"])


def gap(ends: GapEnds, t_s: F64, fixes_after: F64, scale_mps: F64, config: ModelConfig) -> Question:
    """Builds the question for positions at t_s [..., Q] seconds into gaps, asked at the fixes_after-th [...] fix after
    the gap (1 = the gap's end).

    scale_mps [...] is `motion.speed_scale_mps` at that fix. Positions are in metres from the fix before the gap.
    """
    gap_s = np.maximum(ends.gap_s, MIN_QUERY_S)[..., None]
    u = np.clip(t_s / gap_s, 0.0, 1.0)
    bump = 4.0 * u * (1.0 - u)  # brings the residual close to 0 at both ends
    chord_m = np.sqrt((ends.chord_en**2).sum(-1))[..., None]
    reach = 0.1 + bump * (0.25 * chord_m + 0.25 * scale_mps[..., None] * m.damped_s(gap_s, REACH_MEMORY_S))
    base = baselines.hermite(ends.chord_en, ends.gap_s, ends.before_mps, ends.after_mps, t_s)
    var = config.fix_sigma_m**2 + (0.5 * reach) ** 2
    unit = ends.chord_en / np.sqrt((ends.chord_en**2).sum(-1) + CHORD_FLOOR_M**2)[..., None]
    straight = baselines.linear(ends.chord_en, ends.gap_s, ends.before_mps, ends.after_mps, t_s)
    bow = straight - base
    chord_mps = (chord_m[..., 0] / gap_s[..., 0] + 0.5)[..., None]
    row = [
        np.log(gap_s) / 4.0,
        np.log(chord_m + 1.0) / 4.0,
        np.log(scale_mps)[..., None],
        np.log(chord_mps),
        ends.has_before[..., None],
        ends.has_after[..., None],
        _one_hot(fixes_after, MAX_GAP_AGE),
        unit,
        signed_log(ends.before_mps, 1.0),
        signed_log(ends.after_mps, 1.0),
        _in_frame(ends.before_mps / (chord_mps + scale_mps[..., None]), unit),
        _in_frame(ends.after_mps / (chord_mps + scale_mps[..., None]), unit),
    ]
    flat = np.concatenate(row, axis=-1)  # [..., 19]
    wide = np.broadcast_to(flat[..., None, :], (*u.shape, flat.shape[-1]))
    point = [
        u,
        bump,
        np.sin(2 * np.pi * u),
        np.log(reach) / 4.0,
        u * u,
        *np.moveaxis(bow / (reach + 1.0)[..., None], -1, 0),
        *(np.broadcast_to(reported[..., None], u.shape) for reported in (ends.reported_before, ends.reported_after)),
    ]
    features = np.concatenate([wide, np.stack(point, axis=-1)], axis=-1)
    frame = np.broadcast_to(unit[..., None, :], base.shape).copy()
    return Question(features, base, straight[..., None, :], var, reach, frame, np.zeros_like(reach))


def interval(kin: F64) -> Interval:
    """Builds the question for the time until the next fix; kin [..., K].

    If the last two intervals are alike and differ from the running interval, the thing has changed its reporting
    interval, whatever the intervals in the training data. So the network gets three log ratios: of the last interval to
    the running one, of the previous one to the running one, and of these two to each other. It gets the first two with
    their sign, all three without it, and for all three a measure of whether the intervals are alike.
    """
    steps_s = kin[..., [m.DT, m.DT1]]
    none = steps_s == 0.0
    others = np.where(none, 0.0, np.log(np.where(none, 1.0, steps_s)) - kin[..., m.LOG_DT, None])
    apart = np.concatenate([others, others[..., :1] - others[..., 1:]], axis=-1).clip(-MOST_APART, MOST_APART)
    features = [apart[..., :2] / 2.0, np.abs(apart) / 2.0, np.exp(-ALIKE * np.abs(apart))]
    return Interval(np.concatenate(features, axis=-1), others)


def _report(kin: F64, report_mps: F64, context: Context, frame: F64, off: F64) -> F64:
    """Returns the network's inputs for a reported velocity [..., Q, REPORT_FEATURES]; 0 where there is none. They
    contain `off` [..., Q, 2], the distance in reaches between the position that the report leads to and the base; the
    difference from the last step's velocity; and how reliable earlier reports were.
    """
    known = ~np.isnan(report_mps[..., 0])
    reported = np.where(known[..., None], report_mps, 0.0)
    scale = m.speed_scale_mps(kin)[..., None]
    gained = np.where(known[..., None], (reported - m.last_mps(kin)) / scale, 0.0)
    pace = np.log((np.sqrt((reported * reported).sum(-1)) + PACE_FLOOR_MPS) / (scale[..., 0] + PACE_FLOOR_MPS))
    row = np.stack([known, known & ~np.isnan(context.heading_rad), pace * known], axis=-1)
    wide = np.broadcast_to(row[..., None, :], (*off.shape[:-1], row.shape[-1]))
    gained = np.broadcast_to(gained[..., None, :], off.shape)
    vectors = [signed_log(_in_frame(vector, frame), 1.0) for vector in (off, gained)]
    held = np.stack([m.doubt(kin), kin[..., m.BOTH] / (kin[..., m.BOTH] + HEARD_MPS)], axis=-1) * known[..., None]
    return np.concatenate([wide, *vectors, np.broadcast_to(held[..., None, :], off.shape)], axis=-1)


def _going_on(kin: F64, dt: F64, config: ModelConfig) -> F64:
    """Returns the other forecasts from positions alone [..., Q, A - 1, 2], DAMPED first: a taxi will turn and a ship
    will not.
    """
    steady = m.window_mps(kin)[..., None, :] * dt[..., None]
    damped = baselines.damped_velocity(kin, dt, config).mean_en
    return np.stack([damped, baselines.constant_velocity(kin, dt, config).mean_en, steady], axis=-2)


def _alike(base_en: F64) -> F64:
    """Returns alternatives [..., Q, A, 2] that equal the base, so that leaning to them has no effect."""
    return np.repeat(base_en[..., None, :], FORECAST_OTHERS, axis=-2)


def _waves(x: F64) -> list[F64]:
    return [f(x * k) for k in (0.4, 0.8, 1.6, 3.2) for f in (np.sin, np.cos)]


def _one_hot(ordinal: F64, size: int) -> F64:
    return np.asarray(np.clip(ordinal, 1, size)[..., None] == np.arange(1, size + 1), dtype=np.float64)


def _in_frame(vector: F64, unit: F64) -> F64:
    along = (vector * unit).sum(-1)
    across = unit[..., 0] * vector[..., 1] - unit[..., 1] * vector[..., 0]
    return np.stack([along, across], axis=-1)
