"""Describes what came in the place of a ping: which format it looks like, and which of its names mean ours.

It writes messages for people and decides nothing.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import lru_cache
from itertools import islice
from typing import Any, Final, NamedTuple

from stream.wire.escape import shown

_FRAME: Final = struct.Struct(">xI")  # Confluent's wire format: a byte 0, and the id of the schema
MAX_MESSAGE_CHARS: Final = 240
MAX_NAMES: Final = 48  # limit of the names that are read: a value of 64 KB may have thousands
MAX_NAME_CHARS: Final = 40  # no known name is longer
MAX_LEVELS: Final = 3
_SOME: Final = 3  # names that a message lists if none is near
_WORD: Final = re.compile("[A-Z]?[a-z]+|[A-Z]+|[0-9]+")


REKEYING: Final = "`pathcast ingest` publishes under the entity's id, as a record's key must be that"


class Format(NamedTuple):
    """A format, the sets of names of which one is enough to recognise it, what else its users must know, and the preset
    that takes it (`--map`)."""

    name: str
    marks: Sequence[frozenset[str]]
    note: str
    preset: str = ""


FORMATS: Final = (
    Format(
        "Traccar",
        (frozenset({"position", "device"}), frozenset({"deviceTime"}), frozenset({"fixTime"})),
        "its speed is in knots, speed_mps is in m/s",
        "traccar",
    ),
    Format(
        "OwnTracks", (frozenset({"_type"}), frozenset({"tst"})), "its vel is in km/h, speed_mps is in m/s", "owntracks"
    ),
    Format(
        "GTFS-Realtime",
        (frozenset({"vehicle.position"}), frozenset({"header", "entity"})),
        "one record holds one ping: `pathcast ingest gtfs-realtime` takes it",
    ),
    Format(
        "Samsara",
        (frozenset({"data", "pagination"}), frozenset({"gps.latitude"}), frozenset({"speedMilesPerHour"})),
        "its speed is in mph, speed_mps is in m/s",
        "samsara",
    ),
    Format("Motive", (frozenset({"action", "located_at"}),), "its speed is in mph, speed_mps is in m/s", "motive"),
    Format(
        "flespi",
        (frozenset({"ident", "position.latitude"}),),
        "its speed is in km/h, speed_mps is in m/s",
        "flespi",
    ),
    Format("GeoJSON", (frozenset({"geometry.coordinates"}),), "its coordinates are longitude, latitude"),
)
# Other names of our required fields, the likeliest first, without case and punctuation.
SYNONYMS: Final = {
    "entity_id": (
        *("entityid", "vehicleid", "uniqueid", "imei", "mmsi", "deviceid", "trackerid", "assetid", "busid", "unitid"),
        *("tid", "vehicle", "device", "tracker", "id"),
    ),
    "ts": (
        *("ts", "tst", "timestamp", "fixtime", "devicetime", "gpstime", "eventtime", "time", "datetime", "epoch"),
        *("recordedat", "date", "t"),
    ),
    "lat": ("lat", "latitude", "y"),
    "lon": ("lon", "lng", "longitude", "long", "x"),
}
# Words in longer names that mean a field, such as gps_lat; then the names with which misspelt names are compared.
WORDS: Final = {
    "entity_id": (),
    "ts": ("timestamp", "datetime", "time"),
    "lat": ("lat", "latitude"),
    "lon": ("lon", "lng", "longitude"),
}
IN_FULL: Final = {"entity_id": "entityid", "ts": "timestamp", "lat": "latitude", "lon": "longitude"}


def describe_framing(raw: bytes) -> str | None:
    """Returns what precedes a serializer's bytes, for people; None if they have no such framing."""
    if raw[:1] != b"\0" or len(raw) <= _FRAME.size or raw[1:2] == b"{" or raw[:7] == b"\0\0\0{\0\0\0":
        return None  # the last two are JSON in UTF-16 and UTF-32
    (schema,) = _FRAME.unpack_from(raw)
    # Ids begin at 1; with 0 these bytes are a long integer.
    return f"Schema Registry framing, schema {schema}" if schema else None


def describe_framed_value(raw: bytes) -> str | None:
    """Returns the same for a record's value, and what the value must be instead."""
    if (found := describe_framing(raw)) is None:
        return None
    holds = "JSON" if raw[_FRAME.size :].lstrip()[:1] == b"{" else "bytes that are no JSON, such as Avro or Protobuf"
    return f"the value has {found}, and then {holds}; expected is plain JSON without framing"


def describe_missing(fields: Mapping[str, Any], absent: Sequence[str]) -> str:
    """Returns which required fields are absent, and which fields may be meant by them."""
    return _describe_missing(tuple(islice(_names(fields, "", MAX_LEVELS), MAX_NAMES)), tuple(absent))


class Name(NamedTuple):
    """The path of a field: its name after the names of the objects that contain it, joined by dots."""

    path: str
    is_leaf: bool  # the field holds neither an object nor an array


@lru_cache(maxsize=256)  # a sender of a foreign format sends it again and again
def _describe_missing(names: Sequence[Name], absent: Sequence[str]) -> str:
    paths, leaves = {name.path for name in names}, [name.path for name in names if name.is_leaf]
    parts = [f"{near}, not {name}" for name in absent if (near := _nearest(name, leaves)) is not None]
    known = next((one for one in FORMATS if any(marks <= paths for marks in one.marks)), None)
    has = f"it has {'; '.join(parts)}" if parts else _list_names(names)
    if known is None:
        return f"{' and '.join(absent)} absent; {has}"[:MAX_MESSAGE_CHARS]
    takes = f"; --map {known.preset} takes it" if known.preset else ""
    reason = f"{' and '.join(absent)} absent; looks like {known.name}: {has}; {known.note}"
    return reason[: MAX_MESSAGE_CHARS - len(takes)] + takes  # which is what helps


def _names(fields: Mapping[str, Any], before: str, levels: int) -> Iterator[Name]:
    """Yields the names of fields, and of the fields inside them."""
    for name, value in fields.items():
        if len(name) <= MAX_NAME_CHARS:
            yield Name(before + name, not isinstance(value, dict | list))
            if isinstance(value, dict) and levels > 1:
                yield from _names(value, f"{before}{name}.", levels - 1)


def _nearest(name: str, paths: Sequence[str]) -> str | None:
    """Returns the path that most likely means our field `name`, by its last name or by its last two names together."""
    plain: dict[str, str] = {}
    words: dict[str, str] = {}
    for path in reversed(paths):  # so that the first of equal ones stays
        *_, above, own = ("", *path.split("."))
        plain |= {_plain(above + own): path, _plain(own): path}
        words |= {word.lower(): path for word in _WORD.findall(own)}
    found = [plain[one] for one in SYNONYMS[name] if one in plain] + [words[one] for one in WORDS[name] if one in words]
    found += [plain[one] for one in get_close_matches(IN_FULL[name], plain, 1, 0.8)]
    return _readable(found[0]) if found else None


def _plain(name: str) -> str:
    return re.sub("[^a-z0-9]", "", name.lower())


def _list_names(names: Sequence[Name]) -> str:
    if not names:
        return "it has no fields"
    more = f" and {len(names) - _SOME} more" if len(names) > _SOME else ""
    return f"it has {', '.join(_readable(name.path) for name in names[:_SOME])}{more}"


def _readable(path: str) -> str:
    return shown(path)[1:-1]  # without its quotes
