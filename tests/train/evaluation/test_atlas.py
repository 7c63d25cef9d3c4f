"""An atlas that grows while it is judged: what it may know, and what it is worth in a world with one rule."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from train_worlds import MakeCorpus, WriteFile, together, track
from typer.testing import CliRunner

from model.api import Predictor
from model.config import SMALL
from model.kinematics.filters import Kinematic
from stream.commands.main import build
from train.data.anchors import find_anchors
from train.data.corpus import Corpus
from train.data.snapshots import grow_versions
from train.evaluation import atlas
from train.evaluation.rollout import MODEL, Answers, roll_along

CADENCE_S = 30.0
HOUR_S = 3_600.0
START_MS = 1_211_018_400_000  # a full hour


def bend(entity: str, hours: float, seed: int, *, turn: float = 1.0) -> dict[str, list[object]]:
    """A bus that goes east for 3 km, then north for 3 km (south if `turn` is -1), and comes back by the same streets,
    again and again: no physics knows where it turns.
    """
    rng = np.random.default_rng(seed)
    times = np.arange(0, hours * HOUR_S, CADENCE_S)
    gone = (10.0 * times + rng.uniform(0, 12_000)) % 12_000
    way = np.where(gone < 6_000, gone, 12_000 - gone)
    east, north = np.minimum(way, 3_000.0), turn * np.maximum(way - 3_000.0, 0.0)
    return track(entity, times.tolist(), east.tolist(), north.tolist(), start_ms=START_MS)


def physics_of(corpus: Corpus) -> Answers:
    return roll_along(corpus, find_anchors(corpus), [Kinematic(SMALL)]).answers[atlas.PHYSICS]


def grown(fleet: Corpus, corpus: Corpus | None = None) -> atlas.AtlasForecasts:
    corpus = fleet if corpus is None else corpus
    return atlas.forecast_with_atlas(fleet, corpus, find_anchors(corpus), physics_of(corpus))


@pytest.fixture
def buses(make_corpus: MakeCorpus) -> Corpus:
    return make_corpus(together(*(bend(f"bus-{n}", 4, n) for n in range(6))))


def test_a_fleet_that_goes_the_same_ways_is_forecast_far_better_after_an_hour(buses: Corpus) -> None:
    anchors, physics = find_anchors(buses), physics_of(buses)
    found = grown(buses)
    target = anchors.target[:, 2]  # after 300 s
    asked = target >= 0

    def miss(answers: Answers) -> np.ndarray:
        return np.hypot(
            (answers.lat[:, 2] - buses.lat[target]) * 111_195, (answers.lon[:, 2] - buses.lon[target]) * 87_900
        )

    ratios = [
        float(miss(found.answers)[asked & (found.history_h == hour)].mean())
        / float(miss(physics)[asked & (found.history_h == hour)].mean())
        for hour in range(4)
    ]
    assert ratios[0] == 1.0, "in the first hour nothing is known"
    assert max(ratios[1:]) < 0.2, "they go round their way three times an hour"


def test_what_is_known_at_the_cut_off_or_later_changes_no_forecast_of_that_hour(
    make_corpus: MakeCorpus, buses: Corpus
) -> None:
    """A seventh bus comes, whose first passage is known at three o'clock sharp. The atlas of three o'clock must not
    know it. The streets are those of the others, so that one passage shows at once.
    """
    late = bend("seventh", 4, 7)
    begin_s, missing_s = 3 * HOUR_S - 90, 3 * HOUR_S - 30
    times_s = (np.array(late["t"]) - START_MS) / 1000
    kept = np.flatnonzero((times_s >= begin_s) & (times_s != missing_s))
    joined = make_corpus(
        together(
            *(bend(f"bus-{n}", 4, n) for n in range(6)),
            {name: [column[i] for i in kept] for name, column in late.items()},
        )
    )
    judged = joined.select(np.arange(6))
    hour = (judged.ts_ms[find_anchors(judged).row] - START_MS) // atlas.HOUR_MS
    without, with_it = grown(buses), grown(joined, judged)
    for name in ("lat", "lon", "cov_m2"):
        one, other = getattr(without.answers, name), getattr(with_it.answers, name)
        assert (one == other)[hour <= 3].all()
    again = atlas.forecast_with_atlas(
        joined, judged, find_anchors(judged), physics_of(judged), every_ms=atlas.HOUR_MS // 2
    )
    assert not np.array_equal(again.answers.lat[hour == 3], without.answers.lat[hour == 3]), "it is known by half past"


def test_tracks_that_are_not_judged_belong_to_the_fleet(buses: Corpus) -> None:
    some = buses.select(np.arange(2))
    alone, together_ = grown(some, some), grown(buses, some)
    assert not np.array_equal(alone.answers.lat, together_.answers.lat), "two entities are fewer than MIN_VEHICLES"
    assert np.allclose(alone.answers.lat, physics_of(some).lat, rtol=0, atol=1e-12)


def test_beside_a_model_an_empty_atlas_changes_nothing_and_a_sure_one_much(buses: Corpus) -> None:
    physics = physics_of(buses)
    assert physics.cov_m2 is not None
    model = Answers(physics.lat + 0.01, physics.lon, 4 * physics.cov_m2)
    found = atlas.forecast_with_atlas(buses, buses, find_anchors(buses), physics, model)
    assert found.beside is not None
    early, late = found.history_h == 0, found.history_h == 3
    assert np.array_equal(found.beside.lat[early], model.lat[early])
    assert np.allclose(found.beside.lon[early], model.lon[early], rtol=0, atol=1e-12)
    assert np.array_equal(found.beside.cov_m2[early], model.cov_m2[early])  # type: ignore[index]
    off = (found.beside.lat - found.answers.lat)[late] / (model.lat - found.answers.lat)[late]
    assert 0 < np.median(off) < 0.5


def test_a_fleet_finds_out_how_far_its_passages_are_believed_beside_the_model(buses: Corpus) -> None:
    anchors, predictor = find_anchors(buses), Predictor.untrained(SMALL)
    model = roll_along(buses, anchors, [], predictor).answers[MODEL]
    ts_ms = buses.ts_ms[anchors.row]
    *_, last = grow_versions(buses, ts_ms, predictor=predictor)
    horizons = last.atlas.contains["report"]["horizons"]
    assert [one["after_s"] for one in horizons] == [60, 300, 900]
    assert all(one["of_model"] < 0.6 for one in horizons), "they go the same way again and again"
    found = atlas.forecast_with_atlas(buses, buses, anchors, physics_of(buses), model, predictor=predictor)
    target, late = anchors.target[:, 2], found.history_h == 3
    asked = (target >= 0) & late
    assert found.beside is not None
    off, of_model = (atlas.distances_m(buses, anchors, one, 2)[asked].mean() for one in (found.beside, model))
    assert off < 0.6 * of_model


def test_the_learning_curve_counts_what_has_a_target() -> None:
    history = np.array([0, 0, 1, 5, 5])
    errors = {
        "atlas": np.array([10.0, np.nan, 4.0, 1.0, 3.0]),
        "damped_velocity": np.array([10.0, np.nan, 8.0, 4.0, 4.0]),
    }
    inside = np.array([1.0, np.nan, 0.0, 1.0, 0.0])
    held = [row["inside_90"] for row in atlas.learning_curve(history, errors, inside)]
    assert held == [1.0, 0.0, 0.5]
    assert atlas.learning_curve(history, errors) == [
        {"from_h": 0, "to_h": 1, "anchors": 1, "mean_m": {"atlas": 10.0, "damped_velocity": 10.0}},
        {"from_h": 1, "to_h": 2, "anchors": 1, "mean_m": {"atlas": 4.0, "damped_velocity": 8.0}},
        {"from_h": 4, "to_h": 8, "anchors": 2, "mean_m": {"atlas": 2.0, "damped_velocity": 4.0}},
    ]


def test_evaluate_prints_the_curve_draws_it_and_judges_the_atlas_beside_the_rest(
    write_file: WriteFile, tmp_path: Path
) -> None:
    path = write_file(together(*(bend(f"bus-{n}", 3, n) for n in range(6))))
    options = ["evaluate", "--weights", "none", "--data", str(path), "--split", "all", "--no-fit", "--atlas", "30m"]
    drawn = tmp_path / "curve.svg"
    shown = CliRunner().invoke(build(), [*options, "--picture", str(drawn)])
    assert shown.exit_code == 0, shown.output
    assert "hours of the fleet" in drawn.read_text()
    assert "by hours of the fleet's history" in shown.output
    report = json.loads(CliRunner().invoke(build(), [*options, "--json"]).stdout)["data"][0]
    scores = report["horizons"]["300"]
    assert scores["atlas"]["mean_m"] < 0.8 * scores["damped_velocity"]["mean_m"]
    assert list(report["learning"]) == ["next", "60", "300", "900"]
    for wrong in ("1", "0h", "1w", "-1h", "soon"):
        refused = CliRunner().invoke(build(), [*options[:-1], wrong])
        assert refused.exit_code == 2
        assert "is no time like 14d" in refused.output


def test_evaluate_asks_an_atlas_of_other_pings_than_those_it_judges(write_file: WriteFile, tmp_path: Path) -> None:
    """One bus alone teaches an atlas nothing, as three have to pass a cell; what six others did before helps."""
    others, alone = together(*(bend(f"bus-{n}", 3, n) for n in range(6))), bend("alone", 3, 7)
    earlier = write_file(others, "earlier.parquet")
    judged = write_file(alone, "judged.parquet")

    def error_m(*more: str) -> float:
        options = ["--weights", "none", "--split", "all", "--no-fit", "--atlas", "30m", "--json", *more]
        found = CliRunner().invoke(build(), ["evaluate", "--data", str(judged), *options])
        assert found.exit_code == 0, found.output
        return float(json.loads(found.stdout)["data"][0]["horizons"]["300"]["atlas"]["mean_m"])

    assert error_m("--atlas-of", str(earlier)) < 0.9 * error_m()
    refused = CliRunner().invoke(build(), ["evaluate", "--data", str(judged), "--atlas-of", str(earlier)])
    assert refused.exit_code == 2
    assert "--atlas-of is for --atlas" in refused.output
