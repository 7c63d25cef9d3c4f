"""The pings that a topic still has, as the workers read them, up to its present end. Joins no group."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from model.arrivals.passages import Passages
from stream.adapters.live.on_topic import reader_of
from stream.config.security import PLAIN_KAFKA, KafkaSecurity
from stream.engine.pings import Pings
from stream.kafka.reading import to_end
from stream.kafka.records.record_columns import Records
from stream.services.arrivals.history.pings import Columns, Newest
from stream.tracks.clean import Foreign
from stream.wire import E7


class Live(NamedTuple):
    """Where the live pings are, and in what form."""

    bootstrap: str
    topic: str
    security: KafkaSecurity = PLAIN_KAFKA
    map: str | None = None  # as the workers have it


async def passages_of(live: Live, most_pings: int) -> Passages:
    """Returns the passages of the topic's newest pings.

    Raises ConnectionError if no broker answers or it stops answering, Refused if one denies access, ValueError if there
    is no such topic.
    """
    newest, numbers, foreign = Newest(most_pings), dict[str, int](), reader_of(live.map)
    async for chunk in to_end(live.bootstrap, live.topic, live.security):
        newest.add(_columns(chunk.records, numbers, foreign))
    return newest.passages()


def _columns(records: Records, numbers: dict[str, int], foreign: Foreign | None) -> Columns:
    """Returns the pings of some records. `numbers` has the number of each entity, and gets those that are new."""
    pings = Pings.read(records, foreign)
    rows = np.flatnonzero(pings.of >= 0)
    of_name = np.array([numbers.setdefault(name, len(numbers)) for name in pings.names], np.int64)
    fixes = pings.fixes[rows]
    return Columns(of_name[pings.of[rows]], fixes["ts_ms"].astype(np.int64), fixes["lat_e7"] / E7, fixes["lon_e7"] / E7)
