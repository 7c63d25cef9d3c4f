"""The answers of a Predictor, their types, and the part of a state that they need: forecasts and gap fills.

An answer is computed in the same four steps: the question from the physics, the network's numbers for it, the
distribution from both, and the calibration of its spread.

Shapes: N rows, H horizons.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.atlas.atlas import Atlas
from model.atlas.branching import Branches
from model.atlas.ways import Approach
from model.kinematics import baselines, lateness, motion
from model.kinematics.geo import F64, move_deg
from model.serving import forecast_compiled, gapfill_compiled, gaps
from model.serving.gaps import Fill, Gap
from model.serving.kv_cache import Slots
from model.serving.layers import Layers
from model.serving.passages.asking_compiled import move
from model.serving.passages.filling_compiled import move_fills


class Forecasts(NamedTuple):
    """N rows by H horizons, all float64."""

    next_dt_s: F64  # N: seconds until the next ping is expected
    next_en_m: F64  # N, 2: its displacement by then
    next_lat: F64  # N deg
    next_lon: F64
    next_cov_m2: F64  # N, 3: ee, en, nn
    lat: F64  # N, H deg
    lon: F64
    cov_m2: F64  # N, H, 3
    fallback: NDArray[np.bool_]  # N: the model's numbers were not finite, and the row is damped constant velocity
    next_early_s: F64  # N: the ends of the 90 % interval of the time until the next ping
    next_late_s: F64
    atlas_pings: NDArray[np.int64]  # N: passages that the row rests on; 0: it is the model's alone
    branch_share: F64  # N, M: of passages that went each way, if these part; 0 where there is no branch
    branch_lat: F64  # N, M, H deg; NaN where there is no branch, and beyond what is known of it
    branch_lon: F64


class Moment(NamedTuple):
    """The parts of N states at one moment that forecasts and fills depend on."""

    kin: F64
    hidden: NDArray[Any]  # in the dtype of the pool

    def at(self, rows: Slots) -> Moment:
        """Returns the given rows; a row may be given several times."""
        return Moment(self.kin[rows], self.hidden[rows])

    @classmethod
    def join(cls, moments: Sequence[Moment]) -> Moment:
        """Concatenates one or more moments; a single one is not copied."""
        if len(moments) == 1:
            return moments[0]
        return cls(np.concatenate([one.kin for one in moments]), np.concatenate([one.hidden for one in moments]))


class Guide(NamedTuple):
    """The atlases that N rows ask."""

    atlases: Sequence[Atlas]
    which: NDArray[np.int64]  # N: the index of each row's atlas, or -1 for none
    approach: Approach  # by which ways the rows' last fixes came; fills do not ask for it


def forecast(
    layers: Layers, moment: Moment, last: NDArray[Any], horizons_s: F64, guide: Guide | None = None
) -> Forecasts:
    """Forecasts horizons [H] or [N, H] from rows whose last fixes are `last`."""
    kin, hidden = moment
    recent = forecast_compiled.interval(kin)
    dt, sound = forecast_compiled.times(kin, layers.interval(hidden, recent.features), recent, horizons_s)
    question = forecast_compiled.question(kin, dt, last, layers.config)
    mean, cov = forecast_compiled.combined(layers.forecast(hidden, question.features), question)
    forecast_compiled.calibrate(mean, cov, sound, kin, last, dt, layers.calibration["forecast"])
    if not sound.all():
        mean, cov = _replace_rows(mean, cov, baselines.damped_velocity(kin, dt, layers.config), ~sound)
    if guide is None:
        pings, parted = np.zeros(len(kin), np.int64), Branches.none(len(kin), dt.shape[1] - 1)
    else:
        pings, parted = move(mean, cov, sound, last, dt, *guide)
    lat, lon = forecast_compiled.moved(last, mean)
    now = dt[:, 0], mean[:, 0], lat[:, 0], lon[:, 0], cov[:, 0]
    asked, late = (lat[:, 1:], lon[:, 1:], cov[:, 1:], ~sound), lateness.between(kin, dt[:, 0])
    return Forecasts(*now, *asked, *late, pings, parted.share, *places_of_branches(last, parted.mean_m))


def fill(layers: Layers, moment: Moment, asked: Sequence[Gap], guide: Guide | None = None) -> list[Fill]:
    """Fills one gap of each row."""
    batch = gaps.stack(asked, motion.doubt(moment.kin))
    of, scale = batch.of, motion.speed_scale_mps(moment.kin)
    question = gapfill_compiled.question(batch.ends, batch.fixes_after, scale, of, batch.t_s, layers.config)
    start = batch.start_lat[of], batch.start_lon[of]
    raw = layers.fill(moment.hidden[of], question, batch.ends.chord_en[of], *start)
    mean, cov = forecast_compiled.combined(raw, question)
    sound = gapfill_compiled.calibrate(mean, cov, batch.ends.gap_s, of, batch.t_s, layers.calibration["gap"])
    if not sound.all():
        mean, cov = _replace_rows(mean, cov, motion.Law(question.base_en, question.base_var), ~sound[of])
    pings = np.zeros(len(asked), np.int64)
    if guide is not None:
        start_fix = batch.before[batch.before_stop - 1]
        asks = of, batch.t_s, guide.atlases, guide.which
        pings = move_fills(mean, cov, sound, start_fix, batch.ends, *asks)
    lat, lon = move_deg(*start, mean[:, 0])
    stops = np.cumsum(np.bincount(of, minlength=len(asked))).tolist()
    return [
        Fill(lat[at:stop], lon[at:stop], cov[at:stop, 0], "model" if is_sound else "hermite", seen)
        for at, stop, is_sound, seen in zip([0, *stops], stops, sound.tolist(), pings.tolist(), strict=False)
    ]


def check_horizons(horizons_s: Sequence[float] | F64, rows: int) -> F64:
    """Returns the horizons as an array. Raises ValueError unless they are positive, finite and of shape H or N, H."""
    horizons = np.asarray(horizons_s, dtype=np.float64)
    if horizons.shape[:-1] not in ((), (rows,)):
        raise ValueError(f"horizons must have the shape H or N={rows}, H, got {horizons.shape}")
    if not bool((horizons > 0).all()) or not bool(np.isfinite(horizons).all()):
        raise ValueError(f"horizons must be positive seconds, got {horizons_s}")
    return horizons


def places_of_branches(last: NDArray[Any], branch_m: F64) -> tuple[F64, F64]:
    """Returns latitudes and longitudes [N, M, H] of branches, which are branch_m [N, M, H, 2] from the last fixes."""
    lat, lon = np.full(branch_m.shape[:-1], np.nan), np.full(branch_m.shape[:-1], np.nan)
    if len(some := np.flatnonzero(np.isfinite(branch_m[:, 0, :, 0]).any(axis=1))):
        places = forecast_compiled.moved(last[some], branch_m[some].reshape(len(some), -1, 2))
        lat[some], lon[some] = (place.reshape(len(some), *lat.shape[1:]) for place in places)
    return lat, lon


def _replace_rows(mean: F64, cov: F64, plain: motion.Law, rows: NDArray[np.bool_]) -> tuple[F64, F64]:
    """Returns mean and cov with the given rows taken from the physics."""
    if not rows.any():
        return mean, cov
    zero = np.zeros_like(plain.var_m2)
    plain_cov = np.stack([plain.var_m2, zero, plain.var_m2], axis=-1)
    chosen = rows[:, None, None]
    return np.where(chosen, plain.mean_en, mean), np.where(chosen, plain_cov, cov)
