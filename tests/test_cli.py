"""The root command: version, `python -m pathcast`, completion, and what a worker would be told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from stream.commands.main import GROUP, HIDDEN, PANELS, build
from stream.commands.names import OLD_NAMES, renamed

PATHCAST = [sys.executable, "-m", "pathcast"]


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    ours = {name: value for name, value in os.environ.items() if not name.startswith("PATHCAST_")}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, env={**ours, "COLUMNS": "200", **environment}, check=False
    )


def config(*options: str, **environment: str) -> dict[str, dict[str, Any]]:
    shown = CliRunner().invoke(build(), ["dev", "config", "--json", *options], env=environment)
    assert shown.exit_code == 0, shown.output
    return {setting["name"]: setting for setting in json.loads(shown.stdout)}


def test_the_module_is_the_command_and_tells_its_version() -> None:
    """The name is no folder of the project: an install puts it there, an editable one too."""
    told = run(*PATHCAST, "--version")
    assert (told.returncode, told.stdout) == (0, f"pathcast {version('pathcast')}\n"), told.stderr


def test_help_has_every_command_once_in_one_of_five_panels() -> None:
    names = [name for panel in PANELS.values() for name in panel.split()]
    at_the_top = {point.name.partition(".")[0] for point in entry_points(group=GROUP)}
    assert sorted([*names, *HIDDEN]) == sorted(at_the_top)
    assert len(names) <= 20
    told = run(*PATHCAST, "--help").stdout
    places = [told.index(f"─ {panel} ─") for panel in PANELS]
    assert places == sorted(places)
    assert len(places) == 5


def test_ctrl_c_while_the_command_is_imported_is_no_traceback(tmp_path: Path) -> None:
    """The imports take a second or more on a busy machine."""
    (tmp_path / "typer.py").write_text(
        "import os, signal; os.kill(os.getpid(), signal.SIGINT); import time; time.sleep(60)"
    )
    # A shell in the background lets its processes ignore SIGINT.
    main = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); import stream.__main__ as m; m.main()"
    )
    told = run(sys.executable, "-c", main, PYTHONPATH=os.pathsep.join((str(tmp_path), *filter(None, sys.path))))
    assert (told.returncode, told.stderr) == (130, "")


C_CODE_DOES = "import sys; sys.excepthook(KeyboardInterrupt, KeyboardInterrupt(), None); raise ImportError('array')"
PYTHON_DOES = "try:\n    raise KeyboardInterrupt\nexcept BaseException as error:\n    raise ImportError from error"


@pytest.mark.parametrize("module", [C_CODE_DOES, PYTHON_DOES], ids=["by C code", "by Python code"])
def test_ctrl_c_that_an_import_turns_into_an_import_error_is_no_traceback(tmp_path: Path, module: str) -> None:
    """An extension module that cannot import numpy reports that, and forgets why."""
    (tmp_path / "kafka.py").write_text(module)
    told = run(*PATHCAST, "tail", "forecasts", PYTHONPATH=os.pathsep.join((str(tmp_path), *filter(None, sys.path))))
    assert (told.returncode, told.stderr) == (130, "")


def test_an_import_error_without_ctrl_c_is_shown(tmp_path: Path) -> None:
    (tmp_path / "kafka.py").write_text("raise ImportError('of another build')")
    told = run(*PATHCAST, "tail", "forecasts", PYTHONPATH=os.pathsep.join((str(tmp_path), *filter(None, sys.path))))
    assert told.returncode == 1
    assert told.stderr.splitlines()[-1] == "ImportError: of another build"


def test_bad_usage_ends_a_process_with_2_and_a_mistyped_command_is_answered_with_the_nearest() -> None:
    """One command alone is imported where it is known; else all are, or none could be near."""
    assert run(*PATHCAST, "tail", "weather").returncode == 2
    mistyped = run(*PATHCAST, "tial")
    assert (mistyped.returncode, "'tail'" in mistyped.stderr) == (2, True), mistyped.stderr


@pytest.mark.parametrize("given", [["--data", "a.csv"], ["--data=a.csv"]])
def test_the_demo_of_other_tracks_is_try_now(given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    words = renamed(["demo", "--seconds", "5", *given, "--json"])
    assert words == ["try", "a.csv", "--seconds", "5", "--json"]
    assert "pathcast demo --data is now pathcast try" in capsys.readouterr().err


@pytest.mark.parametrize(("old", "new"), OLD_NAMES.items())
def test_an_old_name_says_the_new_one_and_runs_it(old: str, new: str) -> None:
    words = renamed([*old.split(), "--help"])
    assert words == [*new.split(), "--help"]
    shown = CliRunner().invoke(build(), [word for word in words if not word.startswith("--") or word == "--help"])
    assert shown.exit_code == 0, shown.output
    options = [word for word in words if word.startswith("--") and word != "--help"]
    assert all(option in shown.output for option in options)


@pytest.mark.parametrize("old", [("archive", "run"), ("scores", "run"), ("models", "guard"), ("atlas", "run")])
def test_an_option_that_a_service_had_alone_has_its_name_before_it(old: tuple[str, str]) -> None:
    service = "guard" if "guard" in old else old[0]
    given = {"archive": "--retention", "scores": "--max-entities", "guard": "--since", "atlas": "--every"}[service]
    words = renamed([*old, f"{given}=30d", "--bootstrap", "b:1"])
    assert words == ["beside", service, f"--{service}-{given[2:]}=30d", "--bootstrap", "b:1"]
    assert words[2].partition("=")[0] in CliRunner(env={"COLUMNS": "200"}).invoke(build(), ["beside", "--help"]).stdout


def test_an_old_name_is_printed_to_stderr_alone() -> None:
    told = run(*PATHCAST, "config", "show", "--json", "--workers", "4")
    assert (told.returncode, told.stderr) == (0, "pathcast config show is now pathcast dev config\n")
    assert {"name": "--workers", "value": 4, "source": "option", "variable": "PATHCAST_WORKERS"} in json.loads(
        told.stdout
    )


def test_a_command_with_others_below_it_takes_what_is_none_of_their_names(tmp_path: Path) -> None:
    """`export` is followed by a format, and `train` by files; both have commands below them, too."""
    assert "FORMAT" in CliRunner().invoke(build(), ["export", "--help"]).stdout
    pings = tmp_path / "pings.ndjson"
    rows = [{"entity_id": "bus-1", "ts": 1_764_580_000_000 + 1000 * n, "lat": 30.1, "lon": -97.7} for n in range(3)]
    pings.write_text("\n".join(map(json.dumps, rows)))
    assert json.loads(CliRunner().invoke(build(), ["export", "geojson", str(pings)]).stdout)["features"]
    files = CliRunner().invoke(build(), ["train", "--data", "a.csv", "synth", "--out", str(tmp_path / "out")])
    assert (files.exit_code, "a.csv" in files.output) == (2, True), "a file that is called as a command"
    below = CliRunner().invoke(build(), ["train", "synth"])
    assert (below.exit_code, "pathcast train synth --help" in below.output) == (2, True)


def test_a_variable_of_another_command_is_not_warned_of() -> None:
    told = run(*PATHCAST, "dev", "contracts", "show", "--help", PATHCAST_MAX_BATCH="7")
    assert (told.returncode, told.stderr) == (0, "")
    told = run(*PATHCAST, "dev", "topics", "--bootstrap", "127.0.0.1:1", PATHCAST_MAX_BATCH="7", PATHCAST_MAX_BACH="7")
    (line, error) = told.stderr.splitlines()
    assert line.startswith("warning: the environment variable PATHCAST_MAX_BACH")
    assert error.startswith("error: no Kafka broker answers")


def test_a_shell_completes_commands_and_options() -> None:
    asked = {"_PATHCAST_COMPLETE": "complete_bash", "COMP_CWORD": "1"}
    assert run(*PATHCAST, COMP_WORDS="pathcast wor", **asked).stdout.split() == ["worker"]
    asked["COMP_CWORD"] = "2"
    assert run(*PATHCAST, COMP_WORDS="pathcast train sy", **asked).stdout.split() == ["synth"]
    assert "--data" in run(*PATHCAST, COMP_WORDS="pathcast train --da", **asked).stdout.split()
    assert "--bootstrap" in run(*PATHCAST, COMP_WORDS="pathcast worker --boot", **asked).stdout.split()


def test_an_unknown_variable_is_warned_of_and_costs_nothing_else() -> None:
    told = run(*PATHCAST, "dev", "config", PATHCAST_BOOTSTARP="x:1")
    assert told.returncode == 0
    (line,) = told.stderr.splitlines()
    assert line.startswith("warning: the environment variable PATHCAST_BOOTSTARP")
    assert line.endswith("is PATHCAST_BOOTSTRAP meant?")
    assert run(*PATHCAST, "dev", "config", PATHCAST_BOOTSTRAP="x:1").stderr == ""


def test_config_show_has_every_option_of_a_worker_with_value_and_source(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("PATHCAST_")]:
        monkeypatch.delenv(name)
    shown = config("--workers", "4", "--no-create", PATHCAST_MAX_BATCH="7")
    helped = CliRunner().invoke(build(), ["worker", "--help"], env={"COLUMNS": "300"}).stdout
    options = {word for word in helped.replace("│", " ").split() if word.startswith("--") and len(word) > 2}
    assert options - {"--help", "--no-create", "--workers"} <= shown.keys()
    told = {name: (setting["value"], setting["source"]) for name, setting in shown.items()}
    assert (told["--workers"], told["--create"]) == ((4, "option"), (False, "option"))
    assert (told["--max-batch"], told["--group"]) == ((7, "environment"), ("pathcast", "default"))
    assert "--member" not in shown, "it is no setting of a user's"


def test_config_show_masks_what_is_secret() -> None:
    secrets = {
        "PATHCAST_KAFKA_PASSWORD": "hush-1",
        "PATHCAST_METRICS_TOKEN": "hush-2",
        "PATHCAST_REDIS": "redis://me:hush-3@host:6379/0",
        "PATHCAST_REDIS_PASSWORD_FILE": "/run/secrets/redis",
    }
    assert "hush" not in json.dumps(shown := config(**secrets))
    assert shown["--redis"]["value"] == "redis://me:***@host:6379/0"
    assert shown["PATHCAST_KAFKA_PASSWORD"]["value"] == "***"
    assert shown["PATHCAST_REDIS_PASSWORD"]["value"] == "*** in /run/secrets/redis"
    assert "hush" not in CliRunner().invoke(build(), ["dev", "config"], env=secrets).output


def test_config_show_refuses_what_a_worker_would_refuse() -> None:
    assert CliRunner().invoke(build(), ["dev", "config", "--max-batch", "0"]).exit_code == 2
    assert CliRunner().invoke(build(), ["dev", "config", "--no-such-option"]).exit_code == 2
