"""The types of what is sent to the API and of what it answers.

Requests are checked by them, and the OpenAPI document is made of them (`stream.api.openapi`).

An answer leaves out what is unknown. Units are in the names; times are milliseconds since 1970 UTC, positions degrees
WGS84. A request's own object may have no members but those listed here, so that a misspelt one is not ignored; a point
of a track may, so that a ping can be sent as it is.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

from stream.config.settings import DEFAULT_HORIZONS_S
from stream.wire import (
    MAX_ENTITY_ID_CHARS,
    MAX_TS_MS,
    MIN_TS_MS,
    Anchor,
    AtlasRef,
    Branch,
    Horizon,
    ModelRef,
    NextStep,
    Window,
)
from stream.wire.messages import Cache, Forecast, Status

MAX_HORIZONS: Final = 16  # of one question: each costs as much as the whole rest of a small answer
MAX_HORIZON_S: Final = 86_400.0
MAX_POINTS: Final = 2_000  # of one track: some 0.2 s of a core
MAX_LISTED: Final = 1_000  # entities on one page
MAX_WATCHED: Final = 50  # entities that one stream names

Longitude = Annotated[float, msgspec.Meta(ge=-180, le=180)]
Latitude = Annotated[float, msgspec.Meta(ge=-90, le=90)]
EntityId = Annotated[
    str,
    msgspec.Meta(
        min_length=1,
        max_length=MAX_ENTITY_ID_CHARS,
        pattern="^[^\\u0000-\\u001f\\u007f-\\u009f\\u2028\\u2029]+$",
        description="The id of an entity, as its pings have it. Without control characters.",
    ),
]
# west,south,east,north, as in RFC 7946, section 5; west > east: the box goes over the date line.
BBox = Annotated[
    list[float],
    msgspec.Meta(
        min_length=4,
        max_length=4,
        description="west,south,east,north in degrees; a box whose west is greater than its east crosses the date line",
    ),
]


class RequestPart(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A request's parameters or body."""


class AnswerPart(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An answer. Members that are equal to their default, None, are left out."""


# -- parameters ----------------------------------------------------------------------------------------------------


class Nothing(RequestPart, frozen=True, kw_only=True):
    """The parameters of an operation that has none."""


class OfEntity(RequestPart, frozen=True, kw_only=True):
    id: EntityId


class ForecastQuery(RequestPart, frozen=True, kw_only=True, rename={"since": "from"}):
    horizon_s: Annotated[
        tuple[Annotated[float, msgspec.Meta(gt=0, le=MAX_HORIZON_S)], ...],
        msgspec.Meta(
            min_length=1,
            max_length=MAX_HORIZONS,
            description="Seconds ahead. Give it several times for several answers.",
        ),
    ] = DEFAULT_HORIZONS_S
    since: Annotated[
        Literal["anchor", "now"],
        msgspec.Meta(
            description="From when the seconds count: `anchor`, the entity's last ping, as in published forecasts; or "
            "`now`, this server's clock."
        ),
    ] = "anchor"


class ListQuery(RequestPart, frozen=True, kw_only=True):
    bbox: BBox | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=MAX_LISTED, description="Entities on a page.")] = 100
    cursor: Annotated[
        str | None,
        msgspec.Meta(description="`next` of the page before, as it was; the same bbox must be given again."),
    ] = None


class StreamQuery(RequestPart, frozen=True, kw_only=True):
    bbox: BBox | None = None
    entity: Annotated[
        tuple[EntityId, ...],
        msgspec.Meta(max_length=MAX_WATCHED, description="Only these entities. May be given often."),
    ] = ()
    last_event_id: (
        Annotated[
            str,
            msgspec.Meta(
                max_length=64,
                description="The id of the last message that was received: what has changed since is sent, and no "
                "snapshot. As the header Last-Event-ID, for clients that cannot set one.",
            ),
        ]
        | None
    ) = None


# -- forecasts -----------------------------------------------------------------------------------------------------


class StoredState(AnswerPart, frozen=True, kw_only=True):
    """From which state an answer was made, and how old that is. A worker stores states about once a second."""

    partition: int
    next_offset: Annotated[
        int, msgspec.Meta(description="All input records of the partition below it are in the state.")
    ]
    age_s: Annotated[float, msgspec.Meta(description="Seconds from the anchor to now, by this server's clock.")]
    behind_s: Annotated[
        float | None,
        msgspec.Meta(
            description="Seconds from the anchor to the newest ping that a published forecast answers. 0: the state "
            "has it. Absent: no forecast of this entity was heard of."
        ),
    ] = None


class EntityForecast(AnswerPart, frozen=True, kw_only=True):
    """A forecast as workers publish it, without what concerns a published record alone, for any horizons."""

    forecast_id: str
    entity_id: str
    anchor: Anchor
    next: NextStep
    horizons: tuple[Horizon, ...]
    branches: tuple[Branch, ...] | None = None
    model: ModelRef
    atlas: AtlasRef | None = None
    status: Status
    window: Window
    cache: Cache
    state: StoredState


class NewestForecast(AnswerPart, frozen=True, kw_only=True):
    """The newest forecast of an entity, as it was published."""

    forecast: Forecast
    age_s: float  # from its anchor to now, by this server's clock


class Position(AnswerPart, frozen=True, kw_only=True):
    """Where an entity was at its newest ping."""

    entity_id: str
    ts: int
    lat: float
    lon: float


class Entities(AnswerPart, frozen=True, kw_only=True):
    """A page of entities. An entity that comes while you go through the pages may be on none of them."""

    entities: list[Position]
    next: Annotated[
        str | None, msgspec.Meta(description="The `cursor` of the next page. Absent: this is the last.")
    ] = None


# -- tracks --------------------------------------------------------------------------------------------------------


Time = (
    Annotated[int, msgspec.Meta(ge=MIN_TS_MS, le=MAX_TS_MS, description="Milliseconds since 1970 UTC.")]
    | Annotated[str, msgspec.Meta(description="RFC 3339.", extra_json_schema={"format": "date-time"})]
)


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """One fix of a track. Further members are ignored."""

    ts: Time
    lat: Latitude
    lon: Longitude
    speed_mps: Annotated[float, msgspec.Meta(ge=0, le=1_000)] | None = None
    heading_deg: Annotated[float, msgspec.Meta(ge=0, le=360)] | None = None


Points = Annotated[list[Point], msgspec.Meta(min_length=1, max_length=MAX_POINTS)]


class Track(RequestPart, frozen=True, kw_only=True):
    """The pings of one entity, in any order."""

    points: Points


class LineString(msgspec.Struct, frozen=True, kw_only=True):
    """RFC 7946. A position is longitude, latitude and perhaps more, which is ignored."""

    type: Literal["LineString"]  # no tag, which msgspec would not miss
    coordinates: Annotated[
        list[Annotated[list[float], msgspec.Meta(min_length=2, max_length=4)]],
        msgspec.Meta(min_length=1, max_length=MAX_POINTS),
    ]


class TimedProperties(msgspec.Struct, frozen=True, kw_only=True):
    """The time of each position, as GeoJSON itself has no place for it. Further members are ignored."""

    times: Annotated[list[Time], msgspec.Meta(min_length=1, max_length=MAX_POINTS)]


class TrackFeature(msgspec.Struct, frozen=True, kw_only=True):
    """A track as a GeoJSON feature. Further members are ignored."""

    type: Literal["Feature"]
    geometry: LineString
    properties: TimedProperties


class FilledPoint(AnswerPart, frozen=True, kw_only=True):
    """A point of the filled track."""

    ts: int
    lat: float
    lon: float
    filled: Annotated[bool, msgspec.Meta(description="Whether the point was made here.")]
    cov_m2: tuple[float, float, float] | None = None  # ee, en, nn; of filled points


class FilledGap(AnswerPart, frozen=True, kw_only=True):
    """One gap that was filled. `final`: the pings after it were used, too; else the track ends too soon after it."""

    start_ts: int
    end_ts: int
    points: int
    length_m: float
    max_sigma_m: float
    method: str
    final: bool


class LeftOut(AnswerPart, frozen=True, kw_only=True):
    """A point that is not in the filled track, and why (the codes of dead letters)."""

    index: int  # of the request's points
    code: str
    message: str


class FilledTrack(AnswerPart, frozen=True, kw_only=True):
    """A track whose gaps are filled as a worker fills them: silences of more than a minute, and of more than three
    times its usual interval, up to an hour."""

    points: list[FilledPoint]
    gaps: list[FilledGap]
    left_out: list[LeftOut]
    model: ModelRef


class FilledLineString(AnswerPart, frozen=True, kw_only=True, tag_field="type", tag="LineString"):
    coordinates: list[tuple[float, float]]


class FilledProperties(AnswerPart, frozen=True, kw_only=True):
    """`times` and `filled` have an element for each position; the rest is as in FilledTrack."""

    times: list[int]
    filled: list[bool]
    gaps: list[FilledGap]
    left_out: list[LeftOut]
    model: ModelRef


class FilledFeature(AnswerPart, frozen=True, kw_only=True, tag_field="type", tag="Feature"):
    """The filled track as a GeoJSON feature."""

    geometry: FilledLineString
    properties: FilledProperties


ETA_SHARE: Final = 0.9  # of arrivals that are within the interval


# -- arrivals ------------------------------------------------------------------------------------------------------


class Place(RequestPart, frozen=True, kw_only=True):
    lat: Latitude
    lon: Longitude


class EtaQuestion(RequestPart, frozen=True, kw_only=True):
    """When does it reach the destination? Either the id of an entity or its newest pings."""

    destination: Place
    radius_m: Annotated[
        float, msgspec.Meta(gt=0, le=100_000, description="It is there when it is within this of the destination.")
    ] = 100.0
    entity_id: EntityId | None = None
    points: Points | None = None


class Eta(AnswerPart, frozen=True, kw_only=True):
    """The time from the last ping to the destination, as if it went there now, and when it is there. `low` and `high`
    are the ends of the interval that holds nine arrivals in ten."""

    anchor: Anchor
    destination: Place
    distance_m: Annotated[float, msgspec.Meta(description="Along the great circle.")]
    travel_s: float  # the median
    travel_low_s: float
    travel_high_s: float
    arrives_ts: int
    arrives_low_ts: int
    arrives_high_ts: int
    share: float = ETA_SHARE
    entity_id: str | None = None
    model: ModelRef
    state: StoredState | None = None  # where it was an entity


class Ticket(AnswerPart, frozen=True, kw_only=True):
    """A ticket opens one stream, in the token's place."""

    ticket: str
    valid_s: Annotated[float, msgspec.Meta(description="For how long, from now.")]
