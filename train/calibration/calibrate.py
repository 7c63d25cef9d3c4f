"""Fits model.network.calibration on tracks that training never saw. Every file has the same weight, except files with
very few errors. The residuals come from train.calibration.residuals.

The factor has to be such that 90 % of the positions fall inside the 90 % region: linear quantile regression of the log
of the squared Mahalanobis distances (model.quantile_regression).

Other vehicles of a training region say nothing about a region that training never saw. For weights that are to be used
anywhere, each region can be left out in turn: similar weights are trained without it, and their errors there are like
those of the final weights elsewhere.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import torch

from model.api import Predictor
from model.kinematics.calibration_terms import COURSE_TERMS, FORECAST_TERMS
from model.kinematics.geo import F64
from model.network.calibration import CHI2_90, Calibration
from model.network.checkpoint import to_parameters
from model.network.network import Network
from model.quantile_regression import fit_line
from stream.adapters.sources import Source
from train.calibration.residuals import (
    AddedCourses,
    Gaps,
    Residuals,
    measure_added_courses,
    measure_forecasts,
    measure_gaps,
)
from train.data.corpus import Reading, ignore_progress
from train.evaluation.forecasts import ROAD, NoTracks, Sample, SplitPart, open_samples

FORECASTS, HIDDEN = "forecasts", "hidden pings"
_PARTS: Final = {FORECASTS: "forecast", HIDDEN: "gap"}  # of model.network.calibration.Calibration
ADDED = "with added speed and course"  # of a file that reports none
BY_ROAD = " by road"
SHARE: Final = 0.9
FEW_GAPS: Final = 20  # of one length: with fewer, their 90 % quantile is one or two gaps
# number of terms, of model.network.calibration's: the constant, and the slope over the log of the horizon
WIDER: Final = 2
FEW_REPORTED: Final = 1_000  # fewest forecasts with a reported course for four coefficients
# errors: a file with fewer has less weight, so that one vehicle's hour does not outweigh a fleet
FULL_WEIGHT: Final = 1_000
# per file: the coverage of 90 % regions is then known to 0.3 points, if the errors were independent
MOST_ANCHORS: Final = 15_000
MOST_GAPS: Final = 1_000
MIN_SURPRISE: Final = 1e-6  # lower limit before the log: forecasts of a parked car are right to the centimetre


class LeftOut(NamedTuple):
    """A region that the weights to be calibrated are to be used in without having seen it: its tracks, and similar
    weights that were trained without them.
    """

    network: Network
    sample: Sample


class CoverageChange(NamedTuple):
    """The coverage of 90 % regions on the residuals that the calibration was fitted to, as shares: with the previous
    calibration and with the new one.
    """

    file: str
    entities: int
    of: str  # FORECASTS or HIDDEN
    n: int
    before: float
    after: float

    def __str__(self) -> str:
        return (
            f"{self.file}: of {self.n:,} {self.of} of {self.entities:,} entities 90 % regions held {self.before:.1%}, "
            f"and hold {self.after:.1%} now"
        )


def tracks_to_calibrate_on(
    sources: Sequence[Source],
    part: SplitPart,
    cache_dir: Path | None = None,
    *,
    reading: Reading = ignore_progress,
    say: Callable[[str], None] = lambda line: None,
) -> list[Sample]:
    """Returns each source's tracks of that part, and those by road once more: where people also walk, walking tracks
    outnumber driving ones, and at 15 minutes their errors are a tenth.

    A source without any track is reported and left out. Raises ValueError for one that cannot be read.
    """
    samples = []
    for source in sources:
        try:
            (sample,) = open_samples([source], part, cache_dir=cache_dir, most=MOST_ANCHORS, reading=reading)
        except NoTracks as error:
            say(f"not calibrated on {error}")
            continue
        samples.append(sample)
        samples += _by_road(source, sample, cache_dir)
    return samples


def _by_road(source: Source, sample: Sample, cache_dir: Path | None) -> list[Sample]:
    """Returns the tracks by road alone, where the sample has others too."""
    codes = np.unique(sample.corpus.mode)
    present = {sample.corpus.modes[code] for code in codes if code >= 0}
    road = [mode for mode in ROAD if mode in present]
    if not road or len(road) == len(codes):
        return []
    driven = open_samples([source], sample.split, cache_dir=cache_dir, most=MOST_ANCHORS, modes=road)
    return [replace(one, file=one.file + BY_ROAD) for one in driven]


def calibrate(
    network: Network,
    samples: Sequence[Sample],
    *,
    left_out: Sequence[LeftOut] = (),
    say: Callable[[str], None] = lambda line: None,
) -> list[CoverageChange]:
    """Sets the calibration of the network, in place, from its residuals on the samples; that of forecasts also from
    those of the networks of `left_out`, whose own calibration is reset.

    Most files report no course. Where their pings are dense enough, thinned pings get the course that a receiver would
    report: tracks by road, where there are such, because it is vehicles that report one. Gap fills keep their
    calibration where every length in the evaluation has too few gaps, and the course terms where there are too few
    reported courses.
    """
    was = copy.deepcopy(network.calibration)
    measured = _measure(network, samples, left_out, say)
    fits = _fit(measured, was, say)
    _set_calibration(network.calibration, fits, was)
    return _compare(samples, left_out, measured, fits, _Change(was, network.calibration))


class _AllResiduals(NamedTuple):
    """The residuals of uncalibrated networks, in the order of the samples."""

    forecasts: list[Residuals]
    added: list[AddedCourses | None]
    gaps: list[Gaps]
    left_out: list[Residuals]  # forecasts of the regions left out

    def courses(self) -> list[Residuals]:
        """Returns the residuals of forecasts after a course, which the file reports or was given."""
        reported = [one.where(one.tells) for one in self.forecasts]
        return [one for one in (*reported, *(one.errors for one in self.added if one)) if one.n]


class _Fits(NamedTuple):
    """The new coefficients. None: there was too little to fit them to."""

    forecast: F64
    has_courses: bool  # whether the course terms of `forecast` were fitted
    gap: F64 | None


class _Change(NamedTuple):
    """The calibrations before and after."""

    was: Calibration
    now: Calibration

    def coverage(self, sample: Sample, errors: Residuals, of: str) -> CoverageChange:
        before, after = (errors.coverage(_coefficients(one, _PARTS[of])) for one in self)
        return CoverageChange(sample.file, len(np.unique(sample.corpus.entity)), of, errors.n, before, after)


def _coefficients(calibration: Calibration, part: str) -> F64:
    return np.asarray(getattr(calibration, part).double().cpu().numpy())


def _measure(
    network: Network, samples: Sequence[Sample], left_out: Sequence[LeftOut], say: Callable[[str], None]
) -> _AllResiduals:
    """Measures the residuals of every answer. It resets the calibrations of all networks, in place."""
    predictor = _reset_calibration(network)
    driven = {(one.file.removesuffix(BY_ROAD), one.fingerprint) for one in samples if one.file.endswith(BY_ROAD)}
    measured = _AllResiduals([], [], [], [])
    for sample in samples:
        say(f"calibrating on {sample.file}")
        forecasts = measure_forecasts(sample, predictor)
        mute = not forecasts.tells.any() and (sample.file, sample.fingerprint) not in driven
        measured.forecasts.append(forecasts)
        measured.added.append(measure_added_courses(sample, predictor) if mute else None)
        measured.gaps.append(measure_gaps(sample, predictor, MOST_GAPS))
    for other, sample in left_out:
        say(f"calibrating on {sample.file}, left out")
        measured.left_out.append(measure_forecasts(sample, _reset_calibration(other)))
    return measured


def _fit(measured: _AllResiduals, was: Calibration, say: Callable[[str], None]) -> _Fits:
    """Fits every part that has enough residuals, and says which ones have too few."""
    courses = measured.courses()
    has_courses = sum(one.n for one in courses) >= FEW_REPORTED
    if not has_courses:
        say(f"reported courses stay as they were: there are fewer than {FEW_REPORTED:,} forecasts to fit them to")
    ahead = _coefficients(was, "forecast")
    forecast = _fit_forecasts(measured.forecasts, measured.left_out, courses if has_courses else [], ahead)
    gap = _fit_gaps(measured.gaps, _coefficients(was, "gap"))
    if gap is None:
        say(f"gap fills stay as they were: there are fewer than {FEW_GAPS} gaps of any length to fit them to")
    return _Fits(forecast, has_courses, gap)


def _set_calibration(calibration: Calibration, fits: _Fits, was: Calibration) -> None:
    """Puts the fits into the calibration, in place; a part without a fit gets back what it was."""
    calibration.forecast.copy_(torch.from_numpy(fits.forecast))
    calibration.gap.copy_(was.gap if fits.gap is None else torch.from_numpy(fits.gap))


def _compare(
    samples: Sequence[Sample], left_out: Sequence[LeftOut], measured: _AllResiduals, fits: _Fits, change: _Change
) -> list[CoverageChange]:
    """Returns the coverage of every part that was fitted, sample by sample."""
    out = []
    for sample, forecasts, added, gaps in zip(samples, *measured[:3], strict=True):
        out.append(change.coverage(sample, forecasts, FORECASTS))
        if fits.has_courses and added:
            line = change.coverage(replace(sample, file=f"{sample.file}, {ADDED}"), added.errors, FORECASTS)
            out.append(line._replace(entities=added.entities))
        if fits.gap is not None and gaps.errors.n:
            out.append(change.coverage(sample, gaps.errors, HIDDEN))
    for (_, sample), errors in zip(left_out, measured.left_out, strict=True):
        out.append(change.coverage(replace(sample, file=f"{sample.file}, left out"), errors, FORECASTS))
    return out


def _fit_forecasts(
    seen: Sequence[Residuals], left_out: Sequence[Residuals], courses: Sequence[Residuals], was: F64
) -> F64:
    """Returns the coefficients (FORECAST_TERMS,). They are fitted in three steps: to residuals like those of training
    (`seen`); then the first WIDER terms are widened, by the horizon, so that they also hold for the regions left out;
    then the course terms are fitted to what remains, of which no region was left out. Without courses the latter stay
    as they were (`was`).

    Only the horizon widens: the dependence on intervals and speeds that two regions show does not hold in a third. With
    all terms fitted to both, the coverage of `small`'s 90 % regions was off by as much (2.7 points, 22 horizons of six
    test splits, 2026-11-27), and CRPS was 3 to 5 % higher in Beijing at 60 s and more, where this costs 0.4 to 0.9 %.
    """
    plain = FORECAST_TERMS - COURSE_TERMS
    fit = np.zeros(FORECAST_TERMS)
    fit[:plain] = fit_quantile([_beyond(part, fit, slice(plain)) for part in seen])
    if left_out:
        fit[:WIDER] += fit_quantile([_beyond(part, fit, slice(WIDER)) for part in (*seen, *left_out)])
    fit[plain:] = fit_quantile([_beyond(part, fit, slice(plain, None)) for part in courses]) if courses else was[plain:]
    return fit


def _beyond(part: Residuals, fit: F64, terms: slice) -> Residuals:
    """Returns the residuals that remain after the calibration `fit`, with the given terms."""
    return Residuals(part.terms[:, terms], part.mahalanobis2 * np.exp(-part.terms @ fit))


def _fit_gaps(gaps: Sequence[Gaps], was: F64) -> F64 | None:
    """Returns the coefficients (GAP_TERMS,), or None where no length has enough gaps. A curve over lengths needs three
    of them, including the longest, because beyond its data it has been seen to leave its bounds. With fewer, only the
    constant of the previous calibration (`was`) changes.
    """
    enough = np.sum([found.gaps for found in gaps], axis=0) >= FEW_GAPS
    parts = [found.errors for found in gaps if found.errors.n]
    if not enough.any():
        return None
    if enough[-1] and enough.sum() >= 3:
        return fit_quantile(parts)
    moved = was.copy()
    moved[:1] += fit_quantile([_beyond(part, was, slice(1)) for part in parts])
    return moved


def _reset_calibration(network: Network) -> Predictor:
    network.calibration.forecast.zero_()
    network.calibration.gap.zero_()
    return Predictor(to_parameters(network), name=network.config.name)


def fit_quantile(parts: Sequence[Residuals]) -> F64:
    """Returns the coefficients (P,) of the log of the quantile SHARE of the squared Mahalanobis distances over that of
    a Gaussian. Parts with FULL_WEIGHT residuals or more have the same weight.
    """
    terms = np.concatenate([part.terms for part in parts])
    target = np.log(np.concatenate([part.mahalanobis2 for part in parts]).clip(MIN_SURPRISE)) - np.log(CHI2_90)
    weight = np.concatenate([np.full(part.n, 1.0 / max(part.n, FULL_WEIGHT)) for part in parts])
    return fit_line(terms, target, SHARE, weight)
