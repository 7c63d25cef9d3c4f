"""`pathcast train` and `pathcast evaluate` as a user meets them: tables, JSON, exit codes and one clear line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import typer
from click.testing import Result
from train_worlds import WriteFile, fleet, together, wander
from typer.testing import CliRunner

from model.api import ModelConfig
from model.network.checkpoint import from_pretrained, save_pretrained
from model.network.network import Network, build
from model.network.places import UNUSED
from train.data.synth import write_towns
from train.evaluation.cli import evaluate as evaluate_command
from train.fit.cli import train as train_command

APP = typer.Typer(rich_markup_mode="rich", pretty_exceptions_enable=False)
APP.command(name="train")(train_command)
APP.command(name="evaluate")(evaluate_command)

RUN = CliRunner()
TINY = ModelConfig(name="tiny", d=16, heads=2, window=16)


@pytest.fixture
def data(write_file: WriteFile) -> Path:
    return write_file(fleet(30, 50))


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    save_pretrained(build(TINY, 0), tmp_path / "weights", "a card")
    return tmp_path / "weights"


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    """What `evaluate` says of all tracks of thirty vehicles, as JSON and as a table, for tests that only read it."""
    folder = tmp_path_factory.mktemp("judged")
    save_pretrained(build(TINY, 0), folder / "weights", "a card")
    pq.write_table(pa.table(fleet(30, 50)), folder / "tracks.parquet")
    args = "--data", str(folder / "tracks.parquet"), "--split", "all"
    report = json.loads(evaluate(folder, folder / "weights", *args, "--json"))
    return report, evaluate(folder, folder / "weights", *args)


def said(result: Result) -> str:
    """What bad usage is told in a box of lines."""
    return " ".join(result.output.replace("│", " ").split())


def evaluate(tmp_path: Path, weights: Path, *more: str) -> str:
    fit = [] if "--fit" in more else ["--no-fit"]
    result = RUN.invoke(APP, ["evaluate", "--weights", str(weights), "--cache", str(tmp_path / "cache"), *fit, *more])
    assert result.exit_code == 0, result.output
    return result.stdout


def train(tmp_path: Path, data: Path, *more: str, out: str = "run") -> Result:
    """Trains a tiny model for two steps of small batches, if nothing else is asked for."""
    size = tmp_path / "size.json"
    size.write_text(TINY.dumps())
    small = [
        "--steps",
        "2",
        "--set",
        "rows=4",
        "--set",
        "tokens=40",
        *([] if "--init" in more else ["--size", str(size)]),
    ]
    where = ["--out", str(tmp_path / out), "--cache", str(tmp_path / "cache")]
    return RUN.invoke(APP, ["train", "--data", str(data), *small, *where, *more])


def trained(tmp_path: Path, data: Path, *more: str, out: str = "run") -> Network:
    """What `train` wrote."""
    result = train(tmp_path, data, *more, out=out)
    assert result.exit_code == 0, result.output
    return from_pretrained(tmp_path / out)


def test_evaluate_prints_model_and_baselines_per_horizon_as_json(judged: tuple[dict[str, Any], str]) -> None:
    report, _ = judged
    assert (report["task"], report["split"], report["model"]["name"]) == ("forecast", "all", "tiny")
    (of_file,) = report["data"]
    assert of_file["file"] == "tracks.parquet"
    assert list(of_file["horizons"]) == ["next", "60", "300", "900"]
    scores = of_file["horizons"]["60"]
    for predictor in ("model", "stay", "constant_velocity", "damped_velocity", "kalman"):
        assert scores[predictor]["mean_m"] > 0
        assert 0 <= scores[predictor]["coverage_90"] <= 1


def test_evaluate_judges_what_is_served_or_what_is_exact(tmp_path: Path, data: Path) -> None:
    args = "--data", str(data), "--json", "--precision"
    served, exact = (json.loads(evaluate(tmp_path, Path("small"), *args, name)) for name in ("int8", "float32"))
    assert (served["model"]["precision"], exact["model"]["precision"]) == ("int8", "float32")
    rounded, whole = (of["data"][0]["horizons"]["60"]["model"]["mean_m"] for of in (served, exact))
    assert rounded != whole
    assert rounded == pytest.approx(whole, rel=0.005)


def test_evaluate_prints_a_table_that_fits_80_columns(judged: tuple[dict[str, Any], str]) -> None:
    report, out = judged
    assert max(map(len, out.splitlines())) <= 80
    assert "…" not in out
    for text in ("tracks.parquet", "next", "900 s", "constant_velocity", "30 entities", "tiny"):
        assert text in out
    assert "30 entities; intervals" not in out, "that is not few"
    of_file, out = report["data"][0], " ".join(out.split())  # sentences are wrapped
    for name in ("model", "last interval again"):
        factor, low, high = (f"{of_file['next_interval'][name][key]:.3f}" for key in ("factor", "low", "high"))
        assert f"next ping's time, {name}: off by a factor of {factor} ({low} to {high})" in out
    assert low < factor < high
    assert f"; its 90 % interval holds {100 * of_file['next_interval']['model']['holds_90']:.1f} %" in out
    assert f"next ping, as read from the record at its time: {of_file['next_from_record']['mean_m']:.0f} m (" in out


@pytest.mark.parametrize(("task", "row"), [("forecast", "next"), ("gapfill", "half"), ("arrivals", "all")])
def test_intervals_of_few_entities_are_not_shown_without_a_warning(
    tmp_path: Path, weights: Path, write_file: WriteFile, task: str, row: str
) -> None:
    """Where 95 % are promised, intervals by entity of four that are alike hold the truth 80 times in 100."""
    other = write_file(fleet(30, 60, name="w", seed=50, cadence_s=60.0), "other.parquet")
    args = ("--data", str(write_file(fleet(4, 60, cadence_s=60.0), "few.parquet")), "--fit-on", str(other))
    out = evaluate(tmp_path, weights, *args, "--split", "all", "--task", task)
    assert f"{row}: 4 entities; intervals of fewer than 20 say little" in out
    assert max(map(len, out.splitlines())) <= 80


def test_a_thinned_evaluation_says_so(tmp_path: Path, weights: Path, data: Path) -> None:
    out = evaluate(tmp_path, weights, "--data", str(data), "--split", "all", "--max-anchors", "300")
    assert "6 tracks (one in 5 of 30)" in out


def test_what_is_left_out_of_the_test_as_a_copy_is_counted(tmp_path: Path, write_file: WriteFile) -> None:
    """v5 trains and v0 would be tested on, by the hashes of their ids; here v5 is v0 by another name."""
    tracks = [wander(f"v{i}", 50, 0 if i == 5 else i) for i in range(30)]
    args = ("--data", str(write_file(together(*tracks))))
    report = json.loads(evaluate(tmp_path, Path("none"), *args, "--json"))
    (judged,) = report["data"]
    assert judged["copies_left_out"] == 1
    out = evaluate(tmp_path, Path("none"), *args)
    assert "1 left out as copies" in " ".join(out.split())
    assert max(map(len, out.splitlines())) <= 80
    everything = json.loads(evaluate(tmp_path, Path("none"), *args, "--split", "all", "--json"))["data"][0]
    assert (everything["copies_left_out"], everything["entities"]) == (0, 30)
    assert report["model"] is None, "without weights the baselines are judged alone"
    assert "model" not in judged["horizons"]["60"]
    assert judged["horizons"]["60"]["imm"]["mean_m"] > 0


def test_gap_fills_are_judged_on_request(tmp_path: Path, weights: Path, data: Path) -> None:
    args = ("--data", str(data), "--task", "gapfill", "--split", "all")
    report = json.loads(evaluate(tmp_path, weights, *args, "--json"))
    blocks = report["data"][0]["blocks"]
    assert {"120", "300", "900", "half"} <= set(blocks)
    assert {"model", "linear", "hermite"} <= set(blocks["300"])
    assert "hermite" in evaluate(tmp_path, weights, *args)


@pytest.mark.slow
@pytest.mark.usefixtures("quick_fit")
@pytest.mark.parametrize(("task", "name"), [("forecast", "kalman_fitted"), ("gapfill", "rts_fitted")])
def test_what_is_fitted_is_judged_and_its_numbers_are_shown(
    tmp_path: Path, weights: Path, data: Path, task: str, name: str
) -> None:
    args = ("--data", str(data), "--task", task, "--fit", "--json")
    (judged,) = json.loads(evaluate(tmp_path, weights, *args))["data"]
    assert judged["fitted"][name]["accel_psd"] > 0
    (block, *_) = (judged["horizons"] if task == "forecast" else judged["blocks"]).values()
    assert block[name]["mean_m"] > 0
    assert block["model_vs_best"]["baseline"] in block
    assert "nothing fitted" in evaluate(tmp_path, weights, "--data", str(data), "--task", task)


@pytest.mark.slow
@pytest.mark.usefixtures("quick_fit")
def test_baselines_are_fitted_to_what_data_takes(tmp_path: Path, write_file: WriteFile) -> None:
    """--fit-on took files of our own columns alone, and no folder."""
    files = []
    for name, seed in (("data.csv", 0), ("other.csv", 90)):
        columns = fleet(30, 50, name=name, seed=seed)
        files.append(
            str(write_file({"y" if ours == "lat" else ours: column for ours, column in columns.items()}, name))
        )
    args = ("--data", *files, "--columns", "lat=y", "--fit-on")
    both = json.loads(evaluate(tmp_path, Path("none"), *args, files[1], "--fit", "--json"))["data"]
    assert ["kalman_fitted" in one["fitted"] for one in both] == [True, True], "one of those judged fits all"
    assert set(both[0]["fitted"]) == set(both[0]["fitted_on"]["baselines"])
    (tmp_path / "empty").mkdir()
    refused = RUN.invoke(APP, ["evaluate", "--weights", "none", *args, f"geolife:{tmp_path / 'empty'}"])
    assert "no *.plt in it or below it" in str(refused.exception)


def test_verdicts_are_in_plain_words(judged: tuple[dict[str, Any], str]) -> None:
    report, out = judged
    (of_file,), lines = report["data"], out.splitlines()
    block = of_file["horizons"]["60"]
    against, model = block["model_vs_best"], block["model"]
    (said_of_mean, said_of_spread, said_of_regions) = (line for line in lines if line.startswith("  60 s: "))
    how = "farther off" if against["difference_m"] > 0 else "nearer"
    assert f"{abs(against['difference_m']):,.1f} m " in said_of_mean
    assert f"{how} than {against['baseline']} (" in said_of_mean
    assert ("level" in said_of_mean) == (against["low_m"] < 0 < against["high_m"])
    assert f"than {block['crps_vs_best']['baseline']} (the best)" in said_of_spread
    assert said_of_regions.startswith(f"  60 s: {100 * model['coverage_90']:.1f} % (")
    worse = "mean error, where a baseline is better, by stratum:" in lines
    assert worse == bool(of_file["worse_than_best_baseline"])
    assert worse != ("mean error: no stratum of 1,000 anchors or more is worse than the best baseline" in lines)


def test_trees_and_a_picture_come_on_request(tmp_path: Path, data: Path) -> None:
    args = ("--data", str(data), "--baseline", "trees", "--trees-rows", "50", "--picture", str(tmp_path / "a.png"))
    (judged,) = json.loads(evaluate(tmp_path, Path("none"), *args, "--json"))["data"]
    assert judged["horizons"]["60"]["trees"]["mean_m"] > 0
    assert judged["horizons"]["60"]["trees"]["coverage_90"] is None
    known = judged["fitted_on"]
    assert (known["baselines"], known["files"], known["split"]) == (["trees"], ["tracks.parquet"], "train")
    assert 0 < known["entities"] < 30
    assert all("trees" in stratum for stratum in judged["horizons"]["60"]["strata"].values())


def test_every_file_has_a_picture_of_its_own(tmp_path: Path, write_file: WriteFile) -> None:
    """Only the name up to its first dot told pictures apart, so the second of these was drawn over the first."""
    files = [str(write_file(fleet(3, 20), f"taxis.{year}.parquet")) for year in (2019, 2020)]
    args = ("--data", *files, "--split", "all", "--picture", str(tmp_path / "a.svg"))
    evaluate(tmp_path, Path("none"), *args)
    assert {path.name for path in tmp_path.glob("*.svg")} == {"a-taxis.2019.svg", "a-taxis.2020.svg"}


@pytest.mark.parametrize(
    ("module", "asked", "extra"),
    [
        ("matplotlib.figure", ["--picture", "{tmp}/a.png"], "pathcast[pictures]"),
        ("lightgbm", ["--baseline", "trees"], "pathcast[trees]"),
    ],
)
def test_an_extra_that_is_missing_is_named_before_a_file_is_opened(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch, module: str, asked: list[str], extra: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)  # as if it were not installed
    args = ["evaluate", "--weights", "none", "--data", str(data), "--cache", str(tmp_path / "cache")]
    result = RUN.invoke(APP, [*args, *(arg.format(tmp=tmp_path) for arg in asked)])
    assert f"pip install '{extra}'" in str(result.exception)
    assert not (tmp_path / "cache").exists()


def test_trees_without_anything_to_learn_from_are_refused_before_anything_is_read(tmp_path: Path, data: Path) -> None:
    args = ["evaluate", "--data", str(data), "--split", "all", "--baseline", "trees", "--cache", str(tmp_path / "none")]
    result = RUN.invoke(APP, args)
    assert result.exit_code == 2
    assert "--fit-on" in result.output
    assert not (tmp_path / "none").exists()


def test_only_the_asked_modes_are_judged(tmp_path: Path, write_file: WriteFile) -> None:
    path = write_file({**fleet(4, 40), "mode": ["walk"] * 40 + ["car"] * 80 + ["bus"] * 40})
    args = ("--data", str(path), "--split", "all", "--json", "--mode")
    assert json.loads(evaluate(tmp_path, Path("none"), *args, "car, bus"))["data"][0]["tracks"] == 3
    result = RUN.invoke(APP, ["evaluate", "--weights", "none", "--cache", str(tmp_path / "cache"), *args, "car,boat"])
    assert "no mode boat; it has bus, car, walk" in str(result.exception)


def test_files_may_follow_data_as_a_shell_glob_gives_them(tmp_path: Path, weights: Path, write_file: WriteFile) -> None:
    files = [write_file(fleet(12, 50), name) for name in ("a.csv", "b.parquet")]
    report = json.loads(evaluate(tmp_path, weights, "--data", *map(str, files), "--split", "all", "--json"))
    assert [judged["file"] for judged in report["data"]] == ["a.csv", "b.parquet"]


def test_a_run_killed_while_it_calibrates_goes_on_there(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is in the directory then loads and serves, and its regions hold whatever they happen to."""

    def killed(*args: object, **more: object) -> None:
        raise KeyboardInterrupt

    def run(name: str) -> Result:
        return train(tmp_path, data, "--steps", "4", "--seed", "5", "--set", "validate_every=2", out=name)

    with monkeypatch.context() as patch:
        patch.setattr("train.calibration.calibrate.calibrate", killed)
        assert run("killed").exit_code != 0
    assert not from_pretrained(tmp_path / "killed").calibration.forecast.any()
    resumed, unbroken = run("killed"), run("unbroken")
    assert resumed.exit_code == unbroken.exit_code == 0, resumed.output
    assert ("step 2: validation" in unbroken.stderr, "step 2: validation" in resumed.stderr) == (True, False)
    assert ("going on from" in unbroken.stderr, "going on from step 4 of 4" in resumed.stderr) == (False, True)
    for file in ("model.safetensors", "README.md"):
        assert (tmp_path / "killed" / file).read_bytes() == (tmp_path / "unbroken" / file).read_bytes()
    assert from_pretrained(tmp_path / "killed").calibration.forecast.any()
    assert not list(tmp_path.glob("*/checkpoint.pt"))


def test_finished_weights_are_replaced_only_where_that_is_asked_for(tmp_path: Path, data: Path) -> None:
    """The checkpoint of a finished run is gone, so the same command began anew and replaced an hour's work."""
    weights = tmp_path / "run" / "model.safetensors"
    assert train(tmp_path, data).exit_code == 0
    made = weights.read_bytes()
    for more in ([], ["--seed", "1"]):
        refused = train(tmp_path, data, *more)
        assert refused.exit_code == 2
        assert "holds finished weights" in said(refused)
        assert weights.read_bytes() == made
    assert train(tmp_path, data, "--seed", "1", "--no-resume").exit_code == 0
    assert weights.read_bytes() != made


def test_weights_that_no_worker_serves_are_told_before_they_are_trained(tmp_path: Path, data: Path) -> None:
    result = train(tmp_path, data, "--set", "positions=learned")
    assert result.exit_code == 0, result.output
    assert "no worker will serve these weights" in result.stderr
    refused = train(tmp_path, data, "--set", "cells=50")
    assert refused.exit_code == 1
    assert "only `pathcast train experiment regions` trains such a model" in str(refused.exception)


def test_ranks_do_not_read_a_live_topic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    args = ["train", "--from-topic", "pings", "--bootstrap", "127.0.0.1:1", "--out", str(tmp_path / "run")]
    result = RUN.invoke(APP, args)
    assert result.exit_code == 2
    assert "not for torchrun" in " ".join(result.output.split())


def test_train_tells_of_validations_on_stderr_and_of_steps_on_the_board(tmp_path: Path, data: Path) -> None:
    more = ["--accumulate", "2", "--device", "cpu", "--tensorboard", str(tmp_path / "board")]
    result = train(tmp_path, data, *more)
    assert result.exit_code == 0, result.output
    assert "step 2: validation loss" in result.stderr
    assert result.stderr.count("metres of validation are of batches that are thinned") == 1
    assert "2 × 4 × 40 pings" in (tmp_path / "run" / "README.md").read_text()
    assert len(list((tmp_path / "board").glob("events*"))) == 1


def test_a_log_tells_in_sentences_what_is_trained_on_and_how_far_training_is(
    tmp_path: Path, write_file: WriteFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There was one line of JSON, and then nothing until step 500."""
    tracks, more = (
        together(*(wander(f"v{i:02}", 50, i) for i in range(30))),
        ("--steps", "3", "--set", "validate_every=1"),
    )
    data = write_file({**tracks, **{name: [0.0, *tracks[name][1:]] for name in ("lat", "lon")}})
    lines = train(tmp_path, data, *more, out="quick").stderr.splitlines()
    assert lines[0].startswith("training on 21 tracks of 944 pings; 2 tracks of 91 pings to validate with, ")
    assert lines[1] == "rows left out: 1 at an impossible position"
    assert ", 4 tracks of 180 pings for its --split final (split " in lines[0]
    assert sum("evaluate" in line for line in lines) == 2  # of the test split, and of validation's metres
    assert not any("pings/s" in line for line in lines)  # in seconds there is nothing to wait for
    monkeypatch.setattr("train.fit.progress.LOG_EVERY_S", 0.0)
    slow = train(tmp_path, data, *more, out="slow").stderr.splitlines()
    assert [line.partition(":")[0] for line in slow if "pings/s" in line] == [f"step {n} of 3" for n in (1, 2, 3)]


def test_too_few_pings_to_train_on_are_told_as_that(tmp_path: Path, write_file: WriteFile) -> None:
    """They were said to be the bundled sample's."""
    path = write_file({**wander("v", 3, 0), "entity_id": ["a", "b", "c"]})
    assert "no track is long enough to train on: 3 pings" in str(train(tmp_path, path).exception)


def test_invented_tracks_train_and_are_neither_calibrated_on_nor_on_a_map(tmp_path: Path, data: Path) -> None:
    write_towns(tmp_path / "towns.parquet", entities=16, seed=2)
    without = trained(tmp_path, data, "--set", "places=3000", out="without").trunk.places
    result = train(tmp_path, data, "--set", "places=3000", "--invented", str(tmp_path / "towns.parquet"))
    assert result.exit_code == 0, result.output
    assert "towns.parquet" in (tmp_path / "run" / "README.md").read_text()
    assert "calibrating on tracks.parquet" in result.stderr
    assert "calibrating on towns.parquet" not in result.stderr
    places = from_pretrained(tmp_path / "run").trunk.places
    assert without is not None
    assert places is not None
    assert torch.equal(places.keys, without.keys)
    assert (places.keys != UNUSED).any()


def test_a_real_file_may_be_of_no_place_as_well(tmp_path: Path, data: Path) -> None:
    places = trained(tmp_path, data, "--set", "places=30", "--set", f"invented={data.name}").trunk.places
    assert places is not None
    assert (places.keys == UNUSED).all()


def test_an_invented_file_with_the_name_of_a_real_one_is_refused(tmp_path: Path, data: Path) -> None:
    args = ["train", "--data", str(data), "--invented", str(data), "--steps", "2", "--out", str(tmp_path / "run")]
    result = RUN.invoke(APP, args)
    assert result.exit_code == 2
    assert "cannot have one name" in result.output


@pytest.mark.slow
def test_a_rank_that_does_not_lead_is_silent(tmp_path: Path, data: Path) -> None:
    """Two ranks as torchrun starts them: one voice, one set of weights."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    pathcast = Path(sys.executable).with_name("pathcast")
    args = ["--data", str(data), "--out", str(tmp_path / "run"), "--cache", str(tmp_path / "cache")]
    paths = os.pathsep.join([str(Path(__file__).parents[3]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [*command, "--no-python", str(pathcast), "train", *args, "--steps", "2", "--json"],
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["steps"] == 2
    assert done.stderr.count("step 2: validation loss") == 1


def test_a_gpu_that_is_not_there_is_one_clear_line(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    result = train(tmp_path, data, "--device", "cuda")
    assert isinstance(result.exception, ValueError)
    assert "GPU 0 was asked for and torch" in str(result.exception)


@pytest.mark.parametrize(
    "args",
    [
        ["evaluate"],
        ["evaluate", "--data", "nowhere.parquet"],
        ["evaluate", "--data", "{data}", "--split", "most"],
        ["evaluate", "--data", "{data}", "--task", "guess"],
        ["evaluate", "--data", "{data}", "--max-anchors", "0"],
        ["evaluate", "--data", "{data}", "--task", "gapfill", "--picture", "{data}.png"],
        ["evaluate", "--data", "{data}", "--weights", "none", "--no-fit", "--picture", "{data}.txt"],
        ["evaluate", "--data", "{data}", "--weights", "none", "--no-fit", "--picture", "{data}-nowhere/a.png"],
        ["evaluate", "--data", "{data}", "--task", "arrivals", "--baseline", "trees"],
        ["evaluate", "--data", "{data}", "--max-gaps", "10"],
        ["evaluate", "--data", "{data}", "--trees-absolute"],
        ["evaluate", "--data", "{data}", "--trees-rows", "10"],
        ["evaluate", "--data", "{data}", "--fit-on", "nowhere.csv"],
        ["evaluate", "--fit-on", "{data}"],
        ["train", "--data", "{data}"],
        ["train", "--out", "{data}-run"],
        ["train", "--data", "{data}", "--out", "{data}-run", "--steps", "1", "--minutes", "1"],
        ["train", "--data", "{data}", "--out", "{data}-run", "--size", "small", "--init", "small"],
        ["train", "--data", "{data}", "--out", "{data}-run", "--steps", "0"],
        ["train", "--data", "{data}", "--out", "{data}-run", "--accumulate", "0"],
        ["train", "--data", "{data}", "--out", "{data}-run", "--device", "tpu"],
    ],
)
def test_bad_usage_exits_with_2(args: list[str], data: Path) -> None:
    result = RUN.invoke(APP, [arg.format(data=data) for arg in args])
    assert result.exit_code == 2
    assert not Path(f"{data}-run").exists()


def test_a_file_with_the_wrong_columns_is_named_in_the_error(tmp_path: Path, write_file: WriteFile) -> None:
    path = write_file({"id": ["a"], "time": [1]}, "odd.csv")
    result = train(tmp_path, path)
    assert result.exit_code == 2
    assert "no column is plainly" in result.output


@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_help_shows_an_example(command: str) -> None:
    assert f"pathcast {command} --data" in RUN.invoke(APP, [command, "--help"]).stdout


def test_loading_the_commands_imports_nothing_heavy() -> None:
    heavy = "[m for m in ('torch', 'numpy', 'pyarrow') if m in sys.modules]"
    code = f"import sys, train.calibration.cli, train.evaluation.cli, train.fit.cli; print({heavy})"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_weights_can_be_refreshed_and_keep_their_config(tmp_path: Path, data: Path) -> None:
    old = trained(tmp_path, data, "--set", "places=300", "--set", "blocks=1", out="first")
    assert (old.config.places, old.config.blocks) == (300, 1), "any field of the model can be set"
    new = trained(tmp_path, data, "--init", str(tmp_path / "first"), "--lr", "1e-6")
    assert new.config == old.config
    assert old.trunk.places is not None
    assert new.trunk.places is not None
    assert (new.trunk.places.keys == old.trunk.places.keys).all()
    assert (new.trunk.embed.weight - old.trunk.embed.weight).abs().max() < 1e-4  # not begun anew


def test_a_part_can_be_trained_alone(tmp_path: Path, weights: Path, data: Path) -> None:
    old, new = from_pretrained(weights), trained(tmp_path, data, "--init", str(weights), "--only", "gap")
    assert torch.equal(new.forecast.last.weight, old.forecast.last.weight)
    assert not torch.equal(new.gap.last.weight, old.gap.last.weight)


def test_refreshing_under_another_config_is_refused(tmp_path: Path, weights: Path, data: Path) -> None:
    result = train(tmp_path, data, "--init", str(weights), "--set", "blocks=3")
    assert result.exit_code == 1
    assert "blocks=3 was asked for" in str(result.exception)
    assert "keep their config, which has blocks=2" in str(result.exception)
    assert "leave out --init" in str(result.exception)


def test_weights_without_a_map_can_get_one_and_others_keep_theirs(tmp_path: Path, weights: Path, data: Path) -> None:
    assert trained(tmp_path, data, "--init", str(weights), "--set", "places=3000").config.places == 3000
    result = train(tmp_path, data, "--init", str(tmp_path / "run"), "--set", "places=500", out="other")
    assert result.exit_code == 1
    assert "keep their config, which has places=3000" in str(result.exception)
