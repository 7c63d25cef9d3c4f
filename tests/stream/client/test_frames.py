"""Tables and maps of forecasts and gap fills."""

from __future__ import annotations

import pytest
from client_rig import T0, forecast, gap_fill

from stream.wire.positions import mahalanobis2, offset_en_m

pytest.importorskip("geopandas", reason="the extra pandas is not installed")

from stream.client import frames


def test_a_table_has_a_row_per_forecast_and_horizon() -> None:
    table = frames.table_of_forecasts([forecast("bus-1"), forecast("bus-2", 3)])
    assert list(table.columns) == list(frames.OF_FORECASTS)
    assert list(table["h_s"]) == [60.0, 300.0, 900.0] * 2
    assert list(table["entity_id"]) == ["bus-1"] * 3 + ["bus-2"] * 3
    row = table.iloc[4]
    assert (row["lat"], row["lon"], row["cov_nn_m2"]) == (30.003, -96.994, 1500.0)
    assert row["anchor_time"].isoformat() == "2023-11-14T22:16:20+00:00"
    assert (row["time"] - row["anchor_time"]).total_seconds() == 300.0


def test_the_next_step_is_a_row_if_it_is_wanted() -> None:
    table = frames.table_of_forecasts([forecast()], next_step=True)
    assert list(table["is_next"]) == [True, False, False, False]
    assert tuple(table.iloc[0][["h_s", "lat", "lon"]]) == (30.0, 30.0003, -96.9994)


def test_a_table_of_nothing_has_the_same_columns_and_types() -> None:
    for table in (frames.table_of_forecasts([]), frames.map_of_forecasts([]), frames.map_of_forecasts([], region=0.9)):
        assert len(table) == 0
        assert str(table["time"].dtype).startswith("datetime64")
    assert list(frames.table_of_fills([]).columns) == list(frames.OF_FILLS)


def test_a_map_has_points_or_regions_in_wgs84() -> None:
    points = frames.map_of_forecasts([forecast()])
    assert points.crs.to_epsg() == 4326
    assert (points.geometry[1].x, points.geometry[1].y) == (-96.994, 30.003)
    regions = frames.map_of_forecasts([forecast()], region=0.9)
    assert (regions.geometry.geom_type == "Polygon").all()
    assert regions.geometry.is_valid.all()
    assert (regions.geometry.contains(points.geometry)).all()


def test_a_region_across_the_180th_meridian_is_two_polygons() -> None:
    regions = frames.map_of_forecasts([forecast(lat=-17.0, lon=179.9815)], region=0.9)
    assert regions.geometry[2].geom_type == "MultiPolygon"
    assert regions.geometry.is_valid.all()
    assert regions.total_bounds[0] >= -180.0
    assert regions.total_bounds[2] <= 180.0


def test_a_retracted_fill_has_no_row() -> None:
    table = frames.map_of_fills([gap_fill(), gap_fill(revision=2)])
    assert list(table["revision"]) == [0] * 4
    assert table["time"][0].value == (T0 + 60_000) * 1_000_000
    assert table.geometry[3].x == pytest.approx(-96.996)


def test_the_region_holds_what_the_covariance_says() -> None:
    one = forecast()
    (region,) = frames.map_of_forecasts([one], region=0.5).geometry[:1]
    horizon = one.horizons[0]
    lon, lat = region.exterior.coords[0]
    error = offset_en_m(horizon.lat, horizon.lon, lat, lon, one.anchor.lat)
    assert mahalanobis2(error, horizon.cov_m2) == pytest.approx(4 * (0.5**-0.5 - 1) / 1.878, rel=1e-3)
