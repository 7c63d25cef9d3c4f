"""Reduces forecasts to the newest of each entity, and names its places: now, next, and each horizon. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from stream.client.reader import Received
from stream.wire import Forecast
from stream.wire.positions import turn

NOW: Final = "now"  # the anchor's place
NEXT: Final = "next"  # where the next ping is expected


class Newest(NamedTuple):
    """The newest forecast of an entity, and when it was last heard of."""

    forecast: Forecast
    heard_ms: int  # the latest publication among its forecasts: a recording that is fed again is heard now


def newest_of(received: Iterable[Received[Forecast]]) -> dict[str, Newest]:
    """Returns the newest forecasts by entity: of two, the one with the later anchor, and at the same anchor the later
    record."""
    found: dict[str, Newest] = {}
    for one in received:
        forecast, heard_ms = one.record, one.timestamp_ms
        if (known := found.get(forecast.entity_id)) is not None:
            heard_ms = max(heard_ms, known.heard_ms)
            if known.forecast.anchor.ts > forecast.anchor.ts:
                forecast = known.forecast
        found[forecast.entity_id] = Newest(forecast, heard_ms)
    return found


def places_of(forecast: Forecast) -> dict[str, tuple[float, float]]:
    """Returns latitude and longitude (degrees) by name: `now`, `next`, and `60s` for a horizon of 60 s."""
    anchor, step = forecast.anchor, forecast.next
    ahead = {f"{horizon.h_s:g}s": (horizon.lat, horizon.lon) for horizon in forecast.horizons}
    return {NOW: (anchor.lat, anchor.lon), NEXT: (anchor.lat + step.d_lat, turn(anchor.lon + step.d_lon)), **ahead}
