"""The kinematic state of a moving thing: a recursive Kalman filter and a few running means, one row of numbers each.

Its inputs are displacements and intervals; degrees, time of day and the network do not appear here. The same function
folds one ping per row in serving and whole sequences in training. Everything is float64.

The filter is an integrated Ornstein-Uhlenbeck process (a velocity that decays with `damping_s`, driven by white
acceleration of density `accel_psd`): Li & Jilkov, "Survey of Maneuvering Target Tracking, Part I", 2003, section IV.B
(Singer without the extra state). East and north are independent and alike, so one 2x2 covariance serves both axes.

Shapes: ... any batch, T steps, K = WIDTH numbers of a row.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.config import ModelConfig
from model.kinematics.geo import F64

WIDTH: Final = 20  # columns of a kinematic row, in this order:
X_E, X_N, V_E, V_N = 0, 1, 2, 3  # filtered position relative to the last fix (m), filtered velocity (m/s)
PP, PV, VV = 4, 5, 6  # covariance per axis: position (m²), position-velocity (m²/s), velocity (m²/s²)
D_E, D_N, DT = 7, 8, 9  # last displacement (m), its interval (s): see `least_s`; DT = 0: there is only one fix so far
D1_E, D1_N, DT1 = 10, 11, 12  # the displacement before that one
LOG_DT, MS_SPEED = 13, 14  # running log interval (robust like a median), running mean of squared speed (m²/s²)
W_E, W_N, W_S = 15, 16, 17  # fading sums of the displacements (m) and their intervals (s): see `window_mps`
AMISS, BOTH = 18, 19  # fading sums (m/s) of |reported − step velocity| and of both speeds: see `doubt`

MIN_DT_S: Final = 1e-3
MEMORY: Final = 0.2  # weight of the newest ping in a running mean: per ping, so that 64 pings forget all but 1e-6
WINDOW_MEMORY: Final = 0.3  # the same for the window velocity: the newest two steps are half of it
# one long interval changes the log of the running interval by at most this, for robustness as in a median
MAX_LOG_DT_MOVE: Final = 0.25
SCALE_FLOOR_MPS: Final = 1.0  # a thing that stands still may start to walk
MAX_MPS: Final = 90.0  # the fastest trains; `stream` also uses it to find jumps, but tolerates 200 m of receiver error
# Largest gain over the recent speed, per second of the interval. No vehicle reaches a tenth of it, but two receivers
# that disagree do. One second of it is all of MAX_MPS, so that the steps on which networks were trained have no other
# limit.
MAX_GAIN_MPS2: Final = MAX_MPS
# Largest difference between a reported velocity and that of the step beside a gap: a receiver that reports wrong
# velocities would bend the fill. A long step proves little: at one ping per minute, a car that reports 0 may have
# stopped.
REPORTED_OFF_MPS: Final = 3.0
REPORTED_OFF: Final = 0.5  # plus this share of the step's speed
REPORTED_WITHIN_S: Final = 20.0  # for longer steps the limit grows in proportion
# Largest `doubt` at which a receiver is still believed. At one ping per minute, few cars that report correctly are
# above it (95 of 100 are below 0.41), and most that always report 0, km/h as m/s, or a course that is wrong by a
# quarter turn are (95 of 100 are above 0.92, 0.48, 0.64; GeoLife by road, 2026-11-28). At one ping in five minutes or
# more, few of either are above it.
MOST_DOUBT: Final = 0.45
# Steps up to this long count in full, longer ones by the square of the ratio: much happens during a long step that the
# velocities at its ends do not show.
SHOWS_S: Final = 60.0
# Added to sums over about five steps, so 0.2 m/s per step: less is noise. A position that wanders faster puts a correct
# report of 0 in doubt. That costs little, because a 0 says little about a thing that wanders.
DOUBT_FLOOR_MPS: Final = 1.0
# shortest time over which a velocity beside a gap is measured: training shortens a second to no less
STEADY_S: Final = 0.4
# Limits for rows from outside (`possible`): a few times around the globe, because W_E and W_N are sums; and more
# seconds than lie between any two times.
MAX_MOVED_M: Final = 1e8
MAX_DT_S: Final = 1e11
_ROUNDED: Final = 1.001


class Law(NamedTuple):
    """Mean and variance of the next fix's position: see `after`."""

    mean_en: F64  # [..., 2] metres from the last fix
    var_m2: F64  # [...] variance per axis of the position of a fix


def fresh(config: ModelConfig, shape: tuple[int, ...] = ()) -> F64:
    """Returns rows [*shape, K] after the first fix of each."""
    row = np.zeros((*shape, WIDTH))
    row[..., PP] = config.fix_sigma_m**2
    row[..., VV] = config.start_speed_mps**2
    return row


def fold(kin: F64, dt_s: F64, d_en: F64, config: ModelConfig, reported_mps: F64 | None = None) -> F64:
    """Returns the rows [..., K] after one more fix, which lies d_en [..., 2] metres and dt_s [...] seconds after the
    last one. reported_mps [..., 2] is the mean of the velocities that both fixes report; NaN where either reports none.
    """
    dt = np.maximum(dt_s, MIN_DT_S)
    d_e, d_n = d_en[..., 0], d_en[..., 1]
    k = np.moveaxis(kin, -1, 0)
    lag, carry, pp, pv, vv = predict(k[PP], k[PV], k[VV], dt, config)
    off_e = k[X_E] + lag * k[V_E] - d_e  # minus the innovation
    off_n = k[X_N] + lag * k[V_N] - d_n
    total = pp + config.fix_sigma_m**2
    gain_x, gain_v = pp / total, pv / total
    keep = 1.0 - gain_x
    # The filter above has used the fix and its time as they are. A step that becomes a speed is limited to what a
    # vehicle can do.
    moved2 = d_e * d_e + d_n * d_n
    least = least_s(dt, np.sqrt(moved2), speed_scale_mps(kin))
    share, speed2 = dt / least, moved2 / (least * least)
    log_dt = np.log(dt)
    first = k[DT] == 0.0
    out = np.empty_like(kin)
    out[..., X_E], out[..., X_N] = keep * off_e, keep * off_n
    out[..., V_E], out[..., V_N] = carry * k[V_E] - gain_v * off_e, carry * k[V_N] - gain_v * off_n
    out[..., PP], out[..., PV], out[..., VV] = keep * pp, keep * pv, vv - gain_v * pv
    out[..., D_E], out[..., D_N], out[..., DT] = share * d_e, share * d_n, dt
    out[..., D1_E], out[..., D1_N], out[..., DT1] = k[D_E], k[D_N], k[DT]
    move = np.clip(MEMORY * (log_dt - k[LOG_DT]), -MAX_LOG_DT_MOVE, MAX_LOG_DT_MOVE)
    out[..., LOG_DT] = np.where(first, log_dt, k[LOG_DT] + move)
    out[..., MS_SPEED] = np.where(first, speed2, k[MS_SPEED] + MEMORY * (speed2 - k[MS_SPEED]))
    # The limit lengthens the interval and does not shorten the displacement: the error of one fix then cancels when the
    # next fix moves back.
    for of, new in ((W_E, d_e), (W_N, d_n), (W_S, least)):
        out[..., of] = (1.0 - WINDOW_MEMORY) * k[of] + new
    reported = np.full_like(d_en, np.nan) if reported_mps is None else reported_mps
    heard, shows = ~np.isnan(reported[..., 0]), np.minimum(SHOWS_S / least, 1.0) ** 2
    off, both = length(reported - d_en / least[..., None]), length(reported) + np.sqrt(speed2)
    for of, new in ((AMISS, off), (BOTH, both)):
        out[..., of] = (1.0 - MEMORY) * k[of] + np.where(heard, shows * new, 0.0)
    return out


def least_s(dt_s: F64, moved_m: F64, lately_mps: F64) -> F64:
    """Returns the interval [...] by which a step is divided to give a speed: its own, or the shortest that its length
    allows.

    Two fixes one millisecond apart come from two receivers, or from one message sent twice: 10 m between them are not a
    speed of 10 km/s.
    """
    return np.maximum(dt_s, moved_m / np.minimum(lately_mps + MAX_GAIN_MPS2 * dt_s, MAX_MPS))


def agrees(reported_mps: F64, step_mps: F64, step_s: F64) -> NDArray[np.bool_]:
    """Returns whether [...] reported velocities [..., 2] are plausible at the end of steps with velocities step_mps and
    intervals step_s: see REPORTED_OFF_MPS.
    """
    off, mps = length(reported_mps - step_mps), length(step_mps)
    return np.asarray(off <= (REPORTED_OFF_MPS + REPORTED_OFF * mps) * np.maximum(1.0, step_s / REPORTED_WITHIN_S))


def scan(dt_BT: F64, d_BT2: F64, config: ModelConfig, reported_BT2: F64 | None = None) -> F64:
    """Returns the rows after each fix of whole sequences, [B, T, K]. The first fix of each sequence has no displacement
    and no reported velocity of a step; what is passed for it is ignored.
    """
    batch, steps = dt_BT.shape
    out = np.empty((steps, batch, WIDTH))
    out[0] = fresh(config, (batch,))
    for t in range(1, steps):
        out[t] = fold(
            out[t - 1], dt_BT[:, t], d_BT2[:, t], config, None if reported_BT2 is None else reported_BT2[:, t]
        )
    return np.moveaxis(out, 0, 1)


def possible(kin: F64, config: ModelConfig) -> bool:
    """Returns whether all rows [..., K] could be results of `fold`. It checks rows that come from outside.

    A row that passes gives finite forecasts. The filter's variances have bounds of their own: after an update, the
    position variance is below the noise of a fix (up to twice that, because digits cancel after a long silence), and
    the velocity variance lies between its initial value and its stationary value.
    """
    k = np.moveaxis(kin, -1, 0)
    noise = config.fix_sigma_m**2
    free = max(config.start_speed_mps**2, config.accel_psd * config.damping_s / 2)
    most = np.full(WIDTH, MAX_MOVED_M)
    most[[V_E, V_N]] = MAX_MOVED_M / MIN_DT_S
    most[[PP, VV]], most[PV] = (2 * noise, free * _ROUNDED), 2 * np.sqrt(noise * free)
    most[[DT, DT1, W_S]], most[LOG_DT] = MAX_DT_S, np.log(MAX_DT_S)
    most[MS_SPEED] = MAX_MPS**2 * _ROUNDED
    most[[AMISS, BOTH]] = 2 * MAX_MPS / MEMORY * _ROUNDED
    if not bool((np.abs(kin) <= most).all()):  # false for NaN, too
        return False
    positive = (k[[PP, PV, VV, MS_SPEED, DT, DT1, W_S, AMISS, BOTH]] >= 0).all()
    coupled = (k[PV] ** 2 <= k[PP] * k[VV] * _ROUNDED).all()
    timed = ((k[DT] == 0) | ((k[DT] >= MIN_DT_S) & (k[W_S] >= MIN_DT_S))).all()
    reported = (k[AMISS] <= k[BOTH] * _ROUNDED).all()
    return bool(positive and coupled and timed and reported)


def after(kin: F64, dt_s: F64, config: ModelConfig) -> Law:
    """Returns the distribution that the filter expects of the next fix, dt_s [..., H] seconds after the last one; kin
    [..., K].
    """
    k = np.moveaxis(kin, -1, 0)[..., None]
    lag, _, pp, _, _ = predict(k[PP], k[PV], k[VV], dt_s, config)
    mean = np.stack([k[X_E] + lag * k[V_E], k[X_N] + lag * k[V_N]], axis=-1)
    return Law(mean, pp + config.fix_sigma_m**2)


def predict(pp: F64, pv: F64, vv: F64, dt: F64, config: ModelConfig) -> tuple[F64, F64, F64, F64, F64]:
    """Returns the velocity's lag (s) and carry (1) over dt, and the covariance (pp, pv, vv) of one axis after it.

    The mean follows the same rule: position += lag * velocity, velocity *= carry.
    """
    tau, psd = config.damping_s, config.accel_psd
    lag = damped_s(dt, tau)
    carry = 1.0 - lag / tau
    # Process noise; dt − lag − lag²/2τ cancels to dt³/3τ², which float64 holds down to dt of milliseconds.
    q_xx = psd * tau * tau * np.maximum(dt - lag - lag * lag / (2 * tau), 0.0)
    q_xv = psd * lag * lag / 2
    q_vv = psd * lag * (1.0 - lag / (2 * tau))
    pp_ = pp + 2 * lag * pv + lag * lag * vv + q_xx
    return lag, carry, pp_, carry * (pv + lag * vv) + q_xv, carry * carry * vv + q_vv


def damped_s(dt_s: F64, damping_s: float) -> F64:
    """Returns the seconds of undamped travel that equal dt_s with a decaying velocity: τ(1 − e^(−dt/τ))."""
    return -damping_s * np.expm1(-dt_s / damping_s)


def last_mps(kin: F64) -> F64:
    """Returns the velocity [..., 2] of the last step; 0 where there is no step."""
    dt = np.where(kin[..., DT] == 0.0, 1.0, kin[..., DT])
    return np.asarray(kin[..., D_E : D_N + 1] / dt[..., None])


def window_mps(kin: F64) -> F64:
    """Returns the mean velocity [..., 2] of the last few steps, with lower weight for older ones; 0 where there is no
    step.
    """
    return np.asarray(kin[..., W_E : W_N + 1] / np.where(kin[..., DT] == 0.0, 1.0, kin[..., W_S])[..., None])


def doubt(kin: F64) -> F64:
    """Returns how wrong the reported velocities have been lately [...]. It is 0 if they agreed with the steps or none
    was reported, and 1 if a receiver reports 0 while it moves. A report of half the speed gives 1/3, a compass that is
    off by a quarter turn gives 0.7.
    """
    return np.asarray(kin[..., AMISS] / (kin[..., BOTH] + DOUBT_FLOOR_MPS))


def sure(kin: F64) -> NDArray[np.bool_]:
    """Returns whether the reported velocities are believed at all [...]: see MOST_DOUBT."""
    return np.asarray(doubt(kin) <= MOST_DOUBT)


def speed_scale_mps(kin: F64) -> F64:
    """Returns the recent speed of the thing, never below a walking speed. It is the unit of the model's residuals."""
    return np.sqrt(kin[..., MS_SPEED] + SCALE_FLOOR_MPS**2)


def length(vector: F64) -> F64:
    """Returns the lengths of vectors [..., 2]."""
    return np.asarray(np.sqrt((vector * vector).sum(-1)))
