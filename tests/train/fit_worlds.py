"""What the tests of the training loop share: a tiny model, a world that can be learned, and a kill."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from model.config import ModelConfig
from model.kinematics.geo import F64
from train.batches.options import BatchOptions, FitOptions
from train.data.corpus import Corpus
from train.fit.trainer import Report, Tick

TINY = ModelConfig(name="tiny", d=32, blocks=2, heads=2, window=16)
BATCH = BatchOptions(rows=8, tokens=40)
# A rate that rises until it spoils the weights.
SPOILT = {"steps": 60, "lr": 0.3, "warmup": 30, "validate_every": 3, "optimizer": "adamw", "bfloat16": False}


class Crash(Exception):
    """A kill, as far as the loop can tell: control is lost between two steps."""


def circling(tracks: int = 12, pings: int = 150, *, seed: int = 0) -> Corpus:
    """Things that drive in circles of their own size: constant velocity is wrong in a way that can be learned."""
    rng = np.random.default_rng(seed)
    t = np.cumsum(rng.integers(8, 13, (tracks, pings)), axis=1)
    radius, speed = rng.uniform(300, 900, (tracks, 1)), rng.uniform(8, 15, (tracks, 1))
    angle = t * speed / radius + rng.uniform(0, 6, (tracks, 1))
    lat, lon = 30 + radius * np.sin(angle) / 111_195, -97 + radius * np.cos(angle) / 96_300
    return corpus_of(1_480_000_000_000 + 1000 * t, lat, lon, f"circles-{seed}")


def corpus_of(ts_ms: NDArray[np.int64], lat: F64, lon: F64, fingerprint: str) -> Corpus:
    """A corpus of columns [tracks, pings]: each track is of an entity of its own, which reports nothing."""
    tracks, pings = ts_ms.shape
    rows, start = tracks * pings, np.arange(tracks, dtype=np.int64) * pings
    return Corpus(
        ts_ms=ts_ms.reshape(rows).astype(np.int64),
        lat=lat.reshape(rows),
        lon=lon.reshape(rows),
        speed_mps=np.full(rows, np.nan, np.float32),
        heading_deg=np.full(rows, np.nan, np.float32),
        tracks=np.stack([start, start + pings], axis=1),
        entity=np.arange(tracks, dtype=np.int32),
        file=np.zeros(tracks, np.int32),
        mode=np.full(tracks, -1, np.int32),
        file_start=np.array([0, rows], dtype=np.int64),
        file_entities=np.array([tracks]),
        names=tuple(f"car-{i}" for i in range(tracks)),
        files=(f"{fingerprint.partition('-')[0]}.parquet",),
        modes=(),
        fingerprint=fingerprint,
        dropped={},
    )


def options(out: Path, **changes: object) -> FitOptions:
    plain = FitOptions(out=out, steps=20, warmup=5, checkpoint_every=5, validate_every=8, threads=1, batch=BATCH)
    return replace(plain, **changes)  # type: ignore[arg-type]


def assert_same(one: Report, other: Report) -> None:
    """The same run to the bit: its losses, its validations and its weights."""
    assert (one.steps, one.losses, one.validations) == (other.steps, other.losses, other.validations)
    theirs = other.network.state_dict()
    for name, tensor in one.network.state_dict().items():
        assert torch.equal(tensor, theirs[name]), name


def crash_after(step: int) -> Callable[[Tick], None]:
    def watch(tick: Tick) -> None:
        if tick.step == step:
            raise Crash

    return watch
