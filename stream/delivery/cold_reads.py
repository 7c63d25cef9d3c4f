"""Reads the stored records of entities that are not in memory ("strangers"), so that only their partition waits for the
store. Knows the store and how it fails; knows no record of the input and no broker.

    the store answers at once              the batch has what it needs
    not within PATIENCE_S                  the partition waits, in order, and the other partitions go on
    not within STRANGER_WAIT_S             its strangers are taken for new, and each answer says so ("unread")
    after all                              the partition is taken over anew: its checkpoint and the log make the states
                                           that it would have had

While a partition has entities that were taken for new, no checkpoint of it is written. So what is stored of them stays
as it was, and so does the offset from which a takeover replays; whoever takes it over, this worker or another, folds
every ping since then into the stored track, in order.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from stream.delivery.checkpointer import AWAY, delays
from stream.delivery.outages import Outages
from stream.delivery.partitions import Owned
from stream.engine.engine import Engine, Read
from stream.kafka.log import Partition
from stream.store.base import Fenced, Store, read_records

log: Final = logging.getLogger(__name__)

# Until the other partitions go on without this one. Some fifty times what a read of 200 records takes; all partitions
# stand still for it, once, when the store begins to hang.
PATIENCE_S: Final = 0.1
# Until strangers are answered as new. A Redis that is started again is mostly back by then, and a partition may be that
# late. It waits once for each absence: who is a stranger later waits no more.
STRANGER_WAIT_S: Final = 5.0


class Waits(Exception):
    """Nothing of this partition's records was folded: they wait for the store."""

    def __init__(self, owned: Owned) -> None:
        super().__init__(f"{owned.partition} waits for the stored records of its entities")
        self.owned = owned


@dataclass(eq=False)
class _Reading:
    """The records of some entities of one partition, on their way."""

    task: asyncio.Task[None]
    expiry: asyncio.TimerHandle | None = None
    expired: bool = False  # STRANGER_WAIT_S has passed
    found: dict[str, bytes | None] = field(default_factory=dict)  # read, and not handed out yet
    taken_for_new: int = 0  # entities


class ColdReads:
    """What `Engine.process` reads by. A partition whose reading takes long is shut meanwhile (`Owned.waits`)."""

    def __init__(self, engine: Engine, store: Store, outages: Outages, tell: Callable[[], None]) -> None:
        """`tell` is called when a partition may go on, or is to be taken over anew."""
        self._engine = engine
        self._store = store
        self._outages = outages
        self._tell = tell
        self._readings: dict[Owned, _Reading] = {}
        self._hangs = False  # the last read that was waited for has not come: do not wait for the next

    def reader(self, owners: Iterable[Owned]) -> Read:
        """For the records of these partitions."""
        by_partition = {owned.partition: owned for owned in owners}

        async def read(partition: Partition, entity_ids: Sequence[str]) -> Sequence[bytes | None]:
            return await self._read(by_partition[partition], entity_ids)

        return read

    async def _read(self, owned: Owned, entity_ids: Sequence[str]) -> Sequence[bytes | None]:
        """Their records, as `Store.get_many` gives them; None, too, for those that are taken for new.

        Raises Waits, and what the store raises where waiting does not help (Evicted, Fenced, Refused).
        """
        if owned.unread:
            return self._for_new(owned, entity_ids)
        reading = self._readings.get(owned)
        if reading is None or (_is_read(reading) and not reading.found.keys() >= set(entity_ids)):
            reading = await self._begun(owned, entity_ids, reading)
        if self._readings.get(owned) is not reading:
            raise Waits(owned)  # it was forgotten meanwhile: its partition is to be taken over anew
        if reading.task.done():
            if (error := reading.task.exception()) is not None:
                self.forget(owned)
                raise error
            return [reading.found.pop(entity_id) for entity_id in entity_ids]
        if reading.expired:
            owned.unread = True
            return self._for_new(owned, entity_ids)
        self._wait(owned, reading)
        raise Waits(owned)

    async def _begun(self, owned: Owned, entity_ids: Sequence[str], before: _Reading | None) -> _Reading:
        """A reading of those that have not been read yet, after its first try, or PATIENCE_S."""
        found = before.found if before is not None else {}
        left, tried = [entity_id for entity_id in entity_ids if entity_id not in found], asyncio.Event()
        task = asyncio.create_task(self._fetch(owned, left, found, tried), name=f"strangers of {owned.partition}")
        reading = self._readings[owned] = _Reading(task, found=found)
        task.add_done_callback(lambda _: self._ended(owned, reading, tried))
        with suppress(TimeoutError):
            async with asyncio.timeout(0 if self._hangs else PATIENCE_S):
                await tried.wait()
        self._hangs |= not tried.is_set()
        return reading

    async def _fetch(
        self, owned: Owned, entity_ids: Sequence[str], found: dict[str, bytes | None], tried: asyncio.Event
    ) -> None:
        """Read until it works. Raises what waiting does not cure."""
        clock = asyncio.get_running_loop().time
        for delay_s in delays():
            began_s = clock()
            try:
                records = await read_records(self._store, owned.partition, entity_ids)
            except AWAY as error:
                if not tried.is_set():
                    log.warning("Redis is away (%s): partition %d waits for stored states", error, owned.partition[1])
                self._outages.failed(owned, "read", error)
                tried.set()
                await asyncio.sleep(delay_s)
            else:
                found.update(zip(entity_ids, records, strict=True))
                self._outages.worked(owned, "read")
                self._hangs = clock() - began_s > PATIENCE_S
                return

    def _ended(self, owned: Owned, reading: _Reading, tried: asyncio.Event) -> None:
        """The records are there, or it is known that they will not be."""
        tried.set()
        if self._readings.get(owned) is reading:
            owned.waits = False
            self._tell()

    def _wait(self, owned: Owned, reading: _Reading) -> None:
        owned.waits = True

        def expire() -> None:
            reading.expired, owned.waits = True, False
            self._tell()

        reading.expiry = asyncio.get_running_loop().call_later(STRANGER_WAIT_S, expire)

    def _for_new(self, owned: Owned, entity_ids: Sequence[str]) -> Sequence[bytes | None]:
        """Take those for new that are not read yet."""
        reading = self._readings[owned]
        unread = [entity_id for entity_id in entity_ids if entity_id not in reading.found]
        if unread and not reading.taken_for_new:
            log.warning(
                "Redis is away (%s): entities of partition %d that are not in memory are answered as new",
                *(self._outages.why or "it does not answer", owned.partition[1]),
            )
        reading.taken_for_new += len(unread)
        self._engine.take_for_new(owned.partition, unread)
        return [reading.found.pop(entity_id, None) for entity_id in entity_ids]

    def read_after_all(self) -> list[Owned]:
        """The partitions that have entities which were taken for new, and whose store answers again: they are to be
        taken over anew. Raises what the store raised, if waiting does not cure it."""
        found = [owned for owned, reading in self._readings.items() if owned.unread and reading.task.done()]
        for owned in found:
            with suppress(Fenced):  # somebody claimed it, or the store lost our claim or states: so does the takeover
                self._readings[owned].task.result()
        return found

    def unread(self, owned: Owned) -> int:
        """How many entities of this partition were taken for new since it was taken over."""
        reading = self._readings.get(owned)
        return 0 if reading is None else reading.taken_for_new

    def answered(self, owners: Iterable[Owned]) -> None:
        """A batch of these partitions is folded: what was read for it is of no more use."""
        for owned in owners:
            if owned in self._readings and not owned.unread:
                self.forget(owned)

    def forget(self, owned: Owned) -> None:
        """Its entities are dropped, or read."""
        owned.waits = owned.unread = False
        self._outages.worked(owned, "read")
        reading = self._readings.pop(owned, None)
        if reading is not None:
            reading.task.cancel()
            if reading.expiry is not None:
                reading.expiry.cancel()

    def forget_all(self) -> None:
        for owned in list(self._readings):
            self.forget(owned)


def _is_read(reading: _Reading) -> bool:
    return reading.task.done() and reading.task.exception() is None
