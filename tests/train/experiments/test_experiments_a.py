"""Four experiments: each leads from files to a finding, and its words follow from its numbers either way."""

from __future__ import annotations

import importlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from click.testing import Result
from train_worlds import LabOf, WriteFile, assert_it_becomes_a_report, fleet, lively, wander
from typer.testing import CliRunner

from model.config import ModelConfig
from stream.adapters.sources import TABLE, Source, parse
from train.data.corpus import load
from train.evaluation.forecasts import judge_forecasts, open_samples
from train.experiments import cli
from train.experiments.lab import exams, inversion
from train.experiments.lab.lab import Lab
from train.experiments.lab.report import Finding, Table
from train.experiments.questions import autoencoder, overfit, positions, targets

TINY = ModelConfig(name="tiny", d=16, blocks=1, heads=4, window=8)
NAMES = ("autoencoder", "overfit", "targets", "positions")


@pytest.fixture
def lab(lab_of: LabOf) -> Lab:
    """A sitting over a town to train in and another one, a fiftieth of the steps."""
    files = {"town": fleet(40, 90, name="car-"), "away": fleet(20, 60, name="bus-", seed=50, lat=10.0)}
    return lab_of(files, effort=0.02, most_anchors=500)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_an_experiment_leads_from_files_to_a_report(
    name: str, lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = importlib.import_module(f"train.experiments.questions.{name}")
    monkeypatch.setattr(module, "CONFIG", TINY)
    monkeypatch.setattr(module, "BATCH", replace(module.BATCH, rows=2))
    monkeypatch.setattr(module, "MOST_ANCHORS", 300, raising=False)
    finding = module.run(lab)
    assert_it_becomes_a_report(finding, name, tmp_path)


def experiment(lab: Lab, out: Path, *given: str) -> Result:
    app = typer.Typer()
    app.command()(cli.experiment)
    return CliRunner().invoke(app, [*given, "--out", str(out), "--cache", str(lab.cache)])


@pytest.fixture
def tiny_autoencoder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autoencoder, "CONFIG", TINY)
    monkeypatch.setattr(autoencoder, "BATCH", replace(autoencoder.BATCH, rows=2))


@pytest.mark.usefixtures("tiny_autoencoder")
def test_the_command_writes_a_report_that_names_it(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever reads the report can run it again: with every option that it was run with but where things lie."""
    monkeypatch.setattr(cli, "EXPERIMENTS", {"autoencoder": cli.EXPERIMENTS["autoencoder"]})
    out, before = tmp_path / "out", torch.get_num_threads()
    town, away = map(str, lab.data)
    options = ["--effort", "0.01", "--seed", "3", "--threads", "2"]
    result = experiment(lab, out, "all", "--data", town, away, *options)
    torch.set_num_threads(before)
    assert result.exit_code == 0, result.output
    facts = json.loads((out / "autoencoder.json").read_text())
    assert facts["command"] == "pathcast train experiment autoencoder --data town.parquet away.parquet " + " ".join(
        options
    )
    assert f"`{facts['command']}`" in (out / "autoencoder.md").read_text()
    assert f"{out / 'autoencoder.md'}: The features" in result.stdout


def test_the_command_takes_what_train_and_evaluate_take(
    lab: Lab, write_file: WriteFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It once took bare paths of Parquet and CSV with our columns, and a format before one was "no such path"."""
    seen: list[tuple[list[str], list[int]]] = []

    def run(lab: Lab) -> Finding:
        seen.append(([file.name for file in lab.data], [len(load([file], lab.cache)) for file in lab.data]))
        return Finding("why?", "so", [Table("numbers", ("n",), [(1,)])], [], "It is.")

    monkeypatch.setattr(overfit, "run", run)
    ours = {"entity_id": "vehicle", "t": "t", "lat": "y", "lon": "x"}
    theirs = write_file({ours[name]: column for name, column in wander("car", 9, 0).items()}, "theirs.csv")
    taxis = tmp_path / "release"
    taxis.mkdir()
    for i in range(2):
        lines = [f"{i},2008-02-02 15:{minute}:00,{116.5 + 0.001 * minute},39.9" for minute in range(10, 20)]
        (taxis / f"{i}.txt").write_text("\n".join(lines) + "\n")
    out, columns = tmp_path / "out", "entity_id=vehicle,lat=y,lon=x"
    result = experiment(lab, out, "overfit", "--data", f"tdrive:{taxis}", str(theirs), "--columns", columns)
    assert result.exit_code == 0, result.output
    assert seen == [(["tdrive:release", "theirs.csv"], [2, 1])]
    command = (
        "`pathcast train experiment overfit --data tdrive:release theirs.csv --columns entity_id=vehicle,lat=y,lon=x`"
    )
    assert command in (out / "overfit.md").read_text()
    result = experiment(lab, out, "overfit", "--data", "nonsense:file")
    assert result.exit_code == 2
    assert "unknown format" in result.stderr


@pytest.mark.usefixtures("tiny_autoencoder")
def test_all_goes_on_where_one_fails(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that `transfer` has no region for once cost the reports of all that come after it."""
    monkeypatch.setattr(overfit, "run", lambda lab: {}["a fault of ours"])
    monkeypatch.setattr(cli, "EXPERIMENTS", dict.fromkeys(("transfer", "overfit", "autoencoder"), ""))
    out = tmp_path / "out"
    result = experiment(lab, out, "all", "--data", str(lab.data[0]), "--effort", "0.01")
    assert isinstance(result.exception, RuntimeError)  # which `pathcast` makes a line and exit code 1
    assert str(result.exception).startswith("no report of transfer, overfit;")
    assert "\ntransfer failed: transfer needs two files, one of them among" in f"\n{result.stderr}"
    assert "overfit failed: 'a fault of ours'" in result.stderr
    assert "KeyError" in result.stderr  # with where it is
    assert result.stdout.startswith(str(out / "autoencoder.md"))
    assert [path.name for path in out.glob("*.md")] == ["autoencoder.md"]


@pytest.mark.parametrize(
    ("missing", "name", "says"),
    [("matplotlib.figure", "overfit", "pathcast[pictures]"), ("h3.api", "regions", "pathcast[experiments]")],
)
def test_an_extra_that_is_missing_is_said_before_anything_is_read_or_trained(
    missing: str, name: str, says: str, lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`overfit` trained to its last step, and then could not draw its picture: nothing was saved."""
    monkeypatch.setitem(sys.modules, missing, None)
    result = experiment(lab, tmp_path / "out", name, "--data", str(lab.data[0]))
    assert isinstance(result.exception, ValueError)
    assert says in str(result.exception)
    assert "step" not in result.stderr
    assert lab.cache is not None
    assert not lab.cache.exists()


@pytest.mark.parametrize("tell", [False, True])
def test_the_full_pass_gives_the_judge_s_errors(lab: Lab, write_file: WriteFile, tell: bool) -> None:
    """Of vehicles that report nothing, and of such that say something of how fast they go and where to."""
    predictor, file = lively(TINY), lab.data[0]
    if tell:
        town = fleet(40, 90)
        speed, heading = np.random.default_rng(1).uniform([[0], [0]], [[20], [360]], (2, len(town["t"]))).tolist()
        file = parse(write_file(town | {"speed_mps": speed, "heading_deg": heading}, "telling.parquet"))
    sample = open_samples([file], "test", cache_dir=lab.cache)[0]
    judged = judge_forecasts(sample, predictor)["horizons"]
    marks = exams.examine(predictor.net, exams.pose_questions(exams.judged_tracks(lab, file, None)))
    for column, name in enumerate(["next", "60", "300", "900"]):
        assert marks.mean_m()[column] == pytest.approx(judged[name]["model"]["mean_m"], rel=1e-3)


def test_a_seed_that_is_lucky_for_all_is_no_noise() -> None:
    lucky = {"a": [100.0, 50.0], "b": [110.0, 55.0], "c": [120.0, 60.0]}
    assert exams.noise(lucky) < 1e-9
    assert exams.noise({"a": [100.0, 50.0], "b": [110.0, 70.0], "c": [120.0, 60.0]}) > 0.1
    with pytest.raises(ValueError, match="two seeds"):
        exams.noise({"a": [1.0], "b": [2.0]})


def test_files_go_by_the_names_that_an_experiment_has_for_them() -> None:
    files = (Source(TABLE, Path("taxis.parquet")), Source(TABLE, Path("other.parquet")))
    lab = Lab(files, Path("scratch"))
    assert lab.choose_named({"taxis.parquet": "taxis, 60 s", "ships.parquet": "ships"}) == {
        "taxis.parquet": "taxis, 60 s"
    }
    assert lab.choose_named({"ships.parquet": "ships"}) == {"taxis.parquet": "taxis", "other.parquet": "other"}
    lab = Lab((Source("tdrive", Path("here/release")),), Path("scratch"))
    assert lab.choose_named({"taxis.parquet": "taxis, 60 s"}) == {"tdrive:release": "tdrive:release"}


def test_noise_goes_by_how_many_variants_and_seeds_it_is_seen_in() -> None:
    """One of two variants is off by d in one of two seeds: one degree of freedom, of whose t 12.71 is the point."""
    two = {"a": [1.0, 1.0], "b": [1.0, np.exp(0.01)]}
    assert exams.noise(two) == pytest.approx(np.expm1(12.71 * 0.01 / 2), rel=1e-3)
    three = two | {"c": [1.0, 1.0]}
    assert exams.noise(three) == pytest.approx(np.expm1(4.30 * 0.01 / np.sqrt(6)), rel=1e-3)


def test_a_difference_is_called_real_only_beyond_the_noise() -> None:
    clear = {"a": [100.0, 101.0], "b": [150.0, 151.0], "c": [150.0, 150.0]}
    assert exams.compare(clear, "a", "b") == "33.2 % better than b"
    assert exams.compare(clear, "b", "a") == "49.8 % worse than a"
    assert "within the seed noise" in exams.compare({"a": [100.0, 120.0], "b": [104.0, 111.0]}, "a", "b")
    assert exams.best(clear) == "a"


def test_the_features_of_a_ping_give_it_back(lab: Lab) -> None:
    """The columns that `inversion` reads are those that model.kinematics.features writes."""
    parts = autoencoder.invert_components(autoencoder.encode_paths(load(lab.data[:1], lab.cache)))
    units = {"m": 0.05, "s": 0.01, "deg": 0.01, "m/s": 0.01}
    assert {name: part.most < units[part.unit] for name, part in parts.items()} == dict.fromkeys(parts, True)


def test_the_autoencoder_s_intervals_are_those_that_it_decodes(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """The column of the interval had moved, and what was measured was the encoder's own: no error, trained or not."""
    assert [9, 10, inversion.LOG_DT] == autoencoder.COLUMNS
    monkeypatch.setattr(autoencoder, "CONFIG", TINY)
    monkeypatch.setattr(autoencoder, "LR", 0.0)
    corpus = load(lab.data[:1], lab.cache)
    paths = autoencoder.encode_paths(corpus)
    off_s = autoencoder.step_errors(paths, autoencoder._decode_paths(lab, corpus, paths))["interval, s"]
    assert np.median(off_s) > 1.0


@pytest.mark.parametrize(("drift", "says"), [(0.1, "not the features loses"), (900.0, "no more than the features")])
def test_autoencoder_blames_what_loses_the_coordinates(drift: float, says: str) -> None:
    path = {autoencoder.FORMULA: drift, autoencoder.BFLOAT16: 400.0, autoencoder.LEARNED: 1_000.0}
    parts = {name: autoencoder.Component("m", 1e-4, 1e-3, 0.0) for name in ("displacement", "interval")}
    learned = {autoencoder.OFF: np.array([10.0]), autoencoder.WAY: np.array([200.0])}
    words = autoencoder.conclude(parts, {name: np.full((2, 1_001), d) for name, d in path.items()}, learned)
    assert says in words
    assert "(5.0 %)" in words
    assert ("do not invert" in words) == (drift > 1)


@pytest.mark.parametrize(
    ("next_m", "says"),
    [
        ([90.0, 40.0, 1.5, 1.0], "learned by heart"),
        ([90.0, 80.0, 60.0, 40.0], "still falling"),
        ([90.0, 40.0, 40.0, 40.0], "stopped falling"),
    ],
)
def test_overfit_says_whether_and_why_not(next_m: list[float], says: str) -> None:
    words = overfit.conclude(overfit.Progress([10, 20, 30, 40], next_m, [300.0, 200.0, 150.0, 90.0]), 100.0)
    assert says in words
    assert ("from step 30 on" in words) == (says == "learned by heart")


def outcome(test_m: float, far_m: list[float], unsteadiness: float = 0.1) -> targets.Outcome:
    steps = list(range(10, 10 * len(far_m) + 1, 10))
    return targets.Outcome(steps, far_m, far_m, unsteadiness, 0.5, [test_m] * 4)


def test_targets_tells_which_target_won_and_how_soon() -> None:
    quick, slow = outcome(100.0, [50.0, 40.0, 40.0]), outcome(200.0, [90.0, 60.0, 43.0], 0.3)
    lost = {"delta": 0, "absolute": 0}
    words = targets.conclude({"delta": [quick, quick], "absolute": [slow, slow]}, lost)
    assert "50.0 % better than absolute" in words
    assert "none does better than delta" in words
    assert "delta takes 20 steps and absolute 30 steps" in words
    assert "10.0 % from step to step against 30.0 %" in words
    words = targets.conclude({"delta": [slow, slow], "absolute": [quick, quick]}, lost)
    assert "100.0 % worse than absolute" in words
    assert "absolute is 50.0 % better than delta" in words
    never = outcome(200.0, [90.0])
    assert "absolute more steps than it had" in targets.conclude({"delta": [quick] * 2, "absolute": [never] * 2}, lost)


def test_targets_are_compared_at_what_the_tracks_reach() -> None:
    one = replace(outcome(100.0, [50.0, 40.0]), test_m=[1.0, 2.0, 3.0, np.nan])
    words = targets.conclude({"delta": [one, one], "absolute": [one, one]}, {"delta": 0, "absolute": 0})
    assert "at 300 s they err by 3 m and 3 m" in words
    assert "nan" not in words


def test_targets_that_diverge_are_said_to() -> None:
    fine = outcome(100.0, [50.0])
    words = targets.conclude({"delta": [fine, fine], "absolute": [fine]}, {"delta": 0, "absolute": 1})
    assert words.startswith("Of the trainings, 1 with absolute and 0 with delta targets diverged. So delta is")
    assert "neither" in targets.conclude({"delta": [fine], "absolute": []}, {"delta": 2, "absolute": 2})


def test_positions_tells_who_wins_and_who_fails_far_out() -> None:
    ratio = {kind: [1.0] * 7 for kind in positions.KINDS}
    ratio |= {"learned": [1.0, 1.0, 1.3, 1.4, 1.5, 1.6, np.nan], "rope": [0.9, 0.9, 0.9, 0.8, 0.8, 0.8, 0.8]}
    better = {kind: [100.0, 101.0] for kind in positions.KINDS} | {"rope": [90.0, 91.0]}
    words = positions.conclude(better, ratio)
    assert "rope does best, 10.0 % better than none." in words
    assert "learned loses most (+60.0 %) and rope least (-11.1 %)" in words
    assert "learned cannot answer from index 512 on" in words
    worse = {kind: [110.0, 111.0] for kind in positions.KINDS} | {"none": [100.0, 101.0]}
    assert "No encoding beats" in positions.conclude(worse, ratio)
