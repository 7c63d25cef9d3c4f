"""Commands of the model of Redis for strings."""

from __future__ import annotations

from typing import Final

from redis_commands import GROWS, MOST, OK, SYNTAX, WRITE, Arguments, Reply, command, integer
from redis_values import Database, RedisFault

MOST_BYTES: Final = 512 * 2**20  # proto-max-bulk-len


@command("GET", 2)
def get(data: Database, arguments: Arguments) -> Reply:
    return data.find_as(arguments[0], bytes)


@command("MGET", -2)
def mget(data: Database, arguments: Arguments) -> Reply:
    found = [data.find(key) for key in arguments]
    return [value if isinstance(value, bytes) else None for value in found]


@command("STRLEN", 2)
def strlen(data: Database, arguments: Arguments) -> Reply:
    return len(data.find_as(arguments[0], bytes) or b"")


@command("SET", -3, WRITE | GROWS)
def set_(data: Database, arguments: Arguments) -> Reply:
    key, value = arguments[0], arguments[1]
    expires_ms, keep = None, False
    at = 2
    while at < len(arguments):
        option = arguments[at].upper()
        if option in _EXPIRES and at + 1 < len(arguments) and expires_ms is None and not keep:
            expires_ms = _EXPIRES[option](data.now_ms, integer(arguments[at + 1]))
            if integer(arguments[at + 1]) <= 0:
                raise RedisFault("ERR invalid expire time in 'set' command")
            at += 1
        elif option == b"KEEPTTL" and expires_ms is None:
            keep = True
        elif option in (b"NX", b"XX"):
            if (data.find(key) is None) != (option == b"NX"):
                return None
        else:
            raise RedisFault(SYNTAX)
        at += 1
    data.find(key)  # it may have expired
    data.values[key] = value
    if expires_ms is not None:
        data.expires_ms[key] = expires_ms
    elif not keep:
        data.expires_ms.pop(key, None)
    return OK


_EXPIRES: Final = {
    b"EX": lambda now_ms, value: now_ms + value * 1000,
    b"PX": lambda now_ms, value: now_ms + value,
    b"EXAT": lambda _, value: value * 1000,
    b"PXAT": lambda _, value: value,
}


@command("MSET", -3, WRITE | GROWS)
def mset(data: Database, arguments: Arguments) -> Reply:
    if len(arguments) % 2:
        raise RedisFault("ERR wrong number of arguments for 'mset' command")
    for key, value in zip(arguments[::2], arguments[1::2], strict=True):
        data.values[key] = value
        data.expires_ms.pop(key, None)
    return OK


@command("SETRANGE", 4, WRITE | GROWS)
def setrange(data: Database, arguments: Arguments) -> Reply:
    key, part = arguments[0], arguments[2]
    offset = integer(arguments[1])
    if offset < 0:
        raise RedisFault("ERR offset is out of range")
    before = data.find_as(key, bytes)
    if not part:
        return len(before or b"")
    if offset + len(part) > MOST_BYTES:
        raise RedisFault("ERR string exceeds maximum allowed size (proto-max-bulk-len)")
    value = bytearray(before or b"")
    if offset > len(value):
        value.extend(bytes(offset - len(value)))
    value[offset : offset + len(part)] = part
    data.values[key] = bytes(value)
    return len(value)


@command("GETRANGE", 4)
def getrange(data: Database, arguments: Arguments) -> Reply:
    value = data.find_as(arguments[0], bytes) or b""
    first, last = integer(arguments[1]), integer(arguments[2])
    if first < 0 and last < 0 and first > last:
        return b""
    first, last = (max(place + len(value), 0) if place < 0 else place for place in (first, last))
    return value[first : last + 1]  # unlike LRANGE, it takes an end before the first byte for the first byte


@command("APPEND", 3, WRITE | GROWS)
def append(data: Database, arguments: Arguments) -> Reply:
    value = data.values[arguments[0]] = (data.find_as(arguments[0], bytes) or b"") + arguments[1]
    return len(value)


@command("INCRBY", 3, WRITE | GROWS)
def incrby(data: Database, arguments: Arguments) -> Reply:
    by = integer(arguments[1])
    before = data.find_as(arguments[0], bytes)
    value = integer(b"0" if before is None else before) + by
    if not -MOST - 1 <= value <= MOST:
        raise RedisFault("ERR increment or decrement would overflow")
    data.values[arguments[0]] = b"%d" % value
    return value
