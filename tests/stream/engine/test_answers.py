"""What is published of a gap fill, on numbers worked by hand."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from model.api import Fill
from stream.config.settings import Settings
from stream.engine.answers import M_PER_DEG, gap_fill
from stream.tracks.fix import Fix
from stream.tracks.track import Gap
from stream.wire import ModelRef, Record, loads_gapfill

START, END = Fix(0, 0, 1_799_990_000, 0, 0), Fix(40_000, 20_000, -1_799_990_000, 0, 0)  # across the date line
GAP = Gap(START, END, b"", b"", (10_000, 30_000), "silence")
RECORD = Record("pings", 0, 7, 50_000, b"bus-1", b"{}")


def published(lat: list[float], lon: list[float], cov_m2: list[tuple[float, float, float]]) -> bytes:
    fill = Fill(np.array(lat), np.array(lon), np.array(cov_m2).reshape(-1, 3), "model")
    gap = GAP._replace(times_ms=GAP.times_ms[: len(lat)])
    return gap_fill(RECORD, "bus-1", gap, "final", fill, ModelRef("tiny", "1"), Settings().topics).value or b""


def test_points_are_rounded_to_what_they_can_mean() -> None:
    raw = published([0.001000049, -0.00000001], [179.99950004, -179.9995], [(4.00004, -0.00001, 9.0), (1e-9, 0.0, 1.0)])
    first, second = loads_gapfill(raw).points
    assert (first.ts, first.lat, first.lon, first.cov_m2) == (10_000, 0.001, 179.9995, (4.0, 0.0, 9.0))
    assert (second.ts, second.lat, second.lon, second.cov_m2) == (30_000, 0.0, -179.9995, (0.0, 0.0, 1.0))
    assert b"-0.0," not in raw


def test_the_length_is_that_of_the_path_through_the_points() -> None:
    fill = loads_gapfill(published([0.001, 0.001], [180.0, -179.9995], [(1.0, 0.0, 1.0)] * 2))
    legs = [(0.001, 0.001), (0.0, 0.0005), (0.001, 0.0005)]  # degrees north and east
    assert fill.length_m == pytest.approx(M_PER_DEG * sum(np.hypot(*leg) for leg in legs), abs=0.006)


def test_the_largest_spread_is_in_whatever_direction_it_is() -> None:
    covs = [(4.0, 0.0, 9.0), (10.0, 9.0, 10.0), (1.0, 0.0, 1.0)]
    fill = loads_gapfill(published([0.001, 0.001], [180.0, 180.0], covs[:2]))
    assert fill.max_sigma_m == pytest.approx(np.sqrt(19.0), abs=0.006)


def test_a_fill_without_points_is_the_straight_line() -> None:
    fill = loads_gapfill(published([], [], []))
    assert (fill.points, fill.max_sigma_m) == ((), 0.0)
    assert fill.length_m == pytest.approx(M_PER_DEG * np.hypot(0.002, 0.002), abs=0.006)


def test_what_is_published_is_one_json_object() -> None:
    assert msgspec.json.decode(published([0.001], [180.0], [(1.0, 0.0, 1.0)]))["reason"] == "silence"
