"""The formats that come over MQTT: presets and maps, and OwnTracks, whose topics name the device."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from stream.adapters.live import presets
from stream.adapters.live.formats import owntracks
from stream.adapters.live.parsed import Parsed

TopicReader = Callable[[bytes, int, str], list[Parsed]]  # payload, when it came in ms since 1970 UTC, topic


class Format(NamedTuple):
    """A format, and what reads it."""

    name: str  # of the adapter
    read: TopicReader


def format_of(given: str) -> Format:
    """Returns the format of a preset's name, or of a file with a map. Raises ValueError, OSError."""
    if given == owntracks.NAME:
        return Format(given, lambda raw, came_ms, topic: owntracks.read(raw, came_ms, owntracks.device_of(topic)))
    found = presets.known(given)
    return Format(found.name, lambda raw, came_ms, _: found.read(raw, came_ms))
