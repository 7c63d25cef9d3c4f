"""Adds outcomes up by key, and under each key by a bucket of entities. All sums are integers, so that the same outcomes
give the same sums in any order and however they are split.

A row is a key with a bucket: in its bits 0 to 3, below the octant and the class of the speed, in the bits that a key
leaves free. By their buckets, one entity's outcomes can be told from those of most others (`model.atlas.published`).

Shapes: R rows, M outcomes, L = LEVELS, H = len(HORIZONS_S).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.atlas.cells import Keys
from model.atlas.outcomes import HORIZONS_S, Outcomes

SLOT_MS: Final = 15 * 60 * 1000
BUCKETS: Final = 16
_BUCKET_BITS: Final = 4
_MOTION: Final = 255  # the bits of a key that are moved to make room
_COLUMNS: Final = ("n", "off_cm", "off_cm2")
I64 = NDArray[np.int64]
Ids = NDArray[np.uint64]  # of entities, by a hash of their names


@dataclass(frozen=True, eq=False)
class Sums:
    """The sums of R rows, which are sorted and each there once."""

    row: Keys  # [R]
    n: NDArray[Any]  # [R, H] outcomes, int32; int64 in parts of one
    off_cm: I64  # [R, H, 2] the sum of the offsets east and north
    off_cm2: I64  # [R, H] the sum of their squared lengths

    def __len__(self) -> int:
        return len(self.row)

    @classmethod
    def none(cls) -> Sums:
        h = len(HORIZONS_S)
        nothing = np.empty((0, h), np.int32), np.empty((0, h, 2), np.int64), np.empty((0, h), np.int64)
        return cls(np.empty(0, np.int64), *nothing)

    @classmethod
    def of(cls, row: Keys, horizon: I64, off_cm: NDArray[Any]) -> Sums:
        """Adds up M outcomes: off_cm [M, 2] of rows [M], for the horizons with these numbers [M]."""
        none, at = cls.none(), np.arange(len(row))
        n, off, off2 = (np.zeros((len(row), *one.shape[1:]), one.dtype) for one in (none.n, none.off_cm, none.off_cm2))
        n[at, horizon], off[at, horizon] = 1, off_cm
        off2[at, horizon] = (off[at, horizon] ** 2).sum(-1)
        return cls.summed(row, n, off, off2)

    @classmethod
    def summed(cls, row: Keys, n: NDArray[Any], off_cm: I64, off_cm2: I64) -> Sums:
        """Adds up what each of some rows [R] has; a row may be there more than once, in any order."""
        return cls._summed(row, (n, off_cm, off_cm2))

    @classmethod
    def _summed(cls, row: Keys, columns: Iterable[NDArray[Any]]) -> Sums:
        """Adds up columns, which may be made one after the other, so that only one is in memory twice."""
        if not len(row):
            return cls.none()
        order = np.argsort(row, kind="stable")  # which merges runs that are sorted already
        row = row[order]
        first = np.flatnonzero(firsts(row))
        return cls(row[first], *(np.add.reduceat(one[order], first, dtype=one.dtype) for one in columns))

    @classmethod
    def of_pings(cls, key: Keys, counts: NDArray[np.bool_], ids: Ids, n: NDArray[np.int32], off_cm: I64) -> Sums:
        """Adds up the outcomes of M pings with keys [M, L], each at the levels for which it counts [M, L].

        `n` [M, H] is 1 where there is an outcome, and off_cm [M, H, 2] 0 where there is none; `ids` [M] are those of
        the entities.
        """
        ping, level = np.nonzero(counts)
        row, off = rows_of(key[ping, level], buckets(ids[ping])), off_cm[ping]
        return cls.summed(row, n[ping], off, (off * off).sum(-1))

    @classmethod
    def of_outcomes(cls, found: Outcomes, counts: NDArray[np.bool_], ids: Ids, row: I64, horizon: I64) -> Sums:
        """Adds up the outcomes at these rows and horizons [K] of `found`, each at the levels for which its ping counts
        (`counted`, [M, L]); `ids` [M] are those of the pings' entities.
        """
        pings, ping = np.unique(row, return_inverse=True)
        n = np.zeros((len(pings), len(HORIZONS_S)), np.int32)
        n[ping, horizon] = 1
        off_cm = found.off_cm[pings].astype(np.int64) * n[..., None]
        return cls.of_pings(found.key[pings], counts[pings], ids[pings], n, off_cm)

    @classmethod
    def total(cls, parts: Iterable[Sums]) -> Sums:
        """Returns the sums of all parts."""
        some = [part for part in parts if len(part)]
        if len(some) < 2:
            return some[0] if some else cls.none()
        columns = (np.concatenate([getattr(part, name) for part in some]) for name in _COLUMNS)
        return cls._summed(np.concatenate([part.row for part in some]), columns)

    def plus(self, other: Sums) -> Sums:
        """Returns the sums of both."""
        return Sums.total((self, other))

    def at(self, which: NDArray[Any] | slice) -> Sums:
        """Returns the rows at these places, which rise."""
        return Sums(self.row[which], *(getattr(self, name)[which] for name in _COLUMNS))

    def under(self, keys: Keys) -> Sums:
        """Returns the rows of these keys [K], sorted and each there once."""
        wanted = rows_of(keys[:, None], np.arange(BUCKETS)).ravel()
        place, here = find(self.row, np.sort(wanted))
        return self.at(place[here])


def rows_of(key: Keys, bucket: I64) -> Keys:
    """Returns the rows of keys in buckets."""
    return np.asarray((key & ~_MOTION) | ((key & _MOTION) << _BUCKET_BITS) | bucket)


def keys_of(row: Keys) -> Keys:
    """Returns the keys of rows, in the same order."""
    return np.asarray((row & ~(_MOTION << _BUCKET_BITS | BUCKETS - 1)) | ((row >> _BUCKET_BITS) & _MOTION))


def bucket_of(row: Keys) -> I64:
    """Returns the buckets of rows."""
    return np.asarray(row & (BUCKETS - 1))


def find(sorted_keys: Keys, wanted: Keys) -> tuple[I64, NDArray[np.bool_]]:
    """Returns the places of the wanted keys [...] among the sorted ones, and which of them are there; the place of one
    that is not means nothing.
    """
    if not len(sorted_keys):
        return np.zeros(wanted.shape, np.int64), np.zeros(wanted.shape, np.bool_)
    place = np.minimum(np.searchsorted(sorted_keys, wanted), len(sorted_keys) - 1)
    return place, sorted_keys[place] == wanted


def firsts(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Returns which of values [N], the equal ones of which are side by side, are the first of their kind."""
    first = np.ones(len(values), np.bool_)
    first[1:] = values[1:] != values[:-1]
    return first


def entity_ids(names: Sequence[str]) -> Ids:
    """Returns a hash of each entity's name [E], which stands for it."""
    return np.frombuffer(b"".join(blake2b(name.encode(), digest_size=8).digest() for name in names), "<u8")


def buckets(ids: Ids) -> I64:
    """Returns the buckets of entities, 0 to BUCKETS - 1."""
    return np.asarray((ids % np.uint64(BUCKETS)).astype(np.int64))


def counted(entity: NDArray[Any], key: Keys, ts_ms: I64) -> NDArray[np.bool_]:
    """Returns which of the keys [M, L] of pings count: the first ping of an entity under a key in each SLOT_MS.

    An entity that stands in a cell, or goes round in it, would otherwise outweigh all that pass. The pings may come in
    any order: the answer is the same.
    """
    out = np.zeros(key.shape, np.bool_)
    slot = ts_ms // SLOT_MS
    for level in range(key.shape[1]):
        order = np.lexsort((ts_ms, slot, key[:, level], entity))
        columns = [column[order] for column in (entity, key[:, level], slot)]
        first = np.ones(len(order), np.bool_)
        first[1:] = np.any([column[1:] != column[:-1] for column in columns], axis=0)
        out[order[first], level] = True
    return out
