"""Two atlases compared."""

from __future__ import annotations

import numpy as np
import pytest

from model.atlas.cells import LEVEL_SHIFT
from model.atlas.outcomes import HORIZONS_S
from model.atlas.published import UNIT, Published
from stream.atlas.showing.diff import Level, changes, levels

H = len(HORIZONS_S)
CELL = (140_000 << 40) | (100_000 << 20)


def atlas(east_m: dict[int, float], n: float = 4.0) -> Published:
    """The means of keys at the smallest cells, at all horizons."""
    key = np.array(sorted(east_m), np.int64)
    off = np.zeros((len(key), H, 2), np.int64)
    off[..., 0] = np.array([100 * n * east_m[one] for one in key.tolist()])[:, None]
    counts = np.full((len(key), H), round(n * UNIT))
    return Published(key, counts, off, (off * off).sum(-1))


def key(octant: int, level: int = 4) -> int:
    return level << LEVEL_SHIFT | CELL | octant << 4 | 3


def test_keys_that_come_and_go_are_counted_by_level() -> None:
    one, other = atlas({key(0): 0, key(1): 0, key(2, 3): 0}), atlas({key(1): 0, key(3): 0, key(4): 0, key(2, 3): 0})
    found = levels(one, other)
    assert found[4] == Level(4, gained=2, lost=1, kept=1)
    assert found[3] == Level(3, gained=0, lost=0, kept=1)
    assert levels(atlas({}), one)[4].gained == 2


def test_the_means_that_moved_farthest_come_first() -> None:
    one, other = (
        atlas({key(0): 10, key(1): 20, key(2): 30, key(9): 9}),
        atlas({key(0): 10, key(1): -480, key(2): 130}, n=5.5),
    )
    found = changes(one, other, 300.0, 2)
    assert [(change.heading_deg, change.moved_m, change.n) for change in found] == [
        (45, 500.0, (4.0, 5.5)),
        (90, 100.0, (4.0, 5.5)),
    ]
    assert found[0].lat == pytest.approx(39.1, abs=1)
    assert found[0].speed_class == 3
    assert changes(one, atlas({key(1): -480}, n=2.0), 300.0, 5) == [], "two outcomes are not sure"
    with pytest.raises(ValueError, match="an atlas has 60"):
        changes(one, other, 61.0, 2)
