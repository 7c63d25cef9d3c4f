"""What the benchmarks of the atlas measure: a fleet whose streets are shared, and an atlas whose entries are found."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from model.api import Atlas
from model.atlas.cells import LEVELS, ZOOMS
from stream.adapters.files import Row
from stream.atlas.building import Rules, of_rows
from stream.bench.atlas import filled, versions
from stream.bench.atlas.fleet import Fleet
from stream.bench.harness.workload import Workload


def rounds(count: int, vehicles: int = 40, every_s: float = 60.0) -> list[Any]:
    fleet = Fleet(vehicles, every_s)
    return [fleet.round() for _ in range(count)]


def test_vehicles_share_streets() -> None:
    pings = np.concatenate(rounds(200))
    lines = [np.unique(np.rint(pings[name] / 2e3)) for name in ("lat_e7", "lon_e7")]  # some 20 m
    assert min(map(len, lines)) < len(pings) / 10


def test_a_version_is_of_every_ping_of_the_fleet() -> None:
    report = versions.run(versions.Options(vehicles=60, days=0.1), lambda text: None)
    numbers = report.numbers
    assert numbers["pings"] == 60 * 144
    assert sum(numbers["keys_by_level"]) == numbers["keys"] > 500
    assert all(numbers["keys_by_level"])
    assert numbers["bytes"] > 168 * numbers["keys"]
    assert numbers["peak_bytes"] > 2**20
    assert all(numbers[f"{name}_s"] > 0 for name in versions.TIMED)


@pytest.fixture(scope="module")
def pings() -> list[Any]:
    return list(Workload(100).rounds(20))


@pytest.mark.parametrize("keys", [1, 50_000])
def test_an_atlas_is_filled_up_around_what_was_counted(pings: list[Any], keys: int) -> None:
    counted, _ = of_rows(Row(one.entity_id.encode(), one.value, one.ts_ms) for one in pings).published(Rules())
    found = Atlas.of(filled.bytes_of(pings, keys)).sums
    assert len(found) == max(keys, len(counted))
    assert np.all(np.diff(found.key) > 0)
    place = np.searchsorted(found.key, counted.key)
    for name in ("key", "n", "off_cm", "off_cm2"):
        assert np.array_equal(getattr(found, name)[place], getattr(counted, name)), "what is found is what was counted"
    level = found.key >> 60
    assert level.max() < LEVELS
    for shift in (40, 20):
        assert np.all((found.key >> shift & 2**20 - 1) < 2 ** np.array(ZOOMS)[level])
