"""Finds what is new of the fleet for one page. It has no clock and no socket.

A page remembers up to which change it was told, as a client of `stream.api.live.watching` does: so nothing is kept for
one that is slow, and it gets the newest of each entity when it can take it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec
import numpy as np

from stream.api.live.newest import Box
from stream.api.map.fleet.entity import SNAPSHOT_POINTS
from stream.api.map.fleet.fleet import Fleet
from stream.api.map.fleet.rendering import entity_json

MOST: Final = 5_000  # entities of one page: more do not move smoothly in a browser
PIECE_BYTES: Final = 48 * 1024  # that one write may have in the server's memory and the kernel's
_ENCODER: Final = msgspec.json.Encoder()


class View:
    """One page."""

    def __init__(self, fleet: Fleet, box: Box | None, entity_id: str | None = None, most: int = MOST) -> None:
        """Takes the box that the page shows, and the entity that it follows, wherever that is."""
        self._fleet = fleet
        self._box = box
        self._followed = entity_id
        self._most = most
        self._rows: set[int] = set()  # of the entities that the page has
        self._sent_change = 0  # the number of the last change that it knows
        self._filled = 0  # and that of the last gap fill
        self._more = 0

    @property
    def is_lost(self) -> bool:
        """Returns whether entities have left of which nobody knows any more: it needs a snapshot."""
        return self._sent_change < self._fleet.newest.forgotten

    def snapshot(self, now_ms: int) -> Iterator[bytes]:
        """Yields the snapshot's JSON in pieces. The fleet may change meanwhile: the next delta says how."""
        newest = self._fleet.newest
        rows = np.flatnonzero(newest.inside(self._box)).tolist()
        chosen = rows[: self._most]
        followed = None if self._followed is None else newest.row(self._followed)
        if followed is not None and followed not in chosen:
            chosen.append(followed)
        self._rows, self._sent_change, self._filled = set(chosen), newest.change, self._fleet.fills.change
        self._more = max(0, len(rows) - self._most)
        yield b'{"now_ms":%d,"more":%d,"entities":[' % (now_ms, self._more)
        yield from _pieces(_join(self._whole(row, name, now_ms) for row, name in self._name(chosen)))
        yield b'],"fills":['
        yield from _pieces(_join(raw for _, name in self._name(chosen) for raw in self._fleet.fills.of(name, now_ms)))
        yield b"]}"

    def _name(self, rows: Iterable[int]) -> list[tuple[int, str]]:
        return [(row, self._fleet.newest.name(row)) for row in rows]

    def _whole(self, row: int, entity_id: str, now_ms: int) -> bytes | None:
        """Returns an entity with its track; None if it has left since, or its row is another one's."""
        entity = self._fleet.get(entity_id)
        if entity is None or self._fleet.newest.row(entity_id) != row:
            return None
        moment = entity.moment
        stale = self._fleet.is_stale(moment.ts, now_ms)
        return entity_json(entity_id, moment, stale=stale, track=entity.track(points=SNAPSHOT_POINTS))

    def delta(self, now_ms: int) -> Iterator[bytes]:
        """Yields what is new as JSON, in pieces; nothing if nothing is."""
        newest = self._fleet.newest
        gone: set[str] = set()
        for one in newest.list_gone_since(
            self._sent_change
        ):  # a row may have been left several times: the page had the first
            if one.row in self._rows:
                self._rows.discard(one.row)
                gone.add(one.entity_id)
        updates, left = self._list_moved()
        fills = [one.json for one in self._fleet.fills.since(self._filled) if self._has(one.entity_id)]
        self._sent_change, self._filled = newest.change, self._fleet.fills.change
        names = self._name(updates)
        out = (gone | left) - {name for _, name in names}
        if not (names or fills or out):
            return
        yield b'{"now_ms":%d,"more":%d,"updates":[' % (now_ms, self._more)
        yield from _pieces(_join(self._update(row, name, now_ms) for row, name in names))
        yield b'],"fills":['
        yield from _pieces(_join(fills))
        yield b'],"gone":%s}' % _ENCODER.encode(sorted(out))

    def _list_moved(self) -> tuple[list[int], set[str]]:
        """Returns the rows of those that the page has or gets now, and has to be told of; and who has left the box."""
        newest = self._fleet.newest
        rows = np.flatnonzero(newest.changes > self._sent_change)
        inside = newest.inside(self._box)
        followed = None if self._followed is None else newest.row(self._followed)
        updates: list[int] = []
        left: set[str] = set()
        for row, is_in in zip(rows.tolist(), inside[rows].tolist(), strict=True):
            if row == followed or (is_in and (row in self._rows or len(self._rows) < self._most)):
                self._rows.add(row)
                updates.append(row)
            elif row in self._rows and not is_in:
                self._rows.discard(row)
                left.add(newest.name(row))
        if len(rows):
            self._more = max(0, int(inside.sum()) - self._most)
        return updates, left

    def _update(self, row: int, entity_id: str, now_ms: int) -> bytes | None:
        return self._fleet.render(row, now_ms) if self._fleet.newest.row(entity_id) == row else None

    def _has(self, entity_id: str) -> bool:
        return self._fleet.newest.row(entity_id) in self._rows


def _join(parts: Iterable[bytes | None]) -> Iterator[bytes]:
    first = True
    for part in parts:
        if part is not None:
            yield part if first else b"," + part
            first = False


def _pieces(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Yields the same bytes in pieces of about PIECE_BYTES."""
    held: list[bytes] = []
    size = 0
    for part in parts:
        held.append(part)
        size += len(part)
        if size >= PIECE_BYTES:
            yield b"".join(held)
            held, size = [], 0
    if held:
        yield b"".join(held)
