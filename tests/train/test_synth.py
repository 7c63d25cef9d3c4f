"""Invented towns: reproducible, clean enough to train on, from those who stay to those who leave."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from model.geo import F64, haversine_m
from train.data import Corpus, load
from train.synth import KINDS, MOST_PINGS, write


@pytest.fixture(scope="module")
def towns(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    directory = tmp_path_factory.mktemp("synth")
    write(directory / "towns.parquet", entities=64, seed=1)
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
    assert towns.pings <= 64 * MOST_PINGS


def test_there_are_all_kinds_at_many_cadences(towns: Corpus) -> None:
    assert {name.split("-")[0] for name in towns.names} == set(KINDS)
    cadence = [float(np.median(np.diff(towns.ts_ms[a:b]))) / 1000.0 for a, b in towns.tracks if b - a > 50]
    assert min(cadence) < 10
    assert max(cadence) > 60


def test_a_bus_goes_on_where_a_taxi_does_not(towns: Corpus) -> None:
    """What the file is for: over thirty times the time a taxi comes far less than thirty times the way."""
    grows = {kind: _way(towns, kind, 1_800) / _way(towns, kind, 60) for kind in ("taxi", "bus")}
    assert grows["taxi"] < 15
    assert grows["taxi"] < 0.8 * grows["bus"]
    assert 100 < _way(towns, "taxi", 60) < 700


def test_a_traveller_leaves_town_and_the_others_do_not(towns: Corpus) -> None:
    away = {kind: _way(towns, kind, 3_600) for kind in ("courier", "walker", "traveller")}
    assert away["traveller"] > 10_000
    assert max(away["courier"], away["walker"]) < 8_000


def test_taxis_take_fast_roads_and_come_back_from_out_of_town_and_buses_do_neither(towns: Corpus) -> None:
    """Or a model takes whatever is fast for a traveller, who goes on for hours."""
    fast = {kind: float(np.mean(_ways(towns, kind, 60) > 15 * 60)) for kind in ("taxi", "bus")}
    assert fast["taxi"] > 0.03
    assert fast["taxi"] > 3 * fast["bus"]  # whose few come of silences: the next ping is minutes later
    assert _ways(towns, "taxi", 1_200).max() > 15_000
    assert _way(towns, "taxi", 4 * 3_600) < 2 * _way(towns, "taxi", 1_200)


def _way(towns: Corpus, kind: str, seconds: int) -> float:
    return float(_ways(towns, kind, seconds).mean())


def _ways(towns: Corpus, kind: str, seconds: int) -> F64:
    """Metres between where one of a kind is and where it is that much later."""
    metres: list[float] = []
    for (first, last), entity in zip(towns.tracks, towns.entity, strict=True):
        if not towns.names[entity].startswith(kind):
            continue
        ts_s = towns.ts_ms[first:last] / 1000.0
        later = np.searchsorted(ts_s, ts_s + seconds)
        here = np.flatnonzero(later < len(ts_s))[::7] + first
        there = later[here - first] + first
        metres += haversine_m(towns.lat[here], towns.lon[here], towns.lat[there], towns.lon[there]).tolist()
    return np.array(metres)
