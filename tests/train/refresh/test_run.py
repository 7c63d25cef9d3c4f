"""A refresh from end to end, on a small fleet and with a small model: what it writes, and when."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from train_worlds import WriteFile, together, track

from model.api import Predictor
from model.config import ModelConfig
from model.network.checkpoint import from_pretrained, save_pretrained
from model.network.network import Network, build
from model.parameters.reading import WeightsError
from stream.adapters.sources import Source, parse
from train.fit.trainer import Tick
from train.refresh import reference_tracks, run, statement
from train.refresh.decision import DecisionRules
from train.refresh.run import RefreshOptions, RefreshWatch, refresh

pytestmark = pytest.mark.slow

TINY = ModelConfig(name="tiny", d=16, heads=2, window=16)


class Crash(Exception):
    """A kill, as far as the refresh can tell."""


@pytest.fixture(autouse=True)
def small_golden_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference_tracks, "GOLDEN_ENTITIES", 4)
    monkeypatch.setattr(reference_tracks, "MOST_ANCHORS", 500)


@pytest.fixture
def data(write_file: WriteFile) -> Source:
    """40 cars that go round the same block, 600 m a side, for an hour and a half: what turns there can be learned."""
    rng = np.random.default_rng(0)
    cars = []
    for car in range(40):
        seconds = np.cumsum(rng.integers(25, 36, 180))
        way_m = (rng.uniform(0, 2_400) + seconds * rng.uniform(8, 12)) % 2_400
        side, along = np.divmod(way_m, 600.0)
        east = np.choose(side.astype(int), [along, 600 + 0 * along, 600 - along, 0 * along])
        north = np.choose(side.astype(int), [0 * along, along, 600 + 0 * along, 600 - along])
        cars.append(track(f"car-{car:02}", seconds.tolist(), east.tolist(), north.tolist()))
    return parse(write_file(together(*cars), "block.parquet"))


@pytest.fixture
def champion(tmp_path: Path) -> str:
    save_pretrained(build(TINY, 0), tmp_path / "champion", "# a card\n")
    return str(tmp_path / "champion")


@pytest.fixture
def options(tmp_path: Path, champion: str) -> RefreshOptions:
    # The regions of so small a training are not what is asked about here.
    rules = replace(DecisionRules(), holds_50=(0.0, 1.0), holds_90=(0.5, 1.0), stratum_share=0.1)
    out = tmp_path / "out"
    return RefreshOptions(out, champion, steps=200, places=500, towns=4, rows=8, cache=tmp_path / "cache", rules=rules)


def command(steps: int) -> str:
    return f"pathcast train refresh --steps {steps}"


def changed(weights: Path, out: Path, change: Callable[[Network], None]) -> Path:
    """The weights with a change, and with the statement that these have."""
    network = from_pretrained(weights)
    with torch.no_grad():
        change(network)
    save_pretrained(network, out, "a card")
    said = statement.read_statement(weights)
    assert said is not None
    statement.write_statement(replace(said, weights=Predictor.load(out).version), out)
    return out


def files(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}


def test_a_refresh_of_a_fleet_that_can_be_learned_is_promoted_and_serves(
    data: Source, options: RefreshOptions, tmp_path: Path
) -> None:
    decision = refresh([data], options, command)
    assert decision.promote, decision.sentence
    whole = {"model.safetensors", "config.json", "README.md", "trained_on.json", "decision.json"}
    assert files(options.out) == whole
    assert not list(tmp_path.glob(".*"))  # no trace of the work
    kept = json.loads((options.out / "decision.json").read_text())
    assert kept["sentence"] == decision.sentence
    assert kept["champion"]["version"] == Predictor.load(options.champion).version
    assert kept["challenger"]["version"] == Predictor.load(options.out).version
    assert from_pretrained(options.out).config == replace(TINY, places=500)
    said = statement.read_statement(options.out)
    assert said is not None
    assert [one.file for one in said.files] == ["block.parquet"]
    assert said.files[0].to_ms < kept["hours"][0]["from_ms"]
    assert "pathcast train refresh --steps 200" in (options.out / "README.md").read_text()

    # each sabotage of them is refused for its own reason
    def refused(name: str, change: Callable[[Network], None]) -> str:
        bad = changed(options.out, tmp_path / name, change)
        judged = replace(options, out=tmp_path / f"{name}-judged", challenger=str(bad), rules=DecisionRules())
        decision = refresh([data], judged, command)
        assert not decision.promote
        assert files(judged.out) == {"decision.json", *(f"refused/{one}" for one in whole - {"decision.json"})}
        with pytest.raises(WeightsError):  # nobody serves from there by mistake
            Predictor.load(judged.out)
        return " | ".join(decision.reasons)

    assert "farther off" in refused("noisy", lambda net: net.forecast.last.weight.normal_(0, 1.0))
    assert "regions hold" in refused("sure", lambda net: net.calibration.forecast[:1].sub_(3.0))


def test_a_killed_refresh_leaves_nothing_and_goes_on_to_the_same_weights(
    data: Source, options: RefreshOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in training, after it, and between each two things that are written at the end."""
    options = replace(options, steps=30)
    refresh([data], replace(options, out=tmp_path / "whole"), command)

    def kill(tick: Tick) -> None:
        if tick.step == 25:
            raise Crash

    monkeypatch.setattr(run.training, "CHECKPOINT_EVERY", 10)
    with pytest.raises(Crash):
        refresh([data], options, command, RefreshWatch(tick=kill))
    assert not options.out.exists()
    said: list[str] = []
    for place in ("calibrate", "save_pretrained", "compare", "write_whole"):
        with monkeypatch.context() as patch:

            def crash(*_: object, **__: object) -> None:
                raise Crash

            patch.setattr(run, place, crash)
            with pytest.raises(Crash):
                refresh([data], options, command, RefreshWatch(say=said.append))
        assert not options.out.exists()
    assert "going on from step 20 of 30" in said
    refresh([data], options, command)
    assert files(options.out) == files(tmp_path / "whole")
    same = [next((tmp_path / name).rglob("model.safetensors")).read_bytes() for name in ("out", "whole")]
    assert same[0] == same[1]
    assert not (tmp_path / ".out.unfinished").exists()


def test_what_exists_is_not_replaced(data: Source, options: RefreshOptions) -> None:
    options.out.mkdir()
    with pytest.raises(ValueError, match="exists, and what it has stays"):
        refresh([data], options, command)
