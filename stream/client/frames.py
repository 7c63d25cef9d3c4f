"""Makes tables and maps of forecasts and gap fills, with a row per horizon, or per synthetic point. It needs the extra
`pandas`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from stream.client.regions import outline
from stream.wire import Forecast, GapFill
from stream.wire.positions import next_place

if TYPE_CHECKING:
    from geopandas import GeoDataFrame
    from pandas import DataFrame

COVARIANCE: Final = ("cov_ee_m2", "cov_en_m2", "cov_nn_m2")
OF_FORECASTS: Final = (
    "forecast_id", "entity_id", "anchor_time", "anchor_lat", "anchor_lon", "h_s", "time", "lat", "lon", *COVARIANCE,
    "status", "model_version",
)  # fmt: skip
IS_NEXT: Final = "is_next"
OF_FILLS: Final = ("gap_id", "entity_id", "revision", "status", "reason", "method", "time", "lat", "lon", *COVARIANCE)
TIMES: Final = ("anchor_time", "time")
WGS84: Final = "EPSG:4326"


def table_of_forecasts(forecasts: Iterable[Forecast], *, next_step: bool = False) -> DataFrame:
    """Returns a row per forecast and horizon; with `next_step` also one for the next step."""
    return _table(_rows_of_forecasts(forecasts, next_step), (*OF_FORECASTS, IS_NEXT) if next_step else OF_FORECASTS)


def map_of_forecasts(
    forecasts: Iterable[Forecast], *, next_step: bool = False, region: float | None = None
) -> GeoDataFrame:
    """Returns the same with points; with `region` the polygons that hold this share of what happens."""
    table = table_of_forecasts(forecasts, next_step=next_step)
    return _map(table, None if region is None else _regions(table, region))


def table_of_fills(fills: Iterable[GapFill]) -> DataFrame:
    """Returns a row per synthetic point."""
    return _table(_rows_of_fills(fills), OF_FILLS)


def map_of_fills(fills: Iterable[GapFill]) -> GeoDataFrame:
    """Returns the same with points."""
    return _map(table_of_fills(fills))


def _rows_of_forecasts(forecasts: Iterable[Forecast], next_step: bool) -> Iterator[tuple[Any, ...]]:
    for one in forecasts:
        anchor = one.anchor
        head = (one.forecast_id, one.entity_id, anchor.ts, anchor.lat, anchor.lon)
        tail = (one.status, one.model.version)
        if next_step:
            yield *head, one.next.dt_s, *next_place(one), *one.next.cov_m2, *tail, True
        for horizon in one.horizons:
            at = anchor.ts + round(1000 * horizon.h_s)
            row = (*head, horizon.h_s, at, horizon.lat, horizon.lon, *horizon.cov_m2, *tail)
            yield (*row, False) if next_step else row


def _rows_of_fills(fills: Iterable[GapFill]) -> Iterator[tuple[Any, ...]]:
    for fill in fills:
        head = (fill.gap_id, fill.entity_id, fill.revision, fill.status, fill.reason, fill.method)
        for point in fill.points:
            yield *head, point.ts, point.lat, point.lon, *point.cov_m2


def _table(rows: Iterator[tuple[Any, ...]], columns: Sequence[str]) -> DataFrame:
    import pandas as pd

    table = pd.DataFrame.from_records(list(rows), columns=list(columns))
    for name in TIMES:
        if name in columns:
            table[name] = pd.to_datetime(table[name].astype("int64"), unit="ms", utc=True)
    return table


def _map(table: DataFrame, geometry: Sequence[Any] | None = None) -> GeoDataFrame:
    import geopandas

    if geometry is None:
        geometry = geopandas.points_from_xy(table["lon"], table["lat"])
    return geopandas.GeoDataFrame(table, geometry=geometry, crs=WGS84)


def _regions(table: DataFrame, share: float) -> list[Any]:
    from shapely.geometry import MultiPolygon, Polygon

    found = []
    for lat, lon, ee, en, nn, at_lat in zip(
        *(table[name] for name in ("lat", "lon", *COVARIANCE, "anchor_lat")), strict=True
    ):
        rings = [Polygon(ring) for ring in outline(lat, lon, (ee, en, nn), at_lat, share)]
        found.append(rings[0] if len(rings) == 1 else MultiPolygon(rings))
    return found
