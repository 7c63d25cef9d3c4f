"""Invented towns: reproducible, clean enough to train on, and unlike a bus: displacements stop growing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from model.geo import haversine_m
from train.data import Corpus, load
from train.synth import KINDS, MOST_PINGS, write


@pytest.fixture(scope="module")
def towns(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    directory = tmp_path_factory.mktemp("synth")
    write(directory / "towns.parquet", entities=24, seed=1)
    return load([directory / "towns.parquet"], directory / "cache")


def test_a_file_is_a_function_of_its_seed(tmp_path: Path) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        write(tmp_path / name, entities=2, seed=seed)
    a, b, c = (pq.read_table(tmp_path / name) for name in "abc")
    assert a.equals(b)
    assert not a.equals(c)


def test_every_ping_is_one_and_nobody_flies(towns: Corpus) -> None:
    assert sum(towns.dropped.values()) == 0
    rows = np.concatenate([np.arange(*track) for track in towns.tracks])
    inside = np.diff(rows) == 1
    metres = haversine_m(towns.lat[rows[:-1]], towns.lon[rows[:-1]], towns.lat[rows[1:]], towns.lon[rows[1:]])
    seconds = np.diff(towns.ts_ms[rows]) / 1000.0
    assert (metres <= 50 * seconds)[inside].mean() > 0.999
    assert towns.pings <= 24 * MOST_PINGS


def test_there_are_all_kinds_at_many_cadences(towns: Corpus) -> None:
    assert {name.split("-")[0] for name in towns.names} == set(KINDS)
    cadence = [float(np.median(np.diff(towns.ts_ms[a:b]))) / 1000.0 for a, b in towns.tracks if b - a > 50]
    assert min(cadence) < 10
    assert max(cadence) > 60


def test_a_taxi_does_not_get_on_as_a_bus_on_a_motorway_would(towns: Corpus) -> None:
    """What the file is for: over ten times the time, far less than ten times the way."""
    ways = {60: [], 900: []}  # type: dict[int, list[float]]
    for (first, last), entity in zip(towns.tracks, towns.entity, strict=True):
        if not towns.names[entity].startswith("taxi"):
            continue
        ts_s = towns.ts_ms[first:last] / 1000.0
        for horizon_s, way in ways.items():
            later = np.searchsorted(ts_s, ts_s + horizon_s)
            here = np.flatnonzero(later < len(ts_s))[::7] + first
            there = later[here - first] + first
            way += haversine_m(towns.lat[here], towns.lon[here], towns.lat[there], towns.lon[there]).tolist()
    assert 100 < np.mean(ways[60]) < 700
    assert np.mean(ways[900]) < 8 * np.mean(ways[60])
