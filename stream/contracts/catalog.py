"""Lists the public records, with their topics, keys and writers: a row for each schema.

A new record of `stream.wire` gets a row in `RECORDS`. A test fails until it has one.
"""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Final, Literal, NamedTuple

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
from stream.wire.messages import EPOCH_MS, WireStruct, means
from stream.wire.trips import TripUnderWay

VERSION: Final = 1  # of the records, and of the names of topics and schemas


class Way(Enum):
    """The direction of a record, which decides how it may change (`compatibility`)."""

    IN = "in"  # others write it, pathcast reads it
    OUT = "out"  # pathcast writes it, others read it


class DeadLetterHeaders(WireStruct, frozen=True):
    """The headers that say why a record has no forecast. The value is the record as it came.

    `stream.wire.dead_letters.dead_letter` writes them, with a prefix.
    """

    topic: Annotated[str, means("the topic that the record came from, or how it came to an adapter")]
    partition: Annotated[str, means("its partition, as decimal text")]
    offset: Annotated[str, means("its offset, as decimal text; -1 if it never was a record")]
    timestamp: Annotated[str, means(f"its timestamp, {EPOCH_MS}, as decimal text; -1 if it has none")]
    stage: Annotated[str, means("which part of the program refused it")]
    code: Annotated[str, means("why, as a stable word to switch on; there may be new ones")]
    message: Annotated[str, means("why, for people")]
    adapter: Annotated[str, means("the format of the value; json is that of the pings topic")]
    version: Annotated[str, means("the version of pathcast that refused it")]
    retryable: Annotated[Literal["true", "false"], means("true: the same record may get a forecast later")]
    omitted: Annotated[
        str | None,
        means("the record did not fit and stays in its topic: its size in bytes, or unknown"),
    ] = None
    track: Annotated[Literal["unread"] | None, means("unread: it was decided without the entity's stored track")] = None


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
    Contract("trip", TripUnderWay, Way.OUT, _T.trips, "START_DATE/TRIP_ID/ENTITY_ID", "pathcast beside transit", "trip",
             compacted=True),
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
