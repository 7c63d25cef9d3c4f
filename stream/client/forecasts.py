"""Gives forecasts and gap fills to a program (`Forecasts`, `GapFills`) as iterators, tables and maps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stream.client.filter import FORECASTS, GAP_FILLS
from stream.client.subscription import Subscription
from stream.wire import Forecast, GapFill

if TYPE_CHECKING:
    from geopandas import GeoDataFrame
    from pandas import DataFrame


class Forecasts(Subscription[Forecast]):
    """An endless iterator of forecasts (`stream.wire.Forecast`), as they are published.

    Positions are in degrees (WGS84), covariances `cov_m2` in m² (east, east with north, north), times `ts` in
    milliseconds UTC, horizons `h_s` in seconds after the anchor. `stream.client.position_at(forecast, ts_ms)` reads a
    forecast at any time.

        with Forecasts("localhost:9092", entity="bus-7", since="10m") as forecasts:
            for forecast in forecasts:
                print(forecast.entity_id, forecast.horizons[0].lat, forecast.horizons[0].lon)

    """

    __doc__ = (__doc__ or "") + (Subscription.__doc__ or "").partition("\n\n")[2]
    _kind = FORECASTS

    def to_pandas(self, *, next_step: bool = False) -> DataFrame:
        """Reads up to the end that the topic has now, or what `follow`, `limit` and `timeout_s` allow, and closes.

        Returns a row per forecast and horizon: `forecast_id`, `entity_id`, `anchor_time` (UTC), `anchor_lat`,
        `anchor_lon` (degrees), `h_s` (seconds), `time` (UTC, of the horizon), `lat`, `lon` (degrees), `cov_ee_m2`,
        `cov_en_m2`, `cov_nn_m2`, `status`, `model_version`. With `next_step` also a row for the next expected ping,
        where `is_next` is true and `h_s` is when it is expected. Needs the extra `pandas`.
        """
        from stream.client import frames

        return frames.table_of_forecasts(self.read(), next_step=next_step)

    def to_geopandas(self, *, next_step: bool = False, region: float | None = None) -> GeoDataFrame:
        """Does as `to_pandas`, with the positions as points (EPSG:4326).

        With `region=0.9` the geometry is the ellipse that holds the entity nine times in ten, as a polygon; it is two
        polygons where it lies across the 180th meridian. Needs the extra `pandas`.
        """
        from stream.client import frames

        return frames.map_of_forecasts(self.read(), next_step=next_step, region=region)


class GapFills(Subscription[GapFill]):
    """An endless iterator of gap fills (`stream.wire.GapFill`), as they are published: provisional ones at once, and
    their later revisions.

    Positions are in degrees (WGS84), covariances `cov_m2` in m², times `ts` in milliseconds UTC, lengths in metres.
    """

    __doc__ = (__doc__ or "") + (Subscription.__doc__ or "").partition("\n\n")[2]
    _kind = GAP_FILLS

    def to_pandas(self) -> DataFrame:
        """Reads as `Forecasts.to_pandas`.

        Returns a row per synthetic point: `gap_id`, `entity_id`, `revision`, `status`, `reason`, `method`, `time`
        (UTC), `lat`, `lon` (degrees), `cov_ee_m2`, `cov_en_m2`, `cov_nn_m2`. A fill that was retracted has no points,
        and no row. Needs the extra `pandas`.
        """
        from stream.client import frames

        return frames.table_of_fills(self.read())

    def to_geopandas(self) -> GeoDataFrame:
        """Does as `to_pandas`, with the positions as points (EPSG:4326). Needs the extra `pandas`."""
        from stream.client import frames

        return frames.map_of_fills(self.read())
