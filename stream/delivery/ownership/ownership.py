"""Gains and loses partitions: which are ours, which of them are open, and what their takeovers come to.

A partition is taken over when it is assigned to us, and taken over again when its states may be wrong: the engine
failed half-way through a batch, Redis lost what we wrote, or another worker claimed the partition. The states are then
dropped, because only a checkpoint and the log give sound ones.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from aiokafka.errors import KafkaError

from stream.config.security import Refused
from stream.config.wording import place
from stream.delivery.checkpointer import AWAY, Checkpointer, delays
from stream.delivery.cold_reads import ColdReads
from stream.delivery.committer import Committer
from stream.delivery.inbox import Inbox
from stream.delivery.outages import Outages
from stream.delivery.ownership.takeover import Takeover
from stream.delivery.partitions import Guarantee, InputLog, Owned
from stream.engine.engine import Engine
from stream.kafka.log import Partition, Rebalanced
from stream.store.base import Fenced

log = logging.getLogger(__name__)

SLOW_S = 30.0  # after so long a takeover says where it stands, and after so long again
FENCED_PAUSE_S = 1.0  # before the next claim, so that two workers do not fence each other in a tight loop


class Ownership:
    """Holds the partitions that the group has assigned to us.

    `Delivery` makes it, from parts that both of them use.
    """

    def __init__(
        self,
        engine: Engine,
        guarantee: Guarantee,
        input_log: InputLog,
        inbox: Inbox,
        committer: Committer,
        checkpointer: Checkpointer,
        cold_reads: ColdReads,
        outages: Outages,
        takeover: Takeover,
        busy: asyncio.Lock,
        news: Callable[[], None],
    ) -> None:
        """Takes `busy`, the lock that is held while the engine is used, and `news`, which is called when a takeover has
        ended.
        """
        self._engine = engine
        self._guarantee = guarantee
        self._input = input_log
        self._inbox = inbox
        self._committer = committer
        self._checkpointer = checkpointer
        self._cold_reads = cold_reads
        self._outages = outages
        self._takeover = takeover
        self._busy = busy
        self._news = news
        self.owned: dict[Partition, Owned] = {}
        self.assigned_once = False
        self.draining = False
        self.failure: BaseException | None = None  # that a takeover raised
        self._announced = False  # whether it was logged that all partitions are ready

    @property
    def accepting(self) -> Mapping[Partition, Owned]:
        """The partitions whose records we take: none from `drain` until `assigned`."""
        return {} if self.draining else self.owned

    def assign(self, partitions: Iterable[Partition]) -> None:
        """Replaces our assignment with `partitions`. Each opens when its takeover is complete."""
        self.draining = False
        self._announced = False
        self.assigned_once = True
        self._cold_reads.forget_all()
        self.owned = {partition: Owned(partition) for partition in sorted(partitions)}
        for owned in self.owned.values():
            self._input.resume(owned.partition)  # the assignment before may have paused it
            self._start_takeover(owned)

    async def drain(self) -> None:
        """Commits the batches in flight and hands back what waits, before partitions are revoked.

        It accepts no records until `assigned`.
        """
        self.draining = True
        self._inbox.forget(lambda owned: True)
        async with self._busy:  # so that no takeover is cancelled while it uses the engine
            await self._committer.all_done()
            self.take_back()
            self._inbox.forget(lambda owned: True)  # what the committer put back
            takeovers = [owned.takeover for owned in self.owned.values() if owned.takeover is not None]
            for task in takeovers:
                task.cancel()
        await asyncio.gather(*takeovers, return_exceptions=True)

    async def revoke(self, partitions: Iterable[Partition]) -> None:
        """Makes a checkpoint of these partitions and gives them up. The next owner replays what cannot be saved now."""
        async with self._busy:
            await self._committer.all_done()
            self.take_back()
            leaving = [owned for partition in partitions if (owned := self.owned.pop(partition, None)) is not None]
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

    async def take_over_anew(self, owners: Iterable[Owned]) -> None:
        """Takes partitions over again, because their states cannot be trusted any more; perhaps they are not ours.

        Raises what the commit of a batch raised.
        """
        await self.settle()  # before a takeover reads the committed offset
        for owned in owners:
            self._restart_takeover(owned)

    async def settle(self) -> None:
        """Waits until no batch is being committed, and takes back what is not. Raises what a commit raised."""
        await self._committer.all_done()
        self.take_back()
        if self._committer.failure is not None:
            raise self._committer.failure

    def take_back(self) -> None:
        """Takes back the records of ended batches that are not committed, and gives up or takes over their partitions.

        Batches from the first that raised on are left: `Delivery.run` ends with that exception.
        """
        for result in self._committer.take_done():
            if result.back:  # rare
                self._lose(result.lost)
                for owned in result.fenced:
                    self._restart_takeover(owned)
                self._inbox.put_back(result.back)

    def abandon(self) -> None:
        """Gives up everything without any further write."""
        self.draining = True
        for owned in self.owned.values():
            owned.gone = True
            if owned.takeover is not None:
                owned.takeover.cancel()
        self.owned = {}

    # -- takeovers ----------------------------------------------------------------------------------------------------

    def _start_takeover(self, owned: Owned, *, pause: bool = False) -> None:
        owned.takeover = asyncio.create_task(self._take_over(owned, pause), name=f"takeover {owned.partition}")
        owned.takeover.add_done_callback(self._took_over)
        self._tell_when_slow(owned, owned.takeover)

    def _tell_when_slow(self, owned: Owned, takeover: asyncio.Task[None], after_s: float = 0.0) -> None:
        if takeover.done():
            return
        if after_s:
            waits = " > ".join(name_waits(takeover))
            log.warning("taking %s over has taken %.0f s so far; it is at %s", place(owned.partition), after_s, waits)
        asyncio.get_running_loop().call_later(SLOW_S, self._tell_when_slow, owned, takeover, after_s + SLOW_S)

    def _restart_takeover(self, owned: Owned) -> None:
        if not owned.ready:
            return  # lost, or already in takeover: a worker fenced in Kafka and in Redis gets here twice
        self._cold_reads.forget(owned)
        self._engine.drop(owned.partition)
        owned.ready = False
        self._inbox.look_for_room()
        if not self.draining:  # otherwise it is about to be revoked, and this takeover would outlive it
            self._start_takeover(owned, pause=True)

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
                log.warning("%s is not taken over: %s", place(owned.partition), error)
                async with self._busy:
                    self._lose([owned])
                return
            except (Fenced, KafkaError, *AWAY) as error:
                if isinstance(error, KafkaError) and not error.retriable:
                    raise
                if isinstance(error, AWAY):
                    self._outages.note_failure(owned, "takeover", error)
                pause = isinstance(error, Fenced)
                log.warning("cannot take %s over yet: %r", place(owned.partition), error)
            except Refused:
                raise
            except Exception as error:  # a record that quarantined its entity, without a checkpoint after it
                if careful:
                    raise
                careful = True
                log.error(
                    "taking %s over failed (%r): once more, carefully", place(owned.partition), error, exc_info=True
                )
            await asyncio.sleep(delay_s)

    def _took_over(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            if not self.draining:  # its partition would stand still for ever, and nobody would hear of it
                self.failure = RuntimeError(f"{task.get_name()} was cancelled, and not by us")
        elif (error := task.exception()) is not None:
            self.failure = error
        elif not self._announced and self.owned and all(owned.ready for owned in self.owned.values()):
            self._announced = True
            log.info("ready: partitions %s", ", ".join(str(number) for _, number in self.owned))
        self._news()

    def _lose(self, lost: Iterable[Owned]) -> None:
        """Removes partitions that another member owns now, or soon. Their states are ahead of what is committed."""
        for owned in lost:
            owned.gone = True
            owned.ready = False
            self._cold_reads.forget(owned)
            self._outages.forget(owned)
            self._engine.drop(owned.partition)
        self._inbox.forget(lambda owned: owned.gone)


def name_waits(task: asyncio.Task[None]) -> list[str]:
    """Returns the names of the coroutines in which a task waits, the outermost first."""
    names = []
    inner: Any = task.get_coro()
    while (code := getattr(inner, "cr_code", None)) is not None:
        names.append(code.co_name)
        inner = inner.cr_await
    return names
