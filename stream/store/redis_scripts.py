"""The scripts with which `redis_store` writes and reads a partition, each in one atomic step inside Redis."""

from __future__ import annotations

import struct
from typing import Final

from stream.store.base import Patch
from stream.store.redis_index import NOW, WRITE

# The fields of the meta hash.
FIELD_EPOCH: Final = "epoch"
FIELD_OFFSET: Final = "next_offset"
FIELD_WRITES: Final = "writes"

_LEAST: Final = struct.Struct("<I")
_RANGE: Final = struct.Struct("<II")

# Each script's KEYS[1] is the meta hash, and KEYS[2] the index where it is written. Lua holds numbers as doubles:
# epochs and TTLs stay far below 2^53, and offsets are passed as text.
CLAIM: Final = f"""
local stored = tonumber(redis.call('HGET', KEYS[1], '{FIELD_EPOCH}')) or 0
local epoch = math.max(stored, tonumber(ARGV[1])) + 1
redis.call('HSET', KEYS[1], '{FIELD_EPOCH}', string.format('%.0f', epoch))
local writes = redis.call('HINCRBY', KEYS[1], '{FIELD_WRITES}', 1)
return {{epoch, redis.call('HGET', KEYS[1], '{FIELD_OFFSET}'), writes}}
"""

# Returns the size of each of KEYS, -1 for a value that is no string. MGET then reads them, because a script takes
# nearly twice as long: it turns each value into a Lua string first. For EVAL_RO (Redis 7), which a read-only user may
# call, too.
SIZES: Final = """
local sizes = {}
for i = 1, #KEYS do
    local size = redis.pcall('STRLEN', KEYS[i])
    sizes[i] = type(size) == 'number' and size or -1
end
return sizes
"""

# ARGV: epoch, the least value that `writes` must have, ttl in ms, next_offset or '' (not the last chunk), how many of
# KEYS[3..] get a whole record, the position in these keys where the entity's id begins, then one value for each whole
# record, then one patch for each of the others: the least length of the record, then offset, size and bytes of each
# range, all numbers uint32.
# Returns the stored epoch, `writes`, and the patches that found no record. If the write took place, and only then, the
# epoch is the caller's and `writes` is greater than the caller's value.
PUT: Final = f"""
local stored = tonumber(redis.call('HGET', KEYS[1], '{FIELD_EPOCH}')) or 0
local writes = tonumber(redis.call('HGET', KEYS[1], '{FIELD_WRITES}')) or 0
local missing = {{}}
if stored == tonumber(ARGV[1]) and writes >= tonumber(ARGV[2]) then
    writes = redis.call('HINCRBY', KEYS[1], '{FIELD_WRITES}', 1)
    local whole = tonumber(ARGV[5])
    local listed = {{}}
    for i = 3, #KEYS do
        local value = ARGV[i + 4]
        local written = true
        if i - 2 <= whole then
            redis.call('SET', KEYS[i], value, 'PX', ARGV[3])
        else
            local least, at = struct.unpack('<I4', value)
            local size = redis.pcall('STRLEN', KEYS[i])
            if type(size) ~= 'number' or size < least then
                missing[#missing + 1] = i - 3
                written = false
            else
                while at <= #value do
                    local offset, size, from = struct.unpack('<I4I4', value, at)
                    at = from + size
                    redis.call('SETRANGE', KEYS[i], offset, string.sub(value, from, at - 1))
                end
                redis.call('PEXPIRE', KEYS[i], ARGV[3])
            end
        end
        if written then
            listed[#listed + 1] = string.sub(KEYS[i], ARGV[6])
        end
    end
    local ttl = tonumber(ARGV[3])
    {NOW}
    {WRITE}
    if ARGV[4] ~= '' and #missing == 0 then
        redis.call('HSET', KEYS[1], '{FIELD_OFFSET}', ARGV[4])
    end
end
return {{stored, writes, missing}}
"""

# ARGV: epoch, next_offset or '' (it stays), then the entities to take out of the index. Returns the stored epoch.
UNLIST: Final = f"""
local stored = tonumber(redis.call('HGET', KEYS[1], '{FIELD_EPOCH}')) or 0
if stored == tonumber(ARGV[1]) then
    for i = 3, #ARGV do
        redis.call('ZREM', KEYS[2], ARGV[i])
    end
    if ARGV[2] ~= '' then
        redis.call('HSET', KEYS[1], '{FIELD_OFFSET}', ARGV[2])
    end
end
return stored
"""

# ARGV: epoch, the least value that `writes` must have, then the entities whose records are in KEYS[3..]. Deletes both,
# and counts as a write: an older copy of Redis still has them. Returns the stored epoch and `writes`.
REMOVE: Final = f"""
local stored = tonumber(redis.call('HGET', KEYS[1], '{FIELD_EPOCH}')) or 0
local writes = tonumber(redis.call('HGET', KEYS[1], '{FIELD_WRITES}')) or 0
if stored == tonumber(ARGV[1]) and writes >= tonumber(ARGV[2]) then
    writes = redis.call('HINCRBY', KEYS[1], '{FIELD_WRITES}', 1)
    for i = 3, #KEYS do
        redis.call('UNLINK', KEYS[i])
        redis.call('ZREM', KEYS[2], ARGV[i])
    end
end
return {{stored, writes}}
"""

# ARGV: epoch, 'records' to delete KEYS[3..] or 'offset' to delete the offset and the index, too. Returns the stored
# epoch.
FORGET: Final = f"""
local stored = tonumber(redis.call('HGET', KEYS[1], '{FIELD_EPOCH}')) or 0
if stored == tonumber(ARGV[1]) then
    for i = 3, #KEYS do
        redis.call('UNLINK', KEYS[i])
    end
    if ARGV[2] == 'offset' then
        redis.call('UNLINK', KEYS[2])
        redis.call('HDEL', KEYS[1], '{FIELD_OFFSET}')
    end
end
return stored
"""


def pack_patch(patch: Patch) -> bytes:
    """Packs a patch as PUT reads it."""
    parts = [_LEAST.pack(patch.least)]
    for offset, part in patch.ranges:
        parts += _RANGE.pack(offset, len(part)), part
    return b"".join(parts)
