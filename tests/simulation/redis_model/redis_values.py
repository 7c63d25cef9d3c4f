"""Holds what a Redis database holds: keys, values of five types, and when they expire. Knows no command.

A value is of a Python type for each type of Redis: bytes for a string, `list`, `dict` for a hash, `set`, and SortedSet.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable
from typing import Final, TypeVar

WRONG_TYPE: Final = "WRONGTYPE Operation against a key holding the wrong kind of value"


class RedisFault(Exception):
    """An error that Redis answers with. Its text begins with the code."""


class SortedSet:
    """A sorted set: members by score, and by their bytes where scores are equal."""

    def __init__(self) -> None:
        self.scores: dict[bytes, float] = {}
        self.ranked: list[tuple[float, bytes]] = []

    def __len__(self) -> int:
        return len(self.ranked)

    def put(self, member: bytes, score: float) -> None:
        before = self.scores.get(member)
        if before == score:
            return
        if before is not None:
            del self.ranked[bisect_left(self.ranked, (before, member))]
        self.scores[member] = score
        insort(self.ranked, (score, member))

    def drop(self, member: bytes) -> bool:
        score = self.scores.pop(member, None)
        if score is None:
            return False
        del self.ranked[bisect_left(self.ranked, (score, member))]
        return True

    def drop_ranks(self, first: int, stop: int) -> int:
        gone = self.ranked[first:stop]
        del self.ranked[first:stop]
        for _, member in gone:
            del self.scores[member]
        return len(gone)

    def between(self, low: float, high: float, *, without_low: bool, without_high: bool) -> tuple[int, int]:
        """Returns the first rank of these scores, and the one behind the last."""
        first = (bisect_right if without_low else bisect_left)(self.ranked, low, key=_score)
        stop = (bisect_left if without_high else bisect_right)(self.ranked, high, key=_score)
        return first, max(first, stop)

    def copy(self) -> SortedSet:
        made = SortedSet()
        made.scores, made.ranked = self.scores.copy(), self.ranked.copy()
        return made


def _score(entry: tuple[float, bytes]) -> float:
    return entry[0]


Value = bytes | list[bytes] | dict[bytes, bytes] | set[bytes] | SortedSet
V = TypeVar("V", bytes, list[bytes], dict[bytes, bytes], set[bytes], SortedSet)
TYPES: Final[dict[type, bytes]] = {bytes: b"string", list: b"list", dict: b"hash", set: b"set", SortedSet: b"zset"}


class Snapshot:
    """A copy of a database at one moment."""

    def __init__(self, values: dict[bytes, Value], expires_ms: dict[bytes, int]) -> None:
        self.values = {key: copy_value(value) for key, value in values.items()}
        self.expires_ms = expires_ms.copy()


class Database:
    """Keys and values. An expired key is not there, whoever asks and within scripts, too: it goes when it is met."""

    def __init__(self) -> None:
        self.values: dict[bytes, Value] = {}
        self.expires_ms: dict[bytes, int] = {}
        self.dumps: list[Value] = []  # what DUMP copied: a dump, which is opaque to clients, is a number of these
        self.repeats: Callable[[], bool] = lambda: False  # whether the next page of a SCAN has keys of the one before
        self.now_ms = 0  # the server sets it before each command; a script has one moment

    def find(self, key: bytes) -> Value | None:
        value = self.values.get(key)
        if value is not None:
            expires_ms = self.expires_ms.get(key)
            if expires_ms is not None and self.now_ms > expires_ms:
                self.delete(key)
                return None
        return value

    def find_as(self, key: bytes, kind: type[V]) -> V | None:
        """Returns the value of a key. Raises RedisFault if it is of another type."""
        value = self.find(key)
        if value is None or type(value) is kind:
            return value  # type: ignore[return-value]
        raise RedisFault(WRONG_TYPE)

    def make(self, key: bytes, kind: type[V]) -> V:
        """Returns the value of a key, which is a new one if there is none."""
        value = self.find_as(key, kind)
        if value is None:
            value = self.values[key] = kind()  # type: ignore[assignment]
        return value  # type: ignore[return-value]

    def delete(self, key: bytes) -> bool:
        self.expires_ms.pop(key, None)
        return self.values.pop(key, None) is not None

    def drop_if_empty(self, key: bytes) -> None:
        """Deletes a key whose list, hash or set has nothing left, as Redis does."""
        if not self.values[key]:
            self.delete(key)

    def live_keys(self) -> list[bytes]:
        """Returns all keys that have not expired."""
        return [key for key in list(self.values) if self.find(key) is not None]

    def clear(self) -> None:
        self.values.clear()
        self.expires_ms.clear()

    def load(self, snapshot: Snapshot) -> None:
        again = Snapshot(snapshot.values, snapshot.expires_ms)
        self.values, self.expires_ms = again.values, again.expires_ms


def copy_value(value: Value) -> Value:
    return value if isinstance(value, bytes) else value.copy()
