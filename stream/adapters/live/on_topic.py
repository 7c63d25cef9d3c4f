"""Reads messages of other systems that lie in the pings topic as they are (`--map`): one record holds one ping."""

from __future__ import annotations

from collections.abc import Callable

from stream.adapters.live import presets
from stream.adapters.live.parsed import Reader
from stream.wire import Ping, Reject

# `stream.tracks.clean.Foreign`: a record's value, and when it was published, in ms since 1970 UTC.
OneReader = Callable[[bytes, int], Ping | Reject | None]


def reader_of(given: str | None) -> OneReader | None:
    """Returns what reads a record by a preset's name, or by a file with a map; None for None.

    It is a function of its arguments alone, so that a replay decides as a worker did. Raises ValueError, OSError.
    """
    if given is None:
        return None
    found = presets.find_preset(given)
    return one_by(found.read, found.name)


def one_by(read: Reader, name: str) -> OneReader:
    """Returns a reader of values that may hold one ping, from a reader of messages."""

    def one(value: bytes, published_ms: int) -> Ping | Reject | None:
        found = [one for one in read(value, published_ms) if isinstance(one, Ping | Reject)]
        if not found:
            return None
        if len(found) > 1:
            takes = "`pathcast ingest` takes them apart"
            return Reject("several_positions", f"as {name}: it has {len(found)} positions; {takes}")
        if isinstance(found[0], Reject):
            return Reject(found[0].code, f"as {name}: {found[0].message}")
        return found[0]

    return one
