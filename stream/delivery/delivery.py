"""Implements the delivery guarantee of stream/README.md, "What is promised": offsets, checkpoints and takeovers.

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
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress

from aiokafka.errors import KafkaError

from stream.config.security import Refused
from stream.config.settings import Settings
from stream.delivery.accounts import Accounts
from stream.delivery.checkpointer import AWAY, Checkpointer, delays
from stream.delivery.cold_reads import ColdReads
from stream.delivery.committer import Committer
from stream.delivery.continuity import Continuity
from stream.delivery.inbox import Inbox, Limits
from stream.delivery.outages import Outages
from stream.delivery.partitions import Guarantee, InputLog, Owned, PartitionStatus, Piece, Status
from stream.delivery.processing import Processing
from stream.delivery.takeover import Takeover
from stream.engine.engine import Engine
from stream.kafka.log import Partition, Rebalanced
from stream.kafka.record_columns import Records
from stream.store.base import Fenced, Store

log = logging.getLogger(__name__)

FENCED_PAUSE_S = 1.0  # before the next claim, so that two workers do not fence each other in a tight loop


def now_ms() -> float:
    return time.time() * 1000


class Delivery:
    """Moves records from `put` through the engine to the broker, in step with offsets and checkpoints.

    It has many methods because it is what Faust, the monitor and the committer call: its parts do the work.
    """

    def __init__(
        self,
        settings: Settings,
        engine: Engine,
        store: Store,
        guarantee: Guarantee,
        input_log: InputLog,
        *,
        clock: Callable[[], float] = now_ms,
    ) -> None:
        self._engine = engine
        self._store = store  # `close` closes it
        self._input = input_log
        self._guarantee = guarantee
        self._clock = clock
        self.accounts = Accounts(settings.topics)
        self._inbox = Inbox(Limits(settings.max_batch, settings.max_wait_ms), self.accounts, input_log)
        self._owned: dict[Partition, Owned] = {}
        self._news = asyncio.Event()  # set when the pump has something to look at
        self._outages = Outages()
        self._checkpointer = Checkpointer(
            engine, settings.checkpoint_ms, clock, self.accounts, self._outages, self._news.set
        )
        self._cold_reads = ColdReads(engine, store, self._outages, self._news.set)
        self._busy = asyncio.Lock()  # held by the user of the engine, which does one thing at a time
        self._takeover = Takeover(engine, store, guarantee, input_log, self._busy, clock, self.accounts)
        self._continuity = Continuity(input_log, self.accounts)
        self._committer = Committer(
            guarantee, self._inbox, self.accounts, clock, self._news.set, self._lose, self._restart_takeover
        )
        self._processing = Processing(
            engine, store, self._cold_reads, self._committer, self._inbox, self.accounts, clock, self._restart_takeover
        )
        self._assigned = False
        self._draining = False
        self._announced = False  # whether it was logged that all partitions are ready
        self._error: BaseException | None = None  # that a takeover raised

    # -- input --------------------------------------------------------------------------------------------------

    async def put(self, polled: Mapping[Partition, Records], fetched_ms: float, done: Callable[[], None]) -> None:
        """Takes responsibility for one poll's records; returns when there is room for more.

        `done` is called when all of them are answered and committed, or are not ours to answer any more.
        """
        self._inbox.put(polled, fetched_ms, done, {} if self._draining else self._owned)
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
        while True:
            if self._error is not None:
                raise self._error
            await self._committer.settle_done()
            self._news.clear()
            self._inbox.resume(self._owned.values())
            if self._cold_reads.read_after_all():
                return
            due_ms = min(self._inbox.due_at_ms(), self._checkpointer.due_at_ms(self._owned.values()))
            wait_s = (due_ms - self._clock()) / 1000
            if wait_s <= 0:
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(min(wait_s, 3600.0)):
                    await self._news.wait()

    async def _deliver(self, pieces: Sequence[Piece]) -> None:
        """Takes one batch through the engine, and starts its commit once the answers of the batch before are
        published."""
        if broken := await self._continuity.broken(pieces):
            await self._committer.settle()
            for owned in broken:
                self._restart_takeover(owned)
            self._inbox.put_back(pieces)
            return
        batch = await self._processing.answer(pieces)
        await self._committer.has_room()
        if batch is not None:
            self._committer.begin(batch)

    async def _read_after_all(self) -> None:
        """Takes partitions over again whose entities were treated as new, now that the store can be read."""
        for owned in self._cold_reads.read_after_all():
            await self._committer.settle()  # before the takeover reads the committed offset
            count = self._cold_reads.unread(owned)
            log.warning(
                "Redis is back: %s is taken over anew, for %d entities were taken for new", owned.partition, count
            )
            self._restart_takeover(owned)

    def _lose(self, lost: Iterable[Owned]) -> None:
        """Removes partitions that another member owns now, or soon. Their states are ahead of what is committed."""
        for owned in lost:
            owned.gone = True
            owned.ready = False
            self._cold_reads.forget(owned)
            self._outages.forget(owned)
            self._engine.drop(owned.partition)
        self._inbox.forget(lambda owned: owned.gone)

    async def _save(self) -> None:
        refusal = await self._checkpointer.go_on(self._owned.values(), self._committer.last)
        if refusal is not None:
            await self._committer.settle()  # before the takeover reads the committed offset
            # Usually we are a zombie and a rebalance will follow. But a late claim of another worker can fence the
            # rightful owner, too. So ask the group, which knows the owner, and claim again if it still says "yours".
            owned, error = refusal
            log.warning("checkpoint of %s refused (%s): forgetting its states", owned.partition, error)
            self.accounts.fenced += 1
            self._restart_takeover(owned)

    # -- ownership ----------------------------------------------------------------------------------------------

    def assigned(self, partitions: Iterable[Partition]) -> None:
        """Replaces our assignment with `partitions`. Each opens when its takeover is complete."""
        self._draining = False
        self._announced = False
        self._assigned = True
        self._cold_reads.forget_all()
        self._owned = {partition: Owned(partition) for partition in sorted(partitions)}
        for owned in self._owned.values():
            self._input.resume(owned.partition)  # the assignment before may have paused it
            self._start_takeover(owned)

    def _start_takeover(self, owned: Owned, *, pause: bool = False) -> None:
        owned.takeover = asyncio.create_task(self._take_over(owned, pause), name=f"takeover {owned.partition}")
        owned.takeover.add_done_callback(self._took_over)

    def _restart_takeover(self, owned: Owned) -> None:
        """Takes a partition over again, because its states cannot be trusted any more; perhaps it is not ours."""
        if not owned.ready:
            return  # lost, or already in takeover: a worker fenced in Kafka and in Redis gets here twice
        self._cold_reads.forget(owned)
        self._engine.drop(owned.partition)
        owned.ready = False
        if not self._draining:  # otherwise it is about to be revoked, and this takeover would outlive it
            self._start_takeover(owned, pause=True)

    def _took_over(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._error = error
        elif not self._announced and self._owned and all(owned.ready for owned in self._owned.values()):
            self._announced = True
            log.info("ready: partitions %s", ", ".join(str(number) for _, number in self._owned))
        self._news.set()

    async def _take_over(self, owned: Owned, pause: bool) -> None:
        careful = False
        for delay_s in delays():
            try:
                if pause:
                    await asyncio.sleep(FENCED_PAUSE_S)
                await self._takeover.claim(owned, careful=careful)
                self._outages.forget(owned)
                return
            except Rebalanced as error:
                log.warning("%s is not taken over: %s", owned.partition, error)
                async with self._busy:
                    self._lose([owned])
                return
            except (Fenced, KafkaError, *AWAY) as error:
                if isinstance(error, KafkaError) and not error.retriable:
                    raise
                if isinstance(error, AWAY):
                    self._outages.failed(owned, "takeover", error)
                pause = isinstance(error, Fenced)
                log.warning("cannot take %s over yet: %r", owned.partition, error)
            except Refused:
                raise
            except Exception as error:  # a record that quarantined its entity, without a checkpoint after it
                if careful:
                    raise
                careful = True
                log.error("taking %s over failed (%r): once more, carefully", owned.partition, error, exc_info=True)
            await asyncio.sleep(delay_s)

    async def drain(self) -> None:
        """Commits the batches in flight and hands back what waits, before partitions are revoked.

        It accepts no records until `assigned`.
        """
        self._draining = True
        self._inbox.forget(lambda owned: True)
        async with self._busy:  # so that no takeover is cancelled while it uses the engine
            await self._committer.ended()
            self._inbox.forget(lambda owned: True)  # what the committer put back
            takeovers = [owned.takeover for owned in self._owned.values() if owned.takeover is not None]
            for task in takeovers:
                task.cancel()
        await asyncio.gather(*takeovers, return_exceptions=True)

    async def revoked(self, partitions: Iterable[Partition]) -> None:
        """Makes a checkpoint of these partitions and gives them up. The next owner replays what cannot be saved now."""
        async with self._busy:
            await self._committer.ended()
            leaving = [owned for partition in partitions if (owned := self._owned.pop(partition, None)) is not None]
            try:
                await self._checkpointer.leave(leaving)
                for owned in leaving:
                    if owned.ready and not owned.unread and owned.taken == owned.next_offset > owned.saved:
                        await self._engine.checkpoint(owned.partition, owned.epoch, owned.next_offset)
            except (Fenced, Refused, *AWAY) as error:
                log.warning("handing over without a last checkpoint (%s): the next owner replays", error)
            self._lose(leaving)
        for owned in leaving:
            await self._guarantee.release(owned.partition)

    async def start(self) -> None:
        await self._guarantee.start()

    async def close(self) -> None:
        await self._guarantee.close()
        await self._store.close()

    def abandon(self) -> None:
        """Stops after a failure without any further write, so that the next owner reads everything in flight again."""
        self._draining = True
        self._checkpointer.abandon()
        self._cold_reads.forget_all()
        self._committer.abandon()
        for owned in self._owned.values():
            owned.gone = True
            if owned.takeover is not None:
                owned.takeover.cancel()
        self._owned = {}
        self._inbox.abandon()

    @property
    def records(self) -> tuple[int, int]:
        """Returns how many records came in and were answered, and how many answers went out."""
        return self._committer.records_in, self._committer.records_out

    @property
    def partitions(self) -> list[Partition]:
        return list(self._owned)

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
            )
            for one in self._owned.values()
        ]
        return Status(owned, self._draining, self._outages.why, self._assigned, self._processing.batch_s)
