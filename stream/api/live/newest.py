"""The newest forecast of each entity, in memory, in columns. It has no clock: times are arguments.

Each change has a number, which rises by one. So whoever remembers up to which change it was told finds all that is new
by a comparison of one column, however slow it is: nothing is kept for it.

    row of an entity   lat, lon (deg, of its newest ping), ts_ms, published_ms (of its record), change
    gone               the entities that left the table, with the number of that change; the newest MAX_GONE of them

A row is free when its entity leaves, and is given to another one.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from stream.wire import MAX_ENTITY_ID_CHARS, MAX_TS_MS, Status

log = logging.getLogger(__name__)

MAX_GONE: Final = 20_000
MAX_FORECAST_BYTES: Final = 32 * 1024  # a worker writes 0.9 KB; this would be of 300 horizons
MAX_PARTITIONS: Final = 100_000
SPARE: Final = 0.01  # of the rows, which are freed at once when the table is full


class Box(NamedTuple):
    """A part of the globe, in degrees. If west > east, it goes over the date line."""

    west: float
    south: float
    east: float
    north: float

    def contains(self, lat: Any, lon: Any) -> Any:
        """Returns whether a place is inside; of arrays, an array."""
        is_between = (lat >= self.south) & (lat <= self.north)
        if self.west <= self.east:
            return is_between & (lon >= self.west) & (lon <= self.east)
        return is_between & ((lon >= self.west) | (lon <= self.east))


class Published(NamedTuple):
    """A record of the forecasts topic."""

    value: bytes
    timestamp_ms: int  # below 0: it has none


class Departure(NamedTuple):
    change: int
    row: int
    entity_id: str


class _Anchor(msgspec.Struct):
    ts: int
    lat: float
    lon: float


class _Src(msgspec.Struct):
    partition: int


class Head(msgspec.Struct):
    """Has those fields of a forecast that the table reads; the decoder skips the rest."""

    entity_id: str
    anchor: _Anchor
    status: Status
    src: _Src


_HEAD: Final = msgspec.json.Decoder(Head)


class Newest:
    """The table. It belongs to one event loop."""

    def __init__(self, most: int, keep_ms: int) -> None:
        """Takes how many entities it holds at most, and for how long after its last forecast each stays."""
        self._most = most
        self._keep_ms = keep_ms
        self._rows: dict[str, int] = {}
        self._free: list[int] = []
        self._ids: list[str] = []
        self._raw: list[bytes] = []
        self._lat, self._lon = np.zeros(0), np.zeros(0)
        self._ts_ms, self._published_ms = np.zeros(0, np.int64), np.zeros(0, np.int64)
        self._change, self._partition = np.zeros(0, np.int64), np.zeros(0, np.int32)
        self._gone: deque[Departure] = deque()
        self.forgotten = 0  # the changes up to this one are not all in `gone` any more
        self.change = 0  # the number of the last change
        self.refused = 0  # records that are no forecasts
        self.crowded_out = 0  # entities that left because the table was full
        self._news = asyncio.Event()
        self.paging = asyncio.Lock()  # held while a page of it is made: streams take turns

    def __len__(self) -> int:
        return len(self._rows)

    # -- what comes --------------------------------------------------------------------------------------------------

    def update(self, records: Sequence[Published], now_ms: int) -> list[int]:
        """Takes records in their order. Returns the places of those that were the newest of their entities."""
        newest = []
        for place, record in enumerate(records):
            head = _head(record.value)
            if head is None:
                self.refused += 1
            elif self._take(head, record, now_ms):
                newest.append(place)
        self._tell()
        return newest

    def _take(self, head: Head, record: Published, now_ms: int) -> bool:
        row = self._rows.get(head.entity_id)
        # A late ping's forecast answers that ping, and is no news of where the entity is. An earlier anchor of another
        # status is news: the track went back from a time in the future.
        if row is not None and head.status == "stale" and head.anchor.ts < self._ts_ms[row]:
            return False
        if row is None:
            row = self._seat(head.entity_id)
        self.change += 1
        self._raw[row] = record.value
        self._lat[row], self._lon[row], self._ts_ms[row] = head.anchor.lat, head.anchor.lon, head.anchor.ts
        self._published_ms[row] = now_ms if record.timestamp_ms < 0 else min(record.timestamp_ms, now_ms)
        self._change[row], self._partition[row] = self.change, head.src.partition
        return True

    def _seat(self, entity_id: str) -> int:
        if len(self._rows) >= self._most:
            self._make_room()
        if not self._free:
            self._grow()
        row = self._free.pop()
        self._rows[entity_id] = row
        self._ids[row] = entity_id
        return row

    def _grow(self) -> None:
        held = len(self._ids)
        more = min(max(held, 1_024), self._most - held)
        for name in ("_lat", "_lon", "_ts_ms", "_published_ms", "_change", "_partition"):
            column = getattr(self, name)
            setattr(self, name, np.concatenate([column, np.zeros(more, column.dtype)]))
        self._ids += [""] * more
        self._raw += [b""] * more
        self._free += range(held + more - 1, held - 1, -1)

    def _make_room(self) -> None:
        """Removes the entities that were not heard of for longest."""
        rows = np.fromiter(self._rows.values(), np.int64, len(self._rows))
        count = max(1, int(SPARE * len(rows)))
        longest = rows[np.argpartition(self._published_ms[rows], count - 1)[:count]]
        if not self.crowded_out:
            log.warning("%d entities are more than --max-entities: those heard of longest ago are left out", len(rows))
        self.crowded_out += count
        self._remove(longest.tolist())

    def expire(self, now_ms: int) -> int:
        """Removes the entities that were not heard of for `keep_ms`. Returns how many."""
        silent = (self._change > 0) & (self._published_ms < now_ms - self._keep_ms)
        rows = np.flatnonzero(silent).tolist()
        self._remove(rows)
        if rows:
            self._tell()
        return len(rows)

    def forget(self, entity_id: str) -> bool:
        """Removes one entity. Returns whether it was there."""
        row = self._rows.get(entity_id)
        if row is not None:
            self._remove([row])
            self._tell()
        return row is not None

    def touch(self, rows: Iterable[int]) -> None:
        """Counts the entities in these rows as changed, although their forecasts have not."""
        for row in rows:
            self.change += 1
            self._change[row] = self.change
        self._tell()

    def _remove(self, rows: Iterable[int]) -> None:
        for row in rows:
            self.change += 1
            entity_id = self._ids[row]
            del self._rows[entity_id]
            self._gone.append(Departure(self.change, row, entity_id))
            if len(self._gone) > MAX_GONE:
                self.forgotten = self._gone.popleft().change
            self._ids[row], self._raw[row], self._change[row] = "", b"", 0
            self._free.append(row)

    # -- what is known -----------------------------------------------------------------------------------------------

    def forecast(self, entity_id: str) -> tuple[bytes, int] | None:
        """Returns the newest forecast of an entity as it was published, and the time of its anchor."""
        row = self._rows.get(entity_id)
        return None if row is None else (self._raw[row], int(self._ts_ms[row]))

    def partition(self, entity_id: str) -> int | None:
        """Returns the partition of the pings topic that the entity's newest ping was in."""
        row = self._rows.get(entity_id)
        return None if row is None else int(self._partition[row])

    def position(self, row: int) -> tuple[str, int, float, float]:
        """Returns the id, and the time (ms) and place (deg) of the newest ping of the entity in this row."""
        return self._ids[row], int(self._ts_ms[row]), float(self._lat[row]), float(self._lon[row])

    def message(self, row: int) -> bytes:
        """Returns the forecast of this row, as it was published."""
        return self._raw[row]

    def name(self, row: int) -> str:
        return self._ids[row]

    def row(self, entity_id: str) -> int | None:
        return self._rows.get(entity_id)

    @property
    def ids(self) -> Iterable[str]:
        return self._rows.keys()

    @property
    def times_ms(self) -> NDArray[np.int64]:
        """The time of each row's newest ping."""
        return self._ts_ms

    @property
    def rows(self) -> int:
        """The number of rows, taken or not."""
        return len(self._ids)

    @property
    def changes(self) -> NDArray[np.int64]:
        """The number of the last change of each row; 0 where it is free."""
        return self._change

    def inside(self, box: Box | None) -> NDArray[np.bool_]:
        """Returns which rows hold an entity within the box."""
        taken: NDArray[np.bool_] = self._change > 0
        return taken if box is None else taken & box.contains(self._lat, self._lon)

    def list_gone_since(self, change: int) -> list[Departure]:
        """Returns the entities that left the table after this change, which must not be below `forgotten`."""
        gone: list[Departure] = []
        for one in reversed(self._gone):
            if one.change <= change:
                break
            gone.append(one)
        return gone[::-1]

    async def wait_for_change(self, since: int) -> None:
        """Returns when there is a change after this one."""
        while self.change <= since:
            await self._news.wait()

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()


def _head(raw: bytes) -> Head | None:
    """Returns the head of a forecast; None if the bytes are none that may be sent on. Whoever may write to the topic
    may write anything; a worker writes one line of JSON."""
    if len(raw) > MAX_FORECAST_BYTES or b"\n" in raw or b"\r" in raw:
        return None
    try:
        raw.decode()
        head = _HEAD.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    place = head.anchor
    known = 0 < len(head.entity_id) <= MAX_ENTITY_ID_CHARS and abs(place.lat) <= 90 and abs(place.lon) <= 180
    return head if known and -MAX_TS_MS <= place.ts <= MAX_TS_MS and 0 <= head.src.partition < MAX_PARTITIONS else None
