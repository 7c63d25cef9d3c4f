"""Folds fixes into the states of a pool, in place: the physics and the features first, then the layers.

Shapes: N slots, M fixes of all slots together.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.serving import step_compiled
from model.serving.answers import Moment
from model.serving.kv_cache import Slots
from model.serving.layers import Layers
from model.serving.state_pool import StatePool

# Largest number of pings in a step. The layers' outputs for 2,048 do not fit the nearest caches, and steps of 256 pay
# for their calls (14.4 µs per ping; 512, 1,024 and 2,048 at once 13.5, 13.2 and 14.1; `small`, medians of six on a
# loaded machine).
STEP_PINGS: Final = 1024


def fold(pool: StatePool, layers: Layers, slots: Slots, fixes: NDArray[Any]) -> None:
    """Folds one fix [N] into each slot."""
    age = pool.age[slots]
    kin, x = step_compiled.step(pool.kin[slots], pool.last[slots], fixes, age, pool.config)
    pool.put(slots, layers.step(x, age, fixes, pool.rings.rows(slots, age)), kin, fixes, age + 1)


def fold_several(
    pool: StatePool,
    layers: Layers,
    slots: Slots,
    fixes: NDArray[Any],
    counts: NDArray[np.int64],
    *,
    each: bool = False,
) -> Moment:
    """Folds the fixes [M] as rows of one step, counts [N] of each slot in order: each ping is written to a ring buffer
    before the next one reads it.

    Returns the results of the newest fix of every slot, or of `each` fix.
    """
    stop = np.cumsum(counts)
    made: list[Moment] = []
    at = 0
    while at < len(slots):
        begin = stop[at] - counts[at]
        upto = max(int(np.searchsorted(stop, begin + STEP_PINGS, side="right")), at + 1)
        some, count, part = slots[at:upto], counts[at:upto], fixes[begin : stop[upto - 1]]
        ends, begun = stop[at:upto] - begin, pool.age[some]
        age = np.arange(len(part)) - np.repeat(ends - count - begun, count)
        kin, x = step_compiled.scan(pool.kin[some], pool.last[some], ends, part, age, pool.config)
        rings, newest = pool.rings.rows(np.repeat(some, count), age), ends - 1
        hidden = pool.as_stored(layers.step(x, age, part, rings, None if each else newest))
        pool.put(some, hidden[newest] if each else hidden, kin[newest], part[newest], begun + count)
        made.append(Moment(kin if each else kin[newest], hidden))
        at = upto
    return Moment.join(made or [Moment(pool.kin[:0], pool.hidden[:0])])
