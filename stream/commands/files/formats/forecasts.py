"""Writes forecasts as CSV, NDJSON or Parquet, a row for each horizon, or as GPX, a track for each forecast."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import BinaryIO, Final, NamedTuple
from xml.sax.saxutils import escape

import msgspec

from stream.commands.files.formats.gpx import OURS, point_of
from stream.commands.files.plan import SIGMA
from stream.commands.files.times import like
from stream.wire import Forecast
from stream.wire.positions import max_sigma_m

GROUP_ROWS: Final = 65_536  # of Parquet
_GPX: Final = (
    '<?xml version="1.0" encoding="UTF-8"?>\n'
    '<gpx version="1.1" creator="pathcast" xmlns="http://www.topografix.com/GPX/1/1" '
    f'xmlns:pathcast="{OURS}">\n'
)
_UTC: Final = "1970-01-01T00:00:00Z"  # the form of times in GPX


class ForecastRow(NamedTuple):
    """States where an entity is expected `h_s` seconds after a row of it. The names are those of the columns."""

    entity_id: str
    ts: int  # of the row, ms UTC
    h_s: float
    forecast_ts: int  # ts + h_s, ms UTC
    lat: float
    lon: float
    sigma_m: float  # one standard deviation, in the direction where it is largest
    cov_ee_m2: float  # east, east with north, north
    cov_en_m2: float
    cov_nn_m2: float
    status: str  # as in forecasts of a worker
    model: str  # the version of the weights


def rows_of(forecast: Forecast) -> Iterator[ForecastRow]:
    """Yields the rows of a forecast, one for each horizon."""
    anchor = forecast.anchor
    for one in forecast.horizons:
        at = anchor.ts + round(one.h_s * 1000)
        place = one.lat, one.lon, round(max_sigma_m(one.cov_m2), 1), *one.cov_m2
        yield ForecastRow(forecast.entity_id, anchor.ts, one.h_s, at, *place, forecast.status, forecast.model.version)


def _write_csv(sink: BinaryIO, forecasts: Iterable[Forecast]) -> None:
    text = io.TextIOWrapper(sink, "utf-8", errors="surrogateescape", newline="")
    try:
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(ForecastRow._fields)
        for forecast in forecasts:
            writer.writerows(rows_of(forecast))
    finally:
        text.detach()  # the sink is not ours to close


def _write_ndjson(sink: BinaryIO, forecasts: Iterable[Forecast]) -> None:
    for forecast in forecasts:
        sink.writelines(msgspec.json.encode(one._asdict()) + b"\n" for one in rows_of(forecast))


def _write_parquet(sink: BinaryIO, forecasts: Iterable[Forecast]) -> None:
    """Times are timestamps in UTC here."""
    import pyarrow as pa
    from pyarrow import parquet

    text, time = pa.string(), pa.timestamp("ms", "UTC")
    types = {"ts": time, "forecast_ts": time, "entity_id": text, "status": text, "model": text}
    schema = pa.schema([(name, types.get(name, pa.float64())) for name in ForecastRow._fields])
    rows = (row._asdict() for forecast in forecasts for row in rows_of(forecast))
    with parquet.ParquetWriter(sink, schema, compression="zstd") as writer:
        while group := list(islice(rows, GROUP_ROWS)):
            writer.write_table(pa.Table.from_pylist(group, schema=schema))


def _write_gpx(sink: BinaryIO, forecasts: Iterable[Forecast]) -> None:
    """Writes GPX 1.1: each track goes from the row that the forecast starts from over its horizons."""
    sink.write(_GPX.encode())
    for forecast in forecasts:
        anchor = forecast.anchor
        points = [point_of(anchor.lat, anchor.lon, like(_UTC, anchor.ts))]
        for one in rows_of(forecast):
            time = like(_UTC, one.forecast_ts)
            points.append(point_of(one.lat, one.lon, time, "extensions", **{SIGMA: one.sigma_m}))
        name, body = escape(forecast.entity_id), "\n".join(points)
        sink.write(f"<trk><name>{name}</name><trkseg>\n{body}\n</trkseg></trk>\n".encode())
    sink.write(b"</gpx>\n")


# By the names of `stream.commands.files.outputs.Kind`.
WRITERS: Final[dict[str, Callable[[BinaryIO, Iterable[Forecast]], None]]] = {
    "csv": _write_csv,
    "ndjson": _write_ndjson,
    "parquet": _write_parquet,
    "gpx": _write_gpx,
}
