"""Makes atlases of fleets that a test writes itself, and compares sums; several tests of atlases share this."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from model.api import Atlas
from model.atlas import outcomes
from model.atlas.published import UNIT, published
from model.atlas.sums import Sums, counted, entity_ids


def atlas_of(fixes: NDArray[np.void], contains: dict[str, int]) -> Atlas:
    """The atlas of tracks [entities, pings], of which two entities are enough for a key."""
    entities, pings = fixes.shape
    found = outcomes.of_tracks(fixes.reshape(-1), np.arange(entities) * pings)
    entity = found.row // pings
    counts = counted(entity, found.key, fixes.reshape(-1)["ts_ms"][found.row])
    ids = entity_ids([f"e{n}" for n in range(entities)])[entity]
    sums = Sums.of_outcomes(found, counts, ids, *np.nonzero(found.known_ms < outcomes.NEVER))
    return Atlas(published([(sums, UNIT)], 2), contains, "v")


def same(one: Sums, other: Sums) -> bool:
    """Whether they are alike to the byte."""
    return all(
        getattr(one, name).tobytes() == getattr(other, name).tobytes() for name in ("row", "n", "off_cm", "off_cm2")
    )
