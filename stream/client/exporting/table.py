"""CSV: a row for each position, with what it is in the column `kind`.

    track       a ping, or the anchor of a forecast
    next        where the next ping is expected, `h_s` seconds after the anchor
    forecast    a horizon, `h_s` seconds after the anchor
    gap_fill    a synthetic position inside a silence

`ts` is milliseconds UTC, `time` the same as RFC 3339; latitude and longitude are degrees, covariances m². A cell is
empty where there is nothing to say.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from typing import IO, Any, Final

from stream.client.exporting.paths import utc
from stream.client.exporting.spool import Collected
from stream.wire import Forecast
from stream.wire.positions import turn

COLUMNS: Final = (
    "kind", "entity_id", "id", "ts", "time", "lat", "lon", "h_s", "cov_ee_m2", "cov_en_m2", "cov_nn_m2", "status",
)  # fmt: skip


def write(out: IO[str], found: Collected, forecasts: Iterable[Forecast]) -> int:
    """Writes all. Returns how many rows there are below the names of the columns."""
    writer = csv.writer(out)
    writer.writerow(COLUMNS)
    count = 0
    for row in _rows(found, forecasts):
        writer.writerow(row)
        count += 1
    return count


def _rows(found: Collected, forecasts: Iterable[Forecast]) -> Iterator[tuple[Any, ...]]:
    for entity, fixes in found.in_order():
        for fix in fixes:
            yield "track", entity, "", fix.ts, utc(fix.ts), fix.lat, fix.lon, "", "", "", "", ""
    for one in forecasts:
        anchor, step = one.anchor, one.next
        ahead = [("next", step.dt_s, anchor.lat + step.d_lat, turn(anchor.lon + step.d_lon), step.cov_m2)]
        ahead += [("forecast", horizon.h_s, horizon.lat, horizon.lon, horizon.cov_m2) for horizon in one.horizons]
        for kind, h_s, lat, lon, cov_m2 in ahead:
            ts = anchor.ts + round(1000 * h_s)
            yield kind, one.entity_id, one.forecast_id, ts, utc(ts), lat, lon, h_s, *cov_m2, one.status
    for fill in found.kept_fills():
        for point in fill.points:
            head = ("gap_fill", fill.entity_id, fill.gap_id, point.ts, utc(point.ts), point.lat, point.lon, "")
            yield *head, *point.cov_m2, fill.status
