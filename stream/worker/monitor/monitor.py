"""Monitors one worker from inside: takes readings, logs what is wrong, and answers the three pages.

It only reads Delivery, Engine and the consumer, and changes none of them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Final, Protocol

import msgspec

from stream.delivery.delivery import Delivery
from stream.delivery.waiting_pings import Versions
from stream.engine.engine import Engine
from stream.http.pages import Answer, Page
from stream.kafka.log import Partition
from stream.worker.monitor import broker_monitor
from stream.worker.monitor.broker_monitor import BrokerMonitor, Silence
from stream.worker.monitor.health import Held, Reading, kafka_away, unready, unwell
from stream.worker.monitor.metrics import CONTENT_TYPE, HISTOGRAMS, Exposition

log = logging.getLogger(__name__)

CHECK_S: Final = 1.0  # between two looks at the accounts


class Consumer(broker_monitor.Consumer, Protocol):
    """States what this module needs of the consumer. `stream.worker.faust_driver.Consumer` is one."""

    def log_end(self, partition: Partition) -> int | None:
        """Returns where the partition's log ends, by the last answered fetch; None if that is unknown."""


class Monitor:
    def __init__(
        self,
        delivery: Delivery,
        engine: Engine,
        consumer: Consumer,
        versions: Versions | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`clock` returns seconds and never goes back."""
        self._delivery = delivery
        self._engine = engine
        self._consumer = consumer
        self._versions = versions
        self._brokers = BrokerMonitor(consumer, clock)
        self._clock = clock
        self._away_since_s: float | None = None  # since when Kafka is away, once that was logged; None if it is not
        self._exposition = Exposition()
        self._rendering = asyncio.Lock()
        self._wrong: dict[int, int] = {}  # by partition, the unaccounted records that were logged last

    def read(self) -> Reading:
        """Returns a reading of this moment. Call it only on the event loop, where nothing changes meanwhile."""
        status, accounts, entities = self._delivery.status(), self._delivery.accounts, self._engine.entities
        silence = self._brokers.look()
        atlases = {} if self._versions is None else self._versions.in_use
        unknown = set(silence.away_partitions)
        stored, held = self._engine.stored_entities, {}
        for one in status.partitions:
            known = one.ready and one.partition not in unknown
            end = self._consumer.log_end(one.partition) if known else None
            in_slots, in_quarantine = entities.get(one.partition, (0, 0))
            held[one.partition[1]] = Held(
                ready=one.ready,
                waiting=one.waiting,
                at_work=one.at_work,
                behind=one.next_offset - one.saved,
                # A log that ends before what is answered is not a lag of 0: a new leader may have to catch up, or the
                # log was truncated, which the next records or the next takeover will show.
                lag=None if end is None or end < one.next_offset else end - one.next_offset,
                fetch_age_s=silence.fetch_ages_s.get(one.partition),
                entities=in_slots,
                in_quarantine=in_quarantine,
                stored=stored.get(one.partition, 0),
                unread=one.unread,
                undecided=one.undecided,
                atlas=atlases.get(one.partition[1]),
            )
        return Reading(
            worker=(self._engine.version, self._engine.model.name, self._engine.model.version),
            assigned=status.assigned,
            draining=status.draining,
            store_away=bool(status.away),
            networks=[(one.name, one.version) for one in self._engine.networks],
            refused={} if self._versions is None else self._versions.refused,
            announcements_refused=0 if self._versions is None else self._versions.announcements_refused,
            silence=silence,
            batch_s=status.batch_s,
            accounts={number: replace(account) for (_, number), account in accounts.accounts.items()},
            counts={number: replace(counts) for (_, number), counts in self._engine.counts.items()},
            held=held,
            checkpoints_failed=accounts.checkpoints_failed,
            batches_failed=accounts.batches_failed,
            fenced=accounts.fenced,
            rejects=dict(accounts.rejects),
            fields_dropped=dict(accounts.fields_dropped),
            times={name: getattr(accounts, name).read() for name in HISTOGRAMS},
        )

    # -- the alarms ---------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Checks the worker every CHECK_S, whether or not anybody scrapes, until it is cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._brokers.run())
            tasks.create_task(self._check_often())

    async def _check_often(self) -> None:
        while True:
            await asyncio.sleep(CHECK_S)
            try:
                self.check()
            except Exception:  # any error: the monitor must not end the worker
                log.exception("cannot check the accounts")

    def check(self) -> None:
        """Logs what is wrong: once, and again when that changes."""
        reading = self.read()
        self._check_accounts(reading)
        self._check_kafka(reading.silence)

    @property
    def kafka_is_away(self) -> bool:
        """Returns whether it was logged that Kafka is away."""
        return self._away_since_s is not None

    def _check_kafka(self, silence: Silence) -> None:
        if silence.away and self._away_since_s is None:
            self._away_since_s = self._clock() - silence.longest_s
            log.warning("%s; pings wait until it answers", kafka_away(silence))
        elif not silence.away and self._away_since_s is not None:
            log.warning("Kafka is back after %.0f s", self._clock() - self._away_since_s)
            self._away_since_s = None

    def _check_accounts(self, reading: Reading) -> None:
        """Logs an error for every partition whose records do not add up."""
        unaccounted = reading.unaccounted
        for number, value in unaccounted.items():
            if value != self._wrong.get(number, 0):
                log.error(*_describe(number, value))
        self._wrong = {number: value for number, value in unaccounted.items() if value}

    # -- the pages ----------------------------------------------------------------------------------------------------

    def pages(self) -> dict[str, Page]:
        """Returns the pages, by path. Probes are open, so that an orchestrator needs no secret; the metrics are not,
        because they have the counts of a business."""
        return {
            "/metrics": Page(self._metrics, open=False),
            "/healthz": Page(partial(self._probe, unwell), open=True),
            "/readyz": Page(partial(self._probe, unready), open=True),
        }

    async def _metrics(self) -> Answer:
        async with self._rendering:
            return Answer(200, CONTENT_TYPE, await asyncio.to_thread(self._exposition.render, self.read()))

    async def _probe(self, why: Callable[[Reading], list[str]]) -> Answer:
        reasons = why(self.read())
        body = msgspec.json.encode({"ok": not reasons, "reasons": reasons})
        return Answer(503 if reasons else 200, "application/json", body + b"\n")


def _describe(number: int, value: int) -> tuple[Any, ...]:
    if value:
        what = "lost" if value > 0 else "settled twice"
        return "partition %d does not add up: %d records are %s; please report it", number, abs(value), what
    return "partition %d adds up again, which it should not either", number
