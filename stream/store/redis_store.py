"""Stores checkpoints in Redis or Valkey: the keys, and how much one call may carry. `redis_scripts` has what Redis
runs.

Every key of one partition shares a hash tag, so that one atomic script may touch them all, in a cluster too:

    key                                        type    ttl          holds
    pathcast:{<group>|<topic>|<number>}:meta   hash    none         epoch, next_offset, writes
    pathcast:{<group>|<topic>|<number>}:index  zset    none         the entities with records (`redis_index`)
    pathcast:{<group>|<topic>|<number>}:e:<id> string  state_ttl_s  one entity's record (`stored_entity` of the engine)

The epoch is the fence: each claim raises it, and every write is refused inside Redis, in the same atomic step, unless
it carries the stored epoch. A checkpoint larger than one call is written in chunks, its offset with the last one: a
crash in between leaves records that are newer than the offset, and replay skips what they include by their own
`next_offset`.

`writes` counts claims and write calls. It never falls, so an owner that finds a lower number than it left sees an older
copy (a restored snapshot, a replica that lagged): ClaimLost, and the partition is taken over again from that copy.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any, Final, cast

from stream.config import failpoints
from stream.config.settings import Settings
from stream.store.base import MAX_RECORD_BYTES, READ_CHUNK, Claim, Item, Partition, Patch, refuse_unless_current
from stream.store.redis_client import client
from stream.store.redis_index import Index
from stream.store.redis_scripts import (
    CLAIM,
    FIELD_EPOCH,
    FIELD_OFFSET,
    FIELD_WRITES,
    FORGET,
    PUT,
    REMOVE,
    SIZES,
    UNLIST,
    pack_patch,
)

KEY_PARTITION: Final = "pathcast:{{{group}|{topic}|{number}}}:"
KEY_META: Final = "meta"  # appended to KEY_PARTITION
KEY_INDEX: Final = "index"
KEY_ENTITY: Final = "e:"  # followed by the entity's id

_OFFSET: Final = re.compile(rb"[0-9]{1,19}")  # as many digits as int64 has
# Of one script call: some 5 ms of the single Redis thread, so that other clients can run between.
MAX_CALL_BYTES: Final = 1024 * 1024
MAX_CALL_ITEMS: Final = 4_000  # Lua's arguments live on its stack, which holds 8,000
MAX_GOT_BYTES: Final = 16 * 1024 * 1024  # of one call, plus one record; ordinary calls have 2 MB
CONNECT_TIMEOUT_S: Final = 2.0
CALL_TIMEOUT_S: Final = 5.0  # a slower Redis counts as unreachable: delivery waits and tries again


class RedisStore:
    """Stores checkpoints in Redis or Valkey.

    Raises redis.RedisError or OSError while the server cannot be reached, `security.Refused` if it refuses.
    """

    def __init__(self, settings: Settings) -> None:
        if set(settings.group) & set("{}|"):
            raise ValueError(f"the group's name must not contain any of {{ }} |, got {settings.group!r}")
        self._group = settings.group
        self._ttl_ms = settings.state_ttl_s * 1000
        self._redis = client(
            settings.redis_url,
            settings.redis,
            socket_connect_timeout=CONNECT_TIMEOUT_S,
            socket_timeout=CALL_TIMEOUT_S,
        )
        self._claim = self._redis.register_script(CLAIM)
        self._put = self._redis.register_script(PUT)
        self._unlist = self._redis.register_script(UNLIST)
        self._remove = self._redis.register_script(REMOVE)
        self._forget = self._redis.register_script(FORGET)
        self._index = Index(self._redis)
        self._claimed: dict[Partition, tuple[int, int]] = {}  # epoch, and the least value that `writes` must have

    async def claim(self, partition: Partition, *, floor: int = 0) -> Claim:
        epoch, next_offset, writes = await self._claim([self._meta_key(partition)], [floor])
        self._claimed[partition] = int(epoch), int(writes)
        return Claim(int(epoch), _offset(next_offset))

    async def get_many(self, partition: Partition, entity_ids: Sequence[str]) -> list[bytes | None]:
        found: list[bytes | None] = []
        prefix = self._entity_key(partition, "")
        while len(found) < len(entity_ids):
            keys = [prefix + entity_id for entity_id in entity_ids[len(found) : len(found) + READ_CHUNK]]
            found += await self._read(partition, keys)
        return found

    async def _read(self, partition: Partition, keys: Sequence[str]) -> list[bytes | None]:
        """Returns the records of the first of these keys, as many as one call may carry; b"" for a foreign value."""
        sizes = cast(list[int], await cast(Any, self._redis.eval_ro(SIZES, len(keys), *keys)))
        readable = [0 <= size <= MAX_RECORD_BYTES for size in sizes]
        totals = accumulate(size * may for size, may in zip(sizes, readable, strict=True))
        fit = min(1 + sum(total <= MAX_GOT_BYTES for total in totals), len(keys))
        sound = [key for key, may in zip(keys[:fit], readable, strict=False) if may]
        # Read before the request is sent: a checkpoint that is written meanwhile may be answered first.
        claimed = self._claimed.get(partition)
        async with self._redis.pipeline(transaction=False) as pipe:
            # A hash, for which MGET returns None; MGET takes no empty list.
            pipe.mget([*sound, self._meta_key(partition)])
            # After the records, so that data lost or restored before they were read is noticed now.
            pipe.hmget(self._meta_key(partition), [FIELD_EPOCH, FIELD_WRITES])
            records, (epoch, writes) = await pipe.execute()
        if claimed is not None:
            ours, least = claimed
            refuse_unless_current(partition, ours, _number(epoch), writes=_number(writes), least=least)
        got = dict(zip(sound, records[:-1], strict=True))
        return [got.get(key, b"") for key in keys[:fit]]

    async def put_many(
        self, partition: Partition, epoch: int, next_offset: int | None, items: Mapping[str, Item]
    ) -> list[str]:
        chunks, missing = list(_chunks(items)) or [{}], list[str]()
        prefix = self._entity_key(partition, "")
        least = self._claimed[partition][1] if partition in self._claimed else 0
        for number, chunk in enumerate(chunks, 1):
            whole = {entity_id: item for entity_id, item in chunk.items() if isinstance(item, bytes)}
            partly = {entity_id: pack_patch(item) for entity_id, item in chunk.items() if isinstance(item, Patch)}
            order = [*whole, *partly]
            keys = [*self._own_keys(partition), *(prefix + entity_id for entity_id in order)]
            offset: int | str = "" if next_offset is None or number < len(chunks) or missing else next_offset
            values = [*whole.values(), *partly.values()]
            arguments = [epoch, least, self._ttl_ms, offset, len(whole), len(prefix.encode()) + 1, *values]
            stored, writes, absent = await self._put(keys, arguments)
            refuse_unless_current(partition, epoch, int(stored), writes=int(writes), least=least)
            least = int(writes)
            if self._claimed.get(partition, (epoch, 0))[0] == epoch:  # otherwise it was claimed again during this call
                self._claimed[partition] = epoch, least
            if number < len(chunks):
                failpoints.reach("within_checkpoint")
            missing += [order[int(place)] for place in absent]
        return missing

    async def list_evicted(self, partition: Partition, entity_ids: Sequence[str] | None = None) -> list[str]:
        key, prefix = self._index_key(partition), self._entity_key(partition, "")
        if entity_ids is None:
            return await self._index.list_all_gone(key, prefix)
        return await self._index.list_gone(key, prefix, entity_ids)

    async def unlist(
        self, partition: Partition, epoch: int, entity_ids: Sequence[str], next_offset: int | None = None
    ) -> None:
        offset: int | str = "" if next_offset is None else next_offset
        for first in range(0, len(entity_ids), MAX_CALL_ITEMS):
            arguments = [epoch, offset, *entity_ids[first : first + MAX_CALL_ITEMS]]
            refuse_unless_current(partition, epoch, int(await self._unlist(self._own_keys(partition), arguments)))

    async def remove(self, partition: Partition, epoch: int, entity_ids: Sequence[str]) -> None:
        for first in range(0, len(entity_ids), MAX_CALL_ITEMS):
            some = entity_ids[first : first + MAX_CALL_ITEMS]
            least = self._claimed[partition][1] if partition in self._claimed else 0
            keys = [*self._own_keys(partition), *(self._entity_key(partition, one) for one in some)]
            stored, writes = await self._remove(keys, [epoch, least, *some])
            refuse_unless_current(partition, epoch, int(stored), writes=int(writes), least=least)
            if self._claimed.get(partition, (epoch, 0))[0] == epoch:
                self._claimed[partition] = epoch, int(writes)

    async def count(self, partition: Partition) -> int:
        return await self._index.count(self._index_key(partition))

    async def forget(self, partition: Partition, epoch: int) -> None:
        # The offset is deleted last: after a crash before that, the checkpoint that caused this is still there, and
        # causes it again.
        own = self._own_keys(partition)
        keys: list[Any] = []
        async for key in self._records(partition):
            keys.append(key)
            if len(keys) == MAX_CALL_ITEMS:
                refuse_unless_current(partition, epoch, int(await self._forget([*own, *keys], [epoch, "records"])))
                keys.clear()
        refuse_unless_current(partition, epoch, int(await self._forget([*own, *keys], [epoch, "offset"])))

    async def peek(self, partition: Partition) -> Claim:
        epoch, offset = await cast(Any, self._redis.hmget(self._meta_key(partition), [FIELD_EPOCH, FIELD_OFFSET]))
        return Claim(_offset(epoch) or 0, _offset(offset))

    async def entity_ids(self, partition: Partition) -> AsyncIterator[str]:
        prefix = self._entity_key(partition, "").encode()
        async for key in self._records(partition):
            yield key[len(prefix) :].decode()

    async def homes(self, partitions: Sequence[Partition], entity_ids: Sequence[str]) -> list[Partition | None]:
        """Returns in which of these partitions each entity has a record, None for none: for readers that do not know
        how senders choose partitions. It asks for all at once, so give it few."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for entity_id in entity_ids:
                for partition in partitions:
                    pipe.exists(self._entity_key(partition, entity_id))
            there = iter(await pipe.execute())
        return [
            next((one for one, exists in [(one, next(there)) for one in partitions] if exists), None)
            for _ in entity_ids
        ]

    async def close(self) -> None:
        await self._redis.aclose()

    def _records(self, partition: Partition) -> AsyncIterator[bytes]:
        """Yields the keys of all records of the partition; SCAN may return one twice."""
        pattern = _glob_escaped(self._entity_key(partition, "")) + "*"
        return cast(AsyncIterator[bytes], self._redis.scan_iter(match=pattern, count=MAX_CALL_ITEMS))

    def _own_keys(self, partition: Partition) -> tuple[str, str]:
        """Returns the keys of the partition that belong to no entity. The scripts that write take them first."""
        return self._meta_key(partition), self._index_key(partition)

    def _meta_key(self, partition: Partition) -> str:
        return self._partition_key(partition) + KEY_META

    def _index_key(self, partition: Partition) -> str:
        return self._partition_key(partition) + KEY_INDEX

    def _entity_key(self, partition: Partition, entity_id: str) -> str:
        return f"{self._partition_key(partition)}{KEY_ENTITY}{entity_id}"

    def _partition_key(self, partition: Partition) -> str:
        return KEY_PARTITION.format(group=self._group, topic=partition[0], number=partition[1])


def _chunks(items: Mapping[str, Item]) -> Iterator[dict[str, Item]]:
    """Yields the items in order, in pieces that one call may carry; a single larger item goes alone."""
    chunk: dict[str, Item] = {}
    size = 0
    for entity_id, item in items.items():
        bytes_ = len(item) if isinstance(item, bytes) else item.size
        if chunk and (size + bytes_ > MAX_CALL_BYTES or len(chunk) == MAX_CALL_ITEMS):
            yield chunk
            chunk, size = {}, 0
        chunk[entity_id] = item
        size += bytes_
    if chunk:
        yield chunk


def _glob_escaped(text: str) -> str:
    return "".join(f"\\{char}" if char in r"*?[]^\-" else char for char in text)


def _number(stored: bytes | None) -> int:
    """Returns a number as it is stored, and 0 for anything else, as the scripts do: then our claim is lost."""
    return _offset(stored) or 0


def _offset(stored: bytes | None) -> int | None:
    """Returns the stored offset, or None if it is no offset.

    Then nothing is known of the records, as if they were lost, and takeover rebuilds them.
    """
    return int(stored) if stored is not None and _OFFSET.fullmatch(stored) else None
