"""The inputs of the atlas head, and what its numbers do to a forecast: the definition.

An estimate is read at each level, shrunk to the model's own forecast. Without a head the forecast would go the share of
the way to the estimate of the smallest cells that their variances ask for. The head's numbers change that share, lean
to the estimates of single levels, and change the width. Where there is no outcome, nothing changes, to the bit.

The features are lengths, and parts along and across the way that the thing goes: they do not change when all turns, or
is seen in a mirror. The last two are of the version that a ping asks: how long before the ping its cut-off was, and
over how long it has seen the fleet. They depend on no clock.

Shapes: N pings, Q questions of each, L = LEVELS, F = ATLAS_FEATURES, V = ATLAS_OF_VERSION.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.atlas.atlas import Span
from model.atlas.cells import LEVELS, Keys
from model.atlas.estimate import levels
from model.atlas.outcomes import MAX_APART_MS, MIN_STEP_S, expected_m
from model.atlas.published import Published
from model.kinematics import motion
from model.kinematics.answer_bounds import ATLAS_FEATURES, ATLAS_OF_VERSION
from model.kinematics.geo import F64

OF_QUESTION: Final = 6  # features of a question
OF_LEVEL: Final = 5  # features of each level
OF_VERSION: Final = OF_QUESTION + OF_LEVEL * LEVELS  # where the features of the version begin: its age, and its span
assert OF_VERSION + ATLAS_OF_VERSION == ATLAS_FEATURES
SHARE, WIDTH = LEVELS, LEVELS + 1  # where the numbers are that follow the leans to each level
FEW: Final = 2.0  # outcomes: with so many, the variance of an estimate counts about double
MAX_LOG_WIDTH: Final = 3.0
SPEED_FLOOR_MPS: Final = 0.5
USUAL_MPS: Final = 5.0
SOME, MANY = 5.0, 100.0  # outcomes, at which the features of a count are one half
MS_PER_H: Final = 3_600_000.0
MAX_AGE_H: Final = 24.0  # hours: no version is older in training
MAX_SPAN_H: Final = 72.0  # hours: the invented fleets of training are not seen for longer


class Inputs(NamedTuple):
    """Holds what the head is asked, and what its answer changes."""

    features: NDArray[np.float32]  # [N, Q, F]
    apart_m: F64  # [N, Q, L, 2] from the model's mean to the estimate of each level
    share: F64  # [N, Q] of the way to the last of these that variances ask for; 0: nothing is known
    log_width: F64  # [N, Q] the factor of the covariance that goes with it, as a logarithm
    pings: NDArray[np.int64]  # [N] outcomes that the estimates rest on


def inputs(atlas: Published, keys: Keys, of_version: F64, kin: F64, dt_s: F64, mean_m: F64, var_m2: F64) -> Inputs:
    """Returns the inputs for pings with keys [N, L], whose states are kin [N, K], and forecasts dt_s [N, Q] ahead with
    means mean_m [N, Q, 2] from the last fix and variances var_m2 [N, Q] per axis. The features of the version are
    of_version [N, V] (`version_features`).
    """
    velocity = last_mps(kin)
    expected = expected_m(velocity, dt_s)
    found = levels(atlas, keys, dt_s, mean_m - expected, var_m2)
    sigma = np.sqrt(var_m2)
    speed = np.hypot(velocity[:, 0], velocity[:, 1])
    ahead = velocity / np.hypot(speed, SPEED_FLOOR_MPS)[:, None]
    apart = expected[..., None, :] + found.off_m - mean_m[..., None, :]
    bent, aside = (mean_m - expected) / sigma[..., None], apart / sigma[..., None, None]
    features = np.empty((*dt_s.shape, ATLAS_FEATURES), np.float32)
    features[..., 0] = np.log(dt_s) / 4
    features[..., 1] = kin[:, None, motion.LOG_DT] / 4
    features[..., 2] = (speed / (speed + USUAL_MPS))[:, None]
    features[..., 3] = np.log(sigma) / 4
    along, across = _in_frame(bent[..., None, :], ahead)
    features[..., 4], features[..., 5] = _bounded(along[..., 0]), np.abs(_bounded(across[..., 0]))
    along, across = _in_frame(aside, ahead)
    wide = np.sqrt(found.var_m2)
    of_level = (
        found.n / (found.n + SOME),
        found.n / (found.n + MANY),
        _bounded(along),
        np.abs(_bounded(across)),
        wide / (wide + sigma[..., None]),
    )
    for k, values in enumerate(of_level):
        features[..., OF_QUESTION + k : OF_VERSION : OF_LEVEL] = values
    features[..., OF_VERSION:] = of_version[:, None]
    var = found.var_m2[..., -1] * (1 + FEW / (found.n[..., -1] + 0.5))
    moves = (kin[:, motion.DT] > 0) & (kin[:, motion.DT] * 1000 <= MAX_APART_MS)
    share = np.where(found.n.any(axis=-1) & moves[:, None], var_m2 / (var_m2 + var), 0.0)
    # The errors of both are neither independent nor the same: the mean of what these two would give.
    both = (var_m2 * var / (var_m2 + var) + share * var + (1 - share) * var_m2) / 2
    log_width = np.where(share > 0, np.log(both / var_m2), 0.0)
    pings = np.where(moves, np.ceil(found.n.max(axis=(1, 2))), 0.0).astype(np.int64)
    return Inputs(features, apart, share, log_width, pings)


def version_features(span: Span, ts_ms: NDArray[Any]) -> F64:
    """Returns the features [N, V] of a version with this span that pings at ts_ms [N] ask."""
    age_h = np.clip((ts_ms - span.to_ms) / MS_PER_H, 0.0, MAX_AGE_H)
    span_h = np.clip((span.to_ms - span.from_ms) / MS_PER_H, 0.0, MAX_SPAN_H)
    return np.stack([np.log1p(age_h), np.full(len(ts_ms), np.log1p(span_h))], axis=-1) / 4


def last_mps(kin: F64) -> F64:
    """Returns the velocities [N, 2] of the last steps of states kin [N, K], as `outcomes.velocities` counts them."""
    return np.asarray(kin[:, motion.D_E : motion.D_N + 1] / np.maximum(kin[:, motion.DT], MIN_STEP_S)[:, None])


def combine(raw: NDArray[Any], asked: Inputs) -> tuple[F64, F64]:
    """Returns by how much the head's numbers [N, Q, ATLAS_OUT] move means [N, Q, 2], in metres, and the factors [N, Q]
    of their covariances.
    """
    known = asked.share > 0
    raw = raw.astype(np.float64)
    share = asked.share / (asked.share + (1 - asked.share) * np.exp(-raw[..., SHARE]))
    moved = share[..., None] * asked.apart_m[..., -1, :]
    moved = moved + (np.tanh(raw[..., :LEVELS, None]) * asked.apart_m).sum(axis=-2)
    width = np.exp(np.clip(asked.log_width + raw[..., WIDTH], -MAX_LOG_WIDTH, MAX_LOG_WIDTH))
    return np.where(known[..., None], moved, 0.0), np.where(known, width, 1.0)


def _in_frame(vectors: F64, ahead: F64) -> tuple[F64, F64]:
    """Returns the parts of vectors [N, Q, L, 2] along and across the directions [N, 2]."""
    east, north = ahead[:, None, None, 0], ahead[:, None, None, 1]
    return vectors[..., 0] * east + vectors[..., 1] * north, vectors[..., 0] * north - vectors[..., 1] * east


def _bounded(x: F64) -> F64:
    """Returns values between -1 and 1 that are one half where x is 1: as good as a logarithm here, and cheaper."""
    return np.asarray(x / (1 + np.abs(x)))
