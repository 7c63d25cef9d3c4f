"""Reads the records of a batch: pings in columns, and rejects.

Nearly every record is a plain ping (`stream.tracks.clean_compiled`), which becomes a fix without an object of its own.
The others go through `clean.examine`, one by one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream.kafka.records.columns import I64
from stream.kafka.records.record_columns import Records
from stream.tracks import clean_compiled
from stream.tracks.clean import Foreign, examine
from stream.tracks.fix import packed
from stream.wire import Ping, Reject
from stream.wire.record import FORGOTTEN


@dataclass(frozen=True, eq=False)
class Pings:
    """The pings of N records."""

    names: Sequence[str]  # of the entities that have pings, in the order of their first; separate for each partition
    first: I64  # the row of each entity's first ping
    of: I64  # [N]: an index of `names`; -1 for a record that is no ping
    fixes: NDArray[Any]  # FIX [N]; undefined for a record that is no ping
    rejects: Mapping[int, Reject]  # by row
    dropped: I64  # [N]: the optional fields that were dropped, bit f for clean_compiled.FIELDS[f]

    @classmethod
    def read(cls, records: Records, foreign: Foreign | None = None) -> Pings:
        """Reads records. `foreign` reads what has not the form of a ping of ours, and is asked of nothing else."""
        keys, values = records.keys, records.values
        spans = values.raw, values.start, values.end, keys.start, keys.end
        fixes, read, dropped = clean_compiled.read(*spans, records.timestamps_ms)
        rejects: dict[int, Reject] = {}
        parsed: dict[int, Ping] = {}
        for row in np.flatnonzero(~read).tolist():
            found, names = examine(records[row], foreign)
            if isinstance(found, Reject):
                rejects[row] = found
            else:
                parsed[row] = found
                dropped[row] = sum(1 << clean_compiled.FIELDS.index(name) for name in names)
        if parsed:
            fixes[list(parsed)] = packed(parsed.values())
        return cls._by_entity(records, fixes, rejects, dropped)

    @classmethod
    def given(cls, records: Records, fixes: NDArray[Any]) -> Pings:
        """Returns pings with these fixes. Of the records only their keys are used."""
        return cls._by_entity(records, fixes, {}, np.zeros(len(records), np.int64))

    @classmethod
    def _by_entity(cls, records: Records, fixes: NDArray[Any], rejects: Mapping[int, Reject], dropped: I64) -> Pings:
        of = np.full(len(records), -1, np.int64)
        rows = np.arange(len(records))
        if rejects:
            rows = np.delete(rows, list(rejects))
        first, of[rows] = records.keys.distinct(records.which, rows)
        names = [key.decode() for key in records.keys.at(first).each() if key is not None]  # a ping's key is its id
        return cls(names, first, of, fixes, rejects, dropped)

    def part(self, rows: Sequence[int], records: Records) -> Pings:
        """Returns the pings of some rows; `records` are those rows' records."""
        rejects = {place: self.rejects[row] for place, row in enumerate(rows) if row in self.rejects}
        index = np.array(rows, np.int64)
        return self._by_entity(records, self.fixes[index], rejects, self.dropped[index])

    @property
    def forgotten(self) -> list[int]:
        """Returns the rows of the records that ask to forget their entities, in order."""
        return sorted(row for row, reject in self.rejects.items() if reject.code == FORGOTTEN)

    def dropped_of(self, chosen: NDArray[np.bool_]) -> Counter[str]:
        """Returns how often each optional field was dropped from the chosen [N] records."""
        of = self.dropped[chosen]
        counts = {name: int(np.count_nonzero(of >> at & 1)) for at, name in enumerate(clean_compiled.FIELDS)}
        return Counter({name: count for name, count in counts.items() if count})
