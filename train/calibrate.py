"""Fits model.calibration on tracks that training never saw, every file weighing alike, but for those that hardly say
anything. Draws no batch.

The factor is wanted such that 90 % of the errors fall inside the 90 % region: linear quantile regression of the log of
the squared Mahalanobis lengths, by iteratively reweighted least squares (Hunter & Lange, "Quantile Regression via an MM
Algorithm", 2000), which needs no solver and is deterministic.

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
from numpy.typing import NDArray

from model import features
from model.api import Predictor
from model.calibration import (
    CHI2_90,
    COURSE_TERMS,
    FORECAST_TERMS,
    GAP_TERMS,
    MAX_LOG_SCALE,
    TRAVEL_TERMS,
    forecast_terms,
    gap_terms,
    travel_terms,
)
from model.geo import F64, haversine_m
from model.network import Network
from model.queries import travel_base_log_s
from train import anchors as anchoring
from train import eta, gapfill
from train.data import Reading, silent
from train.evaluate import ROAD, NoTracks, Part, Sample, error_en_m, errors_en_m, open_samples
from train.receivers import thinned
from train.score import mahalanobis2
from train.sources import Source
from train.walk import MODEL, walk

FORECASTS, HIDDEN, TRIPS = "forecasts", "hidden pings", "travel times"
TOLD = "told speed and course"  # of a file that tells none
BY_ROAD = " by road"
SHARE: Final = 0.9
FEW_GAPS: Final = 20  # of one length: below it their 90 % quantile is one or two gaps
FEW_TRIPS: Final = 50  # for three coefficients
TRAVELLED: Final = (0, 4)  # after which pings of a trip its end is asked for: the first, and the fifth of nine or more
WIDER: Final = 2  # of model.calibration's terms: the first, and the slope over the log of how far ahead
FEW_TOLD: Final = 1_000  # forecasts where a course was told, for four coefficients
CADENCES_S: Final = (15.0, 60.0)  # to which dense pings are thinned that are told a course
FULL_WEIGHT: Final = 1_000  # errors: of fewer a file weighs less, so that a vehicle's hour does not outvote a fleet
MOST_ANCHORS: Final = 15_000  # per file: what 90 % regions hold is then known to 0.3 points, were they independent
ROUNDS: Final = 200  # of reweighting; the coefficients move by under 1e-4 after some 60
RIDGE: Final = 1e-3  # against terms that one file alone cannot tell apart
MIN_SURPRISE: Final = 1e-6  # a parked car hits to the centimetre: its log has no floor of its own
# Also asked for, so that the curve is held between the judged horizons.
HORIZONS_S: Final = (*anchoring.HORIZONS_S, 20.0, 150.0, 1200.0)


class Surprises(NamedTuple):
    """N errors of one file: terms (N, P) and squared Mahalanobis lengths (N,), or what stands for these: what 90 % of
    are below CHI2_90 if the spread is right, and which falls with the square of the spread.
    """

    terms: F64
    mahalanobis2: F64

    @property
    def n(self) -> int:
        return len(self.mahalanobis2)

    @property
    def tells(self) -> NDArray[np.bool_]:
        """Of forecasts: where a course was told (N,)."""
        return np.asarray(self.terms[:, -COURSE_TERMS] > 0)

    def where(self, chosen: NDArray[np.bool_]) -> Surprises:
        """Those of the N that are chosen (N,)."""
        return Surprises(self.terms[chosen], self.mahalanobis2[chosen])

    def held(self, coefficients: F64) -> float:
        """The share inside of 90 % regions that are calibrated so."""
        log_scale = np.clip(self.terms @ coefficients, -MAX_LOG_SCALE, MAX_LOG_SCALE)
        return float((self.mahalanobis2 <= CHI2_90 * np.exp(log_scale)).mean())


class Gaps(NamedTuple):
    """Errors of one file's gap fills."""

    errors: Surprises
    gaps: NDArray[np.int64]  # of each judged length: how many


class Told(NamedTuple):
    """Errors of one file's forecasts where pings were told a course that the file does not tell."""

    errors: Surprises
    entities: int


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
        return (
            f"{self.file}: of {self.n:,} {self.of} of {self.entities:,} entities 90 % regions held {self.before:.1%}, "
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
        seen.append(_of_forecasts(sample, predictor))
        mute = not seen[-1].tells.any() and (sample.file, sample.fingerprint) not in driven
        told.append(_of_told(sample, predictor) if mute else None)
        gaps.append(_of_gaps(sample, predictor, most_gaps))
        trips.append(_of_travel_times(sample, predictor))
    for other, sample in left_out:
        say(f"calibrating on {sample.file}, left out")
        far.append(_of_forecasts(sample, _uncalibrated(other)))
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

    def held(sample: Sample, errors: Surprises, of: str, part: str) -> Held:
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
    seen: Sequence[Surprises], left_out: Sequence[Surprises], courses: Sequence[Surprises], was: F64
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


def _beyond(part: Surprises, fit: F64, terms: slice) -> Surprises:
    """What a calibration leaves to those terms of another."""
    return Surprises(part.terms[:, terms], part.mahalanobis2 * np.exp(-part.terms @ fit))


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


def fit_quantile(parts: Sequence[Surprises], share: float = SHARE) -> F64:
    """Coefficients (P,) of log(quantile of the Mahalanobis lengths / a Gaussian's). Parts of FULL_WEIGHT errors or
    more weigh alike."""
    terms = np.concatenate([part.terms for part in parts])
    target = np.log(np.concatenate([part.mahalanobis2 for part in parts]).clip(MIN_SURPRISE)) - np.log(CHI2_90)
    weight = np.concatenate([np.full(part.n, 1.0 / max(part.n, FULL_WEIGHT)) for part in parts])
    weight = weight / weight.sum()
    fit = np.zeros(terms.shape[1])
    fit[0] = np.quantile(target, share)
    ridge = RIDGE * np.eye(len(fit))
    ridge[0, 0] = 0.0
    for _ in range(ROUNDS):
        off = target - terms @ fit
        # The pinball loss |off|·(share or 1 − share) as a parabola that touches it at the present residual.
        bend = weight / np.maximum(np.abs(off), 1e-3)
        left = (terms * bend[:, None]).T @ terms + ridge
        right = (terms * bend[:, None]).T @ target + (2 * share - 1) * (terms * weight[:, None]).sum(0)
        fit = np.linalg.solve(left, right)
    return np.asarray(fit)


def _of_forecasts(sample: Sample, predictor: Predictor) -> Surprises:
    corpus = sample.corpus
    anchors = anchoring.find(corpus, HORIZONS_S)
    walked = walk(corpus, anchors, [], predictor)
    answer = walked.answers[MODEL]
    row, column = np.nonzero(anchors.target >= 0)
    assert answer.cov_m2 is not None  # a model always has one
    assert walked.kin is not None
    error = errors_en_m(corpus, anchors, answer, row, column)
    course = features.tells_course(walked.kin, features.context(corpus.fixes(anchors.row)))
    terms = forecast_terms(walked.kin[row], anchors.dt_s[row, column][:, None], course[row])[:, 0]
    return Surprises(terms, mahalanobis2(error, answer.cov_m2[row, column]))


def _of_told(sample: Sample, predictor: Predictor) -> Told | None:
    """The same of thinned pings, where they are told a course; None of tracks so sparse that most pings cannot be: what
    is told in bursts alone says little of receivers.
    """
    parts, entities = [], []
    for cadence_s in CADENCES_S:
        corpus = thinned(sample.corpus, cadence_s)
        heading = [corpus.heading_deg[first:last] for first, last in corpus.tracks]
        if heading and np.isnan(np.concatenate(heading)).mean() <= 0.5:
            found = _of_forecasts(replace(sample, corpus=corpus), predictor)
            parts.append(found.where(found.tells))
            entities.append(corpus.entity)
    if not parts:
        return None
    errors = Surprises(*(np.concatenate(column) for column in zip(*parts, strict=True)))
    return Told(errors, len(np.unique(np.concatenate(entities))))


def _of_gaps(sample: Sample, predictor: Predictor, most: int) -> Gaps:
    corpus, known = sample.corpus, []
    terms, lengths = [np.empty((0, GAP_TERMS))], [np.empty(0)]
    for block_s in gapfill.BLOCKS_S:
        hidden = gapfill.evenly(gapfill.hide_blocks(corpus, block_s), most)
        known.append(len(hidden.before))
        if not known[-1]:
            continue
        answer = gapfill.answer(corpus, hidden, predictor)[MODEL]
        assert answer.cov_m2 is not None
        counts = hidden.after - hidden.before - 1
        row = np.concatenate([np.arange(a + 1, b) for a, b in zip(hidden.before, hidden.after, strict=True)])
        first = np.repeat(hidden.before, counts)
        gap_s = (corpus.ts_ms[hidden.after] - corpus.ts_ms[hidden.before]) / 1000.0
        t_s = (corpus.ts_ms[row] - corpus.ts_ms[first]) / 1000.0
        error = error_en_m(corpus.lat[row], corpus.lon[row], answer.lat, answer.lon, corpus.lat[first])
        terms.append(gap_terms(np.repeat(gap_s, counts), t_s[:, None])[:, 0])
        lengths.append(mahalanobis2(error, answer.cov_m2))
    return Gaps(Surprises(np.concatenate(terms), np.concatenate(lengths)), np.array(known))


def _of_travel_times(sample: Sample, predictor: Predictor) -> Surprises:
    corpus = eta.long_enough(sample.corpus)
    trips, (first, stop) = eta.trips(corpus), corpus.tracks.T
    terms, lengths = [np.empty((0, TRAVEL_TERMS))], [np.empty(0)]
    slots = predictor.acquire(len(corpus))
    for ping in range(max(TRAVELLED) + 1 if len(corpus) else 0):
        here = first + ping
        predictor.advance(slots, corpus.fixes(here))
        if ping not in TRAVELLED:
            continue
        far = haversine_m(corpus.lat[here], corpus.lon[here], trips.lat, trips.lon)
        asks = far >= eta.TRIP_M
        answer = predictor.travel_time(slots[asks], trips.lat[asks], trips.lon[asks])
        seconds = (corpus.ts_ms[stop - 1] - corpus.ts_ms[here])[asks] / 1000.0
        half = np.log(answer.high_s / answer.low_s) / 2.0  # of the log's 90 % interval
        terms.append(travel_terms(predictor.moment(slots[asks]).kin, travel_base_log_s(far[asks])[:, None])[:, 0])
        lengths.append(CHI2_90 * (np.log(seconds / answer.median_s) / half) ** 2)
    predictor.release(slots)
    return Surprises(np.concatenate(terms), np.concatenate(lengths))
