"""Settings by name: each reaches its field with its type, and a wrong one says what there is."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import pytest
import typer

from model.config import SMALL
from train.batches.options import BatchOptions, FitOptions
from train.fit.cli import train as train_command
from train.fit.recipe import build_recipe

CHANCES = ("forced", "thin", "bend", "turn", "rescale", "noise", "drop_reported", "drop_clock", "drop_place")


def test_a_size_that_is_no_config_is_told_as_that(tmp_path: Path) -> None:
    """A Parquet file was told to be no UTF-8 at some byte."""
    for name, content, says in (
        ("w.parquet", b"PAR1\xff", "tracks are for --data"),
        ("w.json", b"{}", "has the fields"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=rf"{name} is no config.json.*{says}"):
            build_recipe(str(tmp_path / name), [])


def test_settings_reach_the_model_the_batches_and_the_run() -> None:
    made = build_recipe("small", ["places=500", "positions=time-rope", "absolute=true", "thin=0.25", "ema=0.99"])
    assert (made.config.places, made.config.positions, made.config.absolute) == (500, "time-rope", True)
    assert made.batch.thin == 0.25
    assert made.run == {"ema": 0.99}
    assert build_recipe("small", ["masks=point, segment"]).batch.masks == ("point", "segment")
    assert build_recipe("small", ["bfloat16=false"]).run == {"bfloat16": False}


@pytest.mark.parametrize("settings", [["heads=5", "d=130"], ["least_time=3", "most_time=4"], ["patch=3", "tokens=96"]])
def test_settings_that_fit_together_may_come_in_any_order(settings: list[str]) -> None:
    assert build_recipe("small", settings) == build_recipe("small", settings[::-1])


@pytest.mark.parametrize(("old", "new"), [("told", "reported"), ("mistold", "misreported")])
def test_an_old_name_leads_to_the_new_one(old: str, new: str) -> None:
    with pytest.raises(ValueError, match=f"^{old} is called {new} now: give {new}=0.2$"):
        build_recipe("small", [f"{old}=0.2"])
    assert getattr(build_recipe("small", [f"{new}=0.2"]).batch, new) == 0.2


def test_nothing_set_is_the_default() -> None:
    assert build_recipe("small", []) == (SMALL, BatchOptions(), {})


def test_a_size_may_be_a_file(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    larger = replace(SMALL, name="larger", d=384, blocks=6, heads=6)
    path.write_text(larger.dumps(), encoding="utf-8")
    assert build_recipe(str(path), []).config == larger


@pytest.mark.parametrize(
    ("size", "setting", "says"),
    [
        ("small", "plaices=500", "'plaices' is no field: known are .*places"),
        ("small", "places", "no KEY=VALUE"),
        ("small", "places=many", "places must be int"),
        ("small", "absolute=perhaps", "true or false"),
        ("small", "query_time=false", "query_time must be true"),
        ("small", "positions=alphabetical", "positions must be one of"),
        ("huge", "places=1", "no size 'huge'"),
    ],
)
def test_what_does_not_exist_is_refused(size: str, setting: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        build_recipe(size, [setting])


@pytest.mark.parametrize("name", ["seed", "accumulate", "lr", "steps", "out", "optimizer", "threads"])
def test_what_has_an_option_of_its_own_is_refused_and_the_option_named(name: str) -> None:
    """seed and accumulate reached FitOptions twice, a TypeError; lr moved one optimiser's rate, and --lr moves both."""
    with pytest.raises(ValueError, match=f"{name} has an option of its own: give --{name}"):
        build_recipe("small", [f"{name}=2"])


def test_every_field_of_a_run_can_be_set_or_has_an_option_and_none_has_both() -> None:
    app = typer.Typer()
    app.command()(train_command)
    options = {option for parameter in typer.main.get_command(app).params for option in parameter.opts}
    with pytest.raises(ValueError, match="known are") as caught:
        build_recipe("small", ["nobody=1"])
    known = str(caught.value).partition("known are ")[2].split(", ")
    for field in fields(FitOptions):
        assert (field.name in known) + (f"--{field.name}" in options) == (field.name != "batch"), field.name


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("rows=0", "rows must be at least 1, got 0"),
        ("tokens=2", "tokens must be at least 3, got 2"),
        ("questions=0", "questions must be at least 1"),
        ("gaps=-1", "gaps must be at least 0"),
        ("hidden=-1", "hidden must be at least 0"),
        ("file_power=-1", "file_power must be at least 0, and finite"),
        ("file_power=nan", "file_power must be at least 0, and finite"),
        ("most_time=inf", "most_time, which is finite"),
        ("checkpoint_every=0", "checkpoint_every must be at least 1"),
        ("validate_every=0", "validate_every must be at least 1"),
        ("validate_every=-2", "validate_every must be at least 1"),
        ("warmup=-1", "warmup must be at least 0"),
        ("clip=-1", "clip must be above 0, got -1"),
        ("clip=nan", "clip must be above 0"),
        ("muon_lr=-1", "muon_lr must be above 0"),
        ("muon_lr=0", "muon_lr must be above 0"),
        ("muon_lr=inf", "muon_lr must be above 0, and finite"),
        ("weight_decay=-1", "weight_decay must be at least 0"),
        ("weight_decay=nan", "weight_decay must be at least 0"),
        ("min_gain=nan", "min_gain must be at least 0"),
        ("last_lr=-1", "last_lr must be in 0..1"),
        ("last_lr=nan", "last_lr must be in 0..1"),
        ("ema=1", "ema must be at least 0 and below 1"),
        *((f"{chance}={wrong}", f"{chance} must be in 0..1") for chance in CHANCES for wrong in (-0.1, 1.5, "nan")),
    ],
)
def test_a_value_that_breaks_a_run_or_means_nothing_is_refused(setting: str, says: str) -> None:
    """Some ended in a traceback after the data were read; others, such as clip=-1, trained nonsense without a word."""
    with pytest.raises(ValueError, match=says):
        options_of(setting)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (["patch=3"], "tokens must be a multiple of patch, got 128 and 3"),
        (["positions=learned", "tokens=600"], "learned positions end at 512"),
        (["masks=share", "gaps=0"], "masks share need at least 1 gap, and 3 tokens more than gaps, got 0 and 128"),
        (["masks=segment,point", "tokens=8"], "masks segment, point need .*, got 6 and 8"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(settings: list[str], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        options_of(*settings)


@pytest.mark.parametrize(
    "setting", ["tokens=3", "questions=1", "gaps=0", "hidden=0", "warmup=0", "clip=inf", "last_lr=0"]
)
def test_the_least_that_makes_sense_is_taken(setting: str) -> None:
    options_of(setting)


def options_of(*settings: str) -> FitOptions:
    """As `pathcast train` makes it, before any data are read."""
    batch, run = build_recipe("small", settings)[1:]
    return FitOptions(out=Path("run"), steps=2, batch=batch, **run)
