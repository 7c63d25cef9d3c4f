"""Forecasts judged end to end in worlds whose errors are known."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from train_worlds import MakeCorpus, MakeSample, WriteFile, fleet, lively, together, track, wander

from model.api import ModelConfig, Predictor
from model.kinematics.baselines import FORECASTS
from model.kinematics.filters import FITTED, WINDOW, FittedKalman, Kinematic
from model.kinematics.imm import IMM, Imm
from train.data.anchors import find_anchors
from train.data.cutting import EVALUATION
from train.evaluation import rollout as walking
from train.evaluation.forecasts import (
    Sample,
    compare_crps,
    error_en_m,
    errors_en_m,
    find_worse_strata,
    judge_forecasts,
    open_samples,
)
from train.evaluation.metrics import Cases
from train.evaluation.report import print_report
from train.evaluation.rollout import MODEL, Answers, roll_along

SMALL = ModelConfig(d=16, heads=2, window=16)
FOLLOWERS = [Kinematic(SMALL), FittedKalman(replace(SMALL, accel_psd=2.0)), Imm.around(SMALL)]


def test_on_a_straight_road_constant_velocity_is_exact_and_staying_is_off_by_the_way(make_sample: MakeSample) -> None:
    minutes = [60.0 * i for i in range(40)]
    report = judge_forecasts(make_sample(track("a", minutes, [10.0 * t for t in minutes])), None)
    # Of 300 s, 27 targets are exact and the last is as near as a fifth allows: the real time counts.
    for horizon, mean_s in (("next", 60.0), ("60", 60.0), ("300", (27 * 300 + 240) / 28)):
        block = report["horizons"][horizon]
        assert block["constant_velocity"]["mean_m"] < 0.2  # 1e-7 deg of the fixes, extrapolated
        assert block["stay"]["mean_m"] == pytest.approx(10 * mean_s, rel=1e-4)
        assert block["constant_velocity"]["coverage_50"] == 1.0
    assert report["horizons"]["next"]["n"] == report["anchors"] == 31
    far = report["horizons"]["900"]
    assert far["n"] == 40 - 8 - 12
    assert far["stay"]["mean_m"] == pytest.approx(10 * np.mean([900] * 17 + [840, 780, 720]), rel=1e-4)


def test_a_covariance_is_held_against_metres_at_any_latitude(make_sample: MakeSample) -> None:
    minutes = [60.0 * i for i in range(20)]
    tracks = [
        track("a", minutes, [4.0 * t + 90 * (-1) ** i for i, t in enumerate(minutes)], lat=lat) for lat in (1, 65)
    ]
    low, high = (judge_forecasts(make_sample(each), None)["horizons"]["next"]["constant_velocity"] for each in tracks)
    assert high["crps_m"] == pytest.approx(low["crps_m"], rel=0.005)
    assert high["mean_m"] == pytest.approx(low["mean_m"], rel=0.005)


def test_an_untrained_model_scores_as_the_kalman_filter(make_sample: MakeSample) -> None:
    judged = make_sample(together(wander("a", 60, 1), wander("b", 45, 2)))
    report = judge_forecasts(judged, Predictor.untrained(SMALL, capacity=4))
    assert report["fallbacks"] == 0
    for block in report["horizons"].values():
        assert block[MODEL]["mean_m"] == pytest.approx(block["kalman"]["mean_m"], rel=1e-3)
        assert block[MODEL]["coverage_90"] == pytest.approx(block["kalman"]["coverage_90"], abs=0.02)
        assert list(block)[2:9] == [MODEL, *FORECASTS, WINDOW, IMM]
    assert json.loads(json.dumps(report)) == report


def test_strata_are_parts_of_the_whole(make_sample: MakeSample) -> None:
    report = judge_forecasts(make_sample(together(wander("a", 80, 1), wander("b", 80, 2, cadence_s=4.0))), None)
    block = report["horizons"]["next"]
    motions = [block["strata"][name]["stay"] for name in ("moving", "turning", "stopped")]
    cadences = [block["strata"][name]["stay"] for name in ("cadence 0-10 s", "cadence 10-45 s")]
    for parts in (motions, cadences):
        assert sum(part["n"] for part in parts) == block["n"]
        total = sum(part["n"] * part["mean_m"] for part in parts)
        assert total == pytest.approx(block["n"] * block["stay"]["mean_m"])


def test_pieces_and_batches_change_no_answer(make_corpus: MakeCorpus, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fast path (pieces side by side) against the slow one (each track from its start, alone)."""
    predictor = lively(SMALL, precision="float32")  # int8 may round a number the other way that moved by 1e-7
    length = 2 * predictor.history + 50
    corpus = make_corpus(together(*(wander(f"v{i}", length - 40 * i, i) for i in range(3))), cut=EVALUATION)
    anchors = find_anchors(corpus)
    monkeypatch.setattr(walking, "PIECE", 10**9)
    monkeypatch.setattr(walking, "ROWS", 1)
    whole = roll_along(corpus, anchors, FOLLOWERS, predictor)
    monkeypatch.setattr(walking, "PIECE", 37)
    monkeypatch.setattr(walking, "ROWS", 5)
    pieces = roll_along(corpus, anchors, FOLLOWERS, predictor)
    moved = np.abs(whole.answers[MODEL].lat - whole.answers["kalman"].lat).max()
    assert moved > 1e-5  # the model does say something of its own
    for name, answer in whole.answers.items():
        np.testing.assert_allclose(pieces.answers[name].lat, answer.lat, atol=3e-8)
        np.testing.assert_allclose(pieces.answers[name].lon, answer.lon, atol=3e-8)
        # Random weights make up to a percent of a covariance out of a last bit of float32, once in some 60,000 numbers.
        np.testing.assert_allclose(pieces.answers[name].cov_m2, answer.cov_m2, rtol=2e-2, atol=1e-2)
    np.testing.assert_allclose(pieces.kin, whole.kin, atol=1e-6)


def test_the_next_ping_is_expected_as_the_stream_would_be_told(make_corpus: MakeCorpus) -> None:
    """Ping by ping, each track alone; and what is made of it is held against the last intervals."""
    parts = [wander(f"e{i}", 14 + 3 * i, i) for i in range(3)]
    later = wander("e0", 20, 7, start_ms=max(parts[0]["t"]) + 3_600_000)  # another track of the first
    corpus = make_corpus(together(*parts, later), cut=EVALUATION)
    predictor = lively(SMALL)
    anchors = find_anchors(corpus)
    walked = roll_along(corpus, anchors, FOLLOWERS, predictor)
    told_s, expected, kin = walked.next_s, {}, {}
    for first, last in corpus.tracks:
        slot = predictor.acquire(1)
        for row in range(first, last - 1):
            predictor.advance(slot, corpus.fixes(np.array([row])))
            expected[row] = predictor.forecast(slot, np.array([60.0])).next_dt_s[0]
            kin[row] = predictor.moment(slot).kin[0]
        predictor.release(slot)
    assert told_s is not None
    np.testing.assert_allclose(told_s, [expected[row] for row in anchors.row], rtol=1e-4)
    assert walked.kin is not None
    np.testing.assert_allclose(walked.kin, [kin[row] for row in anchors.row], rtol=1e-9)
    assert roll_along(corpus, anchors, FOLLOWERS)[1:3] == (None, None)
    report = judge_forecasts(Sample("f", "all", "", corpus, 3, 1), predictor)["next_interval"]
    last, true = ((corpus.ts_ms[anchors.row + at] - corpus.ts_ms[anchors.row + at - 1]) / 1000.0 for at in (0, 1))
    eight = np.array([np.median(np.diff(corpus.ts_ms[row - 8 : row + 1])) for row in anchors.row]) / 1000.0
    for name, told in (("model", told_s), ("last interval again", last), ("median of the last 8 intervals", eight)):
        assert report[name]["factor"] == pytest.approx(np.exp(np.abs(np.log(told / true)).mean()), rel=1e-4)
        assert (report[name]["n"], report[name]["entities"]) == (len(anchors.row), 3)
        assert report[name]["low"] < report[name]["factor"] < report[name]["high"]
    assert "next_interval" not in judge_forecasts(Sample("f", "all", "", corpus, 3, 1), None)


def test_a_record_is_read_at_the_time_when_the_next_ping_came(make_sample: MakeSample) -> None:
    """A thing that goes straight and reports when it likes: the position of `next` is for another time."""
    rng = np.random.default_rng(0)
    tracks = []
    for i in range(4):
        times_s = np.cumsum(10.0 * np.exp(rng.normal(0, 0.4, 120))).tolist()
        tracks.append(track(f"v{i}", times_s, [10.0 * t for t in times_s]))
    judged = make_sample(together(*tracks))
    predictor = Predictor.untrained(SMALL, capacity=4)
    report = judge_forecasts(judged, predictor)
    read, exact = report["next_from_record"], report["horizons"]["next"][MODEL]
    anchors = find_anchors(judged.corpus)
    walked = roll_along(judged.corpus, anchors, [], predictor, recorded=True)
    assert walked.recorded is not None
    naive_m = np.abs(10.0 * (walked.recorded.at_s[:, 0] - anchors.dt_s[:, 0])).mean()
    assert read["mean_m"] < 0.3 * naive_m
    assert read["mean_m"] == pytest.approx(exact["mean_m"], rel=0.5)
    assert (read["n"], read["entities"]) == (exact["n"], 4)
    assert read["model_vs_best"]["difference_m"] == pytest.approx(
        read["mean_m"] - report["horizons"]["next"][read["model_vs_best"]["baseline"]]["mean_m"]
    )
    inside = (walked.recorded.early_s <= anchors.dt_s[:, 0]) & (anchors.dt_s[:, 0] <= walked.recorded.late_s)
    assert report["next_interval"][MODEL]["holds_90"] == pytest.approx(inside.mean())
    assert "next_from_record" not in judge_forecasts(judged, None)


def test_what_is_recorded_is_what_a_worker_would_publish(make_corpus: MakeCorpus) -> None:
    corpus = make_corpus(wander("a", 30, 1), cut=EVALUATION)
    predictor, anchors = lively(SMALL), find_anchors(corpus)
    plain, walked = (
        roll_along(corpus, anchors, [], predictor),
        roll_along(corpus, anchors, [], predictor, recorded=True),
    )
    np.testing.assert_allclose(walked.answers[MODEL].lat, plain.answers[MODEL].lat, atol=1e-7)
    assert plain.recorded is None
    assert walked.recorded is not None
    slot, first = predictor.acquire(1), corpus.tracks[0, 0]
    for row in range(first, anchors.row[5] + 1):
        predictor.advance(slot, corpus.fixes(np.array([row])))
    said = predictor.forecast(slot, walking.PUBLISHED_S)
    assert walked.recorded.at_s[5] == pytest.approx([said.next_dt_s[0], 60, 300, 900], rel=1e-4)
    assert walked.recorded.lat[5] == pytest.approx([said.next_lat[0], *said.lat[0]], abs=1e-6)
    assert walked.recorded.lon[5] == pytest.approx([said.next_lon[0], *said.lon[0]], abs=1e-6)
    ends_s = walked.recorded.early_s[5], walked.recorded.late_s[5]
    assert ends_s == pytest.approx((said.next_early_s[0], said.next_late_s[0]), rel=1e-4)


def test_the_future_does_not_reach_an_answer(make_corpus: MakeCorpus) -> None:
    """An anchor's answers are the same whatever comes after it, up to the times that are asked for."""
    columns = wander("a", 60, 5)
    other = {name: list(values) for name, values in columns.items()}
    other["lat"][40:] = [lat + 0.001 for lat in other["lat"][40:]]
    answers = []
    for number, each in enumerate((columns, other)):
        corpus = make_corpus(each, cut=EVALUATION, name=f"{number}.parquet")
        answers.append(roll_along(corpus, find_anchors(corpus), FOLLOWERS, lively(SMALL)).answers)
    for name in answers[0]:
        np.testing.assert_array_equal(answers[0][name].lat[: 40 - 8], answers[1][name].lat[: 40 - 8])
        assert (answers[0][name].lat[40 - 8 :] != answers[1][name].lat[40 - 8 :]).all()


def test_errors_are_metres_east_and_north_of_the_forecast() -> None:
    at = np.array([60.0, 60.0])
    error = error_en_m(at + np.array([0.001, 0.0]), np.array([10.0, -179.9995]), at, np.array([10.0, 179.9995]), at)
    np.testing.assert_allclose(error, [[0.0, 111.195], [55.597, 0.0]], atol=0.01)  # the short way over the antimeridian


def test_who_is_said_to_stay_is_off_by_the_way_east_and_north(make_corpus: MakeCorpus) -> None:
    minutes = [60.0 * i for i in range(40)]
    corpus = make_corpus(track("a", minutes, [10.0 * t for t in minutes], [-4.0 * t for t in minutes]), cut=EVALUATION)
    anchors = find_anchors(corpus)
    row, column = np.nonzero(anchors.target >= 0)
    here = (
        np.broadcast_to(degrees[anchors.row][:, None], anchors.target.shape) for degrees in (corpus.lat, corpus.lon)
    )
    error = errors_en_m(corpus, anchors, Answers(*here, None), row, column)
    np.testing.assert_allclose(error, anchors.dt_s[row, column][:, None] * [10.0, -4.0], rtol=2e-3)


def test_two_tracks_of_one_vehicle_are_one_entity(make_sample: MakeSample) -> None:
    """The interval is by vehicle, wherever its day was cut."""
    minutes = [60.0 * i for i in range(20)]
    judged = make_sample(track("a", [*minutes, *(7_200.0 + t for t in minutes)], [0.0] * 40))
    assert len(judged.corpus) == 2
    assert judge_forecasts(judged, None)["horizons"]["next"]["stay"]["entities"] == 1


def test_samples_are_of_the_asked_split_and_say_how_they_were_thinned(
    write_file: WriteFile, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of 100 places, 22 were judged by --max-anchors, with other ratios than all have, and nothing said 22 of 100."""
    path = write_file(together(*(wander(f"v{i:02}", 60, i) for i in range(40))))
    (everything,) = open_samples([path], "all", cache_dir=tmp_path / "cache")
    parts = [open_samples([path], part, cache_dir=tmp_path / "cache")[0] for part in ("train", "val", "test")]
    assert everything.tracks == 40
    assert sum(part.corpus.pings for part in parts) <= everything.corpus.pings
    assert len({part.fingerprint for part in parts}) == 1
    (thinned,) = open_samples([path], "all", cache_dir=tmp_path / "cache", most=510)
    assert (thinned.every, len(thinned.corpus)) == (4, 10)
    report = judge_forecasts(thinned, None)
    assert (report["tracks_in_split"], report["entities"], report["entities_in_split"]) == (40, 10, 40)
    print_report(report, "no model")
    said = capsys.readouterr().out
    assert "10 of 40 entities, 10 tracks (one in 4 of 40)" in said
    assert "--max-anchors left 10 of 40 entities; on all of them, ratios may be others" in said
    print_report(judge_forecasts(everything, None), "no model")
    said = capsys.readouterr().out
    assert "40 entities, 40 tracks," in said
    assert "--max-anchors" not in said


def test_modes_choose_among_the_tracks_of_a_split_and_move_none_to_another(
    write_file: WriteFile, tmp_path: Path
) -> None:
    late_ms = [1_211_018_404_000 + 14_400_000 * (i % 3 == 0) for i in range(40)]  # who walks is out in the evening
    tracks = [wander(f"v{i}", 60, i, start_ms=ms) for i, ms in enumerate(late_ms)]
    path = write_file({**together(*tracks), "mode": ["car" if i % 3 else "walk" for i in range(40) for _ in range(60)]})
    (whole,) = open_samples([path], "test", cache_dir=tmp_path / "cache")
    (cars,) = open_samples([path], "test", cache_dir=tmp_path / "cache", modes=["car"])
    driven = whole.corpus.mode == whole.corpus.modes.index("car")
    assert cars.corpus.tracks.tolist() == whole.corpus.tracks[driven].tolist()
    assert cars.train is not None
    assert {cars.train.modes[code] for code in cars.train.mode} == {"car"}  # what baselines are fitted to, too


def test_a_file_without_a_track_to_judge_says_so(write_file: WriteFile, tmp_path: Path) -> None:
    path = write_file(fleet(3, 9))
    with pytest.raises(ValueError, match=r"tracks\.parquet: no track in split test is long enough"):
        open_samples([path], "test", cache_dir=tmp_path / "cache")


def test_the_model_is_held_against_the_best_baseline_case_by_case(make_sample: MakeSample) -> None:
    judged = make_sample(fleet(4, 60))
    report = judge_forecasts(judged, Predictor.untrained(SMALL, capacity=4))
    for block in report["horizons"].values():
        scores = {
            name: score["mean_m"] for name, score in block.items() if isinstance(score, dict) and "p90_m" in score
        }
        against, model = block["model_vs_best"], scores.pop(MODEL)
        assert against["baseline"] == min(scores, key=lambda name: scores[name])
        assert against["difference_m"] == pytest.approx(model - min(scores.values()))
        assert against["low_m"] <= against["difference_m"] <= against["high_m"]
        assert block["crps_vs_kalman"]["ratio"] == pytest.approx(1.0, rel=1e-3)  # untrained, it is the filter
        crps = {name: block[name]["crps_m"] for name in scores}
        best = min(crps, key=lambda name: crps[name])
        assert block["crps_vs_best"] == {"baseline": best, "ratio": block[MODEL]["crps_m"] / crps[best]}
        observed = block["reliability"]["observed"]
        assert observed[MODEL][4] == pytest.approx(block[MODEL]["coverage_50"])
        assert all(shares == sorted(shares) for shares in observed.values())


def test_crps_is_held_against_the_least_of_a_baseline_a_point_s_among_them() -> None:
    """Against the Kalman filter alone a model looks good wherever that filter is bad; and of ships dead reckoning by
    what they report had 8.5 m where the least of those with a spread had 9.5.
    """

    def cases(mean_m: float, crps_m: float | None) -> Cases:
        return Cases(np.full(3, mean_m), None if crps_m is None else np.full(3, crps_m), None)

    judged = {MODEL: cases(6, 4), "kalman": cases(5, 8), IMM: cases(9, 5), "trees": cases(6, None)}
    assert compare_crps(judged) == {"baseline": IMM, "ratio": 0.8}
    assert compare_crps(judged | {"trees": cases(4.5, None)}) == {"baseline": "trees", "ratio": 4 / 4.5}


def test_a_stratum_where_a_baseline_is_better_is_listed_unless_it_is_small() -> None:
    """Of motion, too: what stands still was left out of the list once, and a fitted baseline was better there."""

    def scores(n: int, model: float, other: float) -> dict[str, dict[str, float]]:
        return {name: {"n": n, "mean_m": mean} for name, mean in ((MODEL, model), ("stay", 9.0), ("kalman", other))}

    strata = {
        "cadence 0-10 s": scores(1_000, 6.0, 5.0),
        "cadence 10-45 s": scores(999, 6.0, 5.0),
        "cadence 45-90 s": scores(2_000, 4.0, 5.0),
        "moving": scores(5_000, 4.0, 5.0),
        "stopped": scores(5_000, 6.0, 5.0) | {"trees": {"n": 5_000, "mean_m": 4.5}},
    }
    worse = find_worse_strata({"60": {"strata": strata}})
    listed = [(one["horizon"], one["stratum"], one["baseline"]) for one in worse]
    assert listed == [("60", "cadence 0-10 s", "kalman"), ("60", "stopped", "trees")]


def test_fitted_followers_stand_beside_the_others_and_replace_their_namesakes(make_sample: MakeSample) -> None:
    judged = make_sample(wander("a", 60, 1))
    plain = judge_forecasts(judged, None)["horizons"]["60"]
    other = Imm.around(replace(SMALL, accel_psd=50.0))
    fitted = judge_forecasts(judged, None, fitted=[FittedKalman(SMALL), other])["horizons"]["60"]
    assert fitted["kalman_fitted"] == plain["kalman"]
    assert fitted[IMM] != plain[IMM]
    assert fitted["stay"] == plain["stay"]


def test_the_model_s_crps_is_held_against_the_fitted_filter_where_there_is_one(make_sample: MakeSample) -> None:
    judged, poor = make_sample(wander("a", 60, 1)), FittedKalman(replace(SMALL, accel_psd=50.0))
    for fitted, reference in (((), "kalman"), ((poor,), FITTED)):
        block = judge_forecasts(judged, Predictor.untrained(SMALL, capacity=4), fitted=fitted)["horizons"]["300"]
        assert block["crps_vs_kalman"]["reference"] == reference
        assert block["crps_vs_kalman"]["ratio"] == block[MODEL]["crps_m"] / block[reference]["crps_m"]
    assert block["crps_vs_kalman"]["ratio"] < 0.95
