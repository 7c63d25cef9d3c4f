"""Invented towns: reproducible, clean enough to train on, from those who stay to those who leave."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from model.kinematics.geo import haversine_m
from train.data.corpus import Corpus, load
from train.data.synth import KINDS, MOST_PINGS, TAXI, Leg, Town, _legs, write_towns

TOWN = Town(0.0, 0.0, radius_m=3_000.0, block_m=100.0, turn_rad=0.0, fast=0.5, outside=np.array([9_000.0, 9_000.0]))


@pytest.fixture(scope="module")
def towns(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    directory = tmp_path_factory.mktemp("synth")
    write_towns(directory / "towns.parquet", entities=64, seed=1)
    return load([directory / "towns.parquet"], directory / "cache")


def test_a_file_is_a_function_of_its_seed(tmp_path: Path) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        write_towns(tmp_path / name, entities=2, seed=seed)
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


def test_only_those_who_roam_take_fast_roads() -> None:
    """Or a model takes whatever is fast for a traveller, who goes on for hours."""
    fast = {(kind, share): _fast(TOWN._replace(fast=share), kind) for kind in ("taxi", "bus") for share in (0.0, 1.0)}
    assert fast["taxi", 1.0] > fast["taxi", 0.0] + 0.15
    assert fast["bus", 1.0] == fast["bus", 0.0]


@pytest.mark.parametrize("kind", KINDS)
def test_taxis_alone_are_taken_out_of_town_and_come_back(kind: str) -> None:
    at = np.array([(leg.x, leg.y) for leg in _some_legs(TOWN, kind)])
    out = np.flatnonzero(np.hypot(*(at - TOWN.outside).T) < 1.0)
    assert (len(out) > 0) == (kind == TAXI)
    if kind == TAXI:
        back = np.flatnonzero(np.hypot(*at.T) <= TOWN.radius_m)
        assert back.max() > out.min()


def _some_legs(town: Town, kind: str) -> list[Leg]:
    return list(islice(_legs(np.random.default_rng(0), town, kind, np.zeros(2), []), 5_000))


def _fast(town: Town, kind: str) -> float:
    """The part of a thing's way that it goes faster than 13 m/s."""
    legs = _some_legs(town, kind)
    metres = np.hypot(*np.diff([(leg.x, leg.y) for leg in legs], axis=0).T)
    mps = metres / [leg.seconds for leg in legs[1:]]
    return float(metres[mps > 13].sum() / metres.sum())


def _way(towns: Corpus, kind: str, seconds: int) -> float:
    """Metres between where one of a kind is and where it is that much later, on average."""
    metres: list[float] = []
    for (first, last), entity in zip(towns.tracks, towns.entity, strict=True):
        if not towns.names[entity].startswith(kind):
            continue
        ts_s = towns.ts_ms[first:last] / 1000.0
        later = np.searchsorted(ts_s, ts_s + seconds)
        here = np.flatnonzero(later < len(ts_s))[::7] + first
        there = later[here - first] + first
        metres += haversine_m(towns.lat[here], towns.lon[here], towns.lat[there], towns.lon[there]).tolist()
    return float(np.mean(metres))


def test_the_vehicles_of_a_fleet_meet_on_their_streets_and_days(tmp_path: Path) -> None:
    """So that an atlas learns of them, as it does not of towns where only the directions of streets are shared."""
    shared = {}
    for per_town in (8, 32):
        file = tmp_path / f"{per_town}.parquet"
        write_towns(file, entities=32, seed=2, per_town=per_town)
        corpus = load([file], tmp_path / "cache")
        length = corpus.tracks[:, 1] - corpus.tracks[:, 0]
        rows = np.concatenate([np.arange(first, stop) for first, stop in corpus.tracks])
        cells = np.floor(np.stack([corpus.lat[rows], corpus.lon[rows]]) * 1_000).astype(np.int64)
        seen = np.unique(np.column_stack([*cells, np.repeat(corpus.entity, length)]), axis=0)
        _, entities = np.unique(seen[:, :2], axis=0, return_counts=True)
        shared[per_town] = float((entities >= 3).mean())
        days = np.unique(corpus.ts_ms[rows] // 86_400_000)
        assert per_town == 8 or len(days) <= 4
    assert shared[32] > 0.1
    assert shared[32] > 3 * shared[8]
