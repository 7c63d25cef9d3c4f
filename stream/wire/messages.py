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
    <prefix>.models.v1         what it is  VersionRecord (`stream.wire.versions`), compacted: only where atlases serve
    <prefix>.pings.v1.dlq      as it came  the rejected record, byte-identical, with context headers
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec

MAX_ATTRS: Final = 32
MAX_TEXT_CHARS: Final = 256  # of trip_id, category and source
MIN_TS_MS: Final = 946_684_800_000  # 2000-01-01: receivers without a fix report 1970 or 1980
MAX_TS_MS: Final = 4_102_444_800_000  # 2100-01-01: the limit whatever the record's own timestamp is
E7: Final = 10_000_000  # latitudes and longitudes are published to 1e-7 deg (1.1 cm), well under GPS noise
Status = Literal["ok", "warmup", "stale", "fallback_cv"]
# How the state of a forecast was obtained. "hit": it was kept. "rebuilt": from the window. "none": the entity is new,
# or begins a new session. "unread": the stored state could not be read in time, and the entity was treated as new; its
# forecasts report that until the state can be read.
Cache = Literal["hit", "rebuilt", "none", "unread"]
CACHES: Final[tuple[Cache, ...]] = ("none", "hit", "rebuilt", "unread")  # columns hold indices of this


class _Wire(msgspec.Struct, frozen=True, omit_defaults=True):
    """A record that leaves out each field equal to its default (None), so absent fields stay absent."""


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
    # The direction of movement, not of the bow; clockwise from north, 360 becomes 0.
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

    The displacement is for `dt_s`, but a ping may come earlier or later: `stream.wire.positions.position_at` reads a
    forecast at the time of a ping.
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


class BranchPosition(_Wire, frozen=True):
    """A position on a branch, `h_s` seconds after the anchor."""

    h_s: float
    lat: float
    lon: float


class Branch(_Wire, frozen=True):
    """One of the ways on where the passages part that a forecast was compared with: which share of them went there, and
    where they were at the horizons. It ends at the last horizon up to which the passages are known.
    """

    share: float
    positions: tuple[BranchPosition, ...]


class ModelRef(_Wire, frozen=True, omit_defaults=True):
    """The weights that a forecast was made with.

    `late` says that the worker could not wait any longer for what decides: other weights may be due at this ping.
    """

    name: str
    version: str
    late: bool = False


class AtlasRef(_Wire, frozen=True):
    """The atlas that a forecast or gap fill asked. `version` is null where none serves, `pings` is how many passages it
    rests on: with 0 it is the model's alone.

    `late` says that the worker could not wait any longer for what decides: another version may be due at this ping.
    """

    version: str | None
    pings: int
    late: bool


class Window(_Wire, frozen=True):
    """The pings that the forecast uses: how many, and from when to when (ms UTC)."""

    n: int
    from_ts: int
    to_ts: int


class Latency(_Wire, frozen=True):
    """Milliseconds from the record's timestamp to its fetch (0 if it has none), from the fetch to the batch's start,
    and from there to the model's answer."""

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
    branches: tuple[Branch, ...] | None = None  # two or three, the largest share first; absent if none part
    model: ModelRef
    atlas: AtlasRef | None = None  # absent where a worker serves no atlases
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

    Revision 0 is provisional and comes at once; revision 1 is final and comes two pings later or when the session ends.
    If a late ping comes in the gap before that, revision 1 is retracted, without points, and nothing replaces it; a
    late ping after that changes nothing. A gap is also retracted if the ping at its end turns out to have been from the
    future.
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
    atlas: AtlasRef | None = None  # absent where a worker serves no atlases, and from a retracted one
    issued_ts: int


T = TypeVar("T")
_ENCODER: Final = msgspec.json.Encoder()
_FORECAST_DECODER: Final = msgspec.json.Decoder(Forecast)
_GAPFILL_DECODER: Final = msgspec.json.Decoder(GapFill)


def dumps(record: msgspec.Struct) -> bytes:
    """Returns the canonical JSON bytes of one record."""
    return _ENCODER.encode(record)


def loads_forecast(raw: bytes) -> Forecast:
    """Raises msgspec.DecodeError (a ValueError) for anything else."""
    return decoded(_FORECAST_DECODER, raw)


def loads_gapfill(raw: bytes) -> GapFill:
    """Raises as `loads_forecast`."""
    return decoded(_GAPFILL_DECODER, raw)


def decoded(decoder: msgspec.json.Decoder[T], raw: bytes) -> T:
    """Decodes bytes that others may have written. Raises msgspec.DecodeError alone, also for those of which msgspec
    says something else."""
    try:
        return decoder.decode(raw)
    except RecursionError as error:
        raise msgspec.DecodeError("it is nested too deeply") from error
    except UnicodeDecodeError as error:
        raise msgspec.DecodeError(f"it is no UTF-8: {error.reason}") from error
