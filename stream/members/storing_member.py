"""A member whose own store says where each partition of one topic goes on: files of an archive, or Redis.

A write has what was folded and the offset that follows, in one step; an owner that another one has followed is refused.
Offsets are committed to Kafka, too, but only so that the group's lag can be seen. While the store is away or full,
nothing more is read, and the write is tried again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from abc import abstractmethod
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar

from aiokafka import TopicPartition
from aiokafka.errors import IllegalStateError, KafkaError

from stream.config.security import in_words
from stream.kafka.log import Seen
from stream.kafka.reading import SESSION_S
from stream.members import group_member
from stream.members.continuity import Holding
from stream.members.group_member import STOP_S, GroupMember

log: Final = logging.getLogger(__name__)


class Owned(Protocol):
    """A partition that is ours, with what waits to be written."""

    next_offset: int | None  # all records before it are folded; None: none is
    seen: Seen  # what is known of the log, to be written beside it


O = TypeVar("O", bound=Owned)  # noqa: E741  # of `Owned`


@dataclass
class StoredHolding(Holding, Generic[O]):
    owned: O


class StoringMember(GroupMember[StoredHolding[O]]):
    """One member of such a group."""

    _topic: str
    _failed = False  # a part of the last write
    _written_s = 0.0  # when the last write ended, by the monotonic clock
    _took_s = 0.0  # the last write

    @abstractmethod
    async def _write(self, number: int, owned: O) -> bool:
        """Writes what was folded, up to `next_offset`. Returns whether there was anything. Raises FENCED; after AWAY it
        is called again."""

    async def _write_all(self) -> None:
        """Writes what waits, between two polls."""
        async with self._lock:
            await self._move()
            for held in self._holdings.values():
                held.owned.next_offset = held.folded[self._topic]
            await self._write_some(list(self._holdings))

    async def _write_until_done(self) -> None:
        """Does the same, however long that takes."""
        await self._write_all()
        while self._failed and not self._stopping.is_set():
            await asyncio.sleep(group_member.RETRY_S)
            await self._write_all()

    async def _write_some(self, numbers: Collection[int]) -> None:
        self._failed, began_s = False, time.monotonic()
        for number in sorted(numbers):
            held = self._holdings.get(number)
            if held is None:
                continue
            held.owned.seen = held.seen[self._topic]
            try:
                if await self._write(number, held.owned):
                    await self._commit(number, held.owned.next_offset)
            except self.FENCED as error:
                await self._lose(number, error, SESSION_S)
            except self.AWAY as error:
                log.warning("partition %d cannot be written, it is tried again: %s", number, in_words(error))
                self.failures += 1
                self._failed = True
        self._written_s = time.monotonic()
        self._took_s = self._written_s - began_s

    async def _commit(self, number: int, offset: int | None) -> None:
        try:
            await self._consumer.commit({TopicPartition(self._topic, number): offset})
        except (KafkaError, IllegalStateError) as error:
            log.debug("the offset of partition %d was not committed: %r", number, error)

    async def _last(self, numbers: Collection[int]) -> None:
        try:
            async with asyncio.timeout(STOP_S):
                await self._write_some(numbers)
        except TimeoutError:
            log.warning("not all was written in %g s; the next owner takes it from the log", STOP_S)
