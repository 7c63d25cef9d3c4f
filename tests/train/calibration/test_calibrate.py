"""Calibration: the 90 % regions hold 90 % of what it was fitted on, part by part, and the weights remember it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from train_worlds import MakeCorpus, MakeSample, fleet, following, lively, together, wander

from model.api import ModelConfig
from model.config import SMALL
from model.kinematics import motion
from model.kinematics.calibration_terms import COURSE_TERMS, GAP_TERMS, MAX_LOG_SCALE, forecast_terms
from model.network.calibration import CHI2_90, Calibration
from model.network.checkpoint import from_pretrained, save_pretrained
from train.calibration.calibrate import FEW_REPORTED, FORECASTS, WIDER, CoverageChange, LeftOut, calibrate, fit_quantile
from train.calibration.residuals import CADENCES_S, HORIZONS_S, Residuals, thin_tracks
from train.data.anchors import find_anchors
from train.data.cutting import EVALUATION
from train.evaluation.forecasts import Sample, judge_forecasts

TINY = ModelConfig(d=16, heads=2, window=16)


def test_the_fitted_quantile_is_exceeded_by_one_in_ten() -> None:
    """Errors whose spread grows with x: one factor for all x would be right on average and wrong at both ends."""
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 2, 40_000)
    true = np.exp(0.3 + 0.8 * x)
    lengths = true * rng.chisquare(2, len(x))
    fit = fit_quantile([Residuals(np.stack([np.ones_like(x), x], axis=1), lengths)])
    np.testing.assert_allclose(fit, [0.3, 0.8], atol=0.05)
    inside = lengths <= CHI2_90 * np.exp(np.stack([np.ones_like(x), x], axis=1) @ fit)
    for low in (0.0, 1.0):
        assert inside[(x >= low) & (x < low + 1)].mean() == pytest.approx(0.9, abs=0.01)


def test_a_small_file_weighs_as_much_as_a_large_one() -> None:
    """Two files that want factors of 1 and 4: the quantile between them does not follow the number of rows."""
    rng = np.random.default_rng(1)
    large = Residuals(np.ones((50_000, 1)), rng.chisquare(2, 50_000))
    small = Residuals(np.ones((1_000, 1)), 4 * rng.chisquare(2, 1_000))
    factor = np.exp(fit_quantile([large, small])[0])
    both = [float((part.mahalanobis2 <= CHI2_90 * factor).mean()) for part in (large, small)]
    assert np.mean(both) == pytest.approx(0.9, abs=0.01)


def test_a_handful_of_errors_does_not_outvote_a_file() -> None:
    rng = np.random.default_rng(2)
    file = Residuals(np.ones((50_000, 1)), rng.chisquare(2, 50_000))
    handful = Residuals(np.ones((40, 1)), 4 * rng.chisquare(2, 40))
    assert file.coverage(fit_quantile([file, handful])) == pytest.approx(0.9, abs=0.02)


def test_what_regions_held_is_told_in_words() -> None:
    assert "of 5 forecasts of 3 entities 90 % regions held" in str(CoverageChange("a.csv", 3, FORECASTS, 5, 0.8, 0.9))


def test_weights_that_were_never_calibrated_change_nothing() -> None:
    factor = Calibration().of_forecast(
        motion.fresh(SMALL, (3,)), np.array([[1.0, 60.0, 900.0]] * 3), np.array([False, True, True])
    )
    np.testing.assert_array_equal(factor, 1.0)


def test_no_factor_leaves_its_bounds() -> None:
    calibration = Calibration()
    calibration.forecast.fill_(1e6)
    kin = motion.fresh(SMALL, (2,))
    asked = kin, np.array([[1e-3, 1e9]] * 2), np.array([False, True])
    factor = calibration.of_forecast(*asked)
    assert np.isfinite(forecast_terms(*asked)).all()
    assert (factor <= np.exp(MAX_LOG_SCALE)).all()


def test_calibrated_regions_hold_what_they_promise_and_are_saved_with_the_weights(
    make_sample: MakeSample, tmp_path: Path
) -> None:
    sample, predictor = make_sample(fleet(12, 90)), lively(TINY)
    before = judge_forecasts(sample, predictor)["horizons"]
    calibrate(predictor.net, [sample])
    after = judge_forecasts(sample, following(predictor.net))["horizons"]
    for name in ("next", "60", "300"):
        assert after[name]["model"]["coverage_90"] == pytest.approx(0.9, abs=0.06)
    assert any(abs(before[name]["model"]["coverage_90"] - 0.9) > 0.06 for name in after)
    assert after["300"]["model"]["mean_m"] == before["300"]["model"]["mean_m"]  # only spreads move
    save_pretrained(predictor.net, tmp_path / "w", "card")
    torch.testing.assert_close(from_pretrained(tmp_path / "w").calibration.forecast, predictor.net.calibration.forecast)


def test_what_was_held_is_what_the_judge_sees(make_sample: MakeSample) -> None:
    sample, predictor = make_sample(fleet(12, 90)), lively(TINY)

    def judged() -> float:
        blocks = judge_forecasts(sample, following(predictor.net), horizons_s=HORIZONS_S)["horizons"].values()
        return sum(one["n"] * one["model"]["coverage_90"] for one in blocks) / sum(one["n"] for one in blocks)

    before = judged()
    ahead, _ = calibrate(predictor.net, [sample])
    assert (ahead.file, ahead.entities, ahead.of) == ("world", 12, "forecasts")
    assert ahead.before == pytest.approx(before, abs=1e-3)
    assert ahead.after == pytest.approx(judged(), abs=1e-3)
    again, _ = calibrate(predictor.net, [sample])
    assert again.before == ahead.after


# Vehicles, pings of each, their cadence, and how many coefficients are fitted to them.
@pytest.mark.parametrize(
    ("vehicles", "pings", "cadence_s", "fitted"),
    [
        (1, 24, 9, 0),  # a gap or two
        (30, 70, 9, 1),  # ten minutes of each: three lengths, but not the longest
        (40, 40, 200, 1),  # who reports every three minutes: two lengths, the longest among them
        (40, 240, 9, GAP_TERMS),
        (40, 90, 60, GAP_TERMS),  # who reports each minute has no gaps of 30 s
    ],
)
def test_as_much_is_fitted_to_gaps_as_there_are_lengths_of_them(
    make_sample: MakeSample, vehicles: int, pings: int, cadence_s: float, fitted: int
) -> None:
    """One vehicle's 24 pings, none of them in a gap over 5 minutes, made the covariance at 15 minutes a seventh."""
    predictor, said = lively(TINY), list[str]()
    gap = predictor.net.calibration.gap
    gap.fill_(0.25)
    held = calibrate(predictor.net, [make_sample(fleet(vehicles, pings, cadence_s=cadence_s))], say=said.append)
    assert any(line.startswith("gap fills stay as they were") for line in said) == (fitted == 0)
    assert int((gap != 0.25).sum()) == fitted
    assert [one.of for one in held] == ["forecasts", "hidden pings"][: 1 + bool(fitted)]
    if fitted:
        (hidden,) = (one for one in held if one.of == "hidden pings")
        assert hidden.after == pytest.approx(0.9, abs=0.03)


def test_a_calibration_does_not_depend_on_the_one_of_before(make_sample: MakeSample) -> None:
    """The errors that it is fitted to are those of the bare network. Fitted to answers that an old factor has widened,
    the new one would be too narrow by just that factor."""
    sample, predictor = make_sample(fleet(40, 240, cadence_s=9.0)), lively(TINY)
    calibration = predictor.net.calibration
    fits = []
    for before in (0.0, 0.7):
        for part in (calibration.forecast, calibration.gap):
            part.fill_(before)
        assert {FORECASTS, "hidden pings"} <= {one.of for one in calibrate(predictor.net, [sample])}
        fits.append(torch.cat([calibration.forecast[:-COURSE_TERMS], calibration.gap]))
    assert torch.equal(*fits)
    assert fits[0][-GAP_TERMS:].all()


def test_a_region_left_out_widens_what_the_others_ask_for(make_sample: MakeSample) -> None:
    """The same tracks as two networks see them, one of them surer: what is asked for lies between."""
    sample, predictor, other = make_sample(fleet(12, 90)), lively(TINY), lively(TINY)
    with torch.no_grad():
        other.net.forecast.last.bias[4] -= 0.7  # of the log of the variance
        other.net.calibration.forecast.fill_(1.0)  # its own, which is not what these weights have
    calibrate(predictor.net, [sample])
    alone = predictor.net.calibration.forecast.clone()
    held = calibrate(predictor.net, [sample], left_out=[LeftOut(other.net, replace(sample, file="far"))])
    own, far = held[0], held[-1]
    assert (far.file, far.of, far.n) == ("far, left out", "forecasts", own.n)
    assert far.before + 0.1 < far.after < 0.9 < own.after
    wider = predictor.net.calibration.forecast
    assert not torch.equal(wider[:WIDER], alone[:WIDER])
    assert torch.equal(wider[WIDER:], alone[WIDER:])
    assert (own.after + far.after) / 2 == pytest.approx(0.9, abs=0.01)


def test_added_courses_are_calibrated_beyond_the_rest(make_sample: MakeSample, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of pings so dense that most of the thinned ones get a course; what reports none is held as if nothing did."""
    sample, predictor = make_sample(fleet(12, 450, cadence_s=5.5)), lively(TINY)
    forecast = predictor.net.calibration.forecast
    held = {one.file: one for one in calibrate(predictor.net, [sample]) if one.of == "forecasts"}
    assert list(held) == ["world", "world, with added speed and course"]
    added = held["world, with added speed and course"]
    asked = 0
    for cadence_s in CADENCES_S:
        thin = thin_tracks(sample.corpus, cadence_s)
        anchors = find_anchors(thin, HORIZONS_S)
        asked += int((anchors.target >= 0).sum(1)[~np.isnan(thin.heading_deg[anchors.row])].sum())
    assert 0.97 * asked < added.n < asked  # some are in doubt
    assert added.n > FEW_REPORTED
    assert added.after == pytest.approx(0.9, abs=0.02)
    assert added.before != pytest.approx(0.9, abs=0.05)
    fitted = forecast.clone()
    assert fitted[-COURSE_TERMS:].all()
    monkeypatch.setattr("train.calibration.residuals.CADENCES_S", ())
    forecast[-COURSE_TERMS:] = 0.25
    said: list[str] = []
    silent, *rest = calibrate(predictor.net, [sample], say=said.append)
    assert [one.of for one in rest] == ["hidden pings"]
    assert sum(line.startswith("reported courses stay as they were") for line in said) == 1
    assert silent.after == held["world"].after
    assert torch.equal(forecast[:-COURSE_TERMS], fitted[:-COURSE_TERMS])
    assert (forecast[-COURSE_TERMS:] == 0.25).all()  # nothing reports any: they stay as they were


def test_what_reports_its_own_course_gets_none(make_sample: MakeSample) -> None:
    """And what it reports is held by its own terms."""
    sample, predictor = make_sample(fleet(12, 600, cadence_s=3.0)), lively(TINY)
    ahead, *rest = calibrate(predictor.net, [replace(sample, corpus=thin_tracks(sample.corpus, 1.0))])
    assert [one.of for one in rest] == ["hidden pings"]
    assert ahead.after == pytest.approx(0.9, abs=0.01)
    assert predictor.net.calibration.forecast[-COURSE_TERMS:].all()


@pytest.mark.parametrize(("dense", "sparse"), [(1, 0), (0, 40), (4, 40)])
def test_too_few_reported_courses_change_nothing(make_sample: MakeSample, dense: int, sparse: int) -> None:
    """Those of one vehicle; none, of a fleet whose pings are too far apart to know any; and of a few of a fleet."""
    tracks = [wander(f"v{i}", 600, i, cadence_s=3.0) for i in range(dense)]
    tracks += [wander(f"w{i}", 90, i) for i in range(sparse)]
    predictor = lively(TINY)
    forecast = predictor.net.calibration.forecast
    forecast.fill_(0.25)
    held = calibrate(predictor.net, [make_sample(together(*tracks))])
    assert "world, with added speed and course" not in {one.file for one in held}
    assert ((forecast == 0.25) == torch.tensor([False] * (len(forecast) - COURSE_TERMS) + [True] * COURSE_TERMS)).all()


def test_who_gets_a_course_is_counted_among_tracks_of_any_length(make_corpus: MakeCorpus) -> None:
    """Of a file's tracks those that are judged here: neither others' headings nor short tracks' silence matter."""
    tracks = [wander(f"v{i}", 450, i, cadence_s=3.0) for i in range(8)]
    tracks += [wander(f"w{i}", 12, i, cadence_s=8.0) for i in range(200)]  # too short to be thinned
    tracks += [wander("other", 400, 99, cadence_s=3.0)]
    corpus = make_corpus(together(*tracks), cut=EVALUATION)
    heading = corpus.heading_deg.copy()
    first, last = corpus.tracks[0]  # by name the first entity is "other"
    heading[first:last] = 90.0
    corpus = replace(corpus, heading_deg=heading, speed_mps=np.where(np.isnan(heading), heading, np.float32(5)))
    sample = Sample("world", "all", "-", corpus.select(np.arange(len(corpus)) > 0), len(corpus) - 1, 1)
    ahead, added = (one for one in calibrate(lively(TINY).net, [sample]) if one.of == "forecasts")
    assert (ahead.entities, added.entities) == (208, 8)


def test_where_some_drive_only_they_get_a_course(make_sample: MakeSample) -> None:
    everyone = make_sample(fleet(12, 600, cadence_s=3.0))
    driven = everyone.corpus.select(np.arange(len(everyone.corpus)) % 2 == 0)
    driven = replace(everyone, file="world by road", corpus=driven)
    files = {one.file for one in calibrate(lively(TINY).net, [everyone, driven]) if one.of == "forecasts"}
    assert files == {"world", "world by road", "world by road, with added speed and course"}
