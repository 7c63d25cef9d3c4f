"""One forecast as few bytes: what a map draws of it, and what it takes to compare it with what then happened.

As the record that was published it would be 0.9 KB, as objects 4 KB; so it is some 350 bytes with three horizons.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import msgspec
from msgspec import structs

from stream.wire import Anchor, Forecast, Horizon, NextStep
from stream.wire.messages import BranchPosition
from stream.wire.positions import Cov, turn

MAX_HORIZONS: Final = 16  # that are kept of a forecast, as many as the HTTP API answers
MOST_BRANCHES: Final = 3  # of a record, as many as workers publish: whoever may write to the topic may write anything
MAX_VARIANCE_M2: Final = 1e15  # the world is 2e7 m across
_ENCODER: Final = msgspec.msgpack.Encoder()
Place = tuple[float, float, float]  # h_s, lat, lon


class Moment(msgspec.Struct, frozen=True, array_like=True):
    """A forecast, without its entity's id. Horizons are h_s, lat, lon, ee, en, nn; a branch is a share and places.

    Horizons, and a branch's places, come in the order of their times. `passages` is how many it rests on.
    """

    ts: int
    lat: float
    lon: float
    dt_s: float
    d_east_m: float
    d_north_m: float
    d_lat: float
    d_lon: float
    cov_m2: Cov
    horizons: tuple[tuple[float, float, float, float, float, float], ...]
    status: str
    cache: str
    weights: str
    atlas: str | None
    latency_ms: float | None
    passages: int = 0
    branches: tuple[tuple[float, tuple[Place, ...]], ...] = ()


_DECODER: Final = msgspec.msgpack.Decoder(Moment)
_At = TypeVar("_At", Horizon, BranchPosition)


@dataclass(frozen=True)
class Ahead:
    """The positions of a forecast, as `stream.wire.positions` reads them."""

    anchor: Anchor
    next: NextStep
    horizons: tuple[Horizon, ...]


def moment_of(forecast: Forecast) -> Moment:
    anchor, step, took = forecast.anchor, forecast.next, forecast.latency_ms
    return Moment(
        ts=anchor.ts,
        lat=anchor.lat,
        lon=anchor.lon,
        dt_s=step.dt_s,
        d_east_m=step.d_east_m,
        d_north_m=step.d_north_m,
        d_lat=step.d_lat,
        d_lon=step.d_lon,
        cov_m2=step.cov_m2,
        horizons=tuple((one.h_s, one.lat, one.lon, *one.cov_m2) for one in _first(forecast.horizons)),
        status=forecast.status,
        cache=forecast.cache,
        weights=forecast.model.version,
        atlas=None if forecast.atlas is None else forecast.atlas.version,
        latency_ms=took.ingest + took.queue + took.infer,
        passages=0 if forecast.atlas is None else forecast.atlas.pings,
        branches=tuple(
            (one.share, tuple((at.h_s, at.lat, at.lon) for at in _first(one.positions)))
            for one in (forecast.branches or ())[:MOST_BRANCHES]
            if one.positions
        ),
    )


def _first(places: Sequence[_At]) -> list[_At]:
    """Returns the MAX_HORIZONS places that come first: a worker's `--horizons` may stand in any order."""
    return sorted(places, key=lambda one: one.h_s)[:MAX_HORIZONS]


def of_past(moment: Moment) -> Moment:
    """Returns a forecast without what is told of the newest one only: branches would take 9 KB of each that is kept,
    and without them nobody knows whether the passages parted."""
    return structs.replace(moment, passages=0, branches=())


def pack(moment: Moment) -> bytes:
    return _ENCODER.encode(moment)


def unpack(raw: bytes) -> Moment:
    return _DECODER.decode(raw)


def ahead_of(moment: Moment) -> Ahead:
    step = NextStep(
        dt_s=moment.dt_s,
        d_east_m=moment.d_east_m,
        d_north_m=moment.d_north_m,
        d_lat=moment.d_lat,
        d_lon=moment.d_lon,
        cov_m2=moment.cov_m2,
    )
    horizons = tuple(Horizon(h_s, lat, lon, (ee, en, nn)) for h_s, lat, lon, ee, en, nn in moment.horizons)
    return Ahead(Anchor(moment.ts, moment.lat, moment.lon), step, horizons)


def is_sound(forecast: Forecast) -> bool:
    """Returns whether all numbers can be drawn and compared: whoever may write to the topic may write anything."""
    step = forecast.next
    branches = forecast.branches or ()
    positions: list[Horizon | BranchPosition] = [*forecast.horizons, *(at for one in branches for at in one.positions)]
    covs = [step.cov_m2, *(one.cov_m2 for one in forecast.horizons)]
    return (
        0 < step.dt_s < 1e9
        and max(abs(step.d_lat), abs(step.d_lon), abs(step.d_east_m / 1e5), abs(step.d_north_m / 1e5)) <= 360
        and all(0 < one.h_s < 1e9 and abs(one.lat) <= 90 and abs(one.lon) <= 180 for one in positions)
        and all(0 <= one.share <= 1 for one in branches)
        and all(max(ee, nn, abs(en)) <= MAX_VARIANCE_M2 and min(ee, nn) >= 0 for ee, en, nn in covs)
    )


def next_of(moment: Moment) -> dict[str, Any]:
    """Returns what the page draws of the next ping."""
    lat, lon = moment.lat + moment.d_lat, turn(moment.lon + moment.d_lon)
    return {"dt_s": moment.dt_s, "lat": round(lat, 7), "lon": round(lon, 7), "cov_m2": moment.cov_m2}
