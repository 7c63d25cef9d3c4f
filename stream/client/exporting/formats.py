"""Writes what was collected as GeoJSON, MF-JSON or CSV: a feature or a row after the other, none of them kept.

GeoJSON (RFC 7946). Each feature has a property `kind`:

    track       LineString: the positions of an entity, with their times in `coordTimes`
    forecast    LineString: from the anchor through the next step and the horizons, with `coordTimes`
    horizon     Point: where the entity will be `h_s` seconds after the anchor, at `time`; `sigma_m`
    region      Polygon: the region that holds it there with the chance `share`
    gap_fill    LineString: from before a silence to after it, with `coordTimes`

An entity with one position has no track. What lies across the 180th meridian is in two parts: a line is two features,
of which the second has `part` 2, and a region is a MultiPolygon.

MF-JSON: OGC Moving Features JSON, the Prism encoding (OGC 19-045r3, chapter 7.2): a MovingPoint for each track,
forecast and gap fill, with times in UTC and positions in CRS84 (longitude, latitude). MovingPandas reads it
(`read_mf_json(file, traj_id_property="id")`), and MobilityDB and MEOS read the object `temporalGeometry` of a feature
(`tgeompointFromMFJSON`).

CSV: a row for each position, with what it is in the column `kind`: `track` (a ping, or the anchor of a forecast),
`next` (where the next ping is expected, `h_s` seconds after the anchor), `forecast` (a horizon) or `gap_fill` (a
synthetic position inside a silence). `ts` is milliseconds UTC, `time` the same as RFC 3339; latitude and longitude are
degrees, covariances m². A cell is empty where there is nothing to say.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import IO, Any, Final, NamedTuple

import msgspec

from stream.client.exporting.collecting import ExportSpool, TrackFix
from stream.client.regions import cut, outline, round_degrees
from stream.wire import Forecast, GapFill, Horizon
from stream.wire.positions import next_place, rms_sigma_m

MF_JSON: Final = {
    "crs": {"type": "Name", "properties": {"name": "urn:ogc:def:crs:OGC:1.3:CRS84"}},
    "trs": {"type": "Name", "properties": {"name": "urn:ogc:data:time:iso8601"}},
}
COLUMNS: Final = (
    "kind", "entity_id", "id", "ts", "time", "lat", "lon", "h_s", "cov_ee_m2", "cov_en_m2", "cov_nn_m2", "status",
)  # fmt: skip
Feature = dict[str, Any]


class ExportPath(NamedTuple):
    """A part of a path that lies on one side of the 180th meridian: two positions or more, each later than the one
    before."""

    identity: str  # unique in an export
    properties: dict[str, Any]
    fixes: list[TrackFix]

    @property
    def line(self) -> list[list[float]]:
        return [[fix.lon, fix.lat] for fix in self.fixes]


def write_collection(out: IO[bytes], features: Iterable[Feature], about: Mapping[str, Any] | None = None) -> int:
    """Writes a FeatureCollection, a feature a line, with the members `about`. Returns how many features there were."""
    out.write(b'{"type":"FeatureCollection",')
    for name, value in (about or {}).items():
        out.write(msgspec.json.encode(name) + b":" + msgspec.json.encode(value) + b",")
    out.write(b'"features":[')
    count = 0
    for count, feature in enumerate(features, 1):
        out.write((b",\n" if count > 1 else b"\n") + msgspec.json.encode(feature))
    out.write(b"\n]}\n")
    return count


def write_csv(out: IO[bytes], collected: ExportSpool, forecasts: Iterable[Forecast]) -> int:
    """Writes all positions. Returns how many rows there are below the names of the columns."""
    text = io.TextIOWrapper(out, encoding="utf-8", newline="")
    try:
        writer, rows = csv.writer(text), 0
        writer.writerow(COLUMNS)
        for row in _csv_rows(collected, forecasts):
            writer.writerow(row)
            rows += 1
        return rows
    finally:
        text.detach()  # which is not ours to close


def geojson(collected: ExportSpool, forecasts: Iterable[Forecast], region: float | None) -> Iterator[Feature]:
    """Yields the features of all tracks and fills and of these forecasts, with the regions of that share, if any."""
    for path in _paths(collected, forecasts):
        times = {"coordTimes": [rfc3339(fix.ts) for fix in path.fixes]}
        yield _feature(path.identity, "LineString", path.line, path.properties | times)
    for forecast in forecasts:
        for horizon in forecast.horizons:
            yield from _horizon(forecast, horizon, region)


def mf_json(collected: ExportSpool, forecasts: Iterable[Forecast]) -> Iterator[Feature]:
    """Yields a moving feature for each track, each of these forecasts, and each gap fill."""
    for path in _paths(collected, forecasts):
        times = [rfc3339(fix.ts).replace("Z", "+00:00") for fix in path.fixes]  # MEOS takes no Z
        lons, lats = zip(*path.line, strict=True)
        yield {
            "type": "Feature",
            "id": path.identity,
            "temporalGeometry": {
                "type": "MovingPoint",
                "datetimes": times,
                "coordinates": path.line,
                "interpolation": "Linear",
            },
            "time": [times[0], times[-1]],
            "bbox": [min(lons), min(lats), max(lons), max(lats)],
            "properties": {"id": path.identity, **path.properties},
        }


def rfc3339(ts_ms: int) -> str:
    """Returns a time as RFC 3339 writes it, in UTC with milliseconds."""
    return datetime.fromtimestamp(ts_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _paths(collected: ExportSpool, forecasts: Iterable[Forecast]) -> Iterator[ExportPath]:
    """Yields the paths of all tracks, of these forecasts, and of all gap fills. Of several positions at one time
    the last counts."""
    for entity, fixes in collected.in_order():
        yield from _parts("track", entity, {"entity_id": entity}, fixes)
    for one in forecasts:
        about: dict[str, Any] = {"entity_id": one.entity_id, "forecast_id": one.forecast_id, "status": one.status}
        about["model_version"] = one.model.version
        yield from _parts("forecast", one.forecast_id, about, _forecast_path(one))
    for fill in collected.read_fills():
        about = {"entity_id": fill.entity_id, "gap_id": fill.gap_id, "revision": fill.revision}
        about |= {"status": fill.status, "reason": fill.reason, "method": fill.method}
        yield from _parts("gap_fill", fill.gap_id, about, _fill_path(fill))


def _forecast_path(forecast: Forecast) -> list[TrackFix]:
    """Returns the anchor, the next step and the horizons, in the order of their times."""
    anchor = forecast.anchor
    ahead = [TrackFix(anchor.ts + round(1000 * one.h_s), one.lat, one.lon) for one in forecast.horizons]
    return [TrackFix(anchor.ts, anchor.lat, anchor.lon), *sorted([TrackFix(*next_place(forecast)), *ahead])]


def _fill_path(fill: GapFill) -> list[TrackFix]:
    start, end = (TrackFix(one.ts, one.lat, one.lon) for one in (fill.start, fill.end))
    return [start, *(TrackFix(one.ts, one.lat, one.lon) for one in fill.points), end]


def _parts(kind: str, identity: str, about: dict[str, Any], fixes: Sequence[TrackFix]) -> Iterator[ExportPath]:
    line = [(fix.lon, fix.lat, float(fix.ts)) for fix in fixes]
    parts = (
        {round(ts): TrackFix(round(ts), round_degrees(lat), round_degrees(lon)) for lon, lat, ts in part}
        for part in cut(line)
    )
    for number, by_time in enumerate((one for one in parts if len(one) > 1), 1):
        named = {"kind": kind, **about} if number == 1 else {"kind": kind, **about, "part": number}
        own = identity if number == 1 else f"{identity}#{number}"
        yield ExportPath(own, named, [by_time[ts] for ts in sorted(by_time)])


def _horizon(forecast: Forecast, horizon: Horizon, region: float | None) -> Iterator[Feature]:
    about: dict[str, Any] = {
        "kind": "horizon", "entity_id": forecast.entity_id, "forecast_id": forecast.forecast_id, "h_s": horizon.h_s,
        "time": rfc3339(forecast.anchor.ts + round(1000 * horizon.h_s)),
    }  # fmt: skip
    identity = f"{forecast.forecast_id}@{horizon.h_s:g}s"
    sigma = {"sigma_m": round(rms_sigma_m(horizon.cov_m2), 2)}
    yield _feature(identity, "Point", [horizon.lon, horizon.lat], about | sigma)
    if region is not None:
        rings = outline(horizon.lat, horizon.lon, horizon.cov_m2, forecast.anchor.lat, region)
        shape = "Polygon" if len(rings) == 1 else "MultiPolygon"
        coordinates = rings if len(rings) == 1 else [[ring] for ring in rings]
        yield _feature(f"{identity}/region", shape, coordinates, about | {"kind": "region", "share": region})


def _feature(identity: str, shape: str, coordinates: list[Any], properties: dict[str, Any]) -> Feature:
    geometry = {"type": shape, "coordinates": coordinates}
    return {"type": "Feature", "id": identity, "geometry": geometry, "properties": properties}


def _csv_rows(collected: ExportSpool, forecasts: Iterable[Forecast]) -> Iterator[tuple[Any, ...]]:
    for entity, fixes in collected.in_order():
        for fix in fixes:
            yield "track", entity, "", fix.ts, rfc3339(fix.ts), fix.lat, fix.lon, "", "", "", "", ""
    for one in forecasts:
        ahead = [("next", one.next.dt_s, *next_place(one), one.next.cov_m2)]
        ahead += [
            ("forecast", at.h_s, one.anchor.ts + round(1000 * at.h_s), at.lat, at.lon, at.cov_m2) for at in one.horizons
        ]
        for kind, h_s, ts, lat, lon, cov_m2 in ahead:
            yield kind, one.entity_id, one.forecast_id, ts, rfc3339(ts), lat, lon, h_s, *cov_m2, one.status
    for fill in collected.read_fills():
        for point in fill.points:
            head = ("gap_fill", fill.entity_id, fill.gap_id, point.ts, rfc3339(point.ts), point.lat, point.lon, "")
            yield *head, *point.cov_m2, fill.status
