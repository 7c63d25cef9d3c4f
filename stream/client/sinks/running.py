"""Runs one sink: reads forecasts, writes them, and only then commits their offsets.

So each forecast is written at least once, and a store must take a copy without harm. While Kafka or the store is away,
the sink says so and waits; nothing is skipped.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from stream.client.connecting import TopicAddress
from stream.client.filter import FORECASTS, RecordFilter, SeenIds, Since
from stream.client.reader import Batch, Reader, Received
from stream.config import failpoints
from stream.config.security import in_words
from stream.config.times import LOOK_S, Pacer
from stream.wire import Forecast

log: Final = logging.getLogger(__name__)

POLL_S: Final = 0.5  # how soon a signal has an effect
GATHER_S: Final = 0.1  # between two batches that are not full: one write for what comes meanwhile
BATCH_RECORDS: Final = 2_000
COMMIT_S: Final = 1.0
TIDY_S: Final = 5.0
FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 15.0
REMEMBERED: Final = 65_536  # ids of forecasts; a copy is not written again
CONNECT_S: Final = 30.0


class Store(Protocol):
    """Takes forecasts. Its errors `away` are waited out; all others end the sink."""

    away: tuple[type[Exception], ...]
    name: str  # for people, without a secret

    async def open(self) -> None:
        """Connects, and makes what is missing. Raises ConnectionError, Refused or ValueError."""

    async def write(self, received: Sequence[Received[Forecast]]) -> int:
        """Writes forecasts, each of which may have been written before. Returns how many were news to the store."""

    async def tidy(self, now_ms: int) -> int:
        """Removes entities that have gone silent. Returns how many."""

    async def close(self) -> None: ...


@dataclass
class SinkCounts:
    read: int = 0
    copies: int = 0
    written: int = 0
    silent: int = 0  # entities that were removed


class Sink:
    """Reads as one member of a group, and writes to one store."""

    def __init__(self, where: TopicAddress, store: Store, since: Since, *, once: bool) -> None:
        """`since` counts where the group has no offset. With `once` it ends at the end that the topic has now."""
        self.counts = SinkCounts()
        self._where = where
        self._store = store
        self._reader = Reader(
            where, FORECASTS, wanted=RecordFilter(), since=since, follow=not once, connect_s=CONNECT_S
        )
        self._seen = SeenIds(REMEMBERED)
        self._stopping = asyncio.Event()
        self._committed_s = self._tidied_s = time.monotonic()

    def stop(self) -> None:
        """Lets `run` end after the batch that it is at."""
        self._stopping.set()

    async def run(self) -> None:
        """Raises as `Reader.poll` and `Store.open`, and whatever the store raises that is not `away`."""
        await self._store.open()
        report = asyncio.create_task(self._report())
        try:
            while not self._stopping.is_set():
                batch = await self._reader.poll(POLL_S, BATCH_RECORDS)
                if batch.passed and not await self._patiently(lambda batch=batch: self._write(batch)):  # type: ignore[misc]
                    break
                await self._commit(at_once=self._reader.at_end)
                if time.monotonic() - self._tidied_s >= TIDY_S:
                    await self._patiently(self._tidy)
                if self._reader.at_end:
                    break
                if len(batch.records) < BATCH_RECORDS:
                    await asyncio.sleep(GATHER_S)
            await self._commit(at_once=True)
        finally:
            report.cancel()
            await self._reader.close()
            await self._store.close()
        self._log_counts()

    async def _write(self, batch: Batch[Forecast]) -> None:
        news = [one for one in batch.records if self._seen.is_new(one.record.forecast_id)]
        failpoints.reach("before_write")
        try:
            written = await self._store.write(news) if news else 0
        except BaseException:
            for one in news:
                self._seen.forget(one.record.forecast_id)
            raise
        failpoints.reach("after_write")
        self.counts.read += len(batch.records)
        self.counts.copies += len(batch.records) - len(news)
        self.counts.written += written
        self._reader.done(batch.passed)

    async def _tidy(self) -> None:
        self.counts.silent += await self._store.tidy(time.time_ns() // 1_000_000)
        self._tidied_s = time.monotonic()

    async def _commit(self, *, at_once: bool) -> None:
        if at_once or time.monotonic() - self._committed_s >= COMMIT_S:
            await self._reader.commit()
            self._committed_s = time.monotonic()

    async def _patiently(self, work: Callable[[], Awaitable[None]]) -> bool:
        """Does the work, again and again while the store is away. Returns False if `stop` came before it was done."""
        away_s, pause_s = None, FIRST_PAUSE_S
        while True:
            try:
                await work()
            except self._store.away as error:
                if away_s is None:
                    away_s = time.monotonic()
                    log.warning("%s is away (%s); it is tried again", self._store.name, in_words(error))
            else:
                if away_s is not None:
                    log.info("%s answers again after %.0f s", self._store.name, time.monotonic() - away_s)
                return True
            if self._stopping.is_set():
                return False
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _report(self) -> None:
        pacer = Pacer(self.counts.read, time.monotonic())
        while True:
            await asyncio.sleep(LOOK_S)
            if pacer.take_line(self.counts.read, time.monotonic()) is not None:
                self._log_counts()

    def _log_counts(self) -> None:
        found = self.counts
        what = (found.read, found.copies, found.written, found.silent)
        log.info("%d forecasts read, %d copies among them, %d written; %d silent entities removed", *what)
