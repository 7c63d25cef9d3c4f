"""stream/commands/files/README.md, as it is written: each block is run in order in an empty folder."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import bus_feed
import pytest
from pathcast_process import environment

import stream
from stream.wire import Topics

PAGE = Path(stream.__file__).parent / "commands" / "files" / "README.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PATIENCE_S = 1_800.0  # a bound on waiting: kernels may have to be compiled, and a refresh goes last (nice)


def blocks(section: str) -> list[tuple[str, str]]:
    """The language and the text of each block of a section."""
    text = PAGE.read_text()
    begin = text.index(f"\n## {section}\n")
    end = text.find("\n## ", begin + 4)
    return BLOCK.findall(text[begin : end if end > 0 else None])


def run(language: str, text: str, folder: Path, **env: str) -> str:
    """Runs a block with `pathcast` and this Python on PATH, and stops at the first line that fails."""
    here = folder / ".bin"
    here.mkdir(exist_ok=True)
    for name, command in (("pathcast", "-m stream"), ("python", "")):
        script = here / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" {command} "$@"\n')
        script.chmod(0o755)
    program = ["bash", "-euo", "pipefail", "-c", text] if language == "sh" else [sys.executable, "-c", text]
    ran = subprocess.Popen(
        program,
        cwd=folder,
        env={**environment(**env), "PATH": f"{here}:{os.environ['PATH']}"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        said, errors = ran.communicate(timeout=PATIENCE_S)
    finally:
        with suppress(ProcessLookupError):  # what a block that failed has left running
            os.killpg(ran.pid, signal.SIGKILL)
    assert ran.returncode == 0, f"{text}\n{said}\n{errors}"
    return said


def fleet(path: Path) -> None:
    """Two vehicles of the sample, one of which falls silent; as the round trip's file has its columns."""
    import gzip

    with gzip.open(bus_feed.SAMPLE, "rt") as file:
        head, *lines = file.read().splitlines()
    mine = [line for line in lines if line.split(",")[0] in ("5012", "5021")]
    path.write_text("\n".join([head, *mine]) + "\n")


def test_the_round_trip_with_movingpandas(tmp_path: Path) -> None:
    pytest.importorskip("movingpandas", reason="needs the extra pandas")
    fleet(tmp_path / "fleet.csv")
    ((language, text),) = blocks("With MovingPandas")
    said = run(language, text, tmp_path).splitlines()
    assert len(said) == 2
    counted = {line.split()[0]: [int(word) for word in line.split() if word.isdecimal()][1:] for line in said}
    import geopandas

    table = geopandas.read_parquet(tmp_path / "filled.parquet")
    for name, (reports, filled, length_m) in counted.items():
        mine = (
            table[table.entity_id == int(name)] if table.entity_id.dtype != object else table[table.entity_id == name]
        )
        assert (len(mine), int(mine.filled.sum())) == (reports + filled, filled)
        assert length_m > 1_000
    assert sum(filled for _, filled, _ in counted.values()) > 0
    assert table.geometry.notna().all()
    assert list(table.columns[-2:]) == ["filled", "sigma_m"]


def test_a_csv_history_becomes_an_atlas_weights_and_a_live_forecast(
    apache_kafka: str, redis_url: str, topic_prefix: str, tmp_path: Path
) -> None:
    env = {
        "PATHCAST_BOOTSTRAP": apache_kafka,
        "PATHCAST_REDIS": redis_url,
        "PATHCAST_PREFIX": topic_prefix,
        "PATHCAST_GROUP": topic_prefix,
    }
    bus_feed.create_topics(apache_kafka, Topics.of(topic_prefix), partitions=2)
    section = blocks("I have last month's CSV")
    assert {language for language, _ in section} == {"sh"}
    said = run("sh", "\n".join(text for _, text in section), tmp_path, **env).splitlines()
    assert (tmp_path / "refreshed" / "decision.json").exists()
    head, *_ = (tmp_path / "ahead.csv").read_text().splitlines()
    assert head.startswith("entity_id,ts,h_s,")
    assert len((tmp_path / "ahead.csv").read_text().splitlines()) == 1 + 24 * 3
    forecasts = [json.loads(line) for line in said if line.startswith('{"forecast_id"')]
    assert len(forecasts) == 5
    decision = json.loads((tmp_path / "refreshed" / "decision.json").read_text())
    assert {one["model"]["name"] for one in forecasts} == {"small"} or decision["promote"]


def test_the_commands_of_filling_and_forecasting(tmp_path: Path) -> None:
    """On small files of the names that the page uses."""
    import gzip

    with gzip.open(bus_feed.SAMPLE, "rt") as file:
        lines = file.read().splitlines()[1:]
    rows = [line.split(",") for line in lines if line.startswith(("5012,", "5021,"))]
    text = "vehicle,timestamp,lat,lon\n" + "".join(
        f"{one[0]},{int(one[1]) // 1000},{one[2]},{one[3]}\n" for one in rows
    )
    (tmp_path / "fleet.csv").write_text(text)
    points = "".join(
        f'<trkpt lat="{one[2]}" lon="{one[3]}"><time>{_rfc(int(one[1]))}</time></trkpt>\n' for one in rows[:200]
    )
    (tmp_path / "ride.gpx").write_text(f'<gpx version="1.1" creator="x"><trk><trkseg>\n{points}</trkseg></trk></gpx>')
    from pyarrow import csv, parquet

    fleet(tmp_path / "week.csv")
    parquet.write_table(csv.read_csv(tmp_path / "week.csv"), tmp_path / "week.parquet")
    run("sh", "pathcast train atlas --data week.csv --min-entities 1 --out fleet.atlas", tmp_path)
    ((_, commands),) = blocks("Filling gaps")
    run("sh", commands, tmp_path)
    assert ",true," in (tmp_path / "fleet.filled.csv").read_text()
    assert ",true," in (tmp_path / "filled.csv").read_text()
    assert (tmp_path / "ride-filled.gpx").exists()
    assert parquet.read_table(tmp_path / "week.filled.parquet")["filled"].to_pylist().count(True) > 0
    ((_, commands),) = blocks("Forecasts of a file")
    said = run("sh", commands, tmp_path).splitlines()
    assert len([line for line in said if line.startswith(("5012,", "5021,"))]) == 2 * 3
    assert len(parquet.read_table(tmp_path / "forecasts.parquet")) > 2 * 100
    assert (tmp_path / "ahead.gpx").read_text().count("<trk>") == 1


def _rfc(ts_ms: int) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(ts_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
