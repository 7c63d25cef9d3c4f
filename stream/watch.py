"""Watches one worker from inside: takes readings, sounds the alarm of the accounts, answers the three pages.

Knows Delivery, Engine and the consumer by what they tell; changes none of them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Final

import msgspec

from stream.delivery import Delivery
from stream.engine import Engine
from stream.health import Held, Reading, unready, unwell
from stream.metrics import CONTENT_TYPE, HISTOGRAMS, Exposition
from stream.source import Partition
from stream.web import Answer, Page

log = logging.getLogger(__name__)

CHECK_S: Final = 1.0  # between two looks at the accounts


class Watch:
    """`log_end` tells where a partition's log ends, as far as the consumer has heard."""

    def __init__(self, delivery: Delivery, engine: Engine, log_end: Callable[[Partition], int | None]) -> None:
        self._delivery = delivery
        self._engine = engine
        self._log_end = log_end
        self._exposition = Exposition()
        self._rendering = asyncio.Lock()
        self._wrong: dict[int, int] = {}  # what the alarm said last

    def read(self) -> Reading:
        """Everything at this moment. On the event loop only, where nothing moves meanwhile."""
        status, tally, entities = self._delivery.status(), self._delivery.tally, self._engine.entities
        stored, held = self._engine.stored_entities, {}
        for one in status.partitions:
            end = self._log_end(one.partition) if one.ready else None
            in_slots, in_quarantine = entities.get(one.partition, (0, 0))
            held[one.partition[1]] = Held(
                ready=one.ready,
                waiting=one.waiting,
                at_work=one.at_work,
                behind=one.next_offset - one.saved,
                # A log that ends before what is answered is no lag of 0: a new leader may have to catch up, or the log
                # was shortened, which the next records or the next takeover tell.
                lag=None if end is None or end < one.next_offset else end - one.next_offset,
                entities=in_slots,
                in_quarantine=in_quarantine,
                stored=stored.get(one.partition, 0),
                unread=one.unread,
            )
        return Reading(
            worker=(self._engine.version, self._engine.model.name, self._engine.model.version),
            assigned=status.assigned,
            draining=status.draining,
            store_away=bool(status.away),
            batch_s=status.batch_s,
            accounts={number: replace(account) for (_, number), account in tally.accounts.items()},
            counts={number: replace(counts) for (_, number), counts in self._engine.counts.items()},
            held=held,
            checkpoints_failed=tally.checkpoints_failed,
            batches_failed=tally.batches_failed,
            fenced=tally.fenced,
            rejects=dict(tally.rejects),
            fields_dropped=dict(tally.fields_dropped),
            times={name: getattr(tally, name).read() for name in HISTOGRAMS},
        )

    # -- the alarm ----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Look at the accounts now and then, whoever scrapes. Runs until cancelled."""
        while True:
            await asyncio.sleep(CHECK_S)
            try:
                self.check()
            except Exception:  # whatever it is: who watches must not end what he watches
                log.exception("cannot check the accounts")

    def check(self) -> None:
        """An error in the log for every partition whose records do not add up, once, and again when that changes."""
        unaccounted = self.read().unaccounted
        for number, value in unaccounted.items():
            if value != self._wrong.get(number, 0):
                log.error(*_said(number, value))
        self._wrong = {number: value for number, value in unaccounted.items() if value}

    # -- the pages ----------------------------------------------------------------------------------------------------

    def pages(self) -> dict[str, Page]:
        """Probes are open, so that an orchestrator needs no secret; the counts of a business are not."""
        return {
            "/metrics": Page(self._metrics, open=False),
            "/healthz": Page(partial(self._probed, unwell), open=True),
            "/readyz": Page(partial(self._probed, unready), open=True),
        }

    async def _metrics(self) -> Answer:
        async with self._rendering:
            return Answer(200, CONTENT_TYPE, await asyncio.to_thread(self._exposition.render, self.read()))

    async def _probed(self, why: Callable[[Reading], list[str]]) -> Answer:
        reasons = why(self.read())
        body = msgspec.json.encode({"ok": not reasons, "reasons": reasons})
        return Answer(503 if reasons else 200, "application/json", body + b"\n")


def _said(number: int, value: int) -> tuple[Any, ...]:
    if value:
        what = "lost" if value > 0 else "settled twice"
        return "partition %d does not add up: %d records are %s; please report it", number, abs(value), what
    return "partition %d adds up again, which it should not either", number
