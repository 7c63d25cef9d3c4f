"""Implements the delivery guarantee of README.md, "What is promised": the order in which everything is written.

Each batch takes these steps in this order, each only after the one before it succeeded:

    engine answers -> the broker has every answer -> the offsets are committed -> the input is retired
                      `-------- one transaction under exactly_once --------'
                   -> now and then, the states go to Redis ("write-behind")

While the broker takes one batch's answers, the engine processes the next batch; and while the broker takes the answers
of that one, the first batch's offsets may still be on their way. There is no third batch, so a batch waits for at most
two others.

A crash anywhere leaves the input uncommitted, and it is read again: answers may be published twice with the same id,
which exactly_once prevents; none is lost. A checkpoint c is never ahead of the committed offset k. A worker that takes
a partition over folds [c, k) into the states without publishing, then continues from k.

    who                                                            while Redis is away
    takeover   asks the group, fences, claims an epoch, replays    waits, and so does its partition
    pump       one batch at a time, from open partitions           a partition that needs a stored state waits for it, a
                                                                   few seconds (`cold_reads`); others continue
    checkpoint writes what changed, under the epoch                retries; at MAX_UNSAVED records its partition waits

States that may be wrong (the engine failed half-way, Redis lost what we wrote, another worker claimed the partition)
are dropped, and the partition is taken over again: only the checkpoint and the log give sound states. If neither that
nor waiting helps, `run` ends with the error: the worker stops, and has committed nothing of that batch.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from stream.config.settings import Settings
from stream.config.wording import place
from stream.delivery.accounts import Accounts
from stream.delivery.checkpointer import Checkpointer
from stream.delivery.cold_reads import ColdReads
from stream.delivery.committer import Committer
from stream.delivery.holds import Holds, Versions
from stream.delivery.inbox import Inbox, Limits
from stream.delivery.outages import Outages
from stream.delivery.ownership.continuity import Continuity
from stream.delivery.ownership.ownership import Ownership
from stream.delivery.ownership.takeover import Takeover
from stream.delivery.partitions import Guarantee, InputLog, PartitionStatus, Piece, Status
from stream.delivery.processing import Processing
from stream.engine.engine import Engine
from stream.kafka.log import Partition
from stream.kafka.records.record_columns import Records
from stream.store.base import Store

if TYPE_CHECKING:  # who does not trace does not import it
    from stream.tracing.tracer import Tracer

log = logging.getLogger(__name__)


def now_ms() -> float:
    return time.time() * 1000


class Delivery:
    """Moves records from `put` through the engine to the broker, in step with offsets and checkpoints."""

    def __init__(
        self,
        settings: Settings,
        engine: Engine,
        store: Store,
        guarantee: Guarantee,
        input_log: InputLog,
        *,
        versions: Versions | None = None,
        clock: Callable[[], float] = now_ms,
        tracer: Tracer | None = None,
    ) -> None:
        """Takes `versions`, if forecasts are to ask some, and `tracer`, if pings are to be traced."""
        self._store = store  # `close` closes it
        self._guarantee = guarantee
        self._clock = clock
        self.accounts = Accounts(settings.topics)
        self._inbox = Inbox(Limits(settings.max_batch, settings.max_wait_ms), self.accounts, input_log)
        self._news = asyncio.Event()  # set when the pump has something to look at
        self._outages = Outages()
        self._checkpointer = Checkpointer(
            engine, settings.checkpoint_ms, clock, self.accounts, self._outages, self._news.set
        )
        self._cold_reads = ColdReads(engine, store, self._outages, self._news.set)
        self._busy = asyncio.Lock()  # held by the user of the engine, which does one thing at a time
        self._continuity = Continuity(input_log, self.accounts)
        self._committer = Committer(guarantee, self._inbox, self.accounts, clock, self._news.set, tracer)
        self.ownership = Ownership(
            engine,
            guarantee,
            input_log,
            self._inbox,
            self._committer,
            self._checkpointer,
            self._cold_reads,
            self._outages,
            Takeover(engine, store, guarantee, input_log, self._busy, clock, self.accounts),
            self._busy,
            self._news.set,
        )
        self._processing = Processing(
            *(engine, store, self._cold_reads, Holds(versions, self._news.set), self.ownership),
            *(self._inbox, self.accounts, clock, tracer),
        )

    # -- input --------------------------------------------------------------------------------------------------

    async def put(self, polled: Mapping[Partition, Records], fetched_ms: float, done: Callable[[], None]) -> None:
        """Takes responsibility for one poll's records; returns when there is room for more.

        `done` is called when all of them are answered and committed, or are not ours to answer any more.
        """
        self._inbox.put(polled, fetched_ms, done, self.ownership.accepting)
        self._news.set()
        await self._inbox.has_room()

    # -- the pump -----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Delivers until it is cancelled. Raises what waiting cannot cure; nothing of the failed batch is committed."""
        while True:
            await self._until_due()
            async with self._busy:
                await self._read_after_all()
                if pieces := self._inbox.take(self._clock()):
                    await self._deliver(pieces)
                await self._save()

    async def _until_due(self) -> None:
        """Waits until there is a batch, a leg of a checkpoint or a late read to handle. Raises what cannot be cured."""
        while True:
            self._take_back()
            self._news.clear()
            self._inbox.resume(self.ownership.owned.values())
            if self._cold_reads.read_after_all():
                return
            due_ms = min(self._inbox.due_at_ms(), self._checkpointer.due_at_ms(self.ownership.owned.values()))
            wait_s = (due_ms - self._clock()) / 1000
            if wait_s <= 0:
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(min(wait_s, 3600.0)):
                    await self._news.wait()

    def _take_back(self) -> None:
        """Takes back what ended batches have not committed. Raises what a batch or a takeover raised."""
        self.ownership.take_back()
        if (failure := self.ownership.failure or self._committer.failure) is not None:
            raise failure

    async def _deliver(self, pieces: Sequence[Piece]) -> None:
        """Takes one batch through the engine, and starts its commit once the answers of the batch before are
        published."""
        if broken := await self._continuity.broken(pieces):
            await self.ownership.take_over_anew(broken)
            self._inbox.put_back(pieces)
            return
        batch = await self._processing.answer(pieces)
        await self._committer.room()
        self._take_back()
        if batch is not None:
            self._committer.begin(batch)

    async def _read_after_all(self) -> None:
        """Takes partitions over again whose entities were treated as new, now that the store can be read."""
        for owned in self._cold_reads.read_after_all():
            count = self._cold_reads.unread(owned)
            log.warning(
                "Redis is back: %s is taken over anew, for %d entities were taken for new",
                place(owned.partition),
                count,
            )
            await self.ownership.take_over_anew([owned])

    async def _save(self) -> None:
        refusal = await self._checkpointer.go_on(self.ownership.owned.values(), self._committer.last)
        if refusal is not None:
            # Usually we are a zombie and a rebalance will follow. But a late claim of another worker can fence the
            # rightful owner, too. So ask the group, which knows the owner, and claim again if it still says "yours".
            owned, error = refusal
            log.warning("checkpoint of %s refused (%s): forgetting its states", place(owned.partition), error)
            self.accounts.fenced += 1
            await self.ownership.take_over_anew([owned])

    # -- the rest -----------------------------------------------------------------------------------------------

    async def start(self) -> None:
        await self._guarantee.start()

    async def close(self) -> None:
        await self._guarantee.close()
        await self._store.close()

    def abandon(self) -> None:
        """Stops after a failure without any further write, so that the next owner reads everything in flight again."""
        self._checkpointer.abandon()
        self._cold_reads.forget_all()
        self._committer.abandon()
        self.ownership.abandon()
        self._inbox.abandon()

    @property
    def records(self) -> tuple[int, int]:
        """Returns how many records came in and were answered, and how many answers went out."""
        return self._committer.records_in, self._committer.records_out

    def status(self) -> Status:
        """Returns how each partition is doing, for people."""
        owned = [
            PartitionStatus(
                one.partition,
                one.epoch,
                one.ready,
                one.next_offset,
                one.saved,
                self._inbox.waiting(one),
                self._inbox.at_work(one),
                self._cold_reads.unread(one),
                one.undecided,
            )
            for one in self.ownership.owned.values()
        ]
        away = self._outages.why
        return Status(owned, self.ownership.draining, away, self.ownership.assigned_once, self._processing.batch_s)
