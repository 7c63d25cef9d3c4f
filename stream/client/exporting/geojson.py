"""GeoJSON (RFC 7946). Each feature has a property `kind`:

    track       LineString: the positions of an entity, with their times in `coordTimes`
    forecast    LineString: from the anchor through the next step and the horizons, with `coordTimes`
    horizon     Point: where the entity will be `h_s` seconds after the anchor, at `time`; `sigma_m`
    region      Polygon: the region that holds it there with the chance `share`
    gap_fill    LineString: from before a silence to after it, with `coordTimes`

An entity with one position has no track. What lies across the 180th meridian is in two parts: a line is two features,
of which the second has `part` 2, and a region is a MultiPolygon.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from stream.client.exporting.paths import paths, utc
from stream.client.exporting.spool import Collected
from stream.client.regions import outline
from stream.wire import Forecast, Horizon
from stream.wire.positions import rms_sigma_m

Feature = dict[str, Any]


def features(found: Collected, forecasts: Iterable[Forecast], region: float | None) -> Iterator[Feature]:
    """Yields the features of all tracks and fills and of these forecasts, with the regions of that share, if any."""
    for path in paths(found, forecasts):
        times = [utc(fix.ts) for fix in path.fixes]
        line = [[fix.lon, fix.lat] for fix in path.fixes]
        yield _feature(
            path.identity, {"type": "LineString", "coordinates": line}, path.properties | {"coordTimes": times}
        )
    for forecast in forecasts:
        for horizon in forecast.horizons:
            yield from _of_horizon(forecast, horizon, region)


def _of_horizon(forecast: Forecast, horizon: Horizon, region: float | None) -> Iterator[Feature]:
    about: dict[str, Any] = {
        "kind": "horizon", "entity_id": forecast.entity_id, "forecast_id": forecast.forecast_id, "h_s": horizon.h_s,
        "time": utc(forecast.anchor.ts + round(1000 * horizon.h_s)),
    }  # fmt: skip
    identity = f"{forecast.forecast_id}@{horizon.h_s:g}s"
    point = {"type": "Point", "coordinates": [horizon.lon, horizon.lat]}
    yield _feature(identity, point, about | {"sigma_m": round(rms_sigma_m(horizon.cov_m2), 2)})
    if region is not None:
        rings = outline(horizon.lat, horizon.lon, horizon.cov_m2, forecast.anchor.lat, region)
        shape = {"type": "Polygon", "coordinates": rings[:1]}
        if len(rings) > 1:
            shape = {"type": "MultiPolygon", "coordinates": [[ring] for ring in rings]}
        yield _feature(f"{identity}/region", shape, about | {"kind": "region", "share": region})


def _feature(identity: str, geometry: dict[str, Any], properties: dict[str, Any]) -> Feature:
    return {"type": "Feature", "id": identity, "geometry": geometry, "properties": properties}
