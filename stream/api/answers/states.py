"""Finds the stored record of an entity, for reading alone. It asks Redis over MOST_CALLS connections at most, so that
the workers' own calls never wait behind many of ours.

A record lies with the partition of the pings topic that has the entity's pings. That is known from the entity's newest
forecast, and else computed as Kafka's default partitioner does. Senders may have another partitioner, so an entity that
is not there is looked for in the others, if these are few.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol

from redis.exceptions import RedisError

from stream.config.security import Refused
from stream.http.problems import Refusal
from stream.kafka.partitioner import partition_of
from stream.store.base import Partition

MOST_CALLS: Final = 2
MOST_SEARCHED: Final = 64  # partitions, in one request of some 0.1 ms
ABSENT_S: Final = 2.0  # for which an entity that was not found is not looked for again
MOST_ABSENT: Final = 10_000
CALL_S: Final = 3.0


class Reader(Protocol):
    """A store that tells where states are, and reads them: `stream.store.redis_store.RedisStore` does."""

    async def get_many(self, partition: Partition, entity_ids: Sequence[str]) -> list[bytes | None]: ...

    async def homes(self, partitions: Sequence[Partition], entity_ids: Sequence[str]) -> list[Partition | None]: ...


class StoredRecord(NamedTuple):
    """A stored record, not yet read."""

    partition: int
    raw: bytes


class States:
    """The stored records of one group's entities."""

    def __init__(
        self, store: Reader, topic: str, partitions: Callable[[], int], known: Callable[[str], int | None]
    ) -> None:
        """Takes how many partitions the pings topic has, and `known`, which returns the partition of an entity, if a
        forecast of it was heard of."""
        self._store = store
        self._topic = topic
        self._partitions = partitions
        self._known = known
        self._calls = asyncio.Semaphore(MOST_CALLS)
        self._absent: OrderedDict[str, float] = OrderedDict()  # when it was not found
        self.failures = 0

    async def read(self, entity_ids: Sequence[str]) -> dict[str, StoredRecord | None]:
        """Returns the records of these entities, None where there is none. Raises Refusal if Redis does not answer."""
        records: dict[str, StoredRecord | None] = dict.fromkeys(entity_ids)
        try:
            async with asyncio.timeout(CALL_S), self._calls:
                now_s = time.monotonic()
                wanted = [one for one in records if now_s - self._absent.get(one, -ABSENT_S) >= ABSENT_S]
                await self._read({one: self._home(one) for one in wanted}, records)
                missing = [one for one in wanted if records[one] is None]
                if missing and 1 < self._partitions() <= MOST_SEARCHED:
                    partitions = [(self._topic, number) for number in range(self._partitions())]
                    homes = await self._store.homes(partitions, missing)
                    elsewhere = {one: home[1] for one, home in zip(missing, homes, strict=True) if home is not None}
                    await self._read(elsewhere, records)
        except (RedisError, OSError, TimeoutError, Refused) as error:
            self.failures += 1
            raise Refusal(
                "store_away", "Redis, where the states are, does not answer", headers={"Retry-After": "2"}
            ) from error
        for one in missing:
            if records[one] is None:
                self._absent[one] = now_s
                self._absent.move_to_end(one)
            else:
                self._absent.pop(one, None)
        while len(self._absent) > MOST_ABSENT:
            self._absent.popitem(last=False)
        return records

    async def _read(self, homes: dict[str, int], into: dict[str, StoredRecord | None]) -> None:
        by_partition: defaultdict[int, list[str]] = defaultdict(list)
        for one, number in homes.items():
            by_partition[number].append(one)
        for number, ids in by_partition.items():
            raws = await self._store.get_many((self._topic, number), ids)
            for one, raw in zip(ids, raws, strict=True):
                if raw is not None:
                    into[one] = StoredRecord(number, raw)

    def _home(self, entity_id: str) -> int:
        known = self._known(entity_id)
        return partition_of(entity_id.encode(), self._partitions()) if known is None else known
