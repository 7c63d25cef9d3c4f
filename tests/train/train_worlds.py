"""Tiny track files of real shape, written by the tests themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from model.api import ModelConfig, Predictor
from model.kinematics.geo import M_PER_DEG
from model.network.checkpoint import to_parameters
from model.network.network import Network, build
from train.data.corpus import Corpus
from train.evaluation.forecasts import Sample
from train.experiments.lab.lab import Lab
from train.experiments.lab.report import Finding, write_report

START_MS = 1_211_018_404_000

Columns = Mapping[str, Sequence[Any]]
WriteFile = Callable[..., Path]
MakeCorpus = Callable[..., Corpus]
MakeSample = Callable[..., Sample]
LabOf = Callable[..., Lab]


def track(
    entity: str,
    times_s: Sequence[float],
    east_m: Sequence[float],
    north_m: Sequence[float] | None = None,
    *,
    lat: float = 37.75,
    lon: float = -122.4,
    start_ms: int = START_MS,
) -> dict[str, list[Any]]:
    """Columns of one entity that is east_m, north_m metres from (lat, lon) at times_s."""
    north = np.zeros(len(times_s)) if north_m is None else np.asarray(north_m, float)
    metres_per_deg_east = M_PER_DEG * np.cos(np.radians(lat))
    return {
        "entity_id": [entity] * len(times_s),
        "t": [start_ms + round(1000 * t) for t in times_s],
        "lat": (lat + north / M_PER_DEG).tolist(),
        "lon": (lon + np.asarray(east_m, float) / metres_per_deg_east).tolist(),
    }


def together(*tracks: Columns) -> dict[str, list[Any]]:
    """The rows of several tracks in one table."""
    return {name: [value for one in tracks for value in one[name]] for name in tracks[0]}


def wander(entity: str, pings: int, seed: int, *, cadence_s: float = 30.0, **place: Any) -> dict[str, list[Any]]:
    """A vehicle that turns, stops and goes, at an uneven cadence."""
    rng = np.random.default_rng(seed)
    dt_s = cadence_s * rng.uniform(0.8, 1.2, pings)
    heading = np.cumsum(rng.normal(0, 0.4, pings))
    speed_mps = np.where(rng.random(pings) < 0.2, 0.0, rng.uniform(3, 15, pings))
    east, north = np.cumsum(speed_mps * dt_s * np.sin(heading)), np.cumsum(speed_mps * dt_s * np.cos(heading))
    return track(entity, np.cumsum(dt_s).tolist(), east.tolist(), north.tolist(), **place)


def fleet(vehicles: int, pings: int, *, name: str = "v", seed: int = 0, **more: Any) -> dict[str, list[Any]]:
    """So many vehicles that wander, each by a seed of its own: v0, v1 and so on."""
    return together(*(wander(f"{name}{i}", pings, seed + i, **more) for i in range(vehicles)))


def reasons(corpus: Corpus) -> dict[str, int]:
    """Why rows were left out, and how many."""
    return {reason: count for reason, count in corpus.dropped.items() if count}


def lively(config: ModelConfig, *, precision: str = "int8") -> Predictor:
    """A predictor with random weights everywhere: zero heads, as an untrained one has, would hide a wrong state."""
    network = build(config, 0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    return following(network, precision=precision)


def following(network: Network, *, precision: str = "int8") -> Predictor:
    """A predictor of a network as it is now, which has the network as `net`, for what only training does with it."""
    predictor = Predictor(to_parameters(network), name="lively", capacity=4, precision=precision)
    predictor.net = network
    return predictor


def assert_it_becomes_a_report(finding: Finding, name: str, tmp_path: Path) -> None:
    """What every experiment's finding has to be, and what its written report has to hold."""
    assert "2511.20610" in finding.question
    assert finding.conclusion.endswith(".")
    assert "nan" not in finding.conclusion
    assert all(table.rows and len(row) == len(table.columns) for table in finding.tables for row in table.rows)
    assert all(line.y and np.isfinite(line.y).all() for picture in finding.pictures for line in picture.lines)
    report = write_report(finding, name, "command", tmp_path / "out", cpu_s=1.0, cores=2)
    assert finding.conclusion in report.read_text()
    assert str(tmp_path) not in report.read_text()
    assert len(list((tmp_path / "out").glob(f"{name}-*.svg"))) == len(finding.pictures) > 0
