"""Turns pings into model inputs. Training and serving share this ONE definition; no batch statistic enters a feature.

A ping is a fix (20 packed bytes). Integers stay integers until their difference is taken: time is int64 ms, angles are
1e-7 deg. Training augments motions (displacement, interval), never features, so both sides share every line below.

Shapes: ... any batch, F = width(config) features.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.config import ModelConfig
from model.kinematics import motion as m
from model.kinematics.geo import E7, F64, displacement_m

FIX: Final = np.dtype(
    [("ts_ms", "<i8"), ("lat_e7", "<i4"), ("lon_e7", "<i4"), ("speed_cms", "<u2"), ("heading_cdeg", "<u2")]
)
ABSENT: Final = 65_535  # value of speed_cms and heading_cdeg that means "not reported"

_WEEK_MS: Final = 7 * 86_400_000
_DAY_MS: Final = 86_400_000
_HOUR_MS: Final = 3_600_000
_EPOCH_SHIFT_MS: Final = 3 * _DAY_MS  # 1970-01-01 was a Thursday; the week starts on Monday
_SOLAR_MS_PER_DEG: Final = _DAY_MS // 360

# number of features of the reported speed and course; they come first, and are 0 where nothing is reported
REPORTED: Final = 9
_MOTION_WIDTH: Final = 22
_CLOCK_WIDTH: Final = 9
_ABSOLUTE_SCALES_DEG: Final = tuple(16.0 / 4**i for i in range(8))  # wavelengths from 1,800 km down to 110 m


class Context(NamedTuple):
    """The fields of a ping other than its motion. NaN means "not known"."""

    phase_ms: NDArray[np.int64]  # local solar time in the week, 0 = Monday midnight; -1 = unknown
    speed_mps: F64  # as reported
    heading_rad: F64  # as reported, clockwise from north
    lat_deg: F64
    lon_deg: F64


def width(config: ModelConfig) -> int:
    """F, the number of features of a ping."""
    base = REPORTED + _MOTION_WIDTH + _CLOCK_WIDTH
    return base + 4 * len(_ABSOLUTE_SCALES_DEG) * config.absolute


def context(fixes: NDArray[Any]) -> Context:
    """Returns the context of FIX records of any shape."""
    speed = np.where(fixes["speed_cms"] == ABSENT, np.nan, fixes["speed_cms"] / 100.0)
    heading = np.where(fixes["heading_cdeg"] == ABSENT, np.nan, np.radians(fixes["heading_cdeg"] / 100.0))
    phase = week_phase_ms(fixes["ts_ms"], fixes["lon_e7"])
    return Context(phase, speed, heading, fixes["lat_e7"] / E7, fixes["lon_e7"] / E7)


def week_phase_ms(ts_ms: NDArray[Any], lon_e7: NDArray[Any]) -> NDArray[np.int64]:
    """Returns the local solar time in the week. It is not UTC: rush hour must be the same hour in every region without
    a time zone map.
    """
    solar_ms = lon_e7.astype(np.int64) * _SOLAR_MS_PER_DEG // E7
    phase: NDArray[np.int64] = (ts_ms.astype(np.int64) + solar_ms + _EPOCH_SHIFT_MS) % _WEEK_MS
    return phase


def steps_between(earlier: NDArray[Any], later: NDArray[Any]) -> tuple[F64, F64]:
    """Returns the interval (s) and the displacement [..., 2] (m) between FIX records of the same shape."""
    dt_s = (later["ts_ms"] - earlier["ts_ms"]) / 1000.0
    return dt_s, displacement_m(earlier["lat_e7"], earlier["lon_e7"], later["lat_e7"], later["lon_e7"])


def encode(kin: F64, ctx: Context, config: ModelConfig) -> NDArray[np.float32]:
    """Returns the model inputs [..., F] of pings. kin [..., K] are their kinematic rows, with the ping already folded
    in.
    """
    parts = [_encode_report(kin, drop_doubtful(kin, ctx)), _encode_motion(kin), _encode_clock(ctx.phase_ms)]
    if config.absolute:
        parts.append(absolute(ctx))
    return np.concatenate(parts, axis=-1, dtype=np.float32)


def velocity_mps(ctx: Context) -> F64:
    """Returns the velocity [..., 2] that a ping reports. It is NaN where speed or course is absent, or where the speed
    is one that no vehicle has.
    """
    speed = np.where(ctx.speed_mps <= m.MAX_MPS, ctx.speed_mps, np.nan)
    return np.asarray(speed[..., None] * np.stack([np.sin(ctx.heading_rad), np.cos(ctx.heading_rad)], axis=-1))


def drop_doubtful(kin: F64, ctx: Context) -> Context:
    """Returns the context without reported speed and course where the receiver is in doubt (`motion.MOST_DOUBT`). kin
    [..., K] are the rows of the pings.
    """
    speed, heading = (np.where(m.sure(kin), part, np.nan) for part in (ctx.speed_mps, ctx.heading_rad))
    return ctx._replace(speed_mps=speed, heading_rad=heading)


def tells_course(kin: F64, ctx: Context) -> NDArray[np.bool_]:
    """Returns whether pings with rows kin [..., K] report a course and a speed [...], and are not in doubt."""
    return ~np.isnan(velocity_mps(drop_doubtful(kin, ctx))[..., 0])


def reported_mps(kin: F64, ctx: Context) -> F64:
    """`velocity_mps` of pings with rows kin [..., K]. Where only a speed is reported, it takes the direction of the
    last step.
    """
    return _along(ctx, kin[..., m.D_E : m.D_N + 1])


def mean_reported_mps(ctx: Context, d_en: F64) -> F64:
    """Returns the mean [..., T, 2] of the velocities that each ping of a sequence and the ping before it report. It is
    NaN unless both report one. d_en [..., T, 2] are the displacements between them; a speed without a course takes
    their direction.
    """
    speed, heading = (np.roll(part, 1, axis=-1) for part in (ctx.speed_mps, ctx.heading_rad))
    mean = (_along(ctx._replace(speed_mps=speed, heading_rad=heading), d_en) + _along(ctx, d_en)) / 2.0
    mean[..., 0, :] = np.nan
    return np.asarray(mean)


def _along(ctx: Context, d_en: F64) -> F64:
    """`velocity_mps`, but where no course is reported, the speed takes the direction of d_en [..., 2]."""
    moves = np.isnan(ctx.heading_rad) & (m.length(d_en) > 0)
    turn = np.where(moves, np.arctan2(d_en[..., 0], d_en[..., 1]), ctx.heading_rad)
    return velocity_mps(ctx._replace(heading_rad=turn))


def signed_log(vector: F64, unit: float) -> F64:
    """Returns vectors [..., 2] whose length L is replaced by log(1 + L/unit); the direction stays."""
    length = np.sqrt((vector * vector).sum(-1, keepdims=True))
    return np.asarray(vector * (np.log1p(length / unit) / np.maximum(length, 1e-9)))


def _encode_motion(kin: F64) -> F64:
    d, d1 = kin[..., m.D_E : m.D_N + 1], kin[..., m.D1_E : m.D1_N + 1]
    first = kin[..., m.DT] == 0.0
    dt = np.where(first, 1.0, kin[..., m.DT])
    dt1 = np.where(kin[..., m.DT1] == 0.0, 1.0, kin[..., m.DT1])
    velocity = d / dt[..., None]
    speed, speed1 = m.length(velocity), m.length(d1) / dt1
    window = m.window_mps(kin)
    scale = m.speed_scale_mps(kin)
    # The turn since the previous step, shrunk towards 0 where both steps are within GPS noise.
    trust = m.length(d) * m.length(d1) + 25.0
    scalars = (
        np.log(dt) / 3.0,
        np.clip(np.log(dt) - kin[..., m.LOG_DT], -4.0, 4.0),
        np.log1p(speed),
        np.log(scale),
        (d * d1).sum(-1) / trust,
        (d1[..., 0] * d[..., 1] - d1[..., 1] * d[..., 0]) / trust,
        np.log((speed + 0.5) / (speed1 + 0.5)),
        np.log(kin[..., m.PP]) / 2.0 - 1.0,
        np.log(np.maximum(kin[..., m.VV], 1e-9)) / 2.0,
        first.astype(np.float64),
        (kin[..., m.DT1] == 0.0).astype(np.float64),
        np.log((m.length(window) + 0.5) / (scale + 0.5)),  # near 0 on a straight track, far below 0 on a winding one
    )
    vectors = (
        signed_log(d, 10.0),
        signed_log(velocity, 1.0),
        signed_log(kin[..., m.V_E : m.V_N + 1], 1.0),
        velocity / (speed + scale)[..., None],
        signed_log(window, 1.0),
    )
    return np.concatenate([*vectors, np.stack(scalars, axis=-1)], axis=-1)


def _encode_report(kin: F64, ctx: Context) -> F64:
    has_speed, has_heading = ~np.isnan(ctx.speed_mps), ~np.isnan(ctx.heading_rad)
    speed = np.log1p(np.where(has_speed, ctx.speed_mps, 0.0))
    heading = np.where(has_heading, ctx.heading_rad, 0.0)
    scalars = [speed, has_speed, np.sin(heading) * has_heading, np.cos(heading) * has_heading, has_heading]
    velocity = reported_mps(kin, ctx)
    vectors = (np.where(np.isnan(vector), 0.0, vector) for vector in (velocity, velocity - m.last_mps(kin)))
    return np.concatenate([np.stack(scalars, axis=-1), *(signed_log(vector, 1.0) for vector in vectors)], axis=-1)


def _encode_clock(phase_ms: NDArray[np.int64]) -> F64:
    known = (phase_ms >= 0).astype(np.float64)
    turn = 2 * np.pi
    week = turn * (phase_ms / _WEEK_MS)
    day = turn * (phase_ms % _DAY_MS / _DAY_MS)
    hour = turn * (phase_ms % _HOUR_MS / _HOUR_MS)
    waves = [f(angle) for angle in (week, day, 2 * day, hour) for f in (np.sin, np.cos)]
    return np.stack([*waves, np.ones_like(known)], axis=-1) * known[..., None]


def absolute(ctx: Context) -> F64:
    """Returns the absolute position as sines and cosines of many wavelengths [..., 4 · scales]."""
    angles = [2 * np.pi * deg / scale for scale in _ABSOLUTE_SCALES_DEG for deg in (ctx.lat_deg, ctx.lon_deg)]
    waves = np.stack([f(angle) for angle in angles for f in (np.sin, np.cos)], axis=-1)
    # A sine and a cosine are never 0 together, so zeros can encode "not known".
    return np.where(np.isnan(waves), 0.0, waves)
