"""Commands of the model of Redis for hashes, lists, sets and sorted sets."""

from __future__ import annotations

from redis_commands import GROWS, MOST, SYNTAX, WRITE, Arguments, Pairs, Reply, command, integer, number, span
from redis_values import Database, RedisFault, SortedSet

# -- hashes


@command("HSET", -4, WRITE | GROWS)
def hset(data: Database, arguments: Arguments) -> Reply:
    if len(arguments) % 2 == 0:
        raise RedisFault("ERR wrong number of arguments for 'hset' command")
    fields = data.make(arguments[0], dict)
    before = len(fields)
    fields.update(zip(arguments[1::2], arguments[2::2], strict=True))
    return len(fields) - before


@command("HGET", 3)
def hget(data: Database, arguments: Arguments) -> Reply:
    fields = data.find_as(arguments[0], dict)
    return None if fields is None else fields.get(arguments[1])


@command("HMGET", -3)
def hmget(data: Database, arguments: Arguments) -> Reply:
    fields = data.find_as(arguments[0], dict) or {}
    return [fields.get(name) for name in arguments[1:]]


@command("HGETALL", 2)
def hgetall(data: Database, arguments: Arguments) -> Reply:
    return dict(data.find_as(arguments[0], dict) or {})


@command("HKEYS", 2)
def hkeys(data: Database, arguments: Arguments) -> Reply:
    return list(data.find_as(arguments[0], dict) or ())


@command("HLEN", 2)
def hlen(data: Database, arguments: Arguments) -> Reply:
    return len(data.find_as(arguments[0], dict) or ())


@command("HEXISTS", 3)
def hexists(data: Database, arguments: Arguments) -> Reply:
    return int(arguments[1] in (data.find_as(arguments[0], dict) or ()))


@command("HDEL", -3, WRITE)
def hdel(data: Database, arguments: Arguments) -> Reply:
    fields = data.find_as(arguments[0], dict)
    if fields is None:
        return 0
    gone = sum(fields.pop(name, None) is not None for name in arguments[1:])
    data.drop_if_empty(arguments[0])
    return gone


@command("HINCRBY", 4, WRITE | GROWS)
def hincrby(data: Database, arguments: Arguments) -> Reply:
    by = integer(arguments[2])
    fields = data.find_as(arguments[0], dict) or {}
    value = integer(fields.get(arguments[1], b"0"), "ERR hash value is not an integer") + by
    if not -MOST - 1 <= value <= MOST:
        raise RedisFault("ERR increment or decrement would overflow")
    data.make(arguments[0], dict)[arguments[1]] = b"%d" % value
    return value


# -- lists and sets


@command("RPUSH", -3, WRITE | GROWS)
def rpush(data: Database, arguments: Arguments) -> Reply:
    entries = data.make(arguments[0], list)
    entries += arguments[1:]
    return len(entries)


@command("LLEN", 2)
def llen(data: Database, arguments: Arguments) -> Reply:
    return len(data.find_as(arguments[0], list) or ())


@command("LRANGE", 4)
def lrange(data: Database, arguments: Arguments) -> Reply:
    first, last = integer(arguments[1]), integer(arguments[2])
    entries = data.find_as(arguments[0], list) or []
    first, stop = span(first, last, len(entries))
    return entries[first:stop]


@command("SADD", -3, WRITE | GROWS)
def sadd(data: Database, arguments: Arguments) -> Reply:
    members = data.make(arguments[0], set)
    before = len(members)
    members.update(arguments[1:])
    return len(members) - before


@command("SREM", -3, WRITE)
def srem(data: Database, arguments: Arguments) -> Reply:
    members = data.find_as(arguments[0], set)
    if members is None:
        return 0
    before = len(members)
    members.difference_update(arguments[1:])
    gone = before - len(members)
    data.drop_if_empty(arguments[0])
    return gone


@command("SMEMBERS", 2)
def smembers(data: Database, arguments: Arguments) -> Reply:
    return sorted(data.find_as(arguments[0], set) or ())


# -- sorted sets


@command("ZADD", -4, WRITE | GROWS)
def zadd(data: Database, arguments: Arguments) -> Reply:
    key, entries = arguments[0], arguments[1:]
    if len(entries) % 2:
        raise RedisFault(SYNTAX)  # NX, XX, GT, LT, CH, INCR: nobody here uses them
    scores = [number(raw) for raw in entries[::2]]
    members = data.make(key, SortedSet)
    before = len(members)
    for score, member in zip(scores, entries[1::2], strict=True):
        members.put(member, score)
    return len(members) - before


@command("ZREM", -3, WRITE)
def zrem(data: Database, arguments: Arguments) -> Reply:
    members = data.find_as(arguments[0], SortedSet)
    if members is None:
        return 0
    gone = sum(members.drop(member) for member in arguments[1:])
    data.drop_if_empty(arguments[0])
    return gone


@command("ZSCORE", 3)
def zscore(data: Database, arguments: Arguments) -> Reply:
    members = data.find_as(arguments[0], SortedSet)
    return None if members is None else members.scores.get(arguments[1])


@command("ZCARD", 2)
def zcard(data: Database, arguments: Arguments) -> Reply:
    return len(data.find_as(arguments[0], SortedSet) or ())


@command("ZCOUNT", 4)
def zcount(data: Database, arguments: Arguments) -> Reply:
    first, stop = _between(data, arguments[0], arguments[1], arguments[2])
    return stop - first


@command("ZRANGE", -4)
def zrange(data: Database, arguments: Arguments) -> Reply:
    first, last = integer(arguments[1]), integer(arguments[2])
    options = [option.upper() for option in arguments[3:]]
    if options not in ([], [b"WITHSCORES"]):
        raise RedisFault(SYNTAX)  # BYSCORE, BYLEX, REV, LIMIT: nobody here uses them
    members = data.find_as(arguments[0], SortedSet) or SortedSet()
    first, stop = span(first, last, len(members))
    return _listed(members, first, stop, with_scores=bool(options))


@command("ZRANGEBYSCORE", -4)
def zrangebyscore(data: Database, arguments: Arguments) -> Reply:
    first, stop = _between(data, arguments[0], arguments[1], arguments[2])
    options = [option.upper() for option in arguments[3:]]
    with_scores = options[:1] == [b"WITHSCORES"]
    limit = options[with_scores:]
    if limit and (limit[0] != b"LIMIT" or len(limit) != 3):
        raise RedisFault(SYNTAX)
    if limit:
        first = first + integer(limit[1]) if integer(limit[1]) >= 0 else stop
        stop = min(stop, first + integer(limit[2])) if integer(limit[2]) >= 0 else stop
    members = data.find_as(arguments[0], SortedSet) or SortedSet()
    return _listed(members, first, max(first, stop), with_scores=with_scores)


@command("ZREMRANGEBYRANK", 4, WRITE)
def zremrangebyrank(data: Database, arguments: Arguments) -> Reply:
    first, last = integer(arguments[1]), integer(arguments[2])
    members = data.find_as(arguments[0], SortedSet)
    if members is None:
        return 0
    gone = members.drop_ranks(*span(first, last, len(members)))
    data.drop_if_empty(arguments[0])
    return gone


@command("ZREMRANGEBYSCORE", 4, WRITE)
def zremrangebyscore(data: Database, arguments: Arguments) -> Reply:
    first, stop = _between(data, arguments[0], arguments[1], arguments[2])
    members = data.find_as(arguments[0], SortedSet)
    if members is None:
        return 0
    gone = members.drop_ranks(first, stop)
    data.drop_if_empty(arguments[0])
    return gone


def _between(data: Database, key: bytes, low: bytes, high: bytes) -> tuple[int, int]:
    error = "ERR min or max is not a float"
    bounds = number(low.removeprefix(b"(") or b"0", error), number(high.removeprefix(b"(") or b"0", error)
    members = data.find_as(key, SortedSet) or SortedSet()
    return members.between(*bounds, without_low=low.startswith(b"("), without_high=high.startswith(b"("))


def _listed(members: SortedSet, first: int, stop: int, *, with_scores: bool) -> Reply:
    part = members.ranked[first:stop]
    if with_scores:
        return Pairs((member, score) for score, member in part)
    return [member for _, member in part]
