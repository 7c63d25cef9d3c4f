"""Reads the stored records of entities that are not in memory, so that only their partition waits for the store.

    the store answers at once              the batch has what it needs
    not within PATIENCE_S                  the partition waits, in order, and the other partitions continue
    not within UNREAD_WAIT_S             its entities that are not in memory are treated as new, and each answer
                                           marks that ("unread")
    later                                  the partition is taken over again: its checkpoint and the log give the states
                                           that it would have had

While a partition has entities that were treated as new, it gets no checkpoint. So their stored records stay as they
were, and so does the offset from which a takeover replays. Whichever worker takes the partition over folds every ping
since then into the stored track, in order.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from stream.config.wording import place
from stream.delivery.checkpointer import AWAY, delays
from stream.delivery.outages import Outages
from stream.delivery.partitions import Owned
from stream.engine.engine import Engine, Read
from stream.kafka.log import Partition
from stream.store.base import Fenced, Store, read_records

log: Final = logging.getLogger(__name__)

# Time until the other partitions continue without this one. It is some fifty times what a read of 200 records takes.
# All partitions stand still for it once, when the store begins to hang.
PATIENCE_S: Final = 0.1
# Time until entities that are not in memory are answered as new. A Redis that is restarted is mostly back by then, and
# a partition may be that late. It waits once for each outage: entities that come later do not wait.
UNREAD_WAIT_S: Final = 5.0


class Waits(Exception):
    """Nothing of this partition's records was folded: they wait for the store."""

    def __init__(self, owned: Owned) -> None:
        super().__init__(f"{place(owned.partition)} waits for the stored records of its entities")
        self.owned = owned


@dataclass(eq=False)
class _Reading:
    """A read of the records of some entities of one partition, under way or done."""

    task: asyncio.Task[None]
    expiry: asyncio.TimerHandle | None = None
    expired: bool = False  # UNREAD_WAIT_S has passed
    found: dict[str, bytes | None] = field(default_factory=dict)  # records that are read and not handed out yet
    taken_for_new: int = 0  # how many entities


class ColdReads:
    """Provides the `read` function of `Engine.process`.

    A partition whose read takes long is closed meanwhile (`Owned.waits`).
    """

    def __init__(self, engine: Engine, store: Store, outages: Outages, tell: Callable[[], None]) -> None:
        """Takes `tell`, which is called when a partition may continue, or must be taken over again."""
        self._engine = engine
        self._store = store
        self._outages = outages
        self._tell = tell
        self._readings: dict[Owned, _Reading] = {}
        self._hangs = False  # the last read did not come in PATIENCE_S: do not wait for the next one

    def reader(self, owners: Iterable[Owned]) -> Read:
        """Returns the `read` function for a batch of these partitions."""
        by_partition = {owned.partition: owned for owned in owners}

        async def read(partition: Partition, entity_ids: Sequence[str]) -> Sequence[bytes | None]:
            return await self._read(by_partition[partition], entity_ids)

        return read

    async def _read(self, owned: Owned, entity_ids: Sequence[str]) -> Sequence[bytes | None]:
        """Returns the stored records as `Store.get_many` does; None, too, for entities that are treated as new.

        Raises Waits, and what the store raises when waiting does not help (Evicted, Fenced, Refused).
        """
        if owned.unread:
            return self._for_new(owned, entity_ids)
        reading = self._readings.get(owned)
        if reading is None or (_is_read(reading) and not reading.found.keys() >= set(entity_ids)):
            reading = await self._begin(owned, entity_ids, reading)
        if self._readings.get(owned) is not reading:
            raise Waits(owned)  # it was forgotten meanwhile: its partition is taken over again
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

    async def _begin(self, owned: Owned, entity_ids: Sequence[str], before: _Reading | None) -> _Reading:
        """Starts a read of the entities that have not been read yet, and returns it after its first try or
        PATIENCE_S."""
        found = before.found if before is not None else {}
        left, tried = [entity_id for entity_id in entity_ids if entity_id not in found], asyncio.Event()
        task = asyncio.create_task(self._fetch(owned, left, found, tried), name=f"stored states of {owned.partition}")
        reading = self._readings[owned] = _Reading(task, found=found)
        task.add_done_callback(lambda _: self._end(owned, reading, tried))
        with suppress(TimeoutError):
            async with asyncio.timeout(0 if self._hangs else PATIENCE_S):
                await tried.wait()
        self._hangs |= not tried.is_set()
        return reading

    async def _fetch(
        self, owned: Owned, entity_ids: Sequence[str], found: dict[str, bytes | None], tried: asyncio.Event
    ) -> None:
        """Reads until it works. Raises what waiting does not cure."""
        clock = asyncio.get_running_loop().time
        for delay_s in delays():
            began_s = clock()
            try:
                records = await read_records(self._store, owned.partition, entity_ids)
            except AWAY as error:
                if not tried.is_set():
                    log.warning("Redis is away (%s): partition %d waits for stored states", error, owned.partition[1])
                self._outages.note_failure(owned, "read", error)
                tried.set()
                await asyncio.sleep(delay_s)
            else:
                found.update(zip(entity_ids, records, strict=True))
                self._outages.note_success(owned, "read")
                self._hangs = clock() - began_s > PATIENCE_S
                return

    def _end(self, owned: Owned, reading: _Reading, tried: asyncio.Event) -> None:
        """Opens the partition when its read has ended, with records or with an exception."""
        tried.set()
        if self._readings.get(owned) is reading:
            owned.waits = False
            self._tell()

    def _wait(self, owned: Owned, reading: _Reading) -> None:
        owned.waits = True

        def expire() -> None:
            reading.expired, owned.waits = True, False
            self._tell()

        reading.expiry = asyncio.get_running_loop().call_later(UNREAD_WAIT_S, expire)

    def _for_new(self, owned: Owned, entity_ids: Sequence[str]) -> Sequence[bytes | None]:
        """Treats the entities as new that are not read yet."""
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

    def partitions_to_take_again(self) -> list[Owned]:
        """Returns the partitions that have entities treated as new and whose read has ended: they must be taken over
        again.

        Raises what the store raised, if waiting does not cure it.
        """
        found = [owned for owned, reading in self._readings.items() if owned.unread and reading.task.done()]
        for owned in found:
            # Another worker claimed it, or the store lost our claim or states: the takeover handles both.
            with suppress(Fenced):
                self._readings[owned].task.result()
        return found

    def unread(self, owned: Owned) -> int:
        """Returns how many entities of this partition were treated as new since it was taken over."""
        reading = self._readings.get(owned)
        return 0 if reading is None else reading.taken_for_new

    def forget_batch(self, owners: Iterable[Owned]) -> None:
        """Removes what was read for a batch of these partitions, which is folded now."""
        for owned in owners:
            if owned in self._readings and not owned.unread:
                self.forget(owned)

    def forget(self, owned: Owned) -> None:
        """Cancels and removes the partition's read, because its entities are dropped or read."""
        owned.waits = owned.unread = False
        self._outages.note_success(owned, "read")
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
