"""The compiled computations of a forecast outside the network, one row at a time; the counterpart of
`model.serving.step_compiled`.

It is the fast version of `queries.forecast`, `queries.interval`, `heads.combine`, `heads.next_log`,
`calibration_terms.forecast_terms` and `geo.move_deg`. Training uses those, and
tests/model/serving/test_forecast_compiled.py holds this module to them: a change there needs a change here. Targets
other than "kalman", which few configs use, run the definition.

Shapes: N rows, H horizons, Q = 1 + H queries, K = motion.WIDTH, A alternatives (other physics).
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.config import ModelConfig
from model.jit import compiled
from model.kinematics import calibration_terms as cal
from model.kinematics import features, queries
from model.kinematics import motion as m
from model.kinematics.answer_bounds import (
    HEADING_FLOOR_MPS,
    MAX_LEAN,
    MAX_LOG_SHAPE,
    MAX_LOG_SPREAD,
    MAX_RESIDUAL,
    OUT,
    REACH_MEMORY_S,
)
from model.kinematics.calibration_terms import MAX_LOG_SCALE
from model.kinematics.features import ABSENT
from model.kinematics.geo import E7, F64, M_PER_DEG, MIN_COS_LAT
from model.kinematics.queries import Interval, Question
from model.serving.step_compiled import doubt, physics, predict, reported, signed_log, sure, velocity

_RAD: Final = np.pi / 180.0
MIN_NEXT_S: Final = 1e-3
MAX_NEXT_S: Final = 86_400.0
_AHEAD, _OFTEN, _FAST = (
    np.log(np.array(knots)) / unit
    for knots, unit in ((cal.AHEAD_S, cal.AHEAD), (cal.OFTEN_S, cal.OFTEN), (cal.FAST_MPS, cal.FAST))
)
_ASKED: Final = queries.FORECAST_FEATURES
_OTHERS: Final = queries.FORECAST_OTHERS


def interval(kin: F64) -> Interval:
    """`queries.interval` of rows [N, K], with features in float32."""
    n, others = len(kin), queries.INTERVAL_OTHERS
    asked = Interval(np.empty((n, queries.INTERVAL_FEATURES), np.float32), np.empty((n, others)))
    _interval(kin, *asked)
    return asked


def times(kin: F64, raw: NDArray[np.float32], asked: Interval, horizons_s: F64) -> tuple[F64, NDArray[np.bool_]]:
    """Returns the asked times [N, 1 + H] s and whether the network's numbers are finite [N]. The first time is when the
    next fix is due, by `heads.next_log` of the numbers [N, 1 + A]; the others are the horizons, [H] or [N, H]. Where
    the numbers are not finite, the running interval replaces the first time.
    """
    dt, sound = np.empty((len(kin), 1 + horizons_s.shape[-1])), np.empty(len(kin), np.bool_)
    dt[:, 1:] = horizons_s
    _times(kin, raw, asked.others_log, dt, sound)
    return dt, sound


def question(kin: F64, dt_s: F64, last: NDArray[Any], config: ModelConfig) -> Question:
    """`queries.forecast` from rows [N, K] whose last fixes are `last`, for dt_s [N, Q] ahead, with features in
    float32.
    """
    if config.target != "kalman":
        at = queries.from_origin(last, config) if config.target == "absolute" else None
        return queries.forecast(kin, dt_s, config, at, context=features.context(last))
    n, q = dt_s.shape
    shapes = ((n, q, 2), (n, q, _OTHERS, 2), (n, q), (n, q), (n, q, 2), (n, q))
    asked = Question(np.empty((n, q, _ASKED), np.float32), *(np.empty(shape) for shape in shapes))
    _question(kin, dt_s, last, *physics(config), *asked)
    return asked


def combined(raw: NDArray[np.float32], asked: Question) -> tuple[F64, F64]:
    """`heads.combine` of the network's numbers [N, Q, OUT + A]: returns mean [N, Q, 2] and covariance [N, Q, 3]."""
    mean, cov = np.empty(asked.base_en.shape), np.empty((*asked.base_var.shape, 3))
    _combine(raw, *asked[1:], mean, cov)
    return mean, cov


def calibrate(
    mean: F64,
    cov: F64,
    sound: NDArray[np.bool_],
    kin: F64,
    last: NDArray[Any],
    dt_s: F64,
    coefficients: F64,
) -> None:
    """Multiplies covariances [N, Q, 3], in place, by `Calibration.of_forecast` of rows [N, K] whose last fixes are
    `last`; sets sound [N] to false where a covariance or a mean [N, Q, 2] is not finite.
    """
    _calibrate(kin, last, dt_s, coefficients, _AHEAD, _OFTEN, _FAST, mean, cov, sound)


def moved(last: NDArray[Any], en_m: F64) -> tuple[F64, F64]:
    """`geo.move_deg` from FIX records [N] by metres [N, Q, 2]: returns degrees [N, Q]."""
    lat, lon = np.empty(en_m.shape[:2]), np.empty(en_m.shape[:2])
    _moved(last, en_m, lat, lon)
    return lat, lon


@compiled
def _question(kin, dt_s, last, tau, psd, noise, x, base, others, var, reach, frame, is_reported):  # type: ignore[no-untyped-def]
    for i in range(dt_s.shape[0]):
        k = kin[i]
        has_report, report_e, report_n = reported(k, last[i])
        has_report &= sure(k)
        first = k[m.DT] == 0.0
        last_s = 1.0 if first else k[m.DT]
        window_s = 1.0 if first else k[m.W_S]
        last_e, last_n = k[m.D_E] / last_s, k[m.D_N] / last_s
        log_last = np.log(last_s)
        scale = np.sqrt(k[m.MS_SPEED] + m.SCALE_FLOOR_MPS * m.SCALE_FLOOR_MPS)
        v_e, v_n = k[m.V_E], k[m.V_N]
        floored = np.sqrt(v_e * v_e + v_n * v_n + HEADING_FLOOR_MPS * HEADING_FLOOR_MPS)
        for j in range(dt_s.shape[1]):
            dt = max(dt_s[i, j], queries.MIN_QUERY_S)
            lag, _, pp, _, _ = predict(k[m.PP], k[m.PV], k[m.VV], dt, tau, psd)
            base[i, j, 0], base[i, j, 1] = k[m.X_E] + lag * v_e, k[m.X_N] + lag * v_n
            var[i, j], is_reported[i, j] = pp + noise, has_report
            reach[i, j] = 1.0 - scale * REACH_MEMORY_S * np.expm1(-dt / REACH_MEMORY_S)
            others[i, j, 0, 0], others[i, j, 0, 1] = last_e * lag, last_n * lag
            others[i, j, 1, 0], others[i, j, 1, 1] = last_e * dt, last_n * dt
            others[i, j, 2, 0], others[i, j, 2, 1] = k[m.W_E] / window_s * dt, k[m.W_N] / window_s * dt
            frame[i, j, 0], frame[i, j, 1] = v_e / floored, v_n / floored
            log_dt = np.log(dt)
            x[i, j, 0] = log_dt / 4.0
            sin, cos = np.sin(0.4 * log_dt), np.cos(0.4 * log_dt)
            for wave in range(4):  # 0.4, 0.8, 1.6, 3.2: each has the double angle of the one before
                x[i, j, 1 + 2 * wave], x[i, j, 2 + 2 * wave] = sin, cos
                sin, cos = 2 * sin * cos, cos * cos - sin * sin
            x[i, j, 9] = np.log(reach[i, j]) / 4.0
            x[i, j, 10] = np.log(var[i, j]) / 8.0
            x[i, j, 11] = min(max(log_dt - k[m.LOG_DT], -6.0), 6.0) / 2.0
            x[i, j, 12] = min(max(log_dt - log_last, -6.0), 6.0) / 2.0
            if not has_report:
                others[i, j, 3, 0], others[i, j, 3, 1] = base[i, j, 0], base[i, j, 1]
                x[i, j, 13:] = 0.0
                continue
            others[i, j, 3, 0], others[i, j, 3, 1] = report_e * dt, report_n * dt
            pace = np.sqrt(report_e * report_e + report_n * report_n) + queries.PACE_FLOOR_MPS
            x[i, j, 13], x[i, j, 14] = 1.0, last[i].heading_cdeg != ABSENT
            x[i, j, 15] = np.log(pace / (scale + queries.PACE_FLOOR_MPS))
            off_e, off_n = others[i, j, 3, 0] - base[i, j, 0], others[i, j, 3, 1] - base[i, j, 1]
            unit_e, unit_n = frame[i, j, 0], frame[i, j, 1]
            x[i, j, 16], x[i, j, 17] = signed_log(*_in_frame(off_e / reach[i, j], off_n / reach[i, j], unit_e, unit_n))
            gained_e, gained_n = (report_e - last_e) / scale, (report_n - last_n) / scale
            x[i, j, 18], x[i, j, 19] = signed_log(*_in_frame(gained_e, gained_n, unit_e, unit_n))
            x[i, j, 20], x[i, j, 21] = doubt(k), k[m.BOTH] / (k[m.BOTH] + queries.HEARD_MPS)


@compiled
def _in_frame(east, north, unit_e, unit_n):  # type: ignore[no-untyped-def]
    """`queries._in_frame`."""
    return east * unit_e + north * unit_n, unit_e * north - unit_n * east


@compiled
def _combine(raw, base, others, var, reach, frame, has_report, mean, cov):  # type: ignore[no-untyped-def]
    for i in range(raw.shape[0]):
        for j in range(raw.shape[1]):
            a = raw[i, j].astype(np.float64)
            cos, sin = frame[i, j, 0], frame[i, j, 1]
            east = a[0] + cos * a[2] - sin * a[3]
            north = a[1] + sin * a[2] + cos * a[3]
            shorter = reach[i, j] / np.sqrt(1 + (east * east + north * north) / (MAX_RESIDUAL * MAX_RESIDUAL))
            on_e, on_n = shorter * east, shorter * north
            for o in range(others.shape[2]):
                lean = MAX_LEAN * np.tanh(a[OUT + o] / MAX_LEAN)
                far_e, far_n = others[i, j, o, 0] - base[i, j, 0], others[i, j, o, 1] - base[i, j, 1]
                if has_report[i, j] and o == others.shape[2] - 1:
                    far_e, far_n = far_e - on_e, far_n - on_n
                on_e, on_n = on_e + lean * far_e, on_n + lean * far_n
            mean[i, j, 0], mean[i, j, 1] = base[i, j, 0] + on_e, base[i, j, 1] + on_n
            size = var[i, j] * np.exp(MAX_LOG_SPREAD * np.tanh(a[4] / MAX_LOG_SPREAD))
            cos2, sin2 = cos * cos - sin * sin, 2 * cos * sin
            p = a[5] + cos2 * a[7] - sin2 * a[8]
            q = a[6] + sin2 * a[7] + cos2 * a[8]
            rho2 = p * p + q * q + 1e-12
            rho = np.sqrt(rho2)
            up = np.exp(rho / np.sqrt(1 + rho2 / (MAX_LOG_SHAPE * MAX_LOG_SHAPE)))
            even, odd = size * (up + 1 / up) / 2, size * (up - 1 / up) / 2 / rho
            cov[i, j, 0], cov[i, j, 1], cov[i, j, 2] = even + odd * p, odd * q, even - odd * p


@compiled
def _interval(kin, x, others):  # type: ignore[no-untyped-def]
    for i in range(len(kin)):
        last, before = kin[i, m.DT], kin[i, m.DT1]
        others[i, 0] = 0.0 if last == 0.0 else np.log(last) - kin[i, m.LOG_DT]
        others[i, 1] = 0.0 if before == 0.0 else np.log(before) - kin[i, m.LOG_DT]
        for k in range(3):
            apart = others[i, 0] - others[i, 1] if k == 2 else others[i, k]
            apart = min(max(apart, -queries.MOST_APART), queries.MOST_APART)
            if k < 2:
                x[i, k] = apart / 2.0
            x[i, 2 + k], x[i, 5 + k] = abs(apart) / 2.0, np.exp(-queries.ALIKE * abs(apart))


@compiled
def _times(kin, raw, others_log, dt, sound):  # type: ignore[no-untyped-def]
    for i in range(len(kin)):
        longer, sound[i] = np.float64(raw[i, 0]), np.isfinite(raw[i, 0])
        for o in range(others_log.shape[1]):
            longer += MAX_LEAN * np.tanh(np.float64(raw[i, 1 + o]) / MAX_LEAN) * others_log[i, o]
            sound[i] &= np.isfinite(raw[i, 1 + o])
        log_s = 0.0 if kin[i, m.DT] == 0.0 else kin[i, m.LOG_DT]
        dt[i, 0] = min(max(np.exp(log_s + longer if sound[i] else log_s), MIN_NEXT_S), MAX_NEXT_S)


@compiled
def _bent(x, knots, weight):  # type: ignore[no-untyped-def]
    """A piecewise linear function with slope weight[0] and further slopes from each knot on."""
    y = x * weight[0]
    for i in range(len(knots)):
        y += max(x - knots[i], 0.0) * weight[1 + i]
    return y


@compiled
def _calibrate(kin, last, dt_s, weight, ahead_knots, often_knots, fast_knots, mean, cov, sound):  # type: ignore[no-untyped-def]
    """The sum of the terms of `calibration_terms.forecast_terms` times their weights, in that order, gives the factor's
    log.
    """
    b = 2 + len(ahead_knots)
    c = b + 1 + len(often_knots)
    d = c + 1 + len(fast_knots)
    for i in range(dt_s.shape[0]):
        often = min(max(kin[i, m.LOG_DT], 0.0), 6.0) / 4.0
        fast = np.log(np.sqrt(kin[i, m.MS_SPEED] + m.SCALE_FLOOR_MPS * m.SCALE_FLOOR_MPS)) / 2.0
        of_row = weight[0] + _bent(often, often_knots, weight[b:c]) + _bent(fast, fast_knots, weight[c:d])
        of_row += often * fast * weight[d + 2]
        tells, _, _ = velocity(last[i])
        if tells and sure(kin[i]):
            off = doubt(kin[i])
            of_row += (
                weight[d + 3] + off * weight[d + 4] + max(off - cal.DOUBT, 0.0) * weight[d + 5] + fast * weight[d + 6]
            )
        for j in range(dt_s.shape[1]):
            ahead = np.log(max(dt_s[i, j], 1.0)) / 4.0
            log_scale = (
                of_row + _bent(ahead, ahead_knots, weight[1:b]) + ahead * (often * weight[d] + fast * weight[d + 1])
            )
            scale = np.exp(min(max(log_scale, -MAX_LOG_SCALE), MAX_LOG_SCALE))
            finite = np.isfinite(mean[i, j, 0]) and np.isfinite(mean[i, j, 1])
            for k in range(3):
                cov[i, j, k] *= scale
                finite &= np.isfinite(cov[i, j, k])
            sound[i] &= finite


@compiled
def _moved(last, en_m, lat, lon):  # type: ignore[no-untyped-def]
    for i in range(len(last)):
        lat_deg, lon_deg = last[i].lat_e7 / E7, last[i].lon_e7 / E7
        east = M_PER_DEG * max(np.cos(lat_deg * _RAD), MIN_COS_LAT)
        for j in range(en_m.shape[1]):
            lat[i, j] = min(max(lat_deg + en_m[i, j, 1] / M_PER_DEG, -90.0), 90.0)
            lon[i, j] = (lon_deg + en_m[i, j, 0] / east + 180.0) % 360.0 - 180.0
