"""The compiled computations of a step outside the network, one row at a time. In serving, a hundred numpy calls on a
few numbers each would cost more than the network.

It is the fast version of `motion.fold`, `features.encode` and `map_cells.corners`. Training uses those, and
tests/model/serving/test_step_compiled.py holds this module to them: a change there needs a change here. The
computations of a forecast are in `model.serving.forecast_compiled`. What few configs use (the absolute position) runs
the definition.

Shapes: N rows, K = motion.WIDTH, F features.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.config import ModelConfig
from model.jit import compiled
from model.kinematics import features, motion
from model.kinematics import motion as m
from model.kinematics.features import ABSENT
from model.kinematics.geo import E7, F64, M_PER_DEG, MIN_COS_LAT
from model.kinematics.map_cells import CORNERS, MAX_LAT_DEG, ZOOMS

_RAD: Final = np.pi / 180.0
_METRES: Final = M_PER_DEG / E7
_TURN_E7: Final = 360 * E7
_HOUR_MS: Final = 3_600_000
_DAY_MS: Final = 24 * _HOUR_MS
_WEEK_MS: Final = 7 * _DAY_MS
_ENCODED: Final = 40  # features without the absolute position
_R: Final = features.REPORTED


def step(
    kin: F64, last: NDArray[Any], fixes: NDArray[Any], age: NDArray[np.int64], config: ModelConfig
) -> tuple[F64, NDArray[np.float32]]:
    """Returns the kinematic rows [N, K] with one more fix folded in (at age 0: the first), and the model's inputs [N,
    F].
    """
    return scan(kin, last, np.arange(1, len(fixes) + 1), fixes, age, config)


def scan(
    kin: F64,
    last: NDArray[Any],
    stop: NDArray[np.int64],
    fixes: NDArray[Any],
    age: NDArray[np.int64],
    config: ModelConfig,
) -> tuple[F64, NDArray[np.float32]]:
    """Returns the same after each of several fixes per row: rows [M, K] and inputs [M, F] of fixes [M]. The fixes of
    all rows are concatenated; those of the i-th row end before stop[i].
    """
    out = np.empty((len(fixes), motion.WIDTH))
    x = np.empty((len(fixes), _ENCODED), np.float32)
    _scan(kin, last, stop, np.array(fixes), age, motion.fresh(config), *physics(config), out, x)
    if config.absolute:
        x = np.concatenate([x, features.absolute(features.context(fixes))], axis=-1, dtype=np.float32)
    return out, x


def find(keys: NDArray[np.int64], fixes: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """`Places.find` for fixes [N]: rows of the table with these keys, and their weights, [N, J] each."""
    row = np.empty((len(fixes), len(ZOOMS) * CORNERS), np.int64)
    share = np.empty(row.shape, np.float32)
    _find(keys, np.array(fixes), np.array(ZOOMS), row, share)
    return row, share


def physics(config: ModelConfig) -> tuple[float, float, float]:
    return config.damping_s, config.accel_psd, config.fix_sigma_m**2


@compiled
def _scan(kin, last, stop, fixes, age, fresh, tau, psd, noise, out, x):  # type: ignore[no-untyped-def]
    i = 0
    for row in range(len(stop)):
        begin = i
        while i < stop[row]:
            if age[i] == 0:
                for k in range(len(fresh)):
                    out[i, k] = fresh[k]
            elif i == begin:
                _follow(kin[row], last[row], fixes[i], tau, psd, noise, out[i])
            else:
                _follow(out[i - 1], fixes[i - 1], fixes[i], tau, psd, noise, out[i])
            _encode_report(out[i], fixes[i], x[i])
            _encode_motion(out[i], x[i, _R:])
            _encode_clock(fixes[i], x[i, _R + 22 :])
            i += 1


@compiled
def _follow(k, was, fix, tau, psd, noise, out):  # type: ignore[no-untyped-def]
    """Computes the row after a fix, from the row and the fix before it."""
    d_e, d_n = displaced(was, fix)
    dt = max((fix.ts_ms - was.ts_ms) / 1000.0, m.MIN_DT_S)
    one, one_e, one_n = _along(was, d_e, d_n)
    two, two_e, two_n = _along(fix, d_e, d_n)
    _fold(k, dt, d_e, d_n, one and two, (one_e + two_e) / 2.0, (one_n + two_n) / 2.0, tau, psd, noise, out)


@compiled
def displaced(was, fix):  # type: ignore[no-untyped-def]
    """`geo.displacement_m` from one FIX record to another."""
    d_lon = (np.int64(fix.lon_e7) - was.lon_e7 + _TURN_E7 // 2) % _TURN_E7 - _TURN_E7 // 2
    d_n = (np.int64(fix.lat_e7) - was.lat_e7) * _METRES
    return d_lon * (_METRES * max(np.cos(was.lat_e7 / E7 * _RAD), MIN_COS_LAT)), d_n


@compiled
def predict(pp, pv, vv, dt, tau, psd):  # type: ignore[no-untyped-def]
    """`motion.predict`."""
    lag = -tau * np.expm1(-dt / tau)
    carry = 1.0 - lag / tau
    q_xx = psd * tau * tau * max(dt - lag - lag * lag / (2 * tau), 0.0)
    q_xv = psd * lag * lag / 2
    q_vv = psd * lag * (1.0 - lag / (2 * tau))
    pp_ = pp + 2 * lag * pv + lag * lag * vv + q_xx
    return lag, carry, pp_, carry * (pv + lag * vv) + q_xv, carry * carry * vv + q_vv


@compiled
def least_s(dt, moved_m, lately_mps):  # type: ignore[no-untyped-def]
    """`motion.least_s`."""
    return max(dt, moved_m / min(lately_mps + m.MAX_GAIN_MPS2 * dt, m.MAX_MPS))


@compiled
def _fold(k, dt, d_e, d_n, has_report, report_e, report_n, tau, psd, noise, out):  # type: ignore[no-untyped-def]
    """`motion.fold` of one row."""
    lag, carry, pp, pv, vv = predict(k[m.PP], k[m.PV], k[m.VV], dt, tau, psd)
    off_e = k[m.X_E] + lag * k[m.V_E] - d_e
    off_n = k[m.X_N] + lag * k[m.V_N] - d_n
    total = pp + noise
    gain_x, gain_v = pp / total, pv / total
    keep = 1.0 - gain_x
    moved2 = d_e * d_e + d_n * d_n
    least = least_s(dt, np.sqrt(moved2), np.sqrt(k[m.MS_SPEED] + m.SCALE_FLOOR_MPS * m.SCALE_FLOOR_MPS))
    share, speed2 = dt / least, moved2 / (least * least)
    log_dt = np.log(dt)
    out[m.X_E], out[m.X_N] = keep * off_e, keep * off_n
    out[m.V_E], out[m.V_N] = carry * k[m.V_E] - gain_v * off_e, carry * k[m.V_N] - gain_v * off_n
    out[m.PP], out[m.PV], out[m.VV] = keep * pp, keep * pv, vv - gain_v * pv
    out[m.D_E], out[m.D_N], out[m.DT] = share * d_e, share * d_n, dt
    out[m.D1_E], out[m.D1_N], out[m.DT1] = k[m.D_E], k[m.D_N], k[m.DT]
    move = min(max(m.MEMORY * (log_dt - k[m.LOG_DT]), -m.MAX_LOG_DT_MOVE), m.MAX_LOG_DT_MOVE)
    first = k[m.DT] == 0.0
    out[m.LOG_DT] = log_dt if first else k[m.LOG_DT] + move
    out[m.MS_SPEED] = speed2 if first else k[m.MS_SPEED] + m.MEMORY * (speed2 - k[m.MS_SPEED])
    out[m.W_E] = (1.0 - m.WINDOW_MEMORY) * k[m.W_E] + d_e
    out[m.W_N] = (1.0 - m.WINDOW_MEMORY) * k[m.W_N] + d_n
    out[m.W_S] = (1.0 - m.WINDOW_MEMORY) * k[m.W_S] + least
    out[m.AMISS], out[m.BOTH] = (1.0 - m.MEMORY) * k[m.AMISS], (1.0 - m.MEMORY) * k[m.BOTH]
    if has_report:
        shows = min(m.SHOWS_S / least, 1.0)
        off = _length(report_e - d_e / least, report_n - d_n / least)
        out[m.AMISS] += shows * shows * off
        out[m.BOTH] += shows * shows * (_length(report_e, report_n) + np.sqrt(moved2) / least)


@compiled
def velocity(fix):  # type: ignore[no-untyped-def]
    """`features.velocity_mps` of one fix: returns whether there is one, and its east and north components."""
    speed = fix.speed_cms / 100.0
    if fix.speed_cms == ABSENT or fix.heading_cdeg == ABSENT or speed > m.MAX_MPS:
        return False, 0.0, 0.0
    course = fix.heading_cdeg / 100.0 * _RAD
    return True, speed * np.sin(course), speed * np.cos(course)


@compiled
def doubt(k):  # type: ignore[no-untyped-def]
    """`motion.doubt` of one row."""
    return k[m.AMISS] / (k[m.BOTH] + m.DOUBT_FLOOR_MPS)


@compiled
def sure(k):  # type: ignore[no-untyped-def]
    """`motion.sure` of one row."""
    return doubt(k) <= m.MOST_DOUBT


@compiled
def reported(k, fix):  # type: ignore[no-untyped-def]
    """`features.reported_mps` of one row and its fix, returned as by `velocity`."""
    return _along(fix, k[m.D_E], k[m.D_N])


@compiled
def _along(fix, d_e, d_n):  # type: ignore[no-untyped-def]
    """`features._along` of one fix, returned as by `velocity`."""
    moved, speed = _length(d_e, d_n), fix.speed_cms / 100.0
    if fix.heading_cdeg != ABSENT or fix.speed_cms == ABSENT or moved == 0.0 or speed > m.MAX_MPS:
        return velocity(fix)
    return True, speed * d_e / moved, speed * d_n / moved


@compiled
def _length(east, north):  # type: ignore[no-untyped-def]
    return np.sqrt(east * east + north * north)


@compiled
def signed_log(east, north):  # type: ignore[no-untyped-def]
    """`features.signed_log` of a vector, in units of 1."""
    length = _length(east, north)
    share = np.log1p(length) / max(length, 1e-9)
    return east * share, north * share


@compiled
def _encode_report(k, fix, x):  # type: ignore[no-untyped-def]
    """Writes the first 9 features: `features._encode_report` of one row and its fix, if it is believed."""
    x[:9] = 0.0
    if not sure(k):
        return
    if fix.speed_cms != ABSENT:
        x[0], x[1] = np.log1p(fix.speed_cms / 100.0), 1.0
    if fix.heading_cdeg != ABSENT:
        heading = fix.heading_cdeg / 100.0 * _RAD
        x[2], x[3], x[4] = np.sin(heading), np.cos(heading), 1.0
    has_report, report_e, report_n = reported(k, fix)
    if has_report:
        dt = 1.0 if k[m.DT] == 0.0 else k[m.DT]
        x[5], x[6] = signed_log(report_e, report_n)
        x[7], x[8] = signed_log(report_e - k[m.D_E] / dt, report_n - k[m.D_N] / dt)


@compiled
def _encode_motion(k, x):  # type: ignore[no-untyped-def]
    """Writes the next 22 features: `features._encode_motion` of one row."""
    first, first1 = k[m.DT] == 0.0, k[m.DT1] == 0.0
    dt = 1.0 if first else k[m.DT]
    dt1 = 1.0 if first1 else k[m.DT1]
    d_e, d_n, d1_e, d1_n = k[m.D_E], k[m.D_N], k[m.D1_E], k[m.D1_N]
    length, length1 = np.sqrt(d_e * d_e + d_n * d_n), np.sqrt(d1_e * d1_e + d1_n * d1_n)
    v_e, v_n = d_e / dt, d_n / dt
    speed, speed1 = np.sqrt(v_e * v_e + v_n * v_n), length1 / dt1
    w_s = 1.0 if first else k[m.W_S]
    w_e, w_n = k[m.W_E] / w_s, k[m.W_N] / w_s
    scale = np.sqrt(k[m.MS_SPEED] + m.SCALE_FLOOR_MPS * m.SCALE_FLOOR_MPS)
    trust = length * length1 + 25.0
    log_dt = np.log(dt)
    log_speed = np.log1p(speed)
    f = np.log1p(length / 10.0) / max(length, 1e-9)
    x[0], x[1] = d_e * f, d_n * f
    f = log_speed / max(speed, 1e-9)
    x[2], x[3] = v_e * f, v_n * f
    filtered = np.sqrt(k[m.V_E] * k[m.V_E] + k[m.V_N] * k[m.V_N])
    f = np.log1p(filtered) / max(filtered, 1e-9)
    x[4], x[5] = k[m.V_E] * f, k[m.V_N] * f
    x[6], x[7] = v_e / (speed + scale), v_n / (speed + scale)
    window = np.sqrt(w_e * w_e + w_n * w_n)
    f = np.log1p(window) / max(window, 1e-9)
    x[8], x[9] = w_e * f, w_n * f
    x[10] = log_dt / 3.0
    x[11] = min(max(log_dt - k[m.LOG_DT], -4.0), 4.0)
    x[12] = log_speed
    x[13] = np.log(scale)
    x[14] = (d_e * d1_e + d_n * d1_n) / trust
    x[15] = (d1_e * d_n - d1_n * d_e) / trust
    x[16] = np.log((speed + 0.5) / (speed1 + 0.5))
    x[17] = np.log(k[m.PP]) / 2.0 - 1.0
    x[18] = np.log(max(k[m.VV], 1e-9)) / 2.0
    x[19] = 1.0 if first else 0.0
    x[20] = 1.0 if first1 else 0.0
    x[21] = np.log((window + 0.5) / (scale + 0.5))


@compiled
def _encode_clock(fix, x):  # type: ignore[no-untyped-def]
    """Writes the other 9 features: `features._encode_clock` of one fix."""
    solar_ms = np.int64(fix.lon_e7) * (_DAY_MS // 360) // E7
    phase = (fix.ts_ms + solar_ms + 3 * _DAY_MS) % _WEEK_MS
    turn = 2 * np.pi
    week, hour = turn * (phase / _WEEK_MS), turn * (phase % _HOUR_MS / _HOUR_MS)
    day = turn * (phase % _DAY_MS / _DAY_MS)
    x[0], x[1] = np.sin(week), np.cos(week)
    sin, cos = np.sin(day), np.cos(day)
    x[2], x[3] = sin, cos
    x[4], x[5] = 2 * sin * cos, cos * cos - sin * sin
    x[6], x[7], x[8] = np.sin(hour), np.cos(hour), 1.0


@compiled
def _find(keys, fixes, zooms, row, share):  # type: ignore[no-untyped-def]
    for i in range(len(fixes)):
        lat = min(max(fixes[i].lat_e7 / E7, -MAX_LAT_DEG), MAX_LAT_DEG) * _RAD
        turn_x = fixes[i].lon_e7 / E7 / 360.0 + 0.5
        turn_y = 0.5 - np.arcsinh(np.tan(lat)) / (2 * np.pi)
        for level in range(len(zooms)):
            side = np.int64(1) << zooms[level]
            x, y = turn_x * side - 0.5, turn_y * side - 0.5
            left, top = np.floor(x), np.floor(y)
            across, down = x - left, y - top
            for corner in range(CORNERS):
                dx, dy = corner & 1, corner >> 1
                column = (np.int64(left) + dx) % side
                wanted = (level << 60) | (column << 30) | (np.int64(top) + dy)
                at = min(np.searchsorted(keys, wanted), len(keys) - 1)
                part = (across if dx else 1 - across) * (down if dy else 1 - down)
                row[i, level * CORNERS + corner] = at
                share[i, level * CORNERS + corner] = part if keys[at] == wanted else 0.0
