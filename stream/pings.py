"""What the records of a batch hold: pings in columns, and rejects. Knows which records take the fast way; knows no
track.

Nearly every record is a plain ping (`stream.plain`), which becomes a fix without an object of its own. The others go
through `clean.parse`, one by one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream import plain
from stream.clean import parse
from stream.intake import Records
from stream.tracks import packed
from stream.wire import Ping, Reject


@dataclass(frozen=True, eq=False)
class Pings:
    """Of N records."""

    ids: Sequence[str | None]  # the entity's; None of a record that is no ping
    fixes: NDArray[Any]  # FIX [N]; those of what is no ping mean nothing
    rejects: Mapping[int, Reject]  # by row
    _records: Records
    _parsed: Mapping[int, Ping]  # by row: those that were not plain

    @classmethod
    def of(cls, records: Records) -> Pings:
        keys, values = records.keys, records.values
        fixes, read = plain.read(values.raw, values.start, values.end, keys.start, keys.end, records.timestamps_ms)
        ids: list[str | None] = keys.plain()
        rejects: dict[int, Reject] = {}
        parsed: dict[int, Ping] = {}
        for row in np.flatnonzero(~read).tolist():
            found = parse(records[row])
            if isinstance(found, Reject):
                rejects[row], ids[row] = found, None
            else:
                parsed[row], ids[row] = found, found.entity_id
        fixes[list(parsed)] = packed(parsed.values())
        return cls(ids, fixes, rejects, records, parsed)

    @classmethod
    def given(cls, pings: Sequence[Ping], records: Records) -> Pings:
        """These, whatever the records hold."""
        return cls([ping.entity_id for ping in pings], packed(pings), {}, records, dict(enumerate(pings)))

    def ping(self, row: int) -> Ping:
        """That of a record which holds one."""
        found = self._parsed.get(row) or parse(self._records[row])
        assert isinstance(found, Ping)
        return found

    def part(self, rows: Sequence[int]) -> Pings:
        """Those of some records."""
        parsed = {place: self._parsed[row] for place, row in enumerate(rows) if row in self._parsed}
        rejects = {place: self.rejects[row] for place, row in enumerate(rows) if row in self.rejects}
        index = np.array(rows, np.int64)
        return Pings([self.ids[row] for row in rows], self.fixes[index], rejects, self._records.at(index), parsed)
