"""What is counted of one day, UTC: sums of outcomes, and whose pings they are. Days add up in any order.

As bytes: two streams of zlib, which checks them. The first has the counts of `_HEAD` and the ids of the entities, the
second the columns of `Sums`, all little-endian; of rows only what they are above the row before, and of squares only
what they are above those of equal outcomes, which is nothing for the many that stand alone. The bytes of a column lie
by their places, the first of all numbers first, because the later ones are nearly always the same.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.atlas.outcomes import HORIZONS_S
from model.atlas.parts import Parts
from model.atlas.sums import I64, Ids, Sums

DAY_MS: Final = 86_400_000
_HEAD: Final = np.dtype([("ids", "<i8"), ("rows", "<i8"), ("pings", "<i8"), ("from_ms", "<i8"), ("to_ms", "<i8")])
_KINDS: Final = ("<i8", "<i4", "<i8", "<i8")  # of row, n, off_cm and off_cm2
LAYOUT: Final = (1, _HEAD, _KINDS)  # of the bytes; the number is for what the other two do not show
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

    def without_sums(self) -> Day:
        return Day(Sums.none(), self.ids, self.pings, self.from_ms, self.to_ms)

    def plus(self, other: Day) -> Day:
        """Returns both in one."""
        return Day.total((self, other))

    def dumps(self) -> bytes:
        head = np.array([(len(self.ids), len(self.sums), self.pings, self.from_ms, self.to_ms)], _HEAD)
        columns = zip(columns_of(self.sums), _KINDS, strict=True)
        packed = b"".join(_by_place(column.astype(kind)) for column, kind in columns)
        first = head.tobytes() + self.ids.astype("<u8").tobytes()
        return zlib.compress(first, _QUICK) + zlib.compress(packed, _QUICK)

    @classmethod
    def loads(cls, raw: bytes) -> Day:
        """Returns the day that `dumps` wrote. Raises ValueError for other bytes."""
        try:
            first = zlib.decompressobj()
            contents = first.decompress(raw)
            rest = zlib.decompress(first.unused_data)
            (head,) = np.frombuffer(contents, _HEAD, 1)
            ids = np.frombuffer(contents, "<u8", int(head["ids"]), _HEAD.itemsize)
            found = _sums(rest, int(head["rows"]))
        except (zlib.error, ValueError) as error:
            raise ValueError(f"no day of an atlas: {error}") from error
        return cls(found, ids, int(head["pings"]), int(head["from_ms"]), int(head["to_ms"]))


def columns_of(sums: Sums) -> tuple[I64, NDArray[Any], I64, I64]:
    """Returns the columns of sums, R rows, as differences that are small: of row [R], n [R, H], off_cm [R, H, 2] and
    off_cm2 [R, H].
    """
    return np.diff(sums.row, prepend=0), sums.n, sums.off_cm, sums.off_cm2 - _squares(sums.n, sums.off_cm)


def sums_of(row: NDArray[Any], n: NDArray[Any], off_cm: NDArray[Any], off_cm2: NDArray[Any]) -> Sums:
    """Returns the sums that `columns_of` made these columns of; they may have become smaller integers."""
    n, off_cm = n.astype(np.int32, copy=False), off_cm.astype(np.int64, copy=False)
    return Sums(np.cumsum(row, dtype=np.int64), n, off_cm, off_cm2 + _squares(n, off_cm))


def _sums(raw: bytes, rows: int) -> Sums:
    h, at, columns = len(HORIZONS_S), 0, []
    for kind, numbers in zip(_KINDS, (1, h, 2 * h, h), strict=True):
        size = np.dtype(kind).itemsize * rows * numbers
        places = np.frombuffer(raw, np.uint8, size, at).reshape(np.dtype(kind).itemsize, rows * numbers)
        columns.append(np.ascontiguousarray(places.T).view(kind).reshape(rows, numbers))
        at += size
    if at != len(raw):
        raise ValueError(f"{len(raw):,} bytes instead of {at:,}")
    row, n, off, more = columns
    return sums_of(row[:, 0], n, off.reshape(rows, h, 2), more)


def _squares(n: NDArray[np.int32], off_cm: I64) -> I64:
    """Returns the squares of n equal outcomes whose sum is off_cm. A square that is too large for an int64 wraps, here
    and when it is read.
    """
    return np.asarray((off_cm * off_cm).sum(-1) // np.maximum(n, 1))


def _by_place(column: NDArray[Any]) -> bytes:
    flat = np.ascontiguousarray(column).reshape(-1, 1)
    return flat.view(np.uint8).T.tobytes()


def adding() -> Parts[Day]:
    """Returns a day that more can be added to. Its size is in rows."""
    return Parts(Day.total, lambda day: len(day.sums))


def by_day(ts_ms: I64) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yields each day of some times, and which of them are on it, in their order."""
    day = ts_ms // DAY_MS
    for one in np.unique(day).tolist():
        yield one, np.flatnonzero(day == one)


def contents(days: Iterable[Day]) -> dict[str, Any]:
    """Returns what days contain: how many entities and pings, and from when to when."""
    whole = Day.total(day.without_sums() for day in days)
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
