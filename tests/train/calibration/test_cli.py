"""`pathcast train calibrate` as a user meets it: other covariances, the same positions, and a card that says so."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import typer
from click.testing import Result
from train_worlds import Columns, WriteFile, fleet, lively, together, track, wander
from typer.testing import CliRunner

from model.api import FIX, ModelConfig, Predictor
from model.kinematics.answer_bounds import OUT
from model.network.checkpoint import from_pretrained, save_pretrained
from model.network.network import build
from train.calibration.cli import calibrate
from train.calibration.shrinkage import shrink

APP = typer.Typer(rich_markup_mode="rich", pretty_exceptions_enable=False)
APP.command(name="calibrate")(calibrate)
TINY = ModelConfig(name="tiny", d=16, heads=2, window=16)


@pytest.fixture
def data(write_file: WriteFile) -> Path:
    return write_file(fleet(30, 60))


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    save_pretrained(lively(TINY).net, tmp_path / "weights", "# a card\n")
    return tmp_path / "weights"


def run(tmp_path: Path, weights: Path, *more: str) -> Result:
    args = ["--weights", str(weights), "--cache", str(tmp_path / "cache"), *more]
    return CliRunner().invoke(APP, args)


def found(tmp_path: Path, weights: Path, *more: str) -> dict[str, Any]:
    """What it tells of a run that succeeds."""
    result = run(tmp_path, weights, *more, "--json")
    assert result.exit_code == 0, result.output
    return dict(json.loads(result.stdout))


def ahead(told: dict[str, Any]) -> list[dict[str, Any]]:
    """What forecasts were fitted to."""
    return [one for one in told["fitted_to"] if one["of"] == "forecasts"]


def renamed(columns: Columns) -> Columns:
    """The same under a name that nobody asks for by itself."""
    return {"latitude" if name == "lat" else name: column for name, column in columns.items()}


def test_positions_stay_and_regions_hold_what_they_promise(tmp_path: Path, weights: Path, data: Path) -> None:
    out = tmp_path / "mine"
    (held, gaps) = found(tmp_path, weights, "--data", str(data), "--split", "train", "--out", str(out))["fitted_to"]
    assert (held["file"], held["of"], gaps["of"]) == ("tracks.parquet", "forecasts", "hidden pings")
    assert held["after"] == pytest.approx(0.9, abs=0.01)
    assert abs(held["before"] - 0.9) > 0.02

    fixes = np.zeros((1, 20), FIX)
    fixes["ts_ms"], fixes["lat_e7"] = 60_000 * np.arange(20), 4_000 * np.arange(20)
    old, new = (Predictor.load(str(one)) for one in (weights, out))
    answers = []
    for predictor in (old, new):
        slots = predictor.acquire(1)
        for fix in fixes.T:
            predictor.advance(slots, fix)
        answers.append(predictor.forecast(slots, (60.0, 900.0)))
    was, now = answers
    np.testing.assert_array_equal(was.lat, now.lat)
    np.testing.assert_array_equal(was.lon, now.lon)
    factor = now.cov_m2 / was.cov_m2
    assert np.abs(np.log(factor)).max() > 0.01
    np.testing.assert_allclose(factor, np.broadcast_to(factor[..., :1], factor.shape), rtol=1e-5)
    assert old.version != new.version  # forecasts of both must not be taken for one another's

    card = (out / "README.md").read_text()
    new, old = card.split("## The weights it came from")
    assert new.startswith("# pathcast tiny, calibrated again\n")
    assert f"hold {held['after']:.1%} now" in new
    assert "Fitted to tracks: covariances of forecasts, covariances of gap fills." in new
    assert "positions of forecasts, when the next ping is due, positions of gap fills." in new
    assert old.endswith("\n\n### a card\n")
    assert (weights / "README.md").read_text() == "# a card\n"


def test_validation_tracks_are_the_default(tmp_path: Path, weights: Path, data: Path) -> None:
    counts = {}
    for split in ((), ("--split", "val"), ("--split", "all")):
        out = tmp_path / "-".join(("mine", *split))
        result = run(tmp_path, weights, "--data", str(data), *split, "--out", str(out), "--json")
        assert result.exit_code == 0, result.output
        assert ("no track left" in result.stderr) == ("all" in split)
        assert result.stderr.count("so few entities") == ("all" not in split)  # of 30 vehicles, val has some three
        counts[split] = json.loads(result.stdout)["fitted_to"][0]["entities"]
    assert counts[()] == counts["--split", "val"] < counts["--split", "all"] == 30


def test_forecasts_are_shrunk_to_physics_where_that_is_asked_for(tmp_path: Path, weights: Path, data: Path) -> None:
    """A network of random weights knows nothing. One left out is shrunk as these are: the same network and tracks err
    the same."""
    out = tmp_path / "mine"
    more = ("--shrink-to-physics", "--left-out", f"{data}={weights}", "--out", str(out))
    told = found(tmp_path, weights, "--data", str(data), "--split", "train", *more)
    share = told["shrunk_by"]
    assert share >= 0.5
    own, left_out = ahead(told)
    assert left_out["file"] == "tracks.parquet, left out"
    assert own["n"] == left_out["n"], "of neither the test split"
    assert (own["before"], own["after"]) == (left_out["before"], left_out["after"])
    card = (out / "README.md").read_text()
    assert f"Forecasts are shrunk by {share:g} of the way to damped velocity." in card
    assert "Fitted to tracks: positions of forecasts, covariances of forecasts, " in card
    expected, new = from_pretrained(weights), from_pretrained(out)
    shrink(expected, share)
    torch.testing.assert_close(new.forecast.state_dict(), expected.forecast.state_dict(), rtol=0, atol=0)


def test_a_network_that_knows_the_tracks_is_followed(tmp_path: Path, write_file: WriteFile) -> None:
    """It leans to undamped velocity, and ships go straight east at one speed. But what is to go anywhere is followed as
    far as one that never saw them can be, which is sure of the north."""
    times_s = [30.0 * i for i in range(60)]
    ships = (track(f"s{i:02}", times_s, [(5.0 + i / 10) * t for t in times_s]) for i in range(40))
    data = write_file(together(*ships))
    for name, number, value in (("ship", OUT + 1, 1.0), ("north", 1, 3.0)):
        network = build(TINY, 0)
        with torch.no_grad():
            network.forecast.last.bias[number] = value
        save_pretrained(network, tmp_path / name, "# a card\n")
    args = ("--data", str(data), "--shrink-to-physics")
    result = run(tmp_path, tmp_path / "ship", *args, "--out", str(tmp_path / "mine"))
    assert result.exit_code == 0, result.output
    assert "forecasts are as they were: no share" in result.stdout
    assert f"As in `{tmp_path / 'ship'}`: positions of forecasts, " in (tmp_path / "mine" / "README.md").read_text()
    far = ("--left-out", f"{data}={tmp_path / 'north'}", "--out", str(tmp_path / "far"))
    assert found(tmp_path, tmp_path / "ship", *args, *far)["shrunk_by"] == 1.0


def test_weights_that_do_not_stand_on_physics_are_refused_before_anything_is_read(tmp_path: Path, data: Path) -> None:
    save_pretrained(lively(replace(TINY, target="delta")).net, tmp_path / "delta", "# a card\n")
    args = ("--data", str(data), "--shrink-to-physics", "--out", str(tmp_path / "mine"))
    result = run(tmp_path, tmp_path / "delta", *args)
    assert result.exit_code == 1
    assert "its target is 'delta'" in str(result.exception)
    assert not (tmp_path / "cache").exists()


def test_what_is_to_be_run_next_reads_the_same_columns(tmp_path: Path, weights: Path, write_file: WriteFile) -> None:
    """It was printed without --columns, so it failed. And weights without a card get one."""
    (weights / "README.md").unlink()
    data, mapped = write_file(renamed(fleet(30, 60)), "our tracks.csv"), "lat=latitude"
    result = run(tmp_path, weights, "--data", str(data), "--columns", mapped, "--out", str(tmp_path / "mine"))
    (hint,) = [line for line in result.stdout.splitlines() if "pathcast evaluate" in line]
    words = shlex.split(hint.partition(": ")[2])
    assert words[words.index("--columns") + 1] == mapped
    assert words[words.index("--data") + 1 :] == [str(data)]
    assert (tmp_path / "mine" / "README.md").read_text().endswith(f"`{weights}` has no card.\n")


def test_nothing_is_written_over(tmp_path: Path, weights: Path, data: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "README.md").write_text("ours")
    for out in (weights, project):
        before = {path: path.read_bytes() for path in out.iterdir()}
        result = run(tmp_path, weights, "--data", str(data), "--out", str(out))
        assert result.exit_code == 2
        assert "name another directory" in " ".join(result.output.split())
        assert {path: path.read_bytes() for path in out.iterdir()} == before


def test_a_file_without_tracks_to_judge_is_one_clear_error(
    tmp_path: Path, weights: Path, write_file: WriteFile
) -> None:
    data = write_file(wander("v", 5, 0))
    result = run(tmp_path, weights, "--data", str(data), "--out", str(tmp_path / "mine"))
    assert result.exit_code == 1
    assert "nothing to calibrate on" in str(result.exception)
    assert "tracks.parquet" in result.stderr  # which, and why
    assert not (tmp_path / "mine").exists()


def test_a_file_that_cannot_be_read_is_an_error_beside_others_too(
    tmp_path: Path, weights: Path, data: Path, write_file: WriteFile
) -> None:
    """It was left out with a line on stderr and exit code 0, and nothing of it in the JSON."""
    bad = write_file({"colour": ["red"]}, "bad.parquet")
    result = run(tmp_path, weights, "--data", str(data), str(bad), "--out", str(tmp_path / "mine"))
    assert result.exit_code == 2
    assert "no column is plainly" in result.output
    assert not (tmp_path / "mine").exists()


def test_those_who_drive_count_once_more_where_others_walk(
    tmp_path: Path, weights: Path, write_file: WriteFile
) -> None:
    columns = fleet(30, 60)
    rows = len(columns["t"])
    for name, modes, added in (
        ("mixed.parquet", ["walk" if row // 60 % 3 else "car" for row in range(rows)], ["", " by road"]),
        ("buses.parquet", ["bus"] * rows, [""]),
    ):
        data = write_file({**columns, "mode": modes}, name)
        args = ("--data", str(data), "--split", "train", "--out", str(tmp_path / f"of-{name}"))
        assert [one["file"] for one in ahead(found(tmp_path, weights, *args))] == [name + more for more in added]


def test_a_region_left_out_is_answered_for_by_weights_without_it(
    tmp_path: Path, weights: Path, data: Path, write_file: WriteFile
) -> None:
    far = write_file(renamed(fleet(30, 60, name="w", lat=-10.9)), "far.csv")
    near = write_file(renamed(pq.read_table(data).to_pydict()), "near.csv")
    surer = lively(TINY).net
    with torch.no_grad():
        surer.forecast.last.bias[4] -= 0.7
    save_pretrained(surer, tmp_path / "surer", "a card")
    shares = {}
    for without in ("weights", "surer"):
        out = tmp_path / f"against-{without}"
        files = ("--data", str(near), "--columns", "lat=latitude", "--left-out", f"{far}={tmp_path / without}")
        near_by, left_out = ahead(found(tmp_path, weights, *files, "--out", str(out)))
        assert (near_by["file"], left_out["file"]) == ("near.csv", "far.csv, left out")
        shares[without] = left_out["before"]
        assert (
            f"far.csv, left out: its train split, as it is to {tmp_path / without}" in (out / "README.md").read_text()
        )
    assert shares["surer"] < shares["weights"] - 0.05


def test_what_is_left_out_has_to_be_named(tmp_path: Path, weights: Path, data: Path) -> None:
    for wrong in (str(data), f"={weights}", f"{data}=", f"nowhere.csv={weights}", f"{data}=nowhere"):
        refused = run(tmp_path, weights, "--data", str(data), "--left-out", wrong, "--out", str(tmp_path / "no"))
        assert refused.exit_code == 2, wrong
        assert "FILE=WEIGHTS" in refused.output or "nowhere" in refused.output
