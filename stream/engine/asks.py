"""Which version of the atlas each ping of a batch asks. The engine is told: `stream.atlas` decides it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from model.api import Atlas, Guide
from stream.kafka.columns import I64
from stream.kafka.record_columns import Records


class Choice(Protocol):
    """The versions of one moment. It never changes, so that any thread may use it."""

    @property
    def atlases(self) -> Sequence[Atlas]:
        """The versions that pings may ask."""

    def of(self, number: int, offsets: I64) -> tuple[I64, NDArray[np.bool_]]:
        """Returns for pings [N] of the partition of this number the index of each one's atlas, or -1 for none; and for
        which of them another version may be due, as nobody could wait to know it."""


@dataclass(frozen=True)
class NoAtlas:
    """A choice for pings that no topic has."""

    atlases: Sequence[Atlas] = ()

    def of(self, number: int, offsets: I64) -> tuple[I64, NDArray[np.bool_]]:
        return np.full(len(offsets), -1), np.zeros(len(offsets), np.bool_)


class Asks(NamedTuple):
    """What N records ask."""

    atlases: Sequence[Atlas]
    which: I64  # N: an index of `atlases`, or -1 for none
    late: NDArray[np.bool_]  # N

    @classmethod
    def of(cls, records: Records, choice: Choice) -> Asks:
        which, late = np.empty(len(records), np.int64), np.empty(len(records), np.bool_)
        for index, (_, number) in enumerate(records.partitions):
            rows = np.flatnonzero(records.which == index)
            if len(rows):
                which[rows], late[rows] = choice.of(number, records.offsets[rows])
        return cls(choice.atlases, which, late)

    @classmethod
    def joined(cls, parts: Sequence[Asks]) -> Asks:
        """Returns what all parts of a batch ask, in this order."""
        which, late = (np.concatenate(columns) for columns in zip(*(part[1:] for part in parts), strict=True))
        return cls(parts[0].atlases, which, late)

    def at(self, rows: I64) -> Asks:
        return Asks(self.atlases, self.which[rows], self.late[rows])

    @property
    def guide(self) -> Guide:
        return Guide(self.atlases, self.which)
