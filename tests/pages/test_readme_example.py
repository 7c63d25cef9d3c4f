"""The forecast that the README shows is the one that its command writes, and how far off it was is what it says."""

from __future__ import annotations

import csv
import gzip
import json
import math
import re
from typing import Any

import bus_feed
import page_files
import pytest
from page_blocks import ROOT

from model.kernels.tiles import multiplies_halves
from stream.wire import Forecast, loads_forecast
from stream.wire.positions import position_at

README = (ROOT / "README.md").read_text(encoding="utf-8")
# The forecast was made with bfloat16 on an AMD EPYC. Intel's bfloat16 rounds elsewhere, and a variance differs by 1 %;
# processors without bfloat16 differ more.
RELATIVE = 0.02 if multiplies_halves() else 0.05
METRES_PER_DEG = 111_195.0


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The forecast whose id the README shows."""
    folder = tmp_path_factory.mktemp("readme")
    page_files.pathcast(folder, "replay", bus_feed.SAMPLE, "--out", "forecasts.ndjson")
    (shown,) = re.findall(r'"forecast_id": "([0-9a-f]+)"', README)
    (found,) = [line for line in (folder / "forecasts.ndjson").read_bytes().splitlines() if shown.encode() in line]
    return found


def assert_like(shown: Any, written: Any, where: str = "") -> None:
    """All that is shown is there: numbers as near as the processor allows, all else the same."""
    if isinstance(shown, dict):
        for name, value in shown.items():
            assert_like(value, written[name], f"{where}.{name}")
    elif isinstance(shown, list):
        assert len(shown) == len(written), where
        for number, (one, other) in enumerate(zip(shown, written, strict=True)):
            assert_like(one, other, f"{where}[{number}]")
    elif isinstance(shown, float):
        assert written == pytest.approx(shown, rel=RELATIVE), where
    else:
        assert written == shown, where


def test_the_forecast_of_the_readme_is_what_its_command_writes(written: bytes) -> None:
    ping, forecast = (json.loads(block) for block in re.findall(r"```json\n(.*?)```", README, re.DOTALL))
    found = json.loads(written)
    assert_like(forecast, found)
    assert {"entity_id", "anchor", "next", "horizons", "model", "status"} <= forecast.keys() <= found.keys()
    assert (ping["entity_id"], ping["ts"]) == (found["entity_id"], found["anchor"]["ts"])


def test_it_was_as_far_off_as_the_readme_says(written: bytes) -> None:
    (said,) = re.findall(r"errors were (\d+) m \(next\), (\d+) m \(5 minutes\) and ([\d,]+) m \(15 minutes\)", README)
    forecast = loads_forecast(written)
    with gzip.open(bus_feed.SAMPLE, "rt", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["entity_id"] == forecast.entity_id]
    later = [row for row in rows if int(row["t"]) > forecast.anchor.ts]
    for metres, ahead_s in zip(said, (0, 300, 900), strict=True):
        there = min(later, key=lambda row: abs(int(row["t"]) - forecast.anchor.ts - 1000 * ahead_s))
        assert off_m(forecast, int(there["t"]), float(there["lat"]), float(there["lon"])) == pytest.approx(
            float(metres.replace(",", "")), abs=1.0 + 1_000 * RELATIVE
        )


def off_m(forecast: Forecast, ts: int, lat: float, lon: float) -> float:
    there_lat, there_lon = position_at(forecast, ts)
    east = (there_lon - lon) * math.cos(math.radians(lat))
    return math.hypot(there_lat - lat, east) * METRES_PER_DEG
