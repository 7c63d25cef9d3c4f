"""OGC Moving Features JSON, the Prism encoding (OGC 19-045r3, chapter 7.2): a MovingPoint for each track, forecast and
gap fill, with times in UTC and positions in CRS84 (longitude, latitude).

MovingPandas reads it (`read_mf_json(file, traj_id_property="id")`), and MobilityDB and MEOS read the object
`temporalGeometry` of a feature (`tgeompointFromMFJSON`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from stream.client.exporting.paths import paths, utc
from stream.client.exporting.spool import Collected
from stream.wire import Forecast

ABOUT: Final = {
    "crs": {"type": "Name", "properties": {"name": "urn:ogc:def:crs:OGC:1.3:CRS84"}},
    "trs": {"type": "Name", "properties": {"name": "urn:ogc:data:time:iso8601"}},
}


def features(found: Collected, forecasts: Iterable[Forecast]) -> Iterator[dict[str, Any]]:
    """Yields a moving feature for each track, each of these forecasts, and each gap fill."""
    for path in paths(found, forecasts):
        times = [offset_time(fix.ts) for fix in path.fixes]
        yield {
            "type": "Feature",
            "id": path.identity,
            "temporalGeometry": {
                "type": "MovingPoint",
                "datetimes": times,
                "coordinates": [[fix.lon, fix.lat] for fix in path.fixes],
                "interpolation": "Linear",
            },
            "time": [times[0], times[-1]],
            "bbox": _box([fix.lon for fix in path.fixes], [fix.lat for fix in path.fixes]),
            "properties": {"id": path.identity, **path.properties},
        }


def offset_time(ts_ms: int) -> str:
    """Returns a time in UTC with its offset in digits: MEOS takes no Z."""
    return utc(ts_ms).replace("Z", "+00:00")


def _box(lons: Sequence[float], lats: Sequence[float]) -> list[float]:
    return [min(lons), min(lats), max(lons), max(lats)]
