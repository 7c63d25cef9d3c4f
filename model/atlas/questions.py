"""Keeps pings of which it is known where the thing went then: by these a fleet finds out how far its passages are to be
believed (`model.atlas.examining`).

A part of all pings are questions, chosen by a hash; of a day, the MOST with the smallest draw are kept, and of each
vehicle at most MOST_OF_ONE. So parts and wholes share the choice, as with passages, and no vehicle that sends many
pings, or false ones, says alone what is believed. A question has the pings up to it, so that a model can be asked.

Shapes: Q questions, B = len(believing.HORIZONS_S).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.atlas.believing import HORIZONS_S
from model.atlas.passages import Ids, firsts, ranks
from model.atlas.ways import ON_M, ON_S
from model.kinematics.features import FIX
from model.kinematics.geo import F64

MOST: Final = 512  # of a day
MOST_OF_ONE: Final = 40  # of these, of one vehicle: fewer than a tenth, which may lie outside the regions (`believing`)
OF_PINGS: Final = 16  # one of so many pings is a question
WINDOW: Final = 64  # pings at most, up to the question's own
WINDOW_MS: Final = 900_000  # older ones are not among them
NEAR: Final = 0.2  # a ping is near that comes so much of a horizon earlier or later
COLUMNS: Final = np.searchsorted(ON_S, HORIZONS_S)  # of a passage's way on
QUESTION: Final = np.dtype(
    [
        ("id", "<u8"),  # of the vehicle
        ("draw", "<u8"),  # by which it is chosen
        ("went", "<i2", (len(HORIZONS_S), 2)),  # where it was later, in ON_M
        ("known", "u1"),  # so many of these
        ("near", "?", len(HORIZONS_S)),  # whether a ping lies near the time; else the place is between two pings
        ("size", "u1"),  # so many of the next are pings, the oldest first
        ("fixes", FIX, WINDOW),
    ]
)


@dataclass(frozen=True, eq=False)
class Questions:
    """The questions of a day, QUESTION [Q], by their draws."""

    rows: NDArray[Any]

    def __len__(self) -> int:
        return len(self.rows)

    @classmethod
    def none(cls) -> Questions:
        return cls(np.empty(0, QUESTION))

    @classmethod
    def of(cls, rows: NDArray[Any], most: int = MOST, of_one: int | None = None) -> Questions:
        """Chooses among questions, QUESTION [N] in any order; `of_one` are the most of a vehicle."""
        _, first = np.unique(rows["draw"], return_index=True)
        rows = rows[first]
        by_vehicle = np.argsort(rows["id"], kind="stable")
        place = np.empty(len(rows), np.int64)
        place[by_vehicle] = ranks(firsts(rows["id"][by_vehicle]))
        return cls(rows[place < (MOST_OF_ONE if of_one is None else of_one)][:most])

    @classmethod
    def total(cls, parts: Iterable[Questions], most: int = MOST) -> Questions:
        """Returns what is chosen of all parts."""
        some = [part.rows for part in parts if len(part)]
        return cls.of(np.concatenate(some), most) if some else cls.none()

    def without(self, ids: Ids) -> Questions:
        """Returns those of other vehicles."""
        return Questions(self.rows[~np.isin(self.rows["id"], ids)])

    @property
    def windows(self) -> list[NDArray[Any]]:
        """The pings up to each question, FIX, the oldest first."""
        return [row["fixes"][: row["size"]] for row in self.rows]

    @property
    def last(self) -> NDArray[Any]:
        """The pings, FIX [Q], that are asked."""
        return np.asarray(self.rows["fixes"][np.arange(len(self)), self.rows["size"] - np.int64(1)])

    @property
    def happened_m(self) -> F64:
        """Returns where the things were later, in metres [Q, B, 2] from there; NaN where nobody knows."""
        known = np.arange(len(HORIZONS_S)) < self.rows["known"][:, None]
        return np.where(known[..., None], self.rows["went"] * ON_M, np.nan)


def is_question(draw: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Returns which pings with these draws [N] are questions."""
    return np.asarray(draw < np.uint64(2**64 // OF_PINGS))
