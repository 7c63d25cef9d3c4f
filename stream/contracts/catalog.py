"""Which records are public, in which topic, and who reads them: a row for each schema.

A new record of `stream.wire` gets a row in `RECORDS`, and its fields in `meanings`. Tests fail until it has both.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, Literal, NamedTuple

import msgspec

from stream.wire import (
    ERROR_HEADER_PREFIX,
    Drift,
    Forecast,
    GapFill,
    Ping,
    Score,
    Topics,
    VersionRecord,
    WeightsRecord,
)
from stream.wire.arrivals import Arrival, Arrived, Destination, Geofence, Inside, Reached
from stream.wire.latest import Latest

VERSION: Final = 1  # of the records, and of the names of topics and schemas


class Way(Enum):
    """Who writes a record, which decides how it may change (`compatibility`)."""

    IN = "in"  # others write it, pathcast reads it
    OUT = "out"  # pathcast writes it, others read it


class DeadLetterHeaders(msgspec.Struct, frozen=True, omit_defaults=True):
    """The context headers of `stream.wire.dead_letters.dead_letter`, without their prefix."""

    topic: str
    partition: str
    offset: str
    timestamp: str
    stage: str
    code: str
    message: str
    adapter: str
    version: str
    retryable: Literal["true", "false"]
    omitted: str | None = None
    track: Literal["unread"] | None = None


class Contract(NamedTuple):
    """One schema."""

    name: str  # of its files
    type: type[msgspec.Struct]
    way: Way
    topic: str  # with {prefix}
    key: str  # what the record's key is
    written_by: str  # the command
    event: str | None = None  # the word in ce_type, where the record has CloudEvents headers
    compacted: bool = False
    headers_only: bool = False  # it describes headers, and not the value
    prefix: str = ""  # of each name in it, where it describes headers

    @property
    def schema_name(self) -> str:
        return f"{self.name}.v{VERSION}"


_T: Final = Topics.of("{prefix}")
_ENTITY: Final = "the entity's id"

RECORDS: Final = (
    Contract("ping", Ping, Way.IN, _T.pings, _ENTITY, "your producer, or pathcast ingest"),
    Contract("forecast", Forecast, Way.OUT, _T.forecasts, _ENTITY, "pathcast worker", "forecast"),
    Contract("gapfill", GapFill, Way.OUT, _T.gapfills, _ENTITY, "pathcast worker", "gapfill"),
    Contract("latest", Latest, Way.OUT, _T.latest, _ENTITY, "pathcast beside latest", "latest", compacted=True),
    Contract("destination", Destination, Way.IN, _T.destinations, "any text", "your program, or pathcast arrivals set",
             compacted=True),
    Contract("geofence", Geofence, Way.IN, _T.destinations, "any text", "your program, or pathcast arrivals fence",
             compacted=True),
    Contract("reached", Reached, Way.OUT, _T.destinations, "reached: and the destination's", "pathcast beside arrivals",
             compacted=True),
    Contract("arrival", Arrival, Way.OUT, _T.arrivals, _ENTITY, "pathcast beside arrivals", "arrival"),
    Contract("arrived", Arrived, Way.OUT, _T.arrivals, _ENTITY, "pathcast beside arrivals", "arrived"),
    Contract("inside", Inside, Way.OUT, _T.arrivals, _ENTITY, "pathcast beside arrivals", "inside"),
    Contract("score", Score, Way.OUT, _T.scores, _ENTITY, "pathcast beside scores", "score"),
    Contract("drift", Drift, Way.OUT, _T.scores, "drift/ and the partition", "pathcast beside scores", "drift"),
    Contract("atlas_version", VersionRecord, Way.OUT, _T.models, "atlas: and the version", "pathcast beside atlas",
             compacted=True),
    Contract("weights_version", WeightsRecord, Way.OUT, _T.models, "weights: and the serial", "pathcast models",
             compacted=True),
    Contract("dead_letter_headers", DeadLetterHeaders, Way.OUT, _T.dead_letters, "as it came", "pathcast worker",
             headers_only=True, prefix=ERROR_HEADER_PREFIX),
)  # fmt: skip


def contract(name: str) -> Contract:
    """Returns the row of that name. Raises ValueError, which names all, if there is none."""
    for one in RECORDS:
        if name in (one.name, one.schema_name):
            return one
    raise ValueError(f"there is no record {name!r}: expected one of {', '.join(one.name for one in RECORDS)}")
