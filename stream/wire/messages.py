"""The public records and their JSON.

The JSON is canonical: one object, fields in the order below, units in the names. An unknown field is absent, never 0 or
null (but an atlas without a version is). Subscribers see every public structure here: add optional fields, never change
one's meaning within `v1`.

What a sender may write in a ping:

    required   entity_id, ts, lat, lon. A bad one makes the record a reject. `entity_id` may be an integer, which stands
               for its decimal text; the record's key must be that text. `ts` may also be epoch seconds, an RFC 3339
               time, or a number in a string.
    optional   One that is out of range, of the wrong type, too long or not finite is dropped: the field is absent, the
               ping is processed, and the field is counted by its name. 7.0 is the integer 7. There is one exception:
               `valid` may be true, 1, "true" or false, 0, "false", and false makes the record a reject.
    unknown    Fields of other names are ignored, whatever they hold.

A record that is too large, nests too deeply, or is no JSON object in UTF-8 is a reject.

    topic                      key         value
    <prefix>.pings.v1          entity id   Ping
    <prefix>.forecasts.v1      entity id   Forecast, one per accepted ping
    <prefix>.gapfills.v1       entity id   GapFill, provisional at once, revised to final, or retracted
    <prefix>.scores.v1         entity id   Score, Drift (`stream.wire.scores`): only with `pathcast beside scores`
    <prefix>.destinations.v1   any text    Destination, Geofence (`stream.wire.arrivals`), compacted
    <prefix>.arrivals.v1       entity id   Arrival, Arrived, Inside: only with `pathcast beside arrivals`
    <prefix>.latest.v1         entity id   Latest (`stream.wire.latest`), compacted: only with `pathcast beside latest`
    <prefix>.trips.v1          the trip    TripUnderWay (`stream.wire.trips`), compacted: only with `beside transit`
    <prefix>.models.v1         what it is  VersionRecord (`stream.wire.versions`), compacted: only where atlases serve
    <prefix>.pings.v1.dlq      as it came  the rejected record, byte-identical, with context headers
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec

from stream.wire.record import MAX_ENTITY_ID_CHARS

MAX_ATTRS: Final = 32
MAX_TEXT_CHARS: Final = 256  # of trip_id, category and source
MIN_TS_MS: Final = 946_684_800_000  # 2000-01-01: receivers without a fix report 1970 or 1980
MAX_TS_MS: Final = 4_102_444_800_000  # 2100-01-01: the limit whatever the record's own timestamp is
E7: Final = 10_000_000  # latitudes and longitudes are published to 1e-7 deg (1.1 cm), well under GPS noise
Status = Literal["ok", "warmup", "stale", "fallback_cv"]
# How the state of a forecast was obtained. "unread": the entity was treated as new, and its forecasts report that until
# the state can be read.
Cache = Literal["hit", "rebuilt", "none", "unread"]
CACHES: Final[tuple[Cache, ...]] = ("none", "hit", "rebuilt", "unread")  # columns hold indices of this


class WireStruct(msgspec.Struct, frozen=True, omit_defaults=True):
    """A record that leaves out each field equal to its default (None), so absent fields stay absent."""


def means(text: str, low: float | None = None, high: float | None = None, **unchecked: Any) -> msgspec.Meta:
    """Says what a field means, with its unit, and its limits, both ends included, which decoding checks.

    The schemas (`stream.contracts`) have all of it, and the `unchecked` words of JSON Schema, which decoding leaves to
    others. The first paragraph of a struct's docstring is in them, too.
    """
    return msgspec.Meta(description=text, ge=low, le=high, extra_json_schema=unchecked or None)


EPOCH_MS: Final = "milliseconds since 1970 UTC"
EntityKey = Annotated[str, means("the thing that moves; also the record's key")]
Latitude = Annotated[float, means("latitude in degrees, WGS84")]
Longitude = Annotated[float, means("longitude in degrees, WGS84")]
_Time = Annotated[int, means(f"its time, {EPOCH_MS}")]
_Ahead = Annotated[float, means("seconds after the anchor")]
_COV = "m²: the variance to the east, the covariance of east with north, the variance to the north"
_Covariance = Annotated[tuple[float, float, float], means(_COV)]
_LATE = "true: the worker could not wait any longer for what decides, and another version may be due at this ping"
_Text = Annotated[str, msgspec.Meta(max_length=MAX_TEXT_CHARS)]
_Attrs = Annotated[dict[str, Any], msgspec.Meta(max_length=MAX_ATTRS)]


class Ping(WireStruct, frozen=True, kw_only=True):
    """One GPS fix of one entity. An optional field that is out of range is ignored, and the ping is answered.

    `stream.wire.ping_rules` checks what decoding leaves open, and drops an optional field that is outside its range.
    """

    entity_id: Annotated[
        str,
        means(
            "the thing that moves; the record's key must be the same text", minLength=1, maxLength=MAX_ENTITY_ID_CHARS
        ),
    ]
    ts: Annotated[
        int,
        means(
            f"time of the fix, {EPOCH_MS}; RFC 3339 and epoch seconds are read, too",
            minimum=MIN_TS_MS,
            maximum=MAX_TS_MS,
        ),
    ]
    lat: Annotated[float, means("latitude in degrees, WGS84", minimum=-90, maximum=90)]
    lon: Annotated[float, means("longitude in degrees, WGS84", minimum=-180, maximum=180)]
    alt_m: Annotated[float, means("altitude in metres", -12_000, 100_000)] | None = None  # the deepest trench to space
    speed_mps: Annotated[float, means("speed over ground in metres a second", 0, 1_000)] | None = None
    # `clean` makes 360 to 0.
    heading_deg: (
        Annotated[float, means("direction of movement, not of the bow: degrees clockwise from north", 0, 360)] | None
    ) = None
    accuracy_m: Annotated[float, means("the receiver's own estimate of its error in metres", 0, 10_000_000)] | None = (
        None
    )
    hdop: Annotated[float, means("horizontal dilution of precision", 0, 1_000)] | None = None
    sats: Annotated[int, means("satellites used", 0, 1_000)] | None = None
    valid: Annotated[bool | None, means("false: the receiver has no fix, and the record gets no forecast")] = None
    received_ts: Annotated[int, means(f"when a server got it, {EPOCH_MS}", MIN_TS_MS, MAX_TS_MS)] | None = None
    trip_id: Annotated[_Text | None, means("the trip, route run or voyage")] = None
    category: Annotated[_Text | None, means("what kind of thing moves, such as bus or ship")] = None
    source: Annotated[_Text | None, means("the program or adapter that wrote it")] = None
    attrs: Annotated[_Attrs | None, means("whatever else the sender knows; at most 32 values")] = None


REQUIRED: Final = ("entity_id", "ts", "lat", "lon")
OPTIONAL: Final = tuple(name for name in Ping.__struct_fields__ if name not in REQUIRED)


class Anchor(WireStruct, frozen=True):
    """A real ping."""

    ts: _Time
    lat: Latitude
    lon: Longitude


class NextStep(WireStruct, frozen=True, kw_only=True):
    """The expected time of the next ping, and the displacement until then. A ping may come earlier or later: read
    the forecast as a path from the anchor through this place and those of the horizons.

    `stream.wire.positions.position_at` reads it so.
    """

    dt_s: Annotated[float, means("seconds from the anchor to the expected next ping")]
    d_east_m: Annotated[float, means("metres to the east until then")]
    d_north_m: Annotated[float, means("metres to the north until then")]
    d_lat: Annotated[float, means("the same as a difference of latitude in degrees")]
    d_lon: Annotated[float, means("the same as a difference of longitude in degrees")]
    cov_m2: _Covariance
    # Both are absent in records of before 29 November 2026.
    dt_early_s: Annotated[
        float | None, means("nine times in ten the next ping comes after so many seconds or more")
    ] = None
    dt_late_s: Annotated[
        float | None, means("nine times in ten the next ping comes after so many seconds or fewer")
    ] = None


class Horizon(WireStruct, frozen=True):
    """The position at one asked-for time after the anchor."""

    h_s: _Ahead
    lat: Latitude
    lon: Longitude
    cov_m2: _Covariance


class BranchPosition(WireStruct, frozen=True):
    """A position on a branch."""

    h_s: _Ahead
    lat: Latitude
    lon: Longitude


class Branch(WireStruct, frozen=True):
    """One of the ways that earlier passages took where they part."""

    share: Annotated[
        float, means("the share of the passages that went there, to two digits; the rest to 1 went elsewhere")
    ]
    positions: Annotated[
        tuple[BranchPosition, ...],
        means("where they were at the horizons; it ends at the last one up to which they are known"),
    ]


class ModelRef(WireStruct, frozen=True):
    """The weights that made the record."""

    name: Annotated[str, means("the name of the weights")]
    version: Annotated[str, means("the hash of the weights")]
    late: Annotated[bool, means(_LATE)] = False


class AtlasRef(WireStruct, frozen=True):
    """The version of the fleet's atlas that was asked."""

    version: Annotated[str | None, means("the hash of the atlas; null where none serves yet")]
    pings: Annotated[int, means("how many passages it rests on; 0: it is the model's alone")]
    late: Annotated[bool, means(_LATE)]


class Window(WireStruct, frozen=True):
    """The pings on which the forecast rests."""

    n: Annotated[int, means("how many pings")]
    from_ts: Annotated[int, means(f"the oldest, {EPOCH_MS}")]
    to_ts: Annotated[int, means(f"the newest, {EPOCH_MS}")]


class Latency(WireStruct, frozen=True):
    """The milliseconds that the ping was under way, by part of the way."""

    ingest: Annotated[float, means("from the record's timestamp to its fetch; 0 if it has none")]
    queue: Annotated[float, means("from the fetch to the start of the batch")]
    infer: Annotated[float, means("from there to the model's answer")]


class Src(WireStruct, frozen=True):
    """The record of the ping."""

    topic: Annotated[str, means("its topic")]
    partition: Annotated[int, means("its partition")]
    offset: Annotated[int, means("its offset")]


class Forecast(WireStruct, frozen=True, kw_only=True):
    """The distribution of where an entity is at its next ping, and at the asked-for horizons: one for each accepted
    ping. A covariance stands for a Student's t with 4 degrees of freedom and the scale matrix cov_m2 / 1.878.
    """

    forecast_id: Annotated[str, means("always the same for the same ping and versions: drop duplicates by it")]
    entity_id: EntityKey
    anchor: Annotated[Anchor, means("the ping that the forecast starts from")]
    next: Annotated[NextStep, means("the next step")]
    horizons: Annotated[tuple[Horizon, ...], means("the position at each asked-for horizon")]
    branches: Annotated[
        tuple[Branch, ...] | None,
        means(
            "two or three ways on, if the passages part that the forecast was compared with, the largest share first; "
            "absent where they go one way, or scatter"
        ),
    ] = None
    model: Annotated[ModelRef, means("the weights that made it")]
    atlas: Annotated[AtlasRef | None, means("the atlas that it asked; absent where a worker serves no atlases")] = None
    status: Annotated[
        Status,
        means(
            "ok; warmup: fewer than eight pings in the window, or a state that could not be read; stale: the ping came "
            "late; fallback_cv: the model gave no finite number, and the position is damped velocity's"
        ),
    ]
    window: Annotated[Window, means("the pings that it stands on")]
    cache: Annotated[
        Cache,
        means(
            "hit: from the stored state; rebuilt: from the window; none: the entity is new, or began a new session; "
            "unread: the stored state could not be read in time"
        ),
    ]
    latency_ms: Annotated[Latency, means("how long the ping was under way")]
    src: Annotated[Src, means("the record of the ping")]


class GapPoint(WireStruct, frozen=True):
    """A synthetic ping inside a silence."""

    ts: _Time
    lat: Latitude
    lon: Longitude
    cov_m2: _Covariance


class GapFill(WireStruct, frozen=True, kw_only=True):
    """The path inside a silence: synthetic pings between two real ones. Of the records with one gap_id the highest
    revision counts.

    If a late ping comes in the gap before it is final, revision 1 is retracted, and nothing replaces it; a late ping
    after that changes nothing. A gap is also retracted if the ping at its end turns out to have been from the future.
    """

    gap_id: Annotated[str, means("always the same for the same entity and start")]
    entity_id: EntityKey
    revision: Annotated[int, means("0: provisional; 1: final or retracted")]
    status: Annotated[
        Literal["provisional", "final", "retracted"],
        means(
            "provisional: at once when the silence ends; final: two pings later, or when the session ends; retracted: "
            "there was no such gap, and the record has no points"
        ),
    ]
    start: Annotated[Anchor, means("the last ping before the silence")]
    end: Annotated[Anchor, means("the first ping after it")]
    reason: Annotated[
        Literal["silence", "outlier", "late"],
        means("why a path is missing: silence, an outlier in between, or a late ping"),
    ]
    method: Annotated[str, means("how the path was found; none if it is retracted")]
    points: Annotated[tuple[GapPoint, ...], means("the synthetic pings, in the order of their times")]
    length_m: Annotated[float, means("metres along the path, from start to end")]
    max_sigma_m: Annotated[float, means("the largest standard deviation at any point in any direction, in metres")]
    model: Annotated[ModelRef, means("the weights that made it")]
    atlas: Annotated[
        AtlasRef | None,
        means("the atlas that it asked; absent where a worker serves no atlases, and from a retracted one"),
    ] = None
    issued_ts: Annotated[int, means(f"the timestamp of the record that caused it, {EPOCH_MS}")]


T = TypeVar("T")
_ENCODER: Final = msgspec.json.Encoder()
_FORECAST_DECODER: Final = msgspec.json.Decoder(Forecast)
_GAPFILL_DECODER: Final = msgspec.json.Decoder(GapFill)


def dumps(record: msgspec.Struct) -> bytes:
    """Returns the canonical JSON bytes of one record."""
    return _ENCODER.encode(record)


def loads_forecast(raw: bytes) -> Forecast:
    """Raises msgspec.DecodeError (a ValueError) for anything else."""
    return decode(_FORECAST_DECODER, raw)


def loads_gapfill(raw: bytes) -> GapFill:
    """Raises as `loads_forecast`."""
    return decode(_GAPFILL_DECODER, raw)


def decode(decoder: msgspec.json.Decoder[T], raw: bytes) -> T:
    """Decodes bytes that others may have written. Raises msgspec.DecodeError alone, also for those of which msgspec
    says something else."""
    try:
        return decoder.decode(raw)
    except RecursionError as error:
        raise msgspec.DecodeError("it is nested too deeply") from error
    except UnicodeDecodeError as error:
        raise msgspec.DecodeError(f"it is no UTF-8: {error.reason}") from error
