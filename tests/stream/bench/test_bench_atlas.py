"""Tests what the benchmark of an atlas's versions measures: all pings of a fleet whose streets are shared."""

from __future__ import annotations

import numpy as np

from stream.bench.atlas import versions
from stream.bench.atlas.fleet import Fleet


def test_vehicles_share_streets() -> None:
    fleet = Fleet(40, every_s=60.0)
    pings = np.concatenate([fleet.round() for _ in range(200)])
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
