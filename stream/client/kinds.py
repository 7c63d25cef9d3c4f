"""What can be subscribed to: the topic of each kind of record, how it is decoded, what identifies it, where it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from stream.wire import Forecast, GapFill, Topics, loads_forecast, loads_gapfill

T = TypeVar("T")
Place = tuple[float, float]  # latitude, longitude; degrees


@dataclass(frozen=True)
class Kind(Generic[T]):
    """Holds what a subscription has to know about one kind of record."""

    name: str  # for people
    topic: Callable[[Topics], str]
    loads: Callable[[bytes], T]  # raises msgspec.DecodeError, or ValidationError, which is one
    id_of: Callable[[T], str]  # a copy has the same
    places: Callable[[T], Iterable[Place]]  # a box takes the record if it holds one of these


def _path_of(fill: GapFill) -> Iterable[Place]:
    yield fill.start.lat, fill.start.lon
    yield fill.end.lat, fill.end.lon
    for point in fill.points:
        yield point.lat, point.lon


FORECASTS: Final = Kind[Forecast](
    name="forecast",
    topic=lambda topics: topics.forecasts,
    loads=loads_forecast,
    id_of=lambda forecast: forecast.forecast_id,
    places=lambda forecast: ((forecast.anchor.lat, forecast.anchor.lon),),
)
GAP_FILLS: Final = Kind[GapFill](
    name="gap fill",
    topic=lambda topics: topics.gapfills,
    loads=loads_gapfill,
    id_of=lambda fill: f"{fill.gap_id}/{fill.revision}",  # a later revision is news
    places=_path_of,
)
