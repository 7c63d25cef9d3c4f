"""Reads the index of a partition: the entities that have records in Redis which have not expired.

A record that is absent was never written, has expired, or was evicted, and Redis does not say which. The index does. It
is a sorted set without a TTL, so that no `volatile-*` policy evicts it:

    member  the entity's id
    score   when its record expires, in ms since 1970 by the clock of Redis, rounded down to a STEPth of the TTL

It is written in the script that writes the record. Because of the rounding, a record that has just expired does not
look evicted. Nearly every score also equals the one that is there already, which costs least to write. Each write
removes a limited number of expired entities.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, cast

from stream.store.redis_client import Client

STEPS: Final = 128  # in one TTL: for seven days a step has 79 minutes
PAGE: Final = 4_000  # entities of one call: some 3 ms of the single Redis thread

# Lua's numbers are doubles, which hold milliseconds since 1970 exactly.
NOW: Final = """
local at = redis.call('TIME')
local now = at[1] * 1000 + math.floor(at[2] / 1000)
"""

# This is part of a script that has written records: their entities are in the table `listed`, the TTL in ms is `ttl`,
# the key of the index is KEYS[2]. ZADD takes 1,000 at a time, because Lua's stack holds 8,000 values.
WRITE: Final = f"""
local step = math.max(1, math.floor(ttl / {STEPS}))
local score = string.format('%.0f', now + ttl - (now + ttl) % step)
for first = 1, #listed, 1000 do
    local entries = {{}}
    for i = first, math.min(first + 999, #listed) do
        entries[#entries + 1] = score
        entries[#entries + 1] = listed[i]
    end
    redis.call('ZADD', KEYS[2], unpack(entries))
end
local over = redis.call('ZCOUNT', KEYS[2], '-inf', now)
if over > 0 then
    redis.call('ZREMRANGEBYRANK', KEYS[2], 0, math.min(over, {PAGE}) - 1)
end
"""

# KEYS: the index. ARGV: the prefix of the records' keys; then 'these' and entities, or 'ranks' and the first and last
# rank of a page of the index. Returns how many entities were checked, and those of them whose records are gone although
# they have not expired. For EVAL_RO (Redis 7). The script builds the keys of records, which have the same hash tag:
# sending all names back and forth takes ten times as long as the check.
_GONE: Final = f"""
{NOW}
local names = {{}}
if ARGV[2] == 'these' then
    names = {{unpack(ARGV, 3)}}
else
    names = redis.call('ZRANGE', KEYS[1], ARGV[3], ARGV[4])
end
local gone = {{}}
for _, name in ipairs(names) do
    if redis.call('EXISTS', ARGV[1] .. name) == 0 then
        local score = redis.call('ZSCORE', KEYS[1], name)
        if score and tonumber(score) > now then
            gone[#gone + 1] = name
        end
    end
end
return {{#names, gone}}
"""

# KEYS: the index. Returns how many entities have not expired. For EVAL_RO.
_COUNT: Final = f"""
{NOW}
return redis.call('ZCOUNT', KEYS[1], string.format('(%.0f', now), '+inf')
"""


class Index:
    """Reads the indices of all partitions; each call names the key of one."""

    def __init__(self, redis: Client) -> None:
        self._redis = redis

    async def gone(self, key: str, prefix: str, entity_ids: Sequence[str]) -> list[str]:
        """Returns those of these entities whose records, at `prefix` and their id, are gone before they expired."""
        found: list[str] = []
        for first in range(0, len(entity_ids), PAGE):
            _, gone = await self._look(key, prefix, "these", *entity_ids[first : first + PAGE])
            found += gone
        return found

    async def gone_of_all(self, key: str, prefix: str) -> list[str]:
        """Returns the same for all entities in the index.

        Call it while nobody writes to the partition, because it reads the index in pages by rank.
        """
        found: list[str] = []
        first, looked_at = 0, PAGE
        while looked_at == PAGE:
            looked_at, gone = await self._look(key, prefix, "ranks", first, first + PAGE - 1)
            found += gone
            first += PAGE
        return found

    async def _look(self, key: str, prefix: str, *which: str | int) -> tuple[int, list[str]]:
        looked_at, gone = await cast(Any, self._redis.eval_ro(_GONE, 1, key, prefix, *which))
        return int(looked_at), [name.decode(errors="replace") for name in gone]

    async def count(self, key: str) -> int:
        """Returns how many entities have records that have not expired."""
        return int(await cast(Any, self._redis.eval_ro(_COUNT, 1, key)))
