"""GeoJSON as the trip layer of kepler.gl takes it: LineStrings of positions [longitude, latitude, altitude, time].

Altitudes are metres, 0 where they are unknown; times are whole seconds since 1970. `kind` is track, forecast or
gap_fill, by which the layer can be coloured.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from stream.client.exporting.paths import paths
from stream.client.exporting.spool import Collected
from stream.wire import Forecast


def features(found: Collected, forecasts: Iterable[Forecast]) -> Iterator[dict[str, Any]]:
    """Yields a trip for each track, each of these forecasts, and each gap fill."""
    for path in paths(found, forecasts, step_ms=1000):
        line = [[fix.lon, fix.lat, fix.alt_m or 0.0, fix.ts // 1000] for fix in path.fixes]
        yield {
            "type": "Feature",
            "geometry": {"type": "LineString", "coordinates": line},
            "properties": path.properties,
        }
