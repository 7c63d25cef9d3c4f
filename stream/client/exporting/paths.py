"""Paths over time, for export: tracks, forecasts and gap fills, in parts where they cross the 180th meridian."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from stream.client.exporting.spool import Collected, Fix
from stream.client.regions import cut, rounded
from stream.wire import Forecast, GapFill
from stream.wire.positions import turn


class Path(NamedTuple):
    """A part of a path that lies on one side of the 180th meridian: two positions or more, each later than the one
    before."""

    identity: str  # unique in an export
    properties: dict[str, Any]
    fixes: list[Fix]


def paths(found: Collected, forecasts: Iterable[Forecast]) -> Iterator[Path]:
    """Yields the paths of all tracks, of these forecasts, and of all gap fills. Of several positions at one time
    the last counts."""
    for entity, fixes in found.in_order():
        yield from _parts("track", entity, {"entity_id": entity}, fixes)
    for one in forecasts:
        about: dict[str, Any] = {"entity_id": one.entity_id, "forecast_id": one.forecast_id, "status": one.status}
        about["model_version"] = one.model.version
        yield from _parts("forecast", one.forecast_id, about, path_of(one))
    for fill in found.kept_fills():
        about = {"entity_id": fill.entity_id, "gap_id": fill.gap_id, "revision": fill.revision}
        about |= {"status": fill.status, "reason": fill.reason, "method": fill.method}
        yield from _parts("gap_fill", fill.gap_id, about, _path_of_fill(fill))


def path_of(forecast: Forecast) -> list[Fix]:
    """Returns a forecast's path: the anchor, the next step and the horizons, in the order of their times."""
    anchor, step = forecast.anchor, forecast.next
    ahead = [Fix(anchor.ts + round(1000 * step.dt_s), anchor.lat + step.d_lat, turn(anchor.lon + step.d_lon))]
    ahead += [Fix(anchor.ts + round(1000 * one.h_s), one.lat, one.lon) for one in forecast.horizons]
    return [Fix(anchor.ts, anchor.lat, anchor.lon), *sorted(ahead)]


def utc(ts_ms: int) -> str:
    """Returns a time as RFC 3339 writes it, in UTC with milliseconds."""
    return datetime.fromtimestamp(ts_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _path_of_fill(fill: GapFill) -> list[Fix]:
    ends = [Fix(place.ts, place.lat, place.lon) for place in (fill.start, fill.end)]
    return [ends[0], *(Fix(one.ts, one.lat, one.lon) for one in fill.points), ends[1]]


def _parts(kind: str, identity: str, about: dict[str, Any], fixes: Sequence[Fix]) -> Iterator[Path]:
    line = [(fix.lon, fix.lat, float(fix.ts)) for fix in fixes]
    parts = ({round(ts): Fix(round(ts), rounded(lat), rounded(lon)) for lon, lat, ts in part} for part in cut(line))
    for number, by_time in enumerate((one for one in parts if len(one) > 1), 1):
        named = {"kind": kind, **about} if number == 1 else {"kind": kind, **about, "part": number}
        own = identity if number == 1 else f"{identity}#{number}"
        yield Path(own, named, [by_time[ts] for ts in sorted(by_time)])
