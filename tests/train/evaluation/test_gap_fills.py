"""Hidden pings: which they are, that they are hidden, and what known worlds score."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from train_worlds import MakeCorpus, MakeSample, fleet, lively, together, track, wander

from model.api import Gap, ModelConfig, Predictor
from train.data.cutting import EVALUATION
from train.evaluation.atlas import BESIDE
from train.evaluation.gap_fills import (
    HALF,
    HERMITE_REPORTED,
    answer_gaps,
    hide_blocks,
    hide_half,
    judge_gap_fills,
    take_evenly,
)
from train.evaluation.rollout import MODEL

SMALL = ModelConfig(d=16, heads=2, window=16)
MINUTES = [60.0 * i for i in range(40)]


def test_a_block_is_the_pings_inside_its_span(make_corpus: MakeCorpus) -> None:
    corpus = make_corpus(track("a", MINUTES, MINUTES), cut=EVALUATION)
    hidden = hide_blocks(corpus, 120.0)
    # from the ping with 8 before it to the one 2 min on; the next block starts after 8 known pings more
    assert list(zip(hidden.before, hidden.after, strict=True)) == [(8, 10), (18, 20), (28, 30)]
    assert list(zip(*hide_blocks(corpus, 150.0)[1:3], strict=True)) == [(8, 11), (19, 22), (30, 33)]
    assert len(hide_blocks(corpus, 30.0).before) == 0  # nothing inside at a ping a minute
    assert len(hide_blocks(corpus, 3_600.0).before) == 0


def test_a_block_never_leaves_its_track(make_corpus: MakeCorpus) -> None:
    corpus = make_corpus(together(*(wander(f"v{i}", 30 + i, i) for i in range(6))), cut=EVALUATION)
    hidden = hide_blocks(corpus, 120.0)
    assert len(hidden.before)
    for track_index, before, after in zip(hidden.track, hidden.before, hidden.after, strict=True):
        first, last = corpus.tracks[track_index]
        assert first + 8 <= before
        assert before + 2 <= after < last - 1  # one ping more is known after the gap
        assert corpus.ts_ms[after] - corpus.ts_ms[before] >= 120_000
        assert corpus.ts_ms[after - 1] - corpus.ts_ms[before] < 120_000


def test_half_of_the_pings_are_hidden_between_known_ones(make_corpus: MakeCorpus) -> None:
    corpus = make_corpus(wander("a", 2_000, 1), cut=EVALUATION)
    hidden = hide_half(corpus, seed=1)
    counted = int((hidden.after - hidden.before - 1).sum())
    assert 900 < counted < 1_100  # six standard deviations are 134
    assert hidden.known[hidden.before].all()
    assert hidden.known[hidden.after].all()
    assert not any(hidden.known[b + 1 : a].any() for b, a in zip(hidden.before, hidden.after, strict=True))
    assert hide_half(corpus, seed=1).before.tolist() == hidden.before.tolist()


def test_the_first_nine_pings_and_the_last_two_are_never_hidden(make_corpus: MakeCorpus) -> None:
    corpus = make_corpus(fleet(12, 20), cut=EVALUATION)
    known = hide_half(corpus).known
    for first, last in corpus.tracks:
        assert known[first : first + 9].all()
        assert known[last - 2 : last].all()
    assert not known.all()


def test_a_straight_road_is_filled_without_error(make_sample: MakeSample) -> None:
    report = judge_gap_fills(make_sample(track("a", MINUTES, [12.0 * t for t in MINUTES])), Predictor.untrained(SMALL))
    assert list(report["blocks"]) == ["120", "300", "900", HALF]
    assert report["blocks"]["300"]["n"] == 4 * report["blocks"]["300"]["gaps"]
    for block in report["blocks"].values():
        for name in (MODEL, "linear", "hermite"):
            assert block[name]["mean_m"] < 0.2
        assert block["rts"]["mean_m"] < 20  # its velocity decays a little, on any road
        assert block["rts"]["coverage_90"] == 1.0
        assert block["model_vs_best"]["baseline"] in ("linear", "hermite")
        assert block[MODEL]["coverage_90"] == 1.0
        assert block["linear"]["coverage_90"] is None


def test_a_detour_is_off_by_its_width_for_linear(make_sample: MakeSample) -> None:
    # one minute at 100 m to the side, hidden: linear goes straight past it
    north = [0.0] * 9 + [100.0] + [0.0] * 30
    judged = make_sample(track("a", MINUTES, [5.0 * t for t in MINUTES], north))
    report = judge_gap_fills(judged, None, blocks_s=(120.0,))
    linear = report["blocks"]["120"]["linear"]
    assert linear["n"] == 3
    assert linear["mean_m"] == pytest.approx(100 / 3, rel=1e-3)


def test_hermite_knows_positions_alone_and_another_what_is_reported(make_corpus: MakeCorpus) -> None:
    """The design's Hermite is the same whatever a file tells; told 1.3 times its speed, the other is bent."""
    times_s = [10.0 * i for i in range(80)]
    road = track("a", times_s, [9 * t for t in times_s])
    told = road | {"speed_mps": [11.7] * 80, "heading_deg": [90.0] * 80}
    both = []
    for source, name in ((road, "mute.parquet"), (told, "told.parquet")):
        corpus = make_corpus(source, cut=EVALUATION, name=name)
        both.append(answer_gaps(corpus, hide_blocks(corpus, 120.0), None))
    assert set(both[1]) - set(both[0]) == {HERMITE_REPORTED}
    for name in both[0]:
        np.testing.assert_array_equal(both[0][name].lon, both[1][name].lon)
    off_m = (both[1][HERMITE_REPORTED].lon - both[1]["hermite"].lon) * 88_000
    assert np.abs(off_m).max() == pytest.approx(2.7 * 120 * 0.0962, rel=0.15)  # of u(1-u)² - u²(1-u), at most


def test_an_untrained_model_fills_as_hermite(make_sample: MakeSample) -> None:
    judged = make_sample(fleet(2, 90))
    for block in judge_gap_fills(judged, Predictor.untrained(SMALL))["blocks"].values():
        assert block[MODEL]["mean_m"] == pytest.approx(block["hermite"]["mean_m"], rel=1e-4)


def test_the_model_fills_from_all_that_it_remembers_of_the_track(make_corpus: MakeCorpus) -> None:
    """As one does that has seen every ping up to the gap, and the three after it."""
    corpus = make_corpus(wander("a", 120, 3), cut=EVALUATION)
    predictor, hidden = lively(SMALL, precision="float32"), hide_blocks(corpus, 120.0)
    before, after = int(hidden.before[-1]), int(hidden.after[-1])
    slot = predictor.acquire(1)
    for row in (*range(before + 1), *range(after, after + 3)):
        predictor.advance(slot, corpus.fixes(np.array([row])))
    sides = (corpus.fixes(np.arange(*ends)) for ends in ((before - 3, before + 1), (after, after + 3)))
    (fill,) = predictor.fill(slot, [Gap(*sides, np.asarray(corpus.ts_ms[before + 1 : after]))])
    judged = answer_gaps(corpus, hidden, predictor)[MODEL]
    np.testing.assert_allclose(judged.lat[-len(fill.lat) :], fill.lat, atol=3e-7)
    np.testing.assert_allclose(judged.lon[-len(fill.lon) :], fill.lon, atol=3e-7)


@pytest.mark.parametrize("half", [False, True])
def test_hidden_pings_are_hidden_from_every_predictor(make_corpus: MakeCorpus, half: bool) -> None:
    """With hidden pings put elsewhere, one case at a time, every answer stays what it was, to the bit."""
    corpus = make_corpus(wander("a", 120, 3), cut=EVALUATION)
    hidden = hide_half(corpus) if half else hide_blocks(corpus, 120.0)
    inside = [np.arange(b + 1, a) for b, a in zip(hidden.before, hidden.after, strict=True)]
    predictor = lively(SMALL)  # its fills do depend on the state
    before = answer_gaps(corpus, hidden, predictor)
    # Of blocks, the others' pings are known, so only one block is moved; of halves, all that are hidden.
    moved = np.concatenate(inside) if half else inside[-1]
    lat = np.array(corpus.lat)
    lat[moved] += 0.01
    after = answer_gaps(replace(corpus, lat=lat), hidden, predictor)
    asked = slice(None) if half else slice(-len(moved), None)
    for name in (MODEL, "linear", "hermite", "rts"):
        np.testing.assert_array_equal(before[name].lat[asked], after[name].lat[asked])
        np.testing.assert_array_equal(before[name].lon[asked], after[name].lon[asked])
    assert np.abs(before[MODEL].lat - before["hermite"].lat).max() > 1e-5


def test_the_gaps_that_are_judged_are_of_all_vehicles_not_of_the_first_few(make_corpus: MakeCorpus) -> None:
    corpus = make_corpus(fleet(5, 80), cut=EVALUATION)
    assert np.unique(take_evenly(hide_blocks(corpus, 120.0), 7).track).tolist() == [0, 1, 2, 3, 4]


def test_two_tracks_of_one_vehicle_are_one_entity(make_sample: MakeSample) -> None:
    times = [*MINUTES, *(7_200.0 + t for t in MINUTES)]
    judged = make_sample(track("a", times, [0.0] * len(times)))
    assert len(judged.corpus) == 2
    block = judge_gap_fills(judged, None, blocks_s=(120.0,))["blocks"]["120"]
    assert (block["gaps"], block["linear"]["entities"]) == (6, 1)


def test_at_most_the_asked_number_of_gaps_is_judged_and_said(make_sample: MakeSample) -> None:
    block = judge_gap_fills(make_sample(fleet(5, 80)), None, blocks_s=(120.0,), most=7)["blocks"]["120"]
    assert block["gaps"] == 7
    assert block["gaps_in_split"] > 7


def test_a_smoother_of_its_own_noise_is_judged_beside_the_default_one(make_sample: MakeSample) -> None:
    judged = make_sample(together(wander("a", 90, 1), wander("b", 90, 2)))
    same = judge_gap_fills(judged, None, smoother=ModelConfig())["blocks"]["300"]
    other = judge_gap_fills(judged, None, smoother=ModelConfig(accel_psd=30.0))["blocks"]["300"]
    assert same["rts_fitted"] == same["rts"] == other["rts"]
    assert other["rts_fitted"] != other["rts"]
    assert "model_vs_best" not in same


def test_the_atlas_of_a_fleet_that_goes_a_detour_bends_fills_towards_it(make_sample: MakeSample) -> None:
    """And knows nothing before its first version, so that nothing is moved then."""
    buses, predictor = make_sample(together(*(detours(f"bus-{n}", n) for n in range(6)))), Predictor.untrained(SMALL)
    judged = replace(buses, fleet=buses.corpus)
    found = judge_gap_fills(judged, predictor, blocks_s=[300.0], atlas_ms=3_600_000)["blocks"]["300"]
    assert found[BESIDE]["mean_m"] < 0.97 * found[MODEL]["mean_m"]
    assert found["atlas_vs_model"]["high_m"] < 0
    assert found["model_vs_best"]["baseline"] not in (BESIDE, MODEL)
    never = judge_gap_fills(judged, predictor, blocks_s=[300.0], atlas_ms=10**13)["blocks"]["300"]
    assert never[BESIDE] == never[MODEL]
    assert BESIDE not in judge_gap_fills(judged, predictor, blocks_s=[300.0])["blocks"]["300"]


def detours(entity: str, seed: int) -> dict[str, list[object]]:
    """A bus that goes 12 km and back for five hours, always east 1 km, north 1 km, east 1 km, south 1 km."""
    times = np.arange(0, 5 * 3_600.0, 30.0)
    gone = (10.0 * times + np.random.default_rng(seed).uniform(0, 24_000)) % 24_000
    way = np.where(gone < 12_000, gone, 24_000 - gone)
    corners = np.arange(0, 12_001, 1_000)
    east = np.interp(way, corners, 1_000.0 * ((np.arange(13) + 1) // 2))
    north = np.interp(way, corners, 1_000.0 * (np.arange(13) // 2 % 2))
    return track(entity, times.tolist(), east.tolist(), north.tolist())
