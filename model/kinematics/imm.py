"""The interacting multiple model (IMM): three filters whose states are mixed by how well each explains the pings. No
weights.

Blom & Bar-Shalom, "The Interacting Multiple Model Algorithm for Systems with Markovian Switching Coefficients", IEEE
Trans. Automatic Control 33(8), 1988. Each mode is an integrated Ornstein-Uhlenbeck process (model.kinematics.motion): a
stopped one whose velocity decays in seconds, a cruising one, and a manoeuvring one with ten times the noise.

Modes switch in continuous time, because pings arrive at irregular intervals: at rate 1/memory_s the mode is drawn anew
from `shares`, so that over dt the transition matrix is shares + exp(−dt/memory_s) (I − shares). A forecast is one
prediction step of length dt: the mixing happens at its start.

Unlike in the filter of model.kinematics.motion, the covariances of east and north differ: modes whose means differ
widen the mixture along the line between these means.

Shapes: N things, H questions, J = 3 modes (i before mixing), X = 4 (east, north, their velocities), ... any batch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, NamedTuple, Self

import numpy as np

from model.config import ModelConfig
from model.kinematics import motion
from model.kinematics.filters import Gaussians
from model.kinematics.geo import F64

IMM: Final = "imm"
IMM_FITTED: Final = "imm_fitted"
STOPPED: Final = 0.3  # the share of time that things in a city stand still
MIN_CHANCE: Final = 1e-9  # lowest probability of a mode: no mode is ever excluded for good

_J, _X = 3, 4
_MEANS = _J * _X


class Belief(NamedTuple):
    """The probability of each mode, and the state given that mode."""

    chance: F64  # [..., J]
    mean: F64  # [..., J, X] m from the last fix, m/s
    cov: F64  # [..., J, X, X]


@dataclass(frozen=True)
class Imm:
    """A filter with the interface `filters.Follower`. All modes use the same noise of a fix, that of `cruise`."""

    stop: ModelConfig
    cruise: ModelConfig
    manoeuvre: ModelConfig
    memory_s: float = 120.0  # how long a thing stays in one mode: about two city blocks
    shares: tuple[float, float, float] = (STOPPED, 0.5, 0.2)
    name: str = IMM

    @classmethod
    def around(
        cls,
        cruise: ModelConfig,
        *,
        manoeuvre: float = 10.0,
        memory_s: float = 120.0,
        stopped: float = STOPPED,
        name: str = IMM,
    ) -> Self:
        """Builds the three modes from one physics. `manoeuvre` is the ratio of the manoeuvring mode's noise to that of
        `cruise`. Five sevenths of what is not stopped is cruising.
        """
        # A velocity that decays in 2 s and is kept at 0.1 m/s by noise: the wander of a parked receiver.
        stop = replace(cruise, damping_s=2.0, accel_psd=0.01)
        shares = (stopped, (1 - stopped) * 5 / 7, (1 - stopped) * 2 / 7)
        return cls(stop, cruise, replace(cruise, accel_psd=manoeuvre * cruise.accel_psd), memory_s, shares, name)

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name,)

    def fresh(self, rows: int) -> F64:
        var = [self.cruise.fix_sigma_m**2] * 2 + [self.cruise.start_speed_mps**2] * 2
        cov = np.broadcast_to(np.diag(var), (rows, _J, _X, _X))
        return _pack(Belief(np.tile(self.shares, (rows, 1)), np.zeros((rows, _J, _X)), cov))

    def fold(self, state: F64, dt_s: F64, d_en: F64) -> F64:
        expected = self.expect(_unpack(state), np.maximum(dt_s, motion.MIN_DT_S))
        return _pack(_update(expected, d_en, self.cruise.fix_sigma_m**2))

    def after(self, state: F64, dt_s: F64) -> dict[str, Gaussians]:
        one = Belief(*(part[:, None] for part in _unpack(state)))
        chance, mean, cov = self.expect(one, dt_s)
        middle = np.einsum("...j,...jx->...x", chance, mean)[..., :2]
        off = mean[..., :2] - middle[..., None, :]
        full = np.einsum("...j,...jxy->...xy", chance, cov[..., :2, :2] + off[..., :, None] * off[..., None, :])
        noise = self.cruise.fix_sigma_m**2
        parts = [full[..., 0, 0] + noise, full[..., 0, 1], full[..., 1, 1] + noise]
        return {self.name: Gaussians(middle, np.stack(parts, axis=-1))}

    def expect(self, belief: Belief, dt_s: F64) -> Belief:
        """Returns the belief dt_s [...] later, relative to the same origin: switching, mixing, and each mode's
        prediction.
        """
        switch = self.switching(dt_s)
        both = belief.chance[..., :, None] * switch  # [..., i, j]
        chance = both.sum(axis=-2)
        weight = both / chance[..., None, :]
        mean = np.einsum("...ij,...ix->...jx", weight, belief.mean)
        off = belief.mean[..., :, None, :] - mean[..., None, :, :]  # [..., i, j, X]
        cov = np.einsum("...ij,...ixy->...jxy", weight, belief.cov)
        cov = cov + np.einsum("...ij,...ijx,...ijy->...jxy", weight, off, off)
        carry, noise = self._transition(dt_s)
        return Belief(
            chance, np.einsum("...jxy,...jy->...jx", carry, mean), carry @ cov @ np.swapaxes(carry, -1, -2) + noise
        )

    def switching(self, dt_s: F64) -> F64:
        """Returns the probabilities [..., i, j] that mode i has become mode j after dt_s [...]."""
        same = np.exp(-dt_s / self.memory_s)[..., None, None]
        return np.asarray(same * np.eye(_J) + (1 - same) * np.asarray(self.shares))

    def _transition(self, dt_s: F64) -> tuple[F64, F64]:
        """Returns Φ and Q of each mode over dt_s [...], both [..., J, X, X]."""
        carry, noise = np.zeros((2, *np.shape(dt_s), _J, _X, _X))
        zero = np.zeros(np.shape(dt_s))
        for j, mode in enumerate((self.stop, self.cruise, self.manoeuvre)):
            lag, keep, pp, pv, vv = motion.predict(zero, zero, zero, dt_s, mode)
            for axis in (0, 1):
                carry[..., j, axis, axis], carry[..., j, axis, axis + 2] = 1.0, lag
                carry[..., j, axis + 2, axis + 2] = keep
                noise[..., j, axis, axis], noise[..., j, axis + 2, axis + 2] = pp, vv
                noise[..., j, axis, axis + 2] = noise[..., j, axis + 2, axis] = pv
        return carry, noise


def _update(expected: Belief, d_en: F64, noise_m2: float) -> Belief:
    """Returns the belief after a fix at d_en [N, 2], in metres relative to that fix."""
    chance, mean, cov = expected
    off = d_en[:, None, :] - mean[..., :2]
    ee, en, nn = cov[..., 0, 0] + noise_m2, cov[..., 0, 1], cov[..., 1, 1] + noise_m2
    det = ee * nn - en * en
    inverse = np.stack([np.stack([nn, -en], -1), np.stack([-en, ee], -1)], -2) / det[..., None, None]
    weighed = np.einsum("...xy,...y->...x", inverse, off)
    gain = cov[..., :, :2] @ inverse  # [N, J, X, 2]
    seen = mean + np.einsum("...xy,...y->...x", gain, off)
    seen[..., :2] -= d_en[:, None, :]
    log_odds = np.log(chance) - 0.5 * (np.log(det) + (off * weighed).sum(-1))
    odds = np.maximum(np.exp(log_odds - log_odds.max(-1, keepdims=True)), MIN_CHANCE)
    less = cov - gain @ cov[..., :2, :]
    return Belief(odds / odds.sum(-1, keepdims=True), seen, (less + np.swapaxes(less, -1, -2)) / 2)


def _pack(belief: Belief) -> F64:
    rows = len(belief.chance)
    return np.concatenate([part.reshape(rows, -1) for part in belief], axis=1)


def _unpack(state: F64) -> Belief:
    chance, mean, cov = np.split(state, [_J, _J + _MEANS], axis=1)
    return Belief(chance, mean.reshape(-1, _J, _X), cov.reshape(-1, _J, _X, _X))
