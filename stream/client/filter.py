"""Chooses the records that a subscription hands out: of which kind, since when, of which entities, in which box, and
each once. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Generic, NamedTuple, TypeVar

from stream.config.times import span_s
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


EARLIEST: Final = "earliest"


class Since(NamedTuple):
    """States where to begin: at a time, at the oldest record that is kept, or (neither) with what comes now."""

    time_ms: int | None = None  # by the records' timestamps, ms UTC
    beginning: bool = False

    @classmethod
    def of(cls, given: str | datetime | timedelta | None, now_ms: int) -> Since:
        """Takes `earliest`, a span such as 10m, a time with its zone (RFC 3339 or datetime), or None for from now on.

        Raises ValueError for anything else.
        """
        if given is None:
            return cls()
        if isinstance(given, timedelta):
            return cls(now_ms - round(given.total_seconds() * 1000))
        if isinstance(given, datetime):
            if given.tzinfo is None:
                raise ValueError(f"since={given!r} has no time zone: give it one, such as datetime.now(UTC)")
            return cls(round(given.timestamp() * 1000))
        if given == EARLIEST:
            return cls(beginning=True)
        try:
            return cls(now_ms - 1000 * span_s(given))
        except ValueError:
            pass
        try:
            moment = datetime.fromisoformat(given)
        except ValueError:
            moment = None
        if moment is None or moment.tzinfo is None:
            raise ValueError(f"{given!r} is not earliest, a span such as 10m, or an RFC 3339 time with its zone")
        return cls(round(moment.timestamp() * 1000))


class Box(NamedTuple):
    """A box of longitudes and latitudes in degrees, edges included. If west is greater than east, it lies across the
    180th meridian."""

    west: float
    south: float
    east: float
    north: float

    @classmethod
    def of(cls, given: tuple[float, float, float, float]) -> Box:
        """Raises ValueError if these are no west, south, east and north."""
        try:
            box = cls(*(float(number) for number in given))
        except (TypeError, ValueError):
            raise ValueError(f"bbox={given!r} is not (west, south, east, north) in degrees") from None
        if not (abs(box.west) <= 180 and abs(box.east) <= 180 and -90 <= box.south <= box.north <= 90):
            raise ValueError(
                f"bbox={given!r} should be (west, south, east, north) in degrees, with south <= north: are latitudes "
                "and longitudes in the wrong order?"
            )
        return box

    def holds(self, lat: float, lon: float) -> bool:
        across = self.west > self.east
        in_lon = lon >= self.west or lon <= self.east if across else self.west <= lon <= self.east
        return in_lon and self.south <= lat <= self.north


@dataclass(frozen=True)
class RecordFilter:
    """States which records to hand out."""

    keys: frozenset[bytes] | None = None  # Kafka keys, which are entity ids in UTF-8; None: all
    box: Box | None = None

    @classmethod
    def of(cls, entity: str | Collection[str] | None, bbox: tuple[float, float, float, float] | None) -> RecordFilter:
        """Raises ValueError, as `Box.of`, and for a collection without an entity."""
        names = [entity] if isinstance(entity, str) else entity
        if names is not None and not names:
            raise ValueError("entity is empty: leave it out for all entities")
        keys = None if names is None else frozenset(name.encode() for name in names)
        return cls(keys, None if bbox is None else Box.of(bbox))

    def takes_key(self, key: bytes | None) -> bool:
        """Returns whether records of a key are wanted. It is asked before they are decoded, which costs most."""
        return self.keys is None or key in self.keys

    def takes_places(self, places: Iterable[tuple[float, float]]) -> bool:
        return self.box is None or any(self.box.holds(lat, lon) for lat, lon in places)


class SeenIds:
    """Remembers the newest ids, so that a copy is noticed. It forgets the oldest beyond `most`."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._ids: dict[str, None] = {}  # in the order in which they came

    def is_new(self, identity: str) -> bool:
        """Notes the id. Returns whether it was not there yet."""
        if identity in self._ids:
            return False
        if self._most > 0:
            self._ids[identity] = None
            if len(self._ids) > self._most:
                del self._ids[next(iter(self._ids))]
        return True

    def forget(self, identity: str) -> None:
        """Takes the note back: what was new could not be handed on."""
        self._ids.pop(identity, None)
