"""Records and their bytes. Knows JSON, topics, headers and ids; knows no broker, no numpy and no model.

Canonical JSON: one object, fields in the order below, units in the names. An unknown field is absent, never 0 or null.
Every public structure here is what a subscriber sees: add fields at the end, never change one's meaning within `v1`.

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
    <prefix>.pings.v1.dlq      as it came  the rejected record, byte-identical, with context headers
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Final, Literal, NamedTuple

import msgspec

Headers = tuple[tuple[str, bytes], ...]

MAX_ENTITY_ID_CHARS: Final = 128
MAX_RECORD_BYTES: Final = 64 * 1024  # a ping is 100-500 bytes; attrs may carry some more, a megabyte is a mistake
MAX_DEAD_LETTER_BYTES: Final = 32 * 1024 * 1024  # what the dead letter topic takes: any input record, with headers
MAX_CONTEXT_BYTES: Final = 8 * 1024  # of a dead letter's context headers, and of its framing; most are below 1 KB
MAX_ATTRS: Final = 32
MAX_TEXT_CHARS: Final = 256  # of trip_id, category and source
MIN_TS_MS: Final = 946_684_800_000  # 2000-01-01: receivers without a fix report 1970 or 1980
MAX_TS_MS: Final = 4_102_444_800_000  # 2100-01-01: whatever the record's own timestamp claims
NO_TIME_MS: Final = -1  # the timestamp of a record that has none, as Kafka writes it
E7: Final = 10_000_000  # latitudes and longitudes are published to 1e-7 deg (1.1 cm), well under GPS noise

Status = Literal["ok", "warmup", "stale", "fallback_cv"]
# What a forecast says of the state that it stands on. "hit": the one that was kept. "rebuilt": from the window. "none":
# the entity is new, or begins a new session. "unread": its stored state could not be read in time, and it was taken
# for new; its forecasts say so until the state can be read.
Cache = Literal["hit", "rebuilt", "none", "unread"]
CACHES: Final[tuple[Cache, ...]] = ("none", "hit", "rebuilt", "unread")  # where a column has their indices


class Topics(NamedTuple):
    """The topic names under one prefix."""

    pings: str
    forecasts: str
    gapfills: str
    dead_letters: str

    @classmethod
    def of(cls, prefix: str = "pathcast") -> Topics:
        pings = f"{prefix}.pings.v1"
        return cls(pings, f"{prefix}.forecasts.v1", f"{prefix}.gapfills.v1", f"{pings}.dlq")


class Record(NamedTuple):
    """One Kafka record as it came: no field is interpreted."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int  # set by the producer or the broker; the clock that `clean` judges event times by, if it has one
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


class Outgoing(NamedTuple):
    """One record to publish; `src` is the input record that it answers."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers
    src: Record


class _Wire(msgspec.Struct, frozen=True, omit_defaults=True):
    """Absent stays absent: a field equal to its default (None) is not written."""


_Text = Annotated[str, msgspec.Meta(max_length=MAX_TEXT_CHARS)]


class Ping(_Wire, frozen=True, kw_only=True):
    """One GPS fix of one entity, validated by `clean`. `ts` is int64 milliseconds UTC, angles are degrees WGS84.

    The optional fields have the ranges given here, inclusive. `clean` drops a field that is outside its range.
    """

    entity_id: str
    ts: int
    lat: float
    lon: float
    alt_m: Annotated[float, msgspec.Meta(ge=-12_000, le=100_000)] | None = None  # the deepest trench to space
    speed_mps: Annotated[float, msgspec.Meta(ge=0, le=1_000)] | None = None
    # Where it goes, not where its bow points; clockwise from north, 360 is folded to 0.
    heading_deg: Annotated[float, msgspec.Meta(ge=0, le=360)] | None = None
    accuracy_m: Annotated[float, msgspec.Meta(ge=0, le=10_000_000)] | None = None
    hdop: Annotated[float, msgspec.Meta(ge=0, le=1_000)] | None = None
    sats: Annotated[int, msgspec.Meta(ge=0, le=1_000)] | None = None
    valid: bool | None = None
    received_ts: Annotated[int, msgspec.Meta(ge=MIN_TS_MS, le=MAX_TS_MS)] | None = None
    trip_id: _Text | None = None
    category: _Text | None = None
    source: _Text | None = None
    attrs: Annotated[dict[str, Any], msgspec.Meta(max_length=MAX_ATTRS)] | None = None


REQUIRED: Final = ("entity_id", "ts", "lat", "lon")
OPTIONAL: Final = tuple(name for name in Ping.__struct_fields__ if name not in REQUIRED)


class Anchor(_Wire, frozen=True):
    """The ping that a forecast starts from."""

    ts: int
    lat: float
    lon: float


class NextStep(_Wire, frozen=True, kw_only=True):
    """The next step: when the next ping is expected, and the displacement until then with its covariance.

    The displacement is for `dt_s`, and a ping comes earlier or later: `stream.positions.position_at` reads a forecast
    at the time of a ping.
    """

    dt_s: float
    d_east_m: float
    d_north_m: float
    d_lat: float
    d_lon: float
    cov_m2: tuple[float, float, float]  # ee, en, nn
    # The 90 % interval of the time. Absent in records of before 29 November 2026.
    dt_early_s: float | None = None
    dt_late_s: float | None = None


class Horizon(_Wire, frozen=True):
    """The position `h_s` seconds after the anchor, with its covariance (ee, en, nn)."""

    h_s: float
    lat: float
    lon: float
    cov_m2: tuple[float, float, float]


class ModelRef(_Wire, frozen=True):
    name: str
    version: str


class Window(_Wire, frozen=True):
    """The pings that the forecast stands on: how many, and from when to when (ms UTC)."""

    n: int
    from_ts: int
    to_ts: int


class Latency(_Wire, frozen=True):
    """Milliseconds: record timestamp (0 if it has none) to fetch, fetch to batch start, batch start to the model's
    answer."""

    ingest: float
    queue: float
    infer: float


class Src(_Wire, frozen=True):
    topic: str
    partition: int
    offset: int


class Forecast(_Wire, frozen=True, kw_only=True):
    """The distribution of the next step and of the position at the asked-for horizons."""

    forecast_id: str
    entity_id: str
    anchor: Anchor
    next: NextStep
    horizons: tuple[Horizon, ...]
    model: ModelRef
    status: Status
    window: Window
    cache: Cache
    latency_ms: Latency
    src: Src


class GapPoint(_Wire, frozen=True):
    """A synthetic ping inside a gap."""

    ts: int
    lat: float
    lon: float
    cov_m2: tuple[float, float, float]


class GapFill(_Wire, frozen=True, kw_only=True):
    """Synthetic pings between two real ones that are too far apart in time.

    Revision 0 is provisional, at once; revision 1 is final, two pings later or when the session ends. A late ping in
    the gap before then makes revision 1 retracted, without points, and nothing takes its place; one after it changes
    nothing. Retracted is, too, what led to a ping that turns out to have been from the future.
    """

    gap_id: str
    entity_id: str
    revision: int
    status: Literal["provisional", "final", "retracted"]
    start: Anchor
    end: Anchor
    reason: Literal["silence", "outlier", "late"]
    method: str
    points: tuple[GapPoint, ...]
    length_m: float
    max_sigma_m: float
    model: ModelRef
    issued_ts: int


class Reject(NamedTuple):
    """Why an input record has no forecast. `code` is a stable slug from CODES; `message` is for people; `retryable`: it
    may get one later, as it is; `unread`: it was judged without the entity's stored track, which could not be read."""

    code: str
    message: str
    stage: str = "clean"
    retryable: bool = False
    unread: bool = False


# Every code that a dead letter can carry, and what it tells the sender. Stable: consumers switch on them.
CODES: Final[dict[str, str]] = {
    "unreadable": "the batch of the record is damaged, or unfolds to more than a worker reads",
    "empty": "the record has no value",
    "too_large": f"the value is larger than {MAX_RECORD_BYTES} bytes",
    "schema_framed": "the value begins with the framing of a Schema Registry, plain JSON is expected",
    "invalid_utf8": "the value or the key is not UTF-8",
    "invalid_json": "the value is not JSON, or not one JSON object",
    "too_deep": "the value nests deeper than any ping",
    "missing_field": "entity_id, ts, lat or lon is absent",
    "wrong_type": "entity_id, ts, lat or lon has a type that it must not have",
    "bad_entity_id": f"entity_id is empty, longer than {MAX_ENTITY_ID_CHARS} characters, or has control characters",
    "key_mismatch": "the record's key is absent or is not its entity_id, so its partition has no single owner",
    "bad_timestamp": "ts is neither milliseconds nor seconds since 1970 nor an RFC 3339 time",
    "ts_too_old": "ts is before the year 2000",
    "ts_in_future": "ts is more than a day after the record was published",
    "not_finite": "ts, lat or lon is NaN or infinite",
    "lat_out_of_range": "lat is outside -90..90",
    "lon_out_of_range": "lon is outside -180..180",
    "null_island": "lat and lon are both exactly 0: a receiver without a fix",
    "bad_field": "an optional field is outside its range: only letters of earlier releases, now the field is dropped",
    "marked_invalid": "the receiver itself marked the fix invalid",
    "too_late": "older than the allowed lateness, or than all that a full window still holds",
    "impossible_jump": "the implied speed is beyond anything that moves on the ground or at sea",
    "step_failed": "the program or the model raised at this record, which is no fault of its sender",
    "entity_quota_exceeded": "a new entity, and its partition has as many already as the store is to hold",
    "entity_quarantined": "an earlier record of the entity is a step_failed, and program and model are the same still",
}

_ENCODER: Final = msgspec.json.Encoder()
_FORECAST_DECODER: Final = msgspec.json.Decoder(Forecast)
_GAPFILL_DECODER: Final = msgspec.json.Decoder(GapFill)


def dumps(record: Ping | Forecast | GapFill) -> bytes:
    """The canonical JSON bytes of one record."""
    return _ENCODER.encode(record)


def loads_forecast(raw: bytes) -> Forecast:
    return _FORECAST_DECODER.decode(raw)


def loads_gapfill(raw: bytes) -> GapFill:
    return _GAPFILL_DECODER.decode(raw)


ERROR_HEADER_PREFIX: Final = "__pathcast.errors."
UNREAD_TRACK: Final = "unread"  # in the context header `track` of a dead letter: see Reject
UNREAD: Final = "__pathcast.unread"  # header of a record whose batch could not be unpacked, and why (stream.fetched)


def dead_letter(topic: str, src: Record, reject: Reject, *, version: str) -> Outgoing:
    """The rejected record as it came, key, value and headers byte-identical, with context headers appended.

    A record that does not fit into the dead letter topic, as one that came compressed may not, or that could not be
    unpacked at all, is left where it lies: its letter has context headers alone, `omitted` with its size, where that is
    known, among them. Refused, it would stop the worker.
    """
    size = len(src.key or b"") + len(src.value or b"") + sum(_header_bytes(*header) for header in src.headers)
    unread = why_unread(src) is not None
    fits = size <= MAX_DEAD_LETTER_BYTES - MAX_CONTEXT_BYTES and not unread
    context: Iterable[tuple[str, str]] = (
        ("topic", src.topic),
        ("partition", str(src.partition)),
        ("offset", str(src.offset)),
        ("timestamp", str(src.timestamp_ms)),
        ("stage", reject.stage),
        ("code", reject.code),
        ("message", reject.message),
        ("adapter", "json"),
        ("version", version),
        ("retryable", "true" if reject.retryable else "false"),
        *(() if fits else (("omitted", "unknown" if unread else str(size)),)),
        *((("track", UNREAD_TRACK),) if reject.unread else ()),
    )
    extra = tuple((ERROR_HEADER_PREFIX + name, text.encode()) for name, text in context)
    if not fits:
        return Outgoing(topic, None, None, extra, src)
    return Outgoing(topic, src.key, src.value, (*src.headers, *extra), src)


def code_of(headers: Iterable[tuple[str, bytes | None]]) -> str | None:
    """The code of the dead letter that has these headers; None if they are not those of a dead letter."""
    code = dict(headers).get(ERROR_HEADER_PREFIX + "code")  # if a sender wrote that name, too, ours is the last one
    return None if code is None else code.decode(errors="replace")


def why_unread(record: Record) -> str | None:
    """The reason, if it stands for a record whose batch could not be unpacked (`stream.fetched`)."""
    if record.key is not None or record.value is not None:
        return None
    return next(((value or b"").decode(errors="replace") for name, value in record.headers if name == UNREAD), None)


def _header_bytes(name: str, value: bytes | None) -> int:
    """At most: four bytes a character, and what frames it."""
    return 4 * len(name) + len(value or b"") + 10
