"""The pings of a recording or an archive, as `pathcast train --data` takes them (extra readers)."""

from __future__ import annotations

import numpy as np

from model.arrivals.passages import Passages
from stream.adapters.sources import Source


def passages_of(source: Source, most_pings: int) -> Passages:
    """Reads a source, and keeps its newest pings. Raises ValueError for what cannot be read, OSError."""
    table = source.read(lambda share: None)
    rows = len(table.ts_ms)
    begins = np.zeros(rows, bool)
    begins[table.run_start] = True
    entity = np.repeat(table.run_entity, np.diff([*table.run_start, rows]))
    # Rows of one time are one ping: a track's times rise strictly.
    keep = begins | (np.diff(table.ts_ms, prepend=0) > 0)
    if keep.sum() > most_pings:
        keep &= table.ts_ms >= np.partition(table.ts_ms[keep], -most_pings)[-most_pings]
    run = (np.cumsum(begins) - 1)[keep]
    return Passages(table.ts_ms[keep], table.lat[keep], table.lon[keep], np.diff(run, prepend=-1) != 0, entity[keep])
