"""Compiles everything before the first ping comes, by answering a few synthetic pings.

A fresh installation compiles its kernels at their first use, which takes some seconds for all. `model.api` compiles its
own when it is loaded; those of the engine, which fold tracks and write answers, are compiled here, in an engine that is
thrown away.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from model.api import Predictor
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
