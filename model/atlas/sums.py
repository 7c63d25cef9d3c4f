"""Adds outcomes up by key. All sums are integers, so that the same outcomes give the same sums in any order and however
they are split.

Shapes: R keys with sums, M outcomes, L = LEVELS, H = len(HORIZONS_S).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.atlas.cells import Keys
from model.atlas.outcomes import HORIZONS_S, Outcomes

SLOT_MS: Final = 15 * 60 * 1000
SKETCH_BITS: Final = 64
MIN_ENTITIES: Final = 3
I64 = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Sums:
    """The sums of R keys, which are sorted and each there once."""

    key: Keys  # [R]
    n: NDArray[np.int32]  # [R, H] outcomes
    off_cm: I64  # [R, H, 2] the sum of the offsets east and north
    off_cm2: I64  # [R, H] the sum of their squared lengths
    who: NDArray[np.uint64]  # [R] a bit for each entity that was counted, by a hash of its id

    def __len__(self) -> int:
        return len(self.key)

    @classmethod
    def none(cls) -> Sums:
        h = len(HORIZONS_S)
        return cls(
            np.empty(0, np.int64),
            np.empty((0, h), np.int32),
            np.empty((0, h, 2), np.int64),
            np.empty((0, h), np.int64),
            np.empty(0, np.uint64),
        )

    @classmethod
    def of(cls, key: Keys, horizon: I64, off_cm: NDArray[Any], who: NDArray[np.uint64]) -> Sums:
        """Adds up M outcomes: off_cm [M, 2] of keys [M], for the horizons with these numbers [M], of entities with
        these bits [M] (`entity_bits`).
        """
        if not len(key):
            return cls.none()
        order = np.argsort(key, kind="stable")
        key, first = key[order], _firsts(key[order])
        rows, h = len(first), len(HORIZONS_S)
        place = np.repeat(np.arange(rows), np.diff(np.append(first, len(key)))) * h + horizon[order]
        off = off_cm[order].astype(np.int64)
        total, square = np.zeros((rows * h, 2), np.int64), np.zeros(rows * h, np.int64)
        np.add.at(total, place, off)
        np.add.at(square, place, (off * off).sum(-1))
        n = np.bincount(place, minlength=rows * h).astype(np.int32)
        sums = n.reshape(rows, h), total.reshape(rows, h, 2), square.reshape(rows, h)
        return cls(key[first], *sums, np.bitwise_or.reduceat(who[order], first))

    @classmethod
    def of_outcomes(
        cls, found: Outcomes, counts: NDArray[np.bool_], who: NDArray[np.uint64], row: I64, horizon: I64
    ) -> Sums:
        """Adds up the outcomes at these rows and horizons [K] of `found`, each at the levels for which its ping counts
        (`counted`, [M, L]); `who` [M] has the bit of each ping's entity.
        """
        here = counts[row]
        row, horizon, level = (
            np.broadcast_to(column, here.shape)[here]
            for column in (row[:, None], horizon[:, None], np.arange(here.shape[1]))
        )
        return cls.of(found.key[row, level], horizon, found.off_cm[row, horizon], who[row])

    def plus(self, other: Sums) -> Sums:
        """Returns the sums of both."""
        if not len(other):
            return self
        key, places = _united(self.key, other.key)

        def added(name: str) -> Any:
            mine, theirs = getattr(self, name), getattr(other, name)
            out = np.zeros((len(key), *mine.shape[1:]), mine.dtype)
            out[places[0]] = mine
            out[places[1]] = np.bitwise_or(out[places[1]], theirs) if name == "who" else out[places[1]] + theirs
            return out

        return Sums(key, *map(added, ("n", "off_cm", "off_cm2", "who")))

    def published(self, min_entities: int = MIN_ENTITIES) -> Sums:
        """Returns the sums of the keys that at least `min_entities` were counted under: what became of fewer could be
        recognised, as where they live, and would speak for all. Nobody's bits are in it.
        """
        known = np.bitwise_count(self.who) >= min_entities
        sums = self.key[known], self.n[known], self.off_cm[known], self.off_cm2[known]
        return Sums(*sums, np.zeros(int(known.sum()), np.uint64))


def find(sorted_keys: Keys, wanted: Keys) -> tuple[I64, NDArray[np.bool_]]:
    """Returns the places of the wanted keys [...] among the sorted ones, and which of them are there; the place of one
    that is not means nothing.
    """
    if not len(sorted_keys):
        return np.zeros(wanted.shape, np.int64), np.zeros(wanted.shape, np.bool_)
    place = np.minimum(np.searchsorted(sorted_keys, wanted), len(sorted_keys) - 1)
    return place, sorted_keys[place] == wanted


def _firsts(sorted_keys: Keys) -> I64:
    """Returns where each key begins among keys that are sorted."""
    return np.flatnonzero(np.append(True, sorted_keys[1:] != sorted_keys[:-1]))


def _united(a: Keys, b: Keys) -> tuple[Keys, list[I64]]:
    """Returns the keys of both, sorted, and where those of each are among them."""
    both = np.union1d(a, b)
    return both, [np.searchsorted(both, one) for one in (a, b)]


def entity_bits(names: Sequence[str]) -> NDArray[np.uint64]:
    """Returns for each entity id [E] the one bit that stands for it in `Sums.who`, by a hash."""
    digests = (blake2b(name.encode(), digest_size=8).digest() for name in names)
    numbers = np.frombuffer(b"".join(digests), np.uint64)
    return np.asarray(np.uint64(1) << (numbers % np.uint64(SKETCH_BITS)))


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
