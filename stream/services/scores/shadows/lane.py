"""One shadow in one partition: an engine that folds the partition's pings, and what it says of them. It uses no broker
and publishes nothing.

Its forecasts are those that a worker with these weights would publish, without an atlas. They depend on the pings from
the one on that it began with, and on nothing else, as long as there are no more entities than `most`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

from model.api import Predictor
from stream.config.settings import UNLIMITED, Settings
from stream.engine.engine import Engine
from stream.kafka.records.encoded_batches import Answers
from stream.kafka.records.record_columns import Records
from stream.store.base import Item, MemoryStore, Partition

# Forecasts of pings that no published forecast was seen of are forgotten when the pings are so far behind: a worker may
# publish the forecasts of a batch (8,192 pings) in another order than that of its pings.
KEPT: Final = 16_384
SPARE: Final = 1.25  # of `most`: beyond it entities are forgotten, down to `most`


class _Nothing(MemoryStore):
    """A store that keeps nothing: who leaves memory is forgotten, and starts anew."""

    async def put_many(
        self, partition: Partition, epoch: int, next_offset: int | None, items: Mapping[str, Item]
    ) -> list[str]:
        return []


class Lane:
    """One shadow in one partition."""

    def __init__(self, predictor: Predictor, pings: Partition, settings: Settings, *, first: int, most: int) -> None:
        """Takes a predictor of its own; `first`, the first ping to answer; and how many entities it follows at most."""
        self._engine = Engine(
            predictor, _Nothing(), settings, run=asyncio.to_thread, clock_ms=lambda: 0.0, max_resident=most
        )
        self._pings = pings
        self._topic = settings.topics.forecasts
        self._first = first
        self._most = most
        self._said: dict[int, bytes] = {}  # by offset of the ping
        self.folded = 0

    @property
    def entities(self) -> int:
        return self._engine.entities.get(self._pings, (0, 0))[0]

    async def fold(self, records: Records) -> None:
        """Folds the next pings, in the order of their offsets. Those from `first` on are answered."""
        before, rest = records.before(self._first), records.since(self._first)
        for some, silent in ((before, True), (rest, False)):
            if len(some):
                answers = await self._engine.process(some, started_ms=0.0, fetched_ms=0.0, silent=silent)
                self._said |= _forecasts(answers, self._topic)
        self.folded += len(records)
        self._forget(records.next_offset - KEPT)
        if self.entities > SPARE * self._most:
            await self._engine.checkpoint(self._pings, 0, records.next_offset)

    def take(self, offset: int) -> bytes | None:
        """Returns the forecast of this ping once, and None from then on, and for a ping without a forecast."""
        return self._said.pop(offset, None)

    def _forget(self, below: int) -> None:
        for offset in [one for one in self._said if one < below]:
            del self._said[offset]


def _forecasts(answers: Answers, topic: str) -> dict[int, bytes]:
    """Returns the forecasts among the answers, by the offset of their ping."""
    offsets = answers.records.offsets
    return {
        int(offsets[row]): value or b""
        for page in answers.pages
        if page.topic == topic
        for row, (_, value, _) in zip(page.rows.tolist(), page.read(), strict=True)
    }


def engine_settings(prefix: str, horizons_s: tuple[float, ...], map_: str | None = None) -> Settings:
    """Returns the settings of a lane's engine. It refuses no new entity: it forgets old ones."""
    return Settings(prefix=prefix, horizons_s=horizons_s, max_stored_entities=UNLIMITED, map=map_)
