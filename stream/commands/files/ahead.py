"""The rows that `pathcast forecast` writes: one for each horizon of a forecast."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

from stream.wire import Forecast
from stream.wire.positions import max_sigma_m


class Ahead(NamedTuple):
    """Where an entity is expected `h_s` seconds after a row of it. The names are those of the columns."""

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


class Table(Protocol):
    """An output of forecasts."""

    def write(self, said: Forecast) -> None:
        """Writes one forecast."""

    def close(self) -> None:
        """Writes what is missing at the end."""


def rows(said: Forecast) -> Iterator[Ahead]:
    anchor = said.anchor
    for one in said.horizons:
        at = anchor.ts + round(one.h_s * 1000)
        place = one.lat, one.lon, round(max_sigma_m(one.cov_m2), 1), *one.cov_m2
        yield Ahead(said.entity_id, anchor.ts, one.h_s, at, *place, said.status, said.model.version)
