"""Keeps what is found of one day, UTC: passages, questions, and whose pings they are. Days add up in any order.

As bytes: one stream of zlib, which checks it, of the counts of `_HEAD`, the ids of the entities, and the rows of
passages and questions. The bytes of rows lie by their places, the first of all rows first, because many are alike.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from model.atlas.passages import OLDEST, Ids, Passages
from model.atlas.questions import QUESTION, Questions
from model.atlas.ways import I64, PASSAGE

T = TypeVar("T")

DAY_MS: Final = 86_400_000
HALF_LIFE_DAYS: Final = 14.0
FADED: Final = 5  # half-lives, after which a day is left out
assert 2**FADED <= OLDEST
_COUNTS: Final = ("ids", "passages", "questions", "pings", "from_ms", "to_ms")
_HEAD: Final = np.dtype([(name, "<i8") for name in _COUNTS])
LAYOUT: Final = (2, _HEAD, PASSAGE, QUESTION)  # of the bytes; the number is for what the others do not show
_QUICK: Final = 1  # zlib's level


@dataclass(frozen=True, eq=False)
class Day:
    """The pings of one day, and what is known of them so far."""

    passages: Passages
    questions: Questions
    ids: Ids  # of the entities, sorted
    pings: int
    from_ms: int  # of the first ping; 0 if there is none
    to_ms: int

    @classmethod
    def none(cls) -> Day:
        return cls(Passages.none(), Questions.none(), np.empty(0, np.uint64), 0, 0, 0)

    @classmethod
    def of_pings(cls, ids: Ids, ts_ms: I64) -> Day:
        """Returns one or more pings, of which nothing else is known yet."""
        ends = int(ts_ms.min()), int(ts_ms.max())
        return cls(Passages.none(), Questions.none(), np.unique(ids), len(ids), *ends)

    @classmethod
    def of_known(cls, passages: Passages, questions: Questions) -> Day:
        """Returns what became known of pings that were counted before."""
        return cls(passages, questions, np.empty(0, np.uint64), 0, 0, 0)

    @classmethod
    def total(cls, parts: Iterable[Day]) -> Day:
        """Returns all parts in one."""
        some = list(parts)
        timed = [part for part in some if part.pings]
        return cls(
            Passages.total(part.passages for part in some),
            Questions.total(part.questions for part in some),
            np.unique(np.concatenate([np.empty(0, np.uint64), *(part.ids for part in some)])),
            sum(part.pings for part in some),
            min((part.from_ms for part in timed), default=0),
            max((part.to_ms for part in timed), default=0),
        )

    def plus(self, other: Day) -> Day:
        """Returns both in one."""
        return Day.total((self, other))

    def without(self, ids: Ids) -> Day:
        """Returns the same without passages and questions of these entities. Their pings stay in the count."""
        others = self.ids[~np.isin(self.ids, ids)]
        kept = self.passages.without(ids), self.questions.without(ids)
        return Day(*kept, others, self.pings, self.from_ms, self.to_ms)

    def dumps(self) -> bytes:
        counts = len(self.ids), len(self.passages), len(self.questions), self.pings, self.from_ms, self.to_ms
        head = np.array([counts], _HEAD).tobytes() + self.ids.astype("<u8").tobytes()
        return zlib.compress(head + _by_place(self.passages.rows) + _by_place(self.questions.rows), _QUICK)

    @classmethod
    def loads(cls, raw: bytes) -> Day:
        """Returns the day that `dumps` wrote. Raises ValueError for other bytes."""
        try:
            contents = zlib.decompress(raw)
            (head,) = np.frombuffer(contents, _HEAD, 1)
            at = _HEAD.itemsize
            ids = np.frombuffer(contents, "<u8", int(head["ids"]), at)
            at += ids.nbytes
            passages = _rows(contents, PASSAGE, int(head["passages"]), at)
            questions = _rows(contents, QUESTION, int(head["questions"]), at + passages.nbytes)
        except (zlib.error, ValueError) as error:
            raise ValueError(f"no day of an atlas: {error}") from error
        if len(contents) != at + passages.nbytes + questions.nbytes:
            raise ValueError(f"no day of an atlas: it has {len(contents):,} bytes")
        counts = (int(head[name]) for name in _COUNTS[-3:])
        return cls(Passages(passages), Questions(questions), ids, *counts)


def adding() -> PartialSums[Day]:
    """Returns a day that more can be added to. Its size is in passages."""
    return PartialSums(Day.total, lambda day: len(day.passages))


def by_day(ts_ms: I64) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yields each day of some times, and which of them are on it, in their order."""
    day = ts_ms // DAY_MS
    for one in np.unique(day).tolist():
        yield one, np.flatnonzero(day == one)


def days_of(ids: Ids, ts_ms: I64, passages: Passages, questions: Questions) -> Iterator[tuple[int, Day]]:
    """Yields by day some pings [N], and what is chosen of what they made known: by day, as what is chosen of more days
    together would depend on which pings come together.
    """
    found: dict[int, list[Day]] = {}
    for day, at in by_day(ts_ms):
        found.setdefault(day, []).append(Day.of_pings(ids[at], ts_ms[at]))
    for day, at in by_day(passages.rows["ts_ms"]):
        found.setdefault(day, []).append(Day.of_known(Passages.of(passages.rows[at]), Questions.none()))
    for day, at in by_day(questions.last["ts_ms"]):
        found.setdefault(day, []).append(Day.of_known(Passages.none(), Questions.of(questions.rows[at])))
    for day, parts in found.items():
        yield day, Day.total(parts)


def contents(days: Iterable[Day]) -> dict[str, Any]:
    """Returns what days contain: how many entities and pings, and from when to when."""
    ids, pings, from_ms, to_ms = np.empty(0, np.uint64), 0, list[int](), 0
    for day in days:
        ids, pings, to_ms = np.union1d(ids, day.ids), pings + day.pings, max(to_ms, day.to_ms)
        from_ms += [day.from_ms] if day.pings else []
    return {"entities": len(ids), "pings": pings, "from_ms": min(from_ms, default=0), "to_ms": to_ms}


def days_with_fleet(days: Mapping[int, Day], min_entities: int) -> list[int]:
    """Returns the days with pings of so many entities, or of the most that any day has. Days fade as these go by: a few
    receivers with a wrong clock must not make all the others' days old.
    """
    enough = min(min_entities, max((len(day.ids) for day in days.values()), default=0))
    return [number for number, day in days.items() if len(day.ids) >= enough]


def factors(days: Mapping[int, Day], min_entities: int, half_life_days: float = HALF_LIFE_DAYS) -> dict[int, float]:
    """Returns the factors of days (`Passages.of_days`), the newest first, without those that have faded away. A day's
    age is the number of later days on which the fleet was seen: while it rests, nothing fades.
    """
    found, fleet = {}, days_with_fleet(days, min_entities)
    for day in sorted(days, reverse=True):
        age = sum(one > day for one in fleet) / half_life_days
        if age <= FADED:
            found[day] = 2.0**age
    return found


def _by_place(rows: NDArray[Any]) -> bytes:
    return rows.view(np.uint8).reshape(len(rows), rows.itemsize).T.tobytes() if len(rows) else b""


def _rows(contents: bytes, kind: np.dtype[Any], count: int, begin: int) -> NDArray[Any]:
    places = np.frombuffer(contents, np.uint8, count * kind.itemsize, begin).reshape(kind.itemsize, count)
    return np.ascontiguousarray(places.T).reshape(-1).view(kind)


class PartialSums(Generic[T]):
    """A sum of many large things that takes few additions: each is added to those before it as soon as it is as large.

    It is in parts. Each has less than half the size of the one before it, so that one that is
    added is part of a few additions only, and twice the memory of the whole is enough.
    """

    def __init__(self, total: Callable[[Sequence[T]], T], size: Callable[[T], int]) -> None:
        self._total = total
        self._size = size
        self._parts: list[T] = []

    def add(self, part: T) -> None:
        self._parts.append(part)
        while len(self._parts) > 1 and 2 * self._size(self._parts[-1]) >= self._size(self._parts[-2]):
            self._parts[-2:] = [self._total(self._parts[-2:])]

    def __len__(self) -> int:
        return sum(map(self._size, self._parts))

    def total(self) -> T:
        """Returns what all parts are together, and keeps that as the only one."""
        if len(self._parts) != 1:
            self._parts[:] = [self._total(self._parts)]
        return self._parts[0]
