"""What is counted of one day, UTC: sums of outcomes, and whose pings they are. Days add up in any order.

As bytes: the counts of `_HEAD`, the ids of the entities, and the columns of `Sums`, all little-endian, compressed as a
whole by zlib, which checks them.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.atlas.outcomes import HORIZONS_S
from model.atlas.sums import I64, Ids, Sums

DAY_MS: Final = 86_400_000
_HEAD: Final = np.dtype([("ids", "<i8"), ("rows", "<i8"), ("pings", "<i8"), ("from_ms", "<i8"), ("to_ms", "<i8")])
_COLUMNS: Final = {"row": "<i8", "n": "<i4", "off_cm": "<i8", "off_cm2": "<i8"}
_QUICK: Final = 1  # zlib's level: most of it is zeros


@dataclass(frozen=True, eq=False)
class Day:
    """The pings of one day, and their outcomes so far."""

    sums: Sums
    ids: Ids  # of the entities, sorted
    pings: int
    from_ms: int  # of the first ping; 0 if there is none
    to_ms: int

    @classmethod
    def none(cls) -> Day:
        return cls(Sums.none(), np.empty(0, np.uint64), 0, 0, 0)

    @classmethod
    def of_sums(cls, sums: Sums) -> Day:
        """Returns outcomes of pings that were counted before."""
        return cls(sums, np.empty(0, np.uint64), 0, 0, 0)

    @classmethod
    def of_pings(cls, ids: Ids, ts_ms: I64) -> Day:
        """Returns one or more pings, whose outcomes are not known yet."""
        return cls(Sums.none(), np.unique(ids), len(ids), int(ts_ms.min()), int(ts_ms.max()))

    @classmethod
    def total(cls, parts: Iterable[Day]) -> Day:
        """Returns all parts in one."""
        some = list(parts)
        timed = [part for part in some if part.pings]
        return cls(
            Sums.total(part.sums for part in some),
            np.unique(np.concatenate([np.empty(0, np.uint64), *(part.ids for part in some)])),
            sum(part.pings for part in some),
            min((part.from_ms for part in timed), default=0),
            max((part.to_ms for part in timed), default=0),
        )

    def plus(self, other: Day) -> Day:
        """Returns both in one."""
        return Day.total((self, other))

    def dumps(self) -> bytes:
        head = np.array([(len(self.ids), len(self.sums), self.pings, self.from_ms, self.to_ms)], _HEAD).tobytes()
        columns = (getattr(self.sums, name).astype(kind).tobytes() for name, kind in _COLUMNS.items())
        return zlib.compress(b"".join([head, self.ids.astype("<u8").tobytes(), *columns]), _QUICK)

    @classmethod
    def loads(cls, raw: bytes) -> Day:
        """Returns the day that `dumps` wrote. Raises ValueError for other bytes."""
        try:
            plain = zlib.decompress(raw)
        except zlib.error as error:
            raise ValueError(f"no day of an atlas: {error}") from error
        (head,) = np.frombuffer(plain, _HEAD, 1)
        rows, h, at = int(head["rows"]), len(HORIZONS_S), _HEAD.itemsize
        ids = np.frombuffer(plain, "<u8", int(head["ids"]), at)
        at += ids.nbytes
        columns = []
        for name, kind in _COLUMNS.items():
            shape = {"row": (rows,), "off_cm": (rows, h, 2)}.get(name, (rows, h))
            columns.append(np.frombuffer(plain, kind, int(np.prod(shape)), at).reshape(shape))
            at += columns[-1].nbytes
        if at != len(plain):
            raise ValueError(f"no day of an atlas: {len(plain):,} bytes instead of {at:,}")
        return cls(Sums(*columns), ids, int(head["pings"]), int(head["from_ms"]), int(head["to_ms"]))


def by_day(ts_ms: I64) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yields each day of some times, and which of them are on it, in their order."""
    day = ts_ms // DAY_MS
    for one in np.unique(day).tolist():
        yield one, np.flatnonzero(day == one)


def contents(days: Mapping[int, Day]) -> dict[str, Any]:
    """Returns what the days contain: how many entities and pings, and from when to when."""
    whole = Day.total(Day(Sums.none(), day.ids, day.pings, day.from_ms, day.to_ms) for day in days.values())
    return {
        "entities": len(whole.ids),
        "pings": whole.pings,
        "from_ms": whole.from_ms,
        "to_ms": whole.to_ms,
    }


def seen(days: Mapping[int, Day], min_entities: int) -> list[int]:
    """Returns the days with pings of so many entities, or of the most that any day has. Days fade as these go by: a few
    receivers with a wrong clock must not make all the others' days old.
    """
    enough = min(min_entities, max((len(day.ids) for day in days.values()), default=0))
    return [number for number, day in days.items() if len(day.ids) >= enough]
