"""What the tests of the training loop share: a tiny model, a world that can be learned, and a kill."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from model.config import ModelConfig
from train.batches.options import BatchOptions, FitOptions
from train.data.corpus import Corpus
from train.fit.trainer import Tick

TINY = ModelConfig(name="tiny", d=32, blocks=2, heads=2, window=16)
BATCH = BatchOptions(rows=8, tokens=40)


class Crash(Exception):
    """A kill, as far as the loop can tell: control is lost between two steps."""


def circling(tracks: int = 12, pings: int = 150, *, seed: int = 0) -> Corpus:
    """Things that drive in circles of their own size: constant velocity is wrong in a way that can be learned."""
    rng = np.random.default_rng(seed)
    t = np.cumsum(rng.integers(8, 13, (tracks, pings)), axis=1)
    radius, speed = rng.uniform(300, 900, (tracks, 1)), rng.uniform(8, 15, (tracks, 1))
    angle = t * speed / radius + rng.uniform(0, 6, (tracks, 1))
    rows = tracks * pings
    start = np.arange(tracks, dtype=np.int64) * pings
    return Corpus(
        ts_ms=(1_480_000_000_000 + 1000 * t).reshape(rows).astype(np.int64),
        lat=(30 + radius * np.sin(angle) / 111_195).reshape(rows),
        lon=(-97 + radius * np.cos(angle) / 96_300).reshape(rows),
        speed_mps=np.full(rows, np.nan, np.float32),
        heading_deg=np.full(rows, np.nan, np.float32),
        tracks=np.stack([start, start + pings], axis=1),
        entity=np.arange(tracks, dtype=np.int32),
        file=np.zeros(tracks, np.int32),
        mode=np.full(tracks, -1, np.int32),
        file_start=np.array([0, rows], dtype=np.int64),
        file_entities=np.array([tracks]),
        names=tuple(f"car-{i}" for i in range(tracks)),
        files=("circles.parquet",),
        modes=(),
        fingerprint=f"circles-{seed}",
        dropped={},
    )


def options(out: Path, **changes: object) -> FitOptions:
    plain = FitOptions(out=out, steps=20, warmup=5, checkpoint_every=5, validate_every=8, threads=1, batch=BATCH)
    return replace(plain, **changes)  # type: ignore[arg-type]


def crash_after(step: int) -> Callable[[Tick], None]:
    def watch(tick: Tick) -> None:
        if tick.step == step:
            raise Crash

    return watch
