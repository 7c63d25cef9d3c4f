"""Keeps passages by bucket: a bounded number of each, chosen by hashes, so that the same pings leave the same passages
in any order and however they are split.

Of each bucket, the MOST_VEHICLES vehicles with the smallest hash are kept, and of each of these the MOST_OF_ONE
passages with the smallest draw. So no vehicle takes the place of the others, however often it passes; and what is
chosen of two parts together is what is chosen of the whole.

Older days give way to newer ones: there, hashes and draws are larger by a factor (`Passages.of_days`).

Shapes: P passages.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.atlas.ways import I64, PASSAGE
from model.kinematics.geo import F64

MOST_VEHICLES: Final = 64  # of a bucket
MOST_OF_ONE: Final = 4  # of these, passages of one vehicle
Ids = NDArray[np.uint64]  # of entities, by a hash of their names
_STEP: Final = np.uint64(0x9E3779B97F4A7C15)  # of SplitMix64 (Steele, Lea and Flood, "Fast splittable ...", 2014)
_MIX: Final = ((np.uint64(30), np.uint64(0xBF58476D1CE4E5B9)), (np.uint64(27), np.uint64(0x94D049BB133111EB)))
_LAST: Final = np.uint64(31)
_LARGEST: Final = float(2**64 - 2**11)  # the largest of float64's numbers that an uint64 holds
OLDEST: Final = 32.0  # the largest factor of a day (`Passages.of_days`)


@dataclass(frozen=True, eq=False)
class Passages:
    """The passages of one or more buckets, PASSAGE [P], in the order of their buckets."""

    rows: NDArray[Any]

    def __len__(self) -> int:
        return len(self.rows)

    @classmethod
    def none(cls) -> Passages:
        return cls(np.empty(0, PASSAGE))

    @classmethod
    def of(cls, rows: NDArray[Any]) -> Passages:
        """Chooses among passages, PASSAGE [N] in any order."""
        return cls(rows[_choose(rows, rows["draw"], np.ones(len(rows)))])

    @classmethod
    def total(cls, parts: Iterable[Passages]) -> Passages:
        """Returns what is chosen of all parts."""
        some = [part.rows for part in parts if len(part)]
        return cls.of(np.concatenate(some)) if len(some) > 1 else cls(some[0]) if some else cls.none()

    @classmethod
    def of_days(cls, days: Iterable[tuple[Passages, float]]) -> Passages:
        """Returns what is chosen of days, which come with their factors, the newest first; factors rise, from 1 to
        OLDEST. Only what is chosen so far, and a day, are in memory. Draws are larger by the factor, in another unit:
        in their own, most of an old day would be the largest number that there is, and so look like one passage.
        """
        rows, factor = cls.none().rows, np.empty(0)
        for day, of_day in days:
            more = day.rows.copy()
            more["draw"] = np.minimum(more["draw"] * (of_day / OLDEST), _LARGEST).astype(np.uint64)
            rows, factor = np.concatenate([rows, more]), np.append(factor, np.full(len(more), of_day))
            kept = _choose(rows, rows["draw"], factor)
            rows, factor = rows[kept], factor[kept]
        return cls(rows)

    def without(self, ids: Ids) -> Passages:
        """Returns those of other vehicles."""
        return Passages(self.rows[~np.isin(self.rows["id"], ids)])


def _choose(rows: NDArray[Any], draw: NDArray[np.uint64], factor: F64) -> I64:
    """Returns which of rows, PASSAGE [N], are chosen, in the order of their buckets. A vehicle's hash in a bucket
    counts with the smallest factor of its passages there."""
    bucket, id_ = rows["bucket"], rows["id"]
    vehicle = mix(id_ ^ mix(bucket.astype(np.uint64))).astype(np.float64) * _least_factor(bucket, id_, factor)
    order = np.lexsort((draw, id_, vehicle, bucket))
    bucket, id_, draw = bucket[order], id_[order], draw[order]
    begins_bucket = firsts(bucket)
    begins_vehicle = begins_bucket | firsts(id_)
    again = ~begins_vehicle & ~firsts(draw)  # the same passage twice
    vehicles = np.cumsum(begins_vehicle)
    kept = (vehicles - _at_first(vehicles, begins_bucket) < MOST_VEHICLES) & ~again
    count = np.cumsum(~again)
    kept &= count - _at_first(count, begins_vehicle) < MOST_OF_ONE
    return np.asarray(order[kept])


def _least_factor(bucket: I64, id_: Ids, factor: F64) -> F64:
    """Returns for each passage [N] the smallest factor of those of its vehicle in its bucket."""
    if not len(factor) or (factor == factor[0]).all():
        return factor
    order = np.lexsort((id_, bucket))
    first = firsts(bucket[order]) | firsts(id_[order])
    starts = np.flatnonzero(first)
    out = np.empty(len(factor))
    out[order] = np.repeat(np.minimum.reduceat(factor[order], starts), np.diff(np.append(starts, len(order))))
    return out


def mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Returns a hash of each integer: the output function of SplitMix64."""
    found = values + _STEP
    for shift, factor in _MIX:
        found = (found ^ (found >> shift)) * factor
    return np.asarray(found ^ (found >> _LAST))


def draws(ids: Ids, ts_ms: I64) -> NDArray[np.uint64]:
    """Returns by which passages are chosen [P]: a hash of the vehicle and of the time."""
    return mix(ids ^ mix(ts_ms.astype(np.uint64)))


def firsts(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Returns which of values [N], the equal ones of which are side by side, are the first of their kind."""
    first = np.ones(len(values), np.bool_)
    first[1:] = values[1:] != values[:-1]
    return first


def ranks(first: NDArray[np.bool_]) -> I64:
    """Returns the places [N] of rows among those of their kind, from 0 on; `first` [N] is as `firsts` returns it."""
    place = np.arange(len(first))
    return np.asarray(place - np.maximum.accumulate(np.where(first, place, 0)))


def entity_ids(names: Sequence[str]) -> Ids:
    """Returns a hash of each entity's name [E], which stands for it."""
    return np.frombuffer(b"".join(blake2b(name.encode(), digest_size=8).digest() for name in names), "<u8")


def _at_first(values: NDArray[Any], first: NDArray[np.bool_]) -> NDArray[Any]:
    """Returns for each row the value at the first row of its kind."""
    return np.asarray(values[np.maximum.accumulate(np.where(first, np.arange(len(values)), 0))])
