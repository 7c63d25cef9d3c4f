"""Commands of the model of Redis for keys of any type."""

from __future__ import annotations

import re
from functools import lru_cache

from redis_commands import (
    GROWS,
    NOT_AN_INTEGER,
    OK,
    SYNTAX,
    WRITE,
    Arguments,
    Reply,
    Status,
    command,
    integer,
    scan_order,
)
from redis_values import TYPES, Database, RedisFault, copy_value


@command("DEL UNLINK", -2, WRITE)
def delete(data: Database, arguments: Arguments) -> Reply:
    return sum(data.find(key) is not None and data.delete(key) for key in arguments)


@command("EXISTS", -2)
def exists(data: Database, arguments: Arguments) -> Reply:
    return sum(data.find(key) is not None for key in arguments)


@command("TYPE", 2)
def type_(data: Database, arguments: Arguments) -> Reply:
    value = data.find(arguments[0])
    return Status(b"none" if value is None else TYPES[type(value)])


@command("PEXPIRE", -3, WRITE)
def pexpire(data: Database, arguments: Arguments) -> Reply:
    return _expire(data, arguments, data.now_ms + integer(arguments[1]))


@command("EXPIRE", -3, WRITE)
def expire(data: Database, arguments: Arguments) -> Reply:
    return _expire(data, arguments, data.now_ms + integer(arguments[1]) * 1000)


@command("PEXPIREAT", -3, WRITE)
def pexpireat(data: Database, arguments: Arguments) -> Reply:
    return _expire(data, arguments, integer(arguments[1]))


def _expire(data: Database, arguments: Arguments, expires_ms: int) -> int:
    if len(arguments) > 2:
        raise RedisFault("ERR Unsupported option")  # NX, XX, GT, LT: nobody here uses them
    key = arguments[0]
    if data.find(key) is None:
        return 0
    if expires_ms <= data.now_ms:
        data.delete(key)
    else:
        data.expires_ms[key] = expires_ms
    return 1


@command("PERSIST", 2, WRITE)
def persist(data: Database, arguments: Arguments) -> Reply:
    return int(data.find(arguments[0]) is not None and data.expires_ms.pop(arguments[0], None) is not None)


@command("PTTL", 2)
def pttl(data: Database, arguments: Arguments) -> Reply:
    if data.find(arguments[0]) is None:
        return -2
    expires_ms = data.expires_ms.get(arguments[0])
    return -1 if expires_ms is None else expires_ms - data.now_ms


@command("TTL", 2)
def ttl(data: Database, arguments: Arguments) -> Reply:
    left_ms = pttl(data, arguments)
    return left_ms if left_ms < 0 else (left_ms + 500) // 1000


@command("PEXPIRETIME", 2)
def pexpiretime(data: Database, arguments: Arguments) -> Reply:
    return -2 if data.find(arguments[0]) is None else data.expires_ms.get(arguments[0], -1)


@command("DBSIZE", 1)
def dbsize(data: Database, arguments: Arguments) -> Reply:
    return len(data.live_keys())


@command("FLUSHALL FLUSHDB", -1, WRITE)
def flushall(data: Database, arguments: Arguments) -> Reply:
    data.clear()
    return OK


@command("KEYS", 2)
def keys(data: Database, arguments: Arguments) -> Reply:
    matches = glob(arguments[0])
    return [key for key in data.live_keys() if matches.fullmatch(key)]


@command("SCAN", -2)
def scan(data: Database, arguments: Arguments) -> Reply:
    """Returns a page of COUNT keys, or of some more whose places are the same, and at times with some of the page
    before. A key that is there all the time is in one of the pages."""
    cursor = integer(arguments[0], "ERR invalid cursor")
    options = dict(zip((name.upper() for name in arguments[1::2]), arguments[2::2], strict=False))
    if len(arguments) % 2 == 0 or options.keys() - {b"MATCH", b"COUNT", b"TYPE"}:
        raise RedisFault(SYNTAX)
    count = integer(options.get(b"COUNT", b"10"))
    if count < 1:
        raise RedisFault(SYNTAX)
    ordered = sorted((place, key) for key in data.values if (place := scan_order(key)) >= cursor)
    page, following = ordered[:count], 0
    if len(ordered) > count:
        page = [entry for entry in ordered if entry[0] <= ordered[count - 1][0]]
        following = ordered[len(page)][0] if len(page) < len(ordered) else 0
    if cursor and data.repeats():
        before = sorted((place, key) for key in data.values if (place := scan_order(key)) < cursor)
        page = before[-3:] + page
    matches = glob(options.get(b"MATCH", b"*"))
    found = [key for _, key in page if matches.fullmatch(key) and (value := data.find(key)) is not None
             and options.get(b"TYPE", TYPES[type(value)]).lower() == TYPES[type(value)]]  # fmt: skip
    return [b"%d" % following, found]


@lru_cache(1000)
def glob(pattern: bytes) -> re.Pattern[bytes]:
    """Returns a pattern of Redis as a regular expression."""
    made, at = b"", 0
    while at < len(pattern):
        char = pattern[at : at + 1]
        if char == b"*":
            made += b".*"
        elif char == b"?":
            made += b"."
        elif char == b"\\" and at + 1 < len(pattern):
            at += 1
            made += re.escape(pattern[at : at + 1])
        elif char == b"[":
            end = pattern.find(b"]", at + 1)
            end = len(pattern) if end < 0 else end
            inside = pattern[at + 1 : end]
            negated = inside.startswith(b"^")
            made += b"[" + b"^" * negated + re.sub(rb"([\\\[\]^&~|])", rb"\\\1", inside[negated:]) + b"]"
            at = end
        else:
            made += re.escape(char)
        at += 1
    return re.compile(made, re.DOTALL)


@command("DUMP", 2)
def dump(data: Database, arguments: Arguments) -> Reply:
    value = data.find(arguments[0])
    if value is None:
        return None
    data.dumps.append(copy_value(value))
    return b"dump %d" % (len(data.dumps) - 1)


@command("RESTORE", -4, WRITE | GROWS)
def restore(data: Database, arguments: Arguments) -> Reply:
    key, left_ms, dumped, *options = arguments
    if not dumped.startswith(b"dump ") or {option.upper() for option in options} - {b"REPLACE", b"ABSTTL"}:
        raise RedisFault("ERR DUMP payload version or checksum are wrong")
    flags = {option.upper() for option in options}
    if data.find(key) is not None and b"REPLACE" not in flags:
        raise RedisFault("BUSYKEY Target key name already exists.")
    data.delete(key)
    data.values[key] = copy_value(data.dumps[int(dumped[5:])])
    if (expires_ms := integer(left_ms, NOT_AN_INTEGER)) > 0:
        data.expires_ms[key] = expires_ms + (0 if b"ABSTTL" in flags else data.now_ms)
    return OK
