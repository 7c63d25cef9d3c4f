"""Tests what the benchmarks of an atlas measure: a version that is filled up and keeps what was found, and ratios of
runs side by side."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from model.api import Atlas
from model.atlas.buckets import COLUMN, OCTANT_BITS, ZOOM, tiles
from stream.bench.atlas import filled
from stream.bench.atlas.guided import in_turn
from stream.bench.atlas.latency import rows_of
from stream.bench.harness.line import Load, Measured
from stream.bench.harness.workload import Workload


def test_an_atlas_that_is_filled_up_has_what_was_found_and_copies_that_lie_in_their_cells_elsewhere() -> None:
    pings = list(Workload(100).rounds(40))
    few, many = (Atlas.of(filled.bytes_of(pings, passages)).passages for passages in (1, 20_000))
    assert 100 < len(few.known) < 10_000 < 20_000 <= len(many.known) < 21_000
    place = np.searchsorted(many.bucket, few.bucket)
    assert_array_equal(many.bucket[place], few.bucket)
    size = np.diff(many.stop, prepend=0)
    found = np.isin(np.repeat(many.bucket, size), few.bucket)
    for name in ("lat_e7", "lon_e7", "in_m", "velocity", "on", "known", "mark"):
        assert_array_equal(getattr(many, name)[found], getattr(few, name), name)
    column, row = tiles(many.lat_e7, many.lon_e7, ZOOM)
    assert_array_equal(column << COLUMN - OCTANT_BITS | row, np.repeat(many.bucket >> OCTANT_BITS, size))
    assert np.ptp(column) > 1_000 < np.ptp(row), "far apart"


def test_nothing_is_filled_up_with_nothing() -> None:
    with pytest.raises(ValueError, match="more pings"):
        filled.bytes_of(list(Workload(1).rounds(5)), 100)


def test_a_ratio_is_of_runs_side_by_side_and_not_of_the_medians() -> None:
    """A machine that is twice as slow in the second run is so with and without."""

    def runs(*p99s_ms: float) -> list[Measured]:
        return [Measured(1_000.0, [10.0] * 98 + [p99_ms] * 2, 0, 1.0, Load(0.5, None)) for p99_ms in p99s_ms]

    half, p99, core = rows_of(runs(20.0, 40.0, 20.0), runs(22.0, 44.0, 30.0))
    assert half == ("1,000 pings/s, p50 ms", 10.0, 10.0, 1.0, "0 %")
    assert p99 == ("1,000 pings/s, p99 ms", 20.0, 30.0, pytest.approx(1.1), "18 %")
    assert core[:3] == ("1,000 pings/s, worker, % of a core", 50.0, 50.0)


def test_who_is_measured_first_changes_with_each_run() -> None:
    assert [in_turn(number) for number in (1, 2, 3)] == [(False, True), (True, False), (False, True)]
