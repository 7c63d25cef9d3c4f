"""The fleet's earlier tracks, from a recording: what passages are found in."""

from __future__ import annotations

from typing import Final

import numpy as np

from model.arrivals.passages import Passages
from stream.adapters.column_names import ColumnMap
from stream.adapters.sources import parse

MOST_PINGS: Final = 1_000_000  # the newest; some 100 to 250 MB of memory


def passages_of(source: str, columns: str | None = None, most_pings: int = MOST_PINGS) -> Passages:
    """Reads a recording, as `pathcast train --data` takes it, and keeps its newest pings.

    Raises ValueError for what cannot be read, FileNotFoundError.
    """
    table = parse(source, None if columns is None else ColumnMap.parse(columns)).read(lambda share: None)
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
