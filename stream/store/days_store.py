"""Stores the growth of an atlas in Redis or Valkey, by partition: the passages of days, and what the next pings need.

Every key of one partition shares a hash tag, so that one atomic script may touch them all, in a cluster too:

    key                                          type    holds
    pathcast:{<group>|<topic>|<number>}:sums     hash    epoch, next_offset, seen (what is known of the log there),
                                                         writes, and the number of parts of each day
    pathcast:{<group>|<topic>|<number>}:growth   string  what the records after next_offset are counted with
    pathcast:{<group>|<topic>|<number>}:day:<n>  list    the parts of day n since 1970: they add up to the day

All have the same time to live, which each write renews: of a fleet that is gone, nothing stays.

One script writes all of this, or nothing: the offset, what was counted before it, and the growth belong together. The
epoch is the fence, and `writes` shows an older copy, as in `stream.store.redis_store`. A list with another number of
parts than the hash says shows that Redis has evicted it: so the hash counts them by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeVar, cast

from stream.config.security import PLAIN_REDIS, RedisSecurity
from stream.store.base import ClaimLost, Partition, refuse_unless_current
from stream.store.redis_client import client
from stream.store.redis_scripts import FIELD_EPOCH, FIELD_OFFSET, FIELD_WRITES
from stream.store.redis_store import CONNECT_TIMEOUT_S, KEY_PARTITION

T = TypeVar("T")
KEY_HEAD: Final = "sums"  # appended to KEY_PARTITION; what days had at first
KEY_GROWTH: Final = "growth"
FIELD_SEEN: Final = "seen"  # of the hash: the offset, a semicolon, and what is known of the log there
KEY_DAY: Final = "day:"  # followed by the day's number; and before it, in the hash
CALL_TIMEOUT_S: Final = 30.0  # of a call that writes the growth of 100,000 entities, or reads a day
MAX_BYTES: Final = 512 * 2**20  # of a value, by Redis's `proto-max-bulk-len`
TRIES: Final = 5  # to read a partition while it is written

# KEYS[1] is the hash, KEYS[2] the growth. Lua holds numbers as doubles, so offsets are passed as text.
_CLAIM: Final = f"""
local epoch = (tonumber(redis.call('HGET', KEYS[1], '{FIELD_EPOCH}')) or 0) + 1
redis.call('HSET', KEYS[1], '{FIELD_EPOCH}', string.format('%.0f', epoch))
redis.call('HINCRBY', KEYS[1], '{FIELD_WRITES}', 1)
return epoch
"""

# ARGV: epoch, the value that `writes` must have, ttl in ms, next_offset, growth, how many parts and deleted days
# follow, what is known of the log, then for each part's day, in KEYS[3..], its field, '1' if the part takes the place
# of all others, and the part, then the field of each deleted day, in the next KEYS. The remaining KEYS are the other
# days. Returns the stored epoch, `writes`, and 1 if all was written.
_PUT: Final = f"""
local stored = tonumber(redis.call('HGET', KEYS[1], '{FIELD_EPOCH}')) or 0
local writes = tonumber(redis.call('HGET', KEYS[1], '{FIELD_WRITES}')) or 0
local done = 0
if stored == tonumber(ARGV[1]) and writes == tonumber(ARGV[2]) then
    done = 1
    writes = redis.call('HINCRBY', KEYS[1], '{FIELD_WRITES}', 1)
    local parts = tonumber(ARGV[6])
    for i = 1, parts do
        local at = 6 + 3 * i
        if ARGV[at + 1] == '1' then
            redis.call('HDEL', KEYS[1], ARGV[at])
        end
        if redis.call('HINCRBY', KEYS[1], ARGV[at], 1) == 1 then
            redis.call('UNLINK', KEYS[i + 2])
        end
        redis.call('RPUSH', KEYS[i + 2], ARGV[at + 2])
    end
    for i = 1, tonumber(ARGV[7]) do
        redis.call('UNLINK', KEYS[parts + 2 + i])
        redis.call('HDEL', KEYS[1], ARGV[8 + 3 * parts + i])
    end
    redis.call('SET', KEYS[2], ARGV[5])
    redis.call('HSET', KEYS[1], '{FIELD_OFFSET}', ARGV[4], '{FIELD_SEEN}', ARGV[8])
    for i = 1, #KEYS do
        redis.call('PEXPIRE', KEYS[i], ARGV[3])
    end
end
return {{stored, writes, done}}
"""

# ARGV: epoch. Deletes all KEYS but the first, and of that all fields but epoch and writes. Returns the stored epoch
# and `writes`.
_FORGET: Final = f"""
local stored = tonumber(redis.call('HGET', KEYS[1], '{FIELD_EPOCH}')) or 0
local writes = 0
if stored == tonumber(ARGV[1]) then
    writes = redis.call('HINCRBY', KEYS[1], '{FIELD_WRITES}', 1)
    for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
        if field ~= '{FIELD_EPOCH}' and field ~= '{FIELD_WRITES}' then
            redis.call('HDEL', KEYS[1], field)
        end
    end
    for i = 2, #KEYS do
        redis.call('UNLINK', KEYS[i])
    end
end
return {{stored, writes}}
"""


class Part(NamedTuple):
    """A part of a day; if `instead`, it takes the place of all that were there."""

    raw: bytes
    instead: bool = False


@dataclass(frozen=True)
class Held:
    """The parts that Redis holds of one partition."""

    epoch: int
    next_offset: int | None  # None: nothing is counted
    writes: int
    parts: Mapping[int, int]  # by day, how many
    seen: str = ""  # `stream.kafka.log.Seen`; empty: earlier releases wrote none

    @classmethod
    def of(cls, fields: Mapping[bytes, bytes]) -> Held:
        prefix = KEY_DAY.encode()
        parts = {int(name[len(prefix) :]): int(n) for name, n in fields.items() if name.startswith(prefix)}
        offset = fields.get(FIELD_OFFSET.encode())
        epoch, writes = (int(fields.get(name.encode(), 0)) for name in (FIELD_EPOCH, FIELD_WRITES))
        # An earlier release that shares the group writes an offset and leaves what was known at another one.
        at, _, seen = fields.get(FIELD_SEEN.encode(), b"").partition(b";")
        return cls(epoch, None if offset is None else int(offset), writes, parts, seen.decode() if at == offset else "")


class DaysLost(RuntimeError):
    """Redis has lost a part of what was counted, or never had it, or it is damaged: it can only be counted anew."""

    def __init__(self, partition: Partition, held: Held, what: str = "Redis has lost some") -> None:
        super().__init__(f"{what} of what was counted of {partition[0]}/{partition[1]}")
        self.partition = partition
        self.held = held


class TooLarge(RuntimeError):
    """Redis takes no value of this size, however often it is tried."""


class DaysStore:
    """Stores the days of partitions.

    Raises redis.RedisError or OSError while the server cannot be reached, `security.Refused` if it refuses.
    """

    def __init__(self, url: str, group: str, ttl_s: int, security: RedisSecurity = PLAIN_REDIS) -> None:
        if set(group) & set("{}|"):
            raise ValueError(f"the group's name must not contain any of {{ }} |, got {group!r}")
        self._group = group
        self._ttl_ms = ttl_s * 1000
        self._redis = client(url, security, socket_connect_timeout=CONNECT_TIMEOUT_S, socket_timeout=CALL_TIMEOUT_S)
        self._claim = self._redis.register_script(_CLAIM)
        self._put = self._redis.register_script(_PUT)
        self._forget = self._redis.register_script(_FORGET)

    async def claim(self, partition: Partition) -> tuple[Held, bytes | None]:
        """Makes us the partition's owner, and returns what is held of it, and its growth.

        Raises Fenced if another has claimed it meanwhile, and DaysLost if Redis has evicted some of it; then it is
        ours, and what the error says is held has to be forgotten.
        """
        held = await self._claimed(partition)
        if held.next_offset is None:
            return held, None  # a growth that is there nevertheless is of what was lost
        growth = await self.growth(partition)
        lengths = [await self._length(partition, day) for day in held.parts]
        if growth is None or lengths != list(held.parts.values()):
            raise DaysLost(partition, held)
        return held, growth

    async def discard(self, partition: Partition) -> None:
        """Deletes all that was counted of the partition, whoever owns it: that one is fenced when it writes next, and
        has to count it anew. Raises Fenced if another claims it meanwhile.
        """
        await self.forget(partition, await self._claimed(partition))

    async def _claimed(self, partition: Partition) -> Held:
        epoch = int(await self._claim([self._key(partition, KEY_HEAD)]))
        held = await self.held(partition)
        refuse_unless_current(partition, epoch, held.epoch)
        return held

    async def put(
        self,
        partition: Partition,
        held: Held,
        next_offset: int,
        growth: bytes,
        parts: Mapping[int, Part],
        gone: Sequence[int] = (),
        seen: str = "",
    ) -> Held:
        """Writes what was counted up to `next_offset`, and what is known of the log there, and deletes the days `gone`,
        in one step. Returns what is held then.

        Raises:
            Fenced: another owner has claimed the partition; nothing was written.
            ClaimLost: Redis is an older copy; or has the write before this one, whose answer was lost. Claim again.
            TooLarge: the growth, or a part, has more than MAX_BYTES.
        """
        largest = max(map(len, (growth, *(part.raw for part in parts.values()))))
        if largest > MAX_BYTES:
            raise TooLarge(
                f"what {partition[0]}/{partition[1]} grows from has {largest / 1e6:,.0f} MB, and Redis takes"
                f" {MAX_BYTES / 1e6:,.0f} MB at most: too many entities share a partition; give the pings more"
                " partitions, in a new topic"
            )
        others = [day for day in held.parts if day not in parts and day not in gone]
        days = *parts, *gone, *others
        keys = [*self._own(partition), *(self._day(partition, day) for day in days)]
        head = held.epoch, held.writes, self._ttl_ms, next_offset, growth, len(parts), len(gone)
        values: list[Any] = [*head, f"{next_offset};{seen}"]
        for day, part in parts.items():
            values += [f"{KEY_DAY}{day}", "1" if part.instead else "0", part.raw]
        values += [f"{KEY_DAY}{day}" for day in gone]
        stored, writes, done = map(int, await self._put(keys, values))
        refuse_unless_current(partition, held.epoch, stored, writes=writes, least=held.writes)
        if not done:
            raise ClaimLost(f"{partition[0]}/{partition[1]} has an earlier write of ours, which Redis did not answer")
        many = {day: 1 if part.instead else held.parts.get(day, 0) + 1 for day, part in parts.items()}
        left = {day: n for day, n in {**held.parts, **many}.items() if day not in gone}
        return Held(held.epoch, next_offset, writes, left, seen)

    async def forget(self, partition: Partition, held: Held) -> Held:
        """Deletes all that was counted of the partition, which has to be ours by `held`. Raises Fenced."""
        keys = [*self._own(partition), *(self._day(partition, day) for day in held.parts)]
        stored, writes = map(int, await self._forget(keys, [held.epoch]))
        refuse_unless_current(partition, held.epoch, stored)
        return Held(held.epoch, None, writes, {})

    async def held(self, partition: Partition) -> Held:
        """Returns what is held, without claiming it."""
        return Held.of(await cast(Any, self._redis.hgetall(self._key(partition, KEY_HEAD))))

    async def growth(self, partition: Partition) -> bytes | None:
        """Returns what records are counted with from the stored offset on, if it is there."""
        return cast(bytes | None, await self._redis.get(self._key(partition, KEY_GROWTH)))

    async def parts(self, partition: Partition, day: int) -> list[bytes]:
        """Returns the parts of one day that there are."""
        return cast(list[bytes], await cast(Any, self._redis.lrange(self._day(partition, day), 0, -1)))

    async def snapshot(self, partition: Partition, keep: Callable[[bytes], T]) -> tuple[Held, dict[int, list[T]]]:
        """Returns what is held at one moment, and what `keep` returns for each part of each day. It may be called for
        parts that are out of date when all are read. Raises DaysLost.
        """
        for _ in range(TRIES):
            before = await self.held(partition)
            found = {day: [keep(raw) for raw in await self.parts(partition, day)] for day in before.parts}
            if (await self.held(partition)).writes != before.writes:
                continue  # it was written meanwhile
            if {day: len(parts) for day, parts in found.items()} != before.parts:
                raise DaysLost(partition, before)
            return before, found
        raise TimeoutError(f"{partition[0]}/{partition[1]} was written {TRIES} times while it was read")

    async def close(self) -> None:
        await self._redis.aclose()

    async def _length(self, partition: Partition, day: int) -> int:
        return int(await cast(Any, self._redis.llen(self._day(partition, day))))

    def _own(self, partition: Partition) -> list[str]:
        return [self._key(partition, KEY_HEAD), self._key(partition, KEY_GROWTH)]

    def _day(self, partition: Partition, day: int) -> str:
        return self._key(partition, f"{KEY_DAY}{day}")

    def _key(self, partition: Partition, name: str) -> str:
        return KEY_PARTITION.format(group=self._group, topic=partition[0], number=partition[1]) + name
