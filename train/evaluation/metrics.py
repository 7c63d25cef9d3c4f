"""Turns errors into numbers that can be compared. All functions are pure: metres and covariances in, numbers out.

A served forecast is a mean and a covariance, so the Gaussian with that mean and covariance is scored, for the model as
for the filters: CRPS (the energy score) is proper for it. The model was trained as a Student t whose scale matrix is
the covariance over 1.878 (model.network.heads), and stream/wire/README.md documents that; but the message contains a
covariance, which most subscribers will take for a Gaussian's, as they do a filter's. A score of the t would give the
model credit for tails that they do not use.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]

# bootstrap samples of entities, for the interval; its ends move by under 3 % of its width between seeds
RESAMPLES: Final = 400
MIN_VARIANCE_M2: Final = 1e-4  # one centimetre: a smaller covariance is a point, and a quotient by it is noise

# 8 x 16 points: compared with 80 x 256, single cases are within 2 %; the mean of many within 0.05 % where ellipses are
# up to five times as long as wide, 0.2 % too low where they are twenty times as long.
_RADII: Final = 8
_ANGLES: Final = 16
_FARTHEST: Final = 6.0  # standard deviations; the rest has a weight of 1e-8
_CHUNK: Final = 8192  # rows at a time: rows x points of float64 stay under 10 MB


class Score(NamedTuple):
    """The scores of one predictor on one set of cases. Metres; coverages are shares in 0..1, None for a point
    forecast.
    """

    n: int
    entities: int
    mean_m: float
    mean_low_m: float  # 95 % interval of the mean, bootstrapped over entities
    mean_high_m: float
    median_m: float
    p90_m: float
    crps_m: float  # the energy score, CRPS in two dimensions; for a point forecast it is the mean error
    coverage_50: float | None
    coverage_90: float | None
    coverage_90_low: float | None  # 95 % interval of coverage_90, bootstrapped over entities
    coverage_90_high: float | None


class Difference(NamedTuple):
    """One predictor's mean error compared with another's on the same cases."""

    ratio: float | None  # below 1: the first is better; None where the error of the other is 0
    difference_m: float  # first minus other
    low_m: float  # 95 % interval of the difference, bootstrapped over entities
    high_m: float


class Factor(NamedTuple):
    """The typical factor between predicted and true times: the exponential of the mean absolute error of their logs; 1
    is exact.
    """

    n: int
    entities: int
    factor: float
    low: float  # 95 % interval, bootstrapped over entities
    high: float


class TimeScore(NamedTuple):
    """The scores of one predictor of arrivals on one set of questions. Seconds; shares in 0..1."""

    n: int
    entities: int
    mae_s: float
    mae_low_s: float  # 95 % interval, bootstrapped over entities
    mae_high_s: float
    median_ae_s: float
    mape: float  # mean of |error| / true time
    bias_s: float  # mean of predicted minus true time
    coverage_90: float
    width_s: float  # mean length of the interval: an infinite one would have full coverage


class Cases(NamedTuple):
    """N scored cases of one predictor; the last two are None for a point forecast."""

    distance_m: F64  # (N,)
    energy_m: F64 | None  # (N,) energy score
    surprise: F64 | None  # (N,) squared Mahalanobis distance of the error

    def select(self, mask: NDArray[Any]) -> Cases:
        """Returns some of the cases, by a mask (N,) or indices."""
        distance, energy, surprise = self
        return Cases(
            distance[mask], None if energy is None else energy[mask], None if surprise is None else surprise[mask]
        )


def measure(error_en_m: F64, cov_m2: F64 | None = None, distance_m: F64 | None = None) -> Cases:
    """Measures N cases one by one.

    error_en_m: (N, 2) true minus forecast position, local east and north. cov_m2: (N, 3) ee, en, nn, or None for a
    point forecast. distance_m: (N,) the same error as great-circle metres, by default the length of error_en_m. Raises
    ValueError for errors or covariances that are not finite.
    """
    distance = np.hypot(error_en_m[:, 0], error_en_m[:, 1]) if distance_m is None else distance_m
    for what, values in (("errors", distance), ("errors", error_en_m), ("covariances", cov_m2)):
        if values is not None and not np.isfinite(values).all():
            raise ValueError(f"{int((~np.isfinite(values)).sum())} {what} in {len(distance)} cases are not finite")
    if cov_m2 is None:
        return Cases(distance, None, None)
    return Cases(distance, energy_score(error_en_m, cov_m2), mahalanobis2(error_en_m, cov_m2))


def score(cases: Cases, entity: NDArray[np.integer]) -> Score:
    """Summarises N cases; entity (N,) is the entity of each. Raises ValueError for no cases."""
    distance, energy, surprise = cases
    if len(distance) == 0:
        raise ValueError("nothing to score")
    low, high, entities = bootstrap_interval(distance, entity)
    median, p90 = np.quantile(distance, (0.5, 0.9))
    holds = None if surprise is None else bootstrap_interval(is_inside(surprise, 0.9), entity)
    return Score(
        n=len(distance),
        entities=entities,
        mean_m=float(distance.mean()),
        mean_low_m=low,
        mean_high_m=high,
        median_m=float(median),
        p90_m=float(p90),
        crps_m=float(distance.mean() if energy is None else energy.mean()),
        coverage_50=None if surprise is None else coverage(surprise, 0.5),
        coverage_90=None if surprise is None else coverage(surprise, 0.9),
        coverage_90_low=None if holds is None else holds[0],
        coverage_90_high=None if holds is None else holds[1],
    )


def score_times(true_s: F64, median_s: F64, low_s: F64, high_s: F64, entity: NDArray[np.integer]) -> TimeScore:
    """Summarises N arrivals; true times are above 0. Raises ValueError for none, or predictions that are not finite."""
    if len(true_s) == 0:
        raise ValueError("nothing to score")
    if not all(np.isfinite(part).all() for part in (median_s, low_s, high_s)):
        raise ValueError("times of arrival that are not finite")
    off = np.abs(median_s - true_s)
    low, high, entities = bootstrap_interval(off, entity)
    return TimeScore(
        n=len(true_s),
        entities=entities,
        mae_s=float(off.mean()),
        mae_low_s=low,
        mae_high_s=high,
        median_ae_s=float(np.median(off)),
        mape=float((off / true_s).mean()),
        bias_s=float((median_s - true_s).mean()),
        coverage_90=float(((low_s <= true_s) & (true_s <= high_s)).mean()),
        width_s=float((high_s - low_s).mean()),
    )


def compare_pairs(one_m: F64, other_m: F64, entity: NDArray[np.integer]) -> Difference:
    """Compares errors (N,) case by case: the difficulty of a case cancels, so the interval is far narrower."""
    low, high, _ = bootstrap_interval(one_m - other_m, entity)
    one, other = float(one_m.mean()), float(other_m.mean())
    return Difference(one / other if other > 0 else None, one - other, low, high)


def reliability(mahalanobis2: F64, nominal: Sequence[float]) -> list[float]:
    """Returns the coverage of each region whose nominal coverage is in `nominal`."""
    return [coverage(mahalanobis2, share) for share in nominal]


def mahalanobis2(error_en_m: F64, cov_m2: F64) -> F64:
    """Returns the squared Mahalanobis distance (N,) of errors (N, 2) under covariances (N, 3) ee, en, nn."""
    ee, en, nn = _regularise(cov_m2)
    east, north = error_en_m[:, 0], error_en_m[:, 1]
    return np.asarray((nn * east**2 - 2 * en * east * north + ee * north**2) / (ee * nn - en**2))


def coverage(mahalanobis2: F64, share: float) -> float:
    """Returns the coverage of the region with nominal coverage `share`: chi² of 2 degrees of freedom is exponential."""
    return float(is_inside(mahalanobis2, share).mean())


def is_inside(mahalanobis2: F64, share: float) -> F64:
    """Returns 1 for each case inside that region, 0 outside."""
    return np.asarray(mahalanobis2 <= -2 * np.log1p(-share), np.float64)


def energy_score(error_en_m: F64, cov_m2: F64) -> F64:
    """Returns E|X − y| − E|X − X'|/2 (N,) in metres for X ~ N(0, cov), y = error; lower is better, and it is proper.

    Gneiting & Raftery 2007, section 4.3, with exponent 1. It uses quadrature, not samples, so that the same errors give
    the same score: a Gaussian is a Rayleigh radius (Gauss-Legendre) in a uniform direction (equal angles).
    """
    node, weight = np.polynomial.legendre.leggauss(_RADII)
    radius = (node + 1) * (_FARTHEST / 2)
    weight = weight * radius * np.exp(-(radius**2) / 2)
    angle = (np.arange(_ANGLES) + 0.5) * (2 * np.pi / _ANGLES)
    unit = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    ball = (radius[:, None, None] * unit).reshape(-1, 2)
    mass = np.repeat(weight / (weight.sum() * _ANGLES), _ANGLES)
    out = np.empty(len(error_en_m))
    for first in range(0, len(out), _CHUNK):
        rows = slice(first, first + _CHUNK)
        root_ee, root_en, root_nn = _cholesky(cov_m2[rows])  # X = L z, lower triangular
        east = root_ee[:, None] * ball[:, 0] - error_en_m[rows, 0, None]
        north = root_en[:, None] * ball[:, 0] + root_nn[:, None] * ball[:, 1] - error_en_m[rows, 1, None]
        to_truth = np.hypot(east, north) @ mass
        spread = np.hypot(root_ee[:, None] * unit[:, 0], root_en[:, None] * unit[:, 0] + root_nn[:, None] * unit[:, 1])
        # E|X − X'| = √2 E|X|, and E|X| = √(π/2) times the mean of |L u| over directions u
        out[rows] = to_truth - np.sqrt(np.pi) / 2 * spread.mean(axis=1)
    return out


def time_factor(predicted_s: F64, true_s: F64, entity: NDArray[np.integer]) -> Factor:
    """Returns the typical factor between predicted and true times (N,), N at least 1, all of them above 0."""
    off = np.abs(np.log(predicted_s / true_s))
    low, high, entities = bootstrap_interval(off, entity)
    return Factor(len(off), entities, *(float(np.exp(x)) for x in (off.mean(), low, high)))


def bootstrap_interval(
    value: F64, entity: NDArray[np.integer], *, seed: int = 0, resamples: int = RESAMPLES
) -> tuple[float, float, int]:
    """Returns the 95 % bootstrap interval of the mean of `value` (N,), and the number of entities.

    Whole entities are resampled, not cases: one vehicle's errors are alike, so resampling cases would give too narrow
    an interval.
    """
    _, of = np.unique(entity, return_inverse=True)
    total, count = np.bincount(of, weights=value), np.bincount(of)
    entities = len(count)
    drawn = np.random.default_rng(seed).multinomial(entities, np.full(entities, 1 / entities), size=resamples)
    low, high = np.quantile((drawn @ total) / (drawn @ count), (0.025, 0.975))
    return float(low), float(high), entities


def _regularise(cov_m2: F64) -> tuple[F64, F64, F64]:
    """Returns the covariances with a floor under both variances and a correlation below 1."""
    ee, nn = np.maximum(cov_m2[:, 0], MIN_VARIANCE_M2), np.maximum(cov_m2[:, 2], MIN_VARIANCE_M2)
    most = np.sqrt(ee * nn) * (1 - 1e-9)
    return ee, np.clip(cov_m2[:, 1], -most, most), nn


def _cholesky(cov_m2: F64) -> tuple[F64, F64, F64]:
    ee, en, nn = _regularise(cov_m2)
    root = np.sqrt(ee)
    return root, en / root, np.sqrt(nn - (en / root) ** 2)
