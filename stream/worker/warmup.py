"""Compiles everything before the first ping comes, by answering a few synthetic pings.

A fresh installation compiles its kernels at their first use, which takes some seconds for all. `model.api` compiles its
own when it is loaded; those of the engine, which fold tracks and write answers, are compiled here, in an engine that is
thrown away.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import Final

import numpy as np
import typer

from model.api import Predictor
from model.jit import cache_folders, compiling
from stream.config.settings import Settings
from stream.engine.engine import Engine
from stream.kafka.records import record_batches
from stream.kafka.records.record_columns import Head, Records
from stream.store.base import MemoryStore, Partition
from stream.wire import Ping, Record, dumps

NOWHERE: Final[Partition] = ("", 0)
NOBODY: Final = "nobody"
THEN_MS: Final = 1_700_000_000_000
SECONDS: Final = (*range(0, 100, 10), 400, 410)  # steady pings, then a gap that is filled
LAT_PER_S, LON_PER_S = 7e-5, 3e-5  # some 8 m/s


async def warm(predictor: Predictor, settings: Settings) -> None:
    """Answers a few synthetic pings. Blocks; afterwards the predictor has as many free slots as before."""
    if settings.atlases is not None:
        predictor.warm_atlas()
    engine = Engine(predictor, MemoryStore(), settings)
    engine.placement.partitions = 1
    pings = [
        Ping(entity_id=NOBODY, ts=THEN_MS + 1000 * s, lat=LAT_PER_S * s, lon=LON_PER_S * s, speed_mps=8.0)
        for s in SECONDS
    ]
    record_batches.read(b"", 0, NOWHERE)
    Records.unframed(np.empty(0, np.uint8), NOWHERE, np.empty((0, len(Head._fields)), np.int64))
    records = [Record(*NOWHERE, offset, ping.ts, NOBODY.encode(), dumps(ping)) for offset, ping in enumerate(pings)]
    await engine.process(records, started_ms=0.0, fetched_ms=0.0)
    await engine.checkpoint(NOWHERE, 0, len(records))
    engine.drop(NOWHERE)
    await engine.process([], started_ms=0.0, fetched_ms=0.0)  # gives the slot back


def warm_machine(weights: str, *, as_json: bool) -> None:
    """Compiles the kernels of a worker for this machine's processor, keeps them on disk, and says where.

    Raises OSError if no folder can be written.
    """
    if not (folders := cache_folders()):
        raise OSError("no folder can be written in which kernels would be kept: set NUMBA_CACHE_DIR to one that can")
    began_s = time.monotonic()
    with compiling(lambda line: typer.echo(line, err=True)):
        predictor = Predictor.load(weights, capacity=16)
        predictor.warm_atlas()
        asyncio.run(warm(predictor, Settings(weights=weights)))
    seconds = round(time.monotonic() - began_s, 1)
    if as_json:
        made = {"weights": weights, "layers": predictor.layers, "cpu": predictor.instructions}
        typer.echo(json.dumps({**made, "seconds": seconds, "folders": list(map(str, folders))}))
        return
    kinds = f"layers in {predictor.layers}, CPU vectors: {predictor.instructions}"
    typer.echo(f"kernels for weights {weights} ({kinds}) are ready after {seconds} s, kept in:")
    for folder in folders:
        typer.echo(f"  {folder}")
