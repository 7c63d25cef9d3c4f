"""Fits model.network.calibration on tracks that training never saw, every file weighing alike, but for those that
hardly say anything. Measures nothing (train.calibration.residuals), draws no batch.

The factor is wanted such that 90 % of the errors fall inside the 90 % region: linear quantile regression of the log of
the squared Mahalanobis lengths (train.quantile_regression).

Other vehicles of a region that was trained on say nothing of a region that was not. For weights that go anywhere, each
region can be left out in turn: weights like them are trained without it, and err there as these will elsewhere.
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
from model.network.calibration import CHI2_90
from model.network.network import Network
from stream.adapters.sources import Source
from train.calibration.residuals import Gaps, Residuals, of_forecasts, of_gaps, of_told, of_travel_times
from train.data.corpus import Reading, silent
from train.evaluation.forecasts import ROAD, NoTracks, Part, Sample, open_samples
from train.quantile_regression import fit_line

FORECASTS, HIDDEN, TRIPS = "forecasts", "hidden pings", "travel times"
TOLD = "told speed and course"  # of a file that tells none
BY_ROAD = " by road"
SHARE: Final = 0.9
FEW_GAPS: Final = 20  # of one length: below it their 90 % quantile is one or two gaps
FEW_TRIPS: Final = 50  # for three coefficients
WIDER: Final = 2  # of model.network.calibration's terms: the first, and the slope over the log of how far ahead
FEW_TOLD: Final = 1_000  # forecasts where a course was told, for four coefficients
FULL_WEIGHT: Final = 1_000  # errors: of fewer a file weighs less, so that a vehicle's hour does not outvote a fleet
MOST_ANCHORS: Final = 15_000  # per file: what 90 % regions hold is then known to 0.3 points, were they independent
MIN_SURPRISE: Final = 1e-6  # a parked car hits to the centimetre: its log has no floor of its own


class LeftOut(NamedTuple):
    """A region as it is to weights that never saw it: its tracks, and weights like those to be calibrated that were
    trained without them."""

    network: Network
    sample: Sample


class Held(NamedTuple):
    """What 90 % regions, or intervals of times, held of the errors that the calibration was fitted to, as shares: with
    the calibration of before, and with that of now."""

    file: str
    entities: int
    of: str  # FORECASTS, HIDDEN or TRIPS
    n: int
    before: float
    after: float

    def __str__(self) -> str:
        what = "intervals" if self.of == TRIPS else "regions"
        return (
            f"{self.file}: of {self.n:,} {self.of} of {self.entities:,} entities 90 % {what} held {self.before:.1%}, "
            f"and hold {self.after:.1%} now"
        )


def tracks_to_calibrate_on(
    sources: Sequence[Source],
    part: Part,
    cache_dir: Path | None = None,
    *,
    reading: Reading = silent,
    say: Callable[[str], None] = lambda line: None,
) -> list[Sample]:
    """Each source's tracks of that part, and those by road once more: where people also walk they outnumber those who
    drive, and at 15 minutes have errors of a tenth.

    A source without any track is told, and left out. Raises ValueError for one that cannot be read.
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
    """The tracks by road alone, where the sample has others, too."""
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
    most_gaps: int = 1000,
    say: Callable[[str], None] = lambda line: None,
) -> list[Held]:
    """Set the calibration of the network, in place, from its errors on the samples; that of forecasts also from the
    errors of the networks of `left_out`, whose own calibration is taken away.

    Most files tell no course. Where their pings are dense enough, thinned ones are told it, as receivers know it: those
    by road, where there are such, as it is vehicles that tell. Gap fills stay as they were where there are too few gaps
    of every judged length, travel times where there are too few trips, and told courses where too few are.
    """
    calibration = network.calibration
    was = copy.deepcopy(calibration)
    predictor = _uncalibrated(network)
    driven = {(one.file.removesuffix(BY_ROAD), one.fingerprint) for one in samples if one.file.endswith(BY_ROAD)}
    seen, told, gaps, trips, far = [], [], [], [], []
    for sample in samples:
        say(f"calibrating on {sample.file}")
        seen.append(of_forecasts(sample, predictor))
        mute = not seen[-1].tells.any() and (sample.file, sample.fingerprint) not in driven
        told.append(of_told(sample, predictor) if mute else None)
        gaps.append(of_gaps(sample, predictor, most_gaps))
        trips.append(of_travel_times(sample, predictor))
    for other, sample in left_out:
        say(f"calibrating on {sample.file}, left out")
        far.append(of_forecasts(sample, _uncalibrated(other)))
    courses = [one for one in (*(one.where(one.tells) for one in seen), *(one.errors for one in told if one)) if one.n]
    known = sum(one.n for one in courses) >= FEW_TOLD
    if not known:
        say(f"told courses stay as they were: there are fewer than {FEW_TOLD:,} forecasts to fit them to")
    ahead = _fit_forecasts(seen, far, courses if known else [], was.forecast.double().cpu().numpy())
    calibration.forecast.copy_(torch.from_numpy(ahead))
    fit = _fit_gaps(gaps, was.gap.double().cpu().numpy())
    if fit is None:
        say(f"gap fills stay as they were: there are fewer than {FEW_GAPS} gaps of any length to fit them to")
    calibration.gap.copy_(was.gap if fit is None else torch.from_numpy(fit))
    enough = sum(errors.n for errors in trips) >= FEW_TRIPS
    if not enough:
        say(f"travel times stay as they were: there are fewer than {FEW_TRIPS} to fit them to")
    calibration.travel.copy_(torch.from_numpy(fit_quantile(trips)) if enough else was.travel)

    def held(sample: Sample, errors: Residuals, of: str, part: str) -> Held:
        before, after = (errors.held(getattr(one, part).double().cpu().numpy()) for one in (was, calibration))
        return Held(sample.file, len(np.unique(sample.corpus.entity)), of, errors.n, before, after)

    out = []
    for sample, errors, by_course, found, times in zip(samples, seen, told, gaps, trips, strict=True):
        out.append(held(sample, errors, FORECASTS, "forecast"))
        if known and by_course:
            line = held(replace(sample, file=f"{sample.file}, {TOLD}"), by_course.errors, FORECASTS, "forecast")
            out.append(line._replace(entities=by_course.entities))
        if fit is not None and found.errors.n:
            out.append(held(sample, found.errors, HIDDEN, "gap"))
        if enough and times.n:
            out.append(held(sample, times, TRIPS, "travel"))
    for (_, sample), errors in zip(left_out, far, strict=True):
        out.append(held(replace(sample, file=f"{sample.file}, left out"), errors, FORECASTS, "forecast"))
    return out


def _fit_forecasts(
    seen: Sequence[Residuals], left_out: Sequence[Residuals], courses: Sequence[Residuals], was: F64
) -> F64:
    """Coefficients (FORECAST_TERMS,): of what is like the training's; then all of them wider, by how far ahead, so that
    they hold for the regions left out, too; then of told courses, of which nothing was left out, beyond all that, or as
    they were (`was`) without any.

    Wider by nothing else: what two regions say of cadences and speeds holds in no third. With all terms fitted to both,
    `small`'s 90 % regions were off by as much (2.7 points, 22 horizons of six test splits, 2026-11-27), and CRPS was 3
    to 5 % higher in Beijing at 60 s and more, where this costs 0.4 to 0.9 %.
    """
    plain = FORECAST_TERMS - COURSE_TERMS
    fit = np.zeros(FORECAST_TERMS)
    fit[:plain] = fit_quantile([_beyond(part, fit, slice(plain)) for part in seen])
    if left_out:
        fit[:WIDER] += fit_quantile([_beyond(part, fit, slice(WIDER)) for part in (*seen, *left_out)])
    fit[plain:] = fit_quantile([_beyond(part, fit, slice(plain, None)) for part in courses]) if courses else was[plain:]
    return fit


def _beyond(part: Residuals, fit: F64, terms: slice) -> Residuals:
    """What a calibration leaves to those terms of another."""
    return Residuals(part.terms[:, terms], part.mahalanobis2 * np.exp(-part.terms @ fit))


def _fit_gaps(gaps: Sequence[Gaps], was: F64) -> F64 | None:
    """Coefficients (GAP_TERMS,), or None where no length has enough gaps. A curve over lengths needs three of them, the
    longest among them: beyond what it was fitted to it has been seen to leave its bounds. Else the one that was (`was`)
    is moved as a whole."""
    enough = np.sum([found.gaps for found in gaps], axis=0) >= FEW_GAPS
    parts = [found.errors for found in gaps if found.errors.n]
    if not enough.any():
        return None
    if enough[-1] and enough.sum() >= 3:
        return fit_quantile(parts)
    moved = was.copy()
    moved[:1] += fit_quantile([_beyond(part, was, slice(1)) for part in parts])
    return moved


def _uncalibrated(network: Network) -> Predictor:
    network.calibration.forecast.zero_()
    network.calibration.gap.zero_()
    network.calibration.travel.zero_()
    return Predictor(network, name=network.config.name)


def fit_quantile(parts: Sequence[Residuals], share: float = SHARE) -> F64:
    """Coefficients (P,) of log(quantile of the Mahalanobis lengths / a Gaussian's). Parts of FULL_WEIGHT errors or
    more weigh alike."""
    terms = np.concatenate([part.terms for part in parts])
    target = np.log(np.concatenate([part.mahalanobis2 for part in parts]).clip(MIN_SURPRISE)) - np.log(CHI2_90)
    weight = np.concatenate([np.full(part.n, 1.0 / max(part.n, FULL_WEIGHT)) for part in parts])
    return fit_line(terms, target, share, weight)
