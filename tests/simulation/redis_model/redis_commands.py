"""The commands of the model of Redis: one table, by name, of those that our code and its tests use.

A command gets the database and its arguments, and returns a reply in Python's types: bytes, int, None, list, Status for
a word such as OK, and float, dict or Pairs, which older clients and scripts get as `plain` returns them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple
from zlib import crc32

from redis_values import Database, RedisFault

Reply = Any
Arguments = list[bytes]

WRITE: Final = 1  # changes data
GROWS: Final = 2  # may need memory: `denyoom`
ALWAYS: Final = 4  # also while a dump is loaded, or the master is away
NO_SCRIPT: Final = 8  # not from scripts
OWN: Final = 16  # gets the server in place of its database

MOST: Final = 2**63 - 1
NOT_AN_INTEGER: Final = "ERR value is not an integer or out of range"
NOT_A_FLOAT: Final = "ERR value is not a valid float"
SYNTAX: Final = "ERR syntax error"


class Status(bytes):
    """A reply of one word."""


class Pairs(list[tuple[bytes, float]]):
    """Members with their scores."""


OK: Final = Status(b"OK")


class Command(NamedTuple):
    run: Callable[[Any, Arguments], Reply]  # with the database, or the server
    arity: int  # of arguments with the name; negative: at least so many
    flags: int


COMMANDS: Final[dict[bytes, Command]] = {}


def command(
    names: str, arity: int, flags: int = 0
) -> Callable[[Callable[[Database, Arguments], Reply]], Callable[[Database, Arguments], Reply]]:
    """Enters a function into the table."""

    def enter(run: Callable[[Database, Arguments], Reply]) -> Callable[[Database, Arguments], Reply]:
        for name in names.split():
            COMMANDS[name.encode()] = Command(run, arity, flags)
        return run

    return enter


def integer(raw: bytes, error: str = NOT_AN_INTEGER) -> int:
    """Returns an integer as strictly as Redis reads it. Raises RedisFault."""
    try:
        value = int(raw)
    except ValueError:
        raise RedisFault(error) from None
    if not -MOST - 1 <= value <= MOST or b"%d" % value != raw:
        raise RedisFault(error)
    return value


def number(raw: bytes, error: str = NOT_A_FLOAT) -> float:
    try:
        value = float(raw)
    except ValueError:
        raise RedisFault(error) from None
    if value != value or raw.strip() != raw or b"_" in raw:
        raise RedisFault(error)
    return value


def span(first: int, last: int, length: int) -> tuple[int, int]:
    """Returns the first place and the one behind the last, of a range as Redis has it: -1 is the last."""
    first = max(first + length, 0) if first < 0 else first
    last = last + length if last < 0 else last
    return first, max(first, min(last, length - 1) + 1)


def text_of(value: float) -> bytes:
    """Returns a double as Redis writes it: with as many digits as it needs."""
    if abs(value) < 1e17 and value == int(value):
        return b"%d" % value
    return b"%.17g" % value


def plain(reply: Reply) -> Reply:
    """Returns a reply as RESP2 has it: no doubles, no maps."""
    if isinstance(reply, float):
        return text_of(reply)
    if isinstance(reply, dict):
        return [part for pair in reply.items() for part in pair]
    if isinstance(reply, Pairs):
        return [part for member, score in reply for part in (member, text_of(score))]
    return reply


def scan_order(key: bytes) -> int:
    """Returns where SCAN has a key: the same place whatever else comes and goes, as Redis' hash tables have it."""
    return crc32(key) | 1  # never 0, which ends a scan
