"""Makes of the sums of days what may be published: old days fade, few entities say nothing, and no entity says much
more than the others.

    fading    a day counts with the weight 2^(-age / half-life), in steps of 1/UNIT, and after FADED half-lives for
              nothing. Its age is the number of later days on which the fleet was seen: while it rests, nothing fades
    privacy   what fewer than min_entities buckets of entities show under a key, after a horizon, is left out: it could
              be recognised, as where they live
    lies      of the buckets under a key, after a horizon, none counts more than all others together, and one whose
              outcomes lie more than REACH times as far from the middle as those of the middle bucket counts less, by
              the square of that

The middle is the median of the means of the buckets, on each axis. So one receiver that lies, however far and often,
hardly moves an estimate. All results are integers, and no sum of floats is taken, so that the same sums give the same
bytes everywhere.

Shapes: R rows, K keys, B = BUCKETS, H horizons.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.atlas.cells import LEVEL_SHIFT, Keys
from model.atlas.runs import BLOCK_ROWS, Run, gathered, in_blocks, merged
from model.atlas.sums import BUCKETS, I64, Sums, bucket_of, firsts, keys_of

UNIT: Final = 256  # so many units of n are one outcome
HALF_LIFE_DAYS: Final = 14.0
FADED: Final = 5  # half-lives, after which a day counts for nothing; the last weight is 8 units
MIN_ENTITIES: Final = 3
# On Austin's buses, 5 costs 0.2 % of accuracy. One more bus, on their streets, that reports all places 89 m/s away
# costs them 0.7 %, and 40 % without the rule. With 3 the regions that should hold 90 % hold one point less.
REACH: Final = 5.0
NEAR_CM: Final = 2_000.0  # what receivers differ by, and nobody is made less of for
_JUDGED: Final = 3  # buckets: of two that differ, nobody can tell which lies
_SLICE: Final = 16_384  # keys, or rows, at a time: some 60 MB
_ROOM: Final = 65_536  # keys more than are wanted, some 11 MB, so that they are rarely sorted


@dataclass(frozen=True, eq=False)
class Published:
    """Holds what an atlas says: K keys, which are sorted and each there once."""

    key: Keys  # [K]
    n: I64  # [K, H] outcomes, in 1 / UNIT
    off_cm: I64  # [K, H, 2] the sum of the offsets east and north
    off_cm2: I64  # [K, H] the sum of their squared lengths

    def __len__(self) -> int:
        return len(self.key)

    @classmethod
    def none(cls) -> Published:
        none = Sums.none()
        return cls(none.row, none.n.astype(np.int64), none.off_cm, none.off_cm2)

    @classmethod
    def joined(cls, parts: list[Published]) -> Published:
        """Returns the keys of all parts, each of which has later keys than the one before, and empties the list: so
        only one column is in memory twice.
        """
        all_ = [cls.none(), *parts]
        parts.clear()
        columns = [[getattr(one, name) for one in all_] for name in ("key", "n", "off_cm", "off_cm2")]
        del all_
        return cls(*map(_joined_column, columns))

    def at(self, which: NDArray[Any]) -> Published:
        """Returns the keys at these places, which rise."""
        return Published(self.key[which], self.n[which], self.off_cm[which], self.off_cm2[which])


def _joined_column(parts: list[NDArray[Any]]) -> NDArray[Any]:
    whole = np.concatenate(parts)
    parts.clear()
    return whole


def weights(days: Iterable[int], seen: Collection[int], half_life_days: float = HALF_LIFE_DAYS) -> dict[int, int]:
    """Returns what days (numbers since 1970, UTC) count for, in 1 / UNIT, without those that have faded away. The fleet
    was seen on the days `seen`.
    """
    found = {}
    for day in sorted(days):
        age = sum(one > day for one in seen) / half_life_days
        if age <= FADED:
            found[day] = round(UNIT * 2.0**-age)
    return found


def published(
    days: Iterable[tuple[Sums, int]],
    min_entities: int = MIN_ENTITIES,
    max_keys: int | None = None,
) -> Published:
    """Returns what the sums of days say together, which come with their weights.

    With more than `max_keys`, those of the smallest cells that have the fewest outcomes are left out, then those of the
    next larger cells.
    """
    return of_runs(((in_blocks(sums, BLOCK_ROWS), of_day) for sums, of_day in days), min_entities, max_keys)


def of_runs(
    days: Iterable[tuple[Run, int]],
    min_entities: int = MIN_ENTITIES,
    max_keys: int | None = None,
) -> Published:
    """Returns the same of days that come as runs (`model.atlas.runs`). In memory is a block of each, and of what is
    published an eighth more than `max_keys`, or _ROOM keys.
    """
    kept = _Collector(max_keys)
    for block in gathered(merged(_fading(run, of_day) for run, of_day in days), _SLICE):
        for part in _slices(block, min_entities):
            kept.add(_joined(part, min_entities))
    return kept.published()


def _fading(run: Run, of_day: int) -> Iterator[Sums]:
    for block in run:
        yield _faded(block, of_day)


def _faded(sums: Sums, of_day: int) -> Sums:
    """Returns the sums with the weight of their day: n in 1 / UNIT."""
    n = sums.n.astype(np.int64) * of_day
    return Sums(sums.row, n, _part(sums.off_cm, of_day), _part(sums.off_cm2, of_day))


def _part(sums: I64, of_day: int) -> I64:
    """Returns sums * of_day / UNIT, rounded down. The product could be too large for an int64."""
    return np.asarray((sums >> 8) * of_day + (((sums & (UNIT - 1)) * of_day) >> 8))


def _slices(faded: Sums, min_entities: int) -> Iterator[Sums]:
    """Yields the rows of the keys with enough buckets, some keys at a time."""
    key = keys_of(faded.row)
    begins = np.append(np.flatnonzero(firsts(key)), len(key)) if len(key) else np.zeros(1, np.int64)
    many = np.flatnonzero(np.diff(begins) >= min_entities)
    for at in range(0, len(many), _SLICE):
        some = many[at : at + _SLICE]
        length = begins[some + 1] - begins[some]
        rows = np.repeat(begins[some] - np.cumsum(length) + length, length) + np.arange(length.sum())
        yield faded.at(rows)


def _joined(faded: Sums, min_entities: int) -> Published:
    """Returns the sums of keys over their buckets, [K, B, H] here, each made less of where it has to be."""
    key = keys_of(faded.row)
    first = firsts(key)
    where = np.cumsum(first) - 1, bucket_of(faded.row)
    key = key[first]
    columns = faded.n, faded.off_cm, faded.off_cm2
    n, off, off2 = (np.zeros((len(key), BUCKETS, *column.shape[1:]), np.int64) for column in columns)
    n[where], off[where], off2[where] = faded.n, faded.off_cm, faded.off_cm2
    seen = n > 0
    buckets = seen.sum(axis=1)
    share = _shares(n, off, off2, seen, buckets)
    share[(buckets < min_entities)[:, None] & seen] = 0.0
    n, off2 = np.floor(n * share).astype(np.int64), np.rint(off2 * share).astype(np.int64)
    off = np.rint(off * share[..., None]).astype(np.int64)
    made = Published(key, n.sum(axis=1), off.sum(axis=1), off2.sum(axis=1))
    return made.at(np.flatnonzero(made.n.any(axis=1)))


def _shares(n: I64, off: I64, off2: I64, seen: NDArray[np.bool_], buckets: I64) -> NDArray[np.float64]:
    """Returns how much of each bucket counts [K, B, H]: 1 for nearly all."""
    of_n = UNIT / np.maximum(n, 1)
    east, north, square = off[..., 0] * of_n, off[..., 1] * of_n, off2 * of_n
    mid_east, mid_north = (_median(axis, seen, buckets) for axis in (east, north))
    # The mean of the squared distances from the middle; what faded was rounded, so that it can seem to be below 0.
    far2 = np.maximum(square - 2 * (mid_east * east + mid_north * north) + mid_east**2 + mid_north**2, 0.0)
    most2 = REACH**2 * _median(far2, seen, buckets) + NEAR_CM**2
    near = np.minimum(most2 / np.maximum(far2, 1.0), 1.0)
    others = n.sum(axis=1, keepdims=True) - n
    share = near * np.minimum(others / np.maximum(n, 1), 1.0)
    return np.where((buckets >= _JUDGED)[:, None], share, 1.0)


def _median(values: NDArray[np.float64], seen: NDArray[np.bool_], buckets: I64) -> NDArray[np.float64]:
    """Returns the medians [K, 1, H] of what was seen of values [K, B, H]."""
    ordered = np.sort(np.where(seen, values, np.inf), axis=1)
    low, high = (
        np.take_along_axis(ordered, at[:, None], axis=1) for at in (np.maximum(buckets - 1, 0) // 2, buckets // 2)
    )
    return np.where((buckets > 0)[:, None], (low + high) / 2, 0.0)


class _Collector:
    """Keeps what is published, which comes in the order of its keys, and leaves out what is too much."""

    def __init__(self, max_keys: int | None) -> None:
        self._max_keys = max_keys
        self._parts: list[Published] = []
        self._keys = 0

    def add(self, part: Published) -> None:
        self._parts.append(part)
        self._keys += len(part)
        if self._max_keys is not None and self._keys > self._max_keys + max(self._max_keys // 8, _ROOM):
            self._leave_out(self._max_keys)

    def published(self) -> Published:
        """Returns what is kept, and keeps it no longer."""
        if self._max_keys is not None:
            self._leave_out(self._max_keys)
        return Published.joined(self._parts)

    def _leave_out(self, max_keys: int) -> None:
        """Leaves out the keys of the smallest cells with the fewest outcomes. Later keys change nothing for these."""
        if self._keys <= max_keys:
            return
        key, n = (
            np.concatenate(some) for some in zip(*((one.key, one.n.sum(axis=1)) for one in self._parts), strict=True)
        )
        stays = np.zeros(len(key), np.bool_)
        stays[np.lexsort((key, -n, key >> LEVEL_SHIFT))[:max_keys]] = True
        for place, begin in enumerate(np.cumsum([0, *map(len, self._parts[:-1])])):
            part = self._parts[place]
            self._parts[place] = part.at(np.flatnonzero(stays[begin : begin + len(part)]))
        self._parts = [part for part in self._parts if len(part)]
        self._keys = max_keys
