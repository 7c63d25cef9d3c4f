"""What is to be exported lies in a file: which of several copies counts, the order, and the memory that it takes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from client_rig import T0, forecast, gap_fill

from stream.client.exporting.collecting import CACHE_KIB, ExportSpool, TrackFix
from stream.wire import dumps

FEW, MANY = 4_000, 40_000
# A process of its own, which says how much memory it took at the most. Not ru_maxrss, which has that of whoever started
# it, too.
EXPORT = """
import re, sys
from pathlib import Path
from stream.client.exporting.cli import export
import typer
app = typer.Typer()
app.command()(export)
app(sys.argv[1:], standalone_mode=False)
print(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1], file=sys.stderr)
"""


def test_a_copy_of_a_forecast_takes_the_place_of_the_first() -> None:
    with ExportSpool() as found:
        one, other = forecast("a", 0), forecast("b", 0)
        for each in (one, other, msgspec.structs.replace(one, status="stale")):
            found.take(each, each.entity_id)
        assert [(each.entity_id, each.status) for each in found.forecasts()] == [("a", "stale"), ("b", "ok")]
        assert len(found.forecasts()) == 2
        assert list(found.forecasts()) == list(found.forecasts()), "it may be gone through again"


def test_the_newest_is_that_of_the_latest_ping_whatever_came_last() -> None:
    with ExportSpool() as found:
        for entity, step in (("b", 3), ("b", 1), ("a", 0), ("a", 2), ("é", 0)):
            found.take(forecast(entity, step), entity)
        assert [(one.entity_id, one.anchor.ts) for one in found.newest()] == [
            ("a", T0 + 120_000),
            ("b", T0 + 180_000),
            ("é", T0),
        ]
        assert len(found.newest()) == 3


def test_a_ping_replaces_an_anchor_and_no_anchor_a_ping() -> None:
    with ExportSpool() as found:
        one = forecast("a", 0, lat=30.0)
        anchor = TrackFix(one.anchor.ts, one.anchor.lat, one.anchor.lon)
        found.take(one, "a")
        assert list(found.in_order()) == [("a", [anchor])]
        ping = TrackFix(anchor.ts, 31.0, 2.0)
        found.take(ping, "a")
        found.take(one, "a")
        found.take(TrackFix(anchor.ts - 1, 1.0, 1.0), "a")
        assert list(found.in_order()) == [("a", [TrackFix(anchor.ts - 1, 1.0, 1.0), ping])]
        assert found.tracks == 1


def test_the_latest_revision_of_a_fill_counts_and_a_retracted_one_does_not() -> None:
    with ExportSpool() as found:
        for one in (gap_fill(revision=1), gap_fill(), gap_fill("b", 0), gap_fill("b", 2)):
            found.take(one, one.entity_id)
        (kept,) = found.read_fills()
        assert (kept.revision, found.fills) == (1, 1)
        found.forget_fills()
        assert not list(found.read_fills())


def peak_kib(what: str, lines: Path, out: Path, *more: str) -> int:
    run = subprocess.run(
        [sys.executable, "-c", EXPORT, what, str(lines), "--out", str(out), *more],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return int(run.stderr.split()[-1])


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux says what a process took")
@pytest.mark.parametrize("what", ["csv", "geojson"])
def test_ten_times_the_forecasts_take_the_same_memory(tmp_path: Path, what: str) -> None:
    """In memory, each took some 2 KB: 70 MB more here. Only what SQLite keeps of its file may grow, to its bound."""
    peaks = []
    for count in (FEW, MANY):
        lines = tmp_path / f"{count}.ndjson"
        with lines.open("wb") as file:
            for number in range(count):
                file.write(dumps(forecast(f"bus-{number % 500}", number // 500)) + b"\n")
        out = tmp_path / "out"
        peaks.append(peak_kib(what, lines, out, "--forecasts", "all", "--region", "0"))
        if what != "csv":
            features = json.loads(out.read_bytes())["features"]
            assert sum(one["properties"]["kind"] == "forecast" for one in features) == count
    print(f"{what}: {peaks} KiB for {FEW} and {MANY} forecasts")
    assert peaks[1] - peaks[0] < 1.5 * CACHE_KIB, f"{peaks} KiB"
