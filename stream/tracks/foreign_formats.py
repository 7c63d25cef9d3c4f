"""Says what came in the place of a ping: which format it looks like, and which of its names mean what ours mean. Knows
the spellings of trackers and of Kafka's tools. It writes messages for people and decides nothing.
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
MAX_NAMES: Final = 48  # that are looked at: a value of 64 KB may have thousands
MAX_NAME_CHARS: Final = 40  # no known name is longer
MAX_LEVELS: Final = 3
_SOME: Final = 3  # names that a message lists where none is near
_WORD: Final = re.compile("[A-Z]?[a-z]+|[A-Z]+|[0-9]+")


class Format(NamedTuple):
    """A format, the sets of names of which one is enough to recognise it, and what else its users must know."""

    name: str
    marks: Sequence[frozenset[str]]
    note: str


FORMATS: Final = (
    Format(
        "Traccar",
        (frozenset({"position", "device"}), frozenset({"deviceTime"}), frozenset({"fixTime"})),
        "its speed is in knots, speed_mps is in m/s",
    ),
    Format("OwnTracks", (frozenset({"_type"}), frozenset({"tst"})), "its vel is in km/h, speed_mps is in m/s"),
    Format(
        "GTFS-Realtime",
        (frozenset({"vehicle.position"}), frozenset({"header", "entity"})),
        "one record holds one ping",
    ),
    Format("GeoJSON", (frozenset({"geometry.coordinates"}),), "its coordinates are longitude, latitude"),
)
# What others call our required fields, the likeliest first; without case and punctuation.
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
# Words of longer names that tell as much, such as gps_lat; and what misspelt names are compared with.
WORDS: Final = {
    "entity_id": (),
    "ts": ("timestamp", "datetime", "time"),
    "lat": ("lat", "latitude"),
    "lon": ("lon", "lng", "longitude"),
}
IN_FULL: Final = {"entity_id": "entityid", "ts": "timestamp", "lat": "latitude", "lon": "longitude"}


def framing(raw: bytes) -> str | None:
    """What is in front of a serializer's bytes, for people; None if they have no such framing."""
    if raw[:1] != b"\0" or len(raw) <= _FRAME.size or raw[1:2] == b"{" or raw[:7] == b"\0\0\0{\0\0\0":
        return None  # the last two are JSON in UTF-16 and UTF-32
    (schema,) = _FRAME.unpack_from(raw)
    return f"Schema Registry framing, schema {schema}" if schema else None  # the first is 1: these are a long integer


def framed_value(raw: bytes) -> str | None:
    """The same of a record's value, with what it must be instead."""
    if (found := framing(raw)) is None:
        return None
    holds = "JSON" if raw[_FRAME.size :].lstrip()[:1] == b"{" else "bytes that are no JSON, such as Avro or Protobuf"
    return f"the value has {found}, and then {holds}; expected is plain JSON without framing"


def missing(fields: Mapping[str, Any], absent: Sequence[str]) -> str:
    """Which required fields are absent, and what is there that may be meant by them."""
    return _missing(tuple(islice(_names(fields, "", MAX_LEVELS), MAX_NAMES)), tuple(absent))


class Name(NamedTuple):
    """The name of a field, behind the names of what it is in and their dots."""

    path: str
    is_leaf: bool  # it holds neither an object nor an array


@lru_cache(maxsize=256)  # a sender of a foreign format sends it again and again
def _missing(names: Sequence[Name], absent: Sequence[str]) -> str:
    paths, leaves = {name.path for name in names}, [name.path for name in names if name.is_leaf]
    parts = [f"{near}, not {name}" for name in absent if (near := _nearest(name, leaves)) is not None]
    known = next((one for one in FORMATS if any(marks <= paths for marks in one.marks)), None)
    has = f"it has {'; '.join(parts)}" if parts else _listed(names)
    told = has if known is None else f"looks like {known.name}: {has}; {known.note}"
    return f"{' and '.join(absent)} absent; {told}"[:MAX_MESSAGE_CHARS]


def _names(fields: Mapping[str, Any], before: str, levels: int) -> Iterator[Name]:
    """The names of fields, and of those inside them."""
    for name, value in fields.items():
        if len(name) <= MAX_NAME_CHARS:
            yield Name(before + name, not isinstance(value, dict | list))
            if isinstance(value, dict) and levels > 1:
                yield from _names(value, f"{before}{name}.", levels - 1)


def _nearest(name: str, paths: Sequence[str]) -> str | None:
    """The one of these that most likely means our field `name`: by its own name, or with that of what it is in."""
    plain: dict[str, str] = {}
    words: dict[str, str] = {}
    for path in reversed(paths):  # so that of equal ones the first stays
        *_, above, own = ("", *path.split("."))
        plain |= {_plain(above + own): path, _plain(own): path}
        words |= {word.lower(): path for word in _WORD.findall(own)}
    found = [plain[one] for one in SYNONYMS[name] if one in plain] + [words[one] for one in WORDS[name] if one in words]
    found += [plain[one] for one in get_close_matches(IN_FULL[name], plain, 1, 0.8)]
    return _readable(found[0]) if found else None


def _plain(name: str) -> str:
    return re.sub("[^a-z0-9]", "", name.lower())


def _listed(names: Sequence[Name]) -> str:
    if not names:
        return "it has no fields"
    more = f" and {len(names) - _SOME} more" if len(names) > _SOME else ""
    return f"it has {', '.join(_readable(name.path) for name in names[:_SOME])}{more}"


def _readable(path: str) -> str:
    return shown(path)[1:-1]  # without its quotes
