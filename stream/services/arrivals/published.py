"""What is published of one forecast. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Sequence

from model.arrivals.believing import Fleet
from stream.services.arrivals.estimate import LEAST_CHANCE, Area, estimate
from stream.wire import Forecast
from stream.wire.arrivals import (
    Arrival,
    Arrived,
    Chance,
    Destination,
    FenceChances,
    Inside,
    Reached,
    arrival_id,
)
from stream.wire.positions import offset_en_m


def is_there(forecast: Forecast, destination: Destination) -> bool:
    """Returns whether the forecast's ping is at a destination."""
    anchor = forecast.anchor
    off = offset_en_m(anchor.lat, anchor.lon, destination.lat, destination.lon, anchor.lat)
    return math.hypot(*off) <= destination.radius_m


def arrival_records(forecast: Forecast, destination: Destination) -> tuple[Arrived, Reached]:
    """Returns the records of an arrival, once the ping is there."""
    entity, name, set_ts = destination.entity_id, destination.destination_id, destination.set_ts
    anchor, deadline = forecast.anchor, destination.deadline_ts
    record = Arrived(
        arrival_id=arrival_id("arrived", entity, name, set_ts),
        entity_id=entity,
        destination_id=name,
        set_ts=set_ts,
        forecast_id=forecast.forecast_id,
        ts=anchor.ts,
        lat=anchor.lat,
        lon=anchor.lon,
        deadline_ts=deadline,
        late_s=None if deadline is None else (anchor.ts - deadline) / 1000,
    )
    return record, Reached(entity_id=entity, destination_id=name, set_ts=set_ts)


def arrival(forecast: Forecast, destination: Destination, fleet: Fleet | None) -> Arrival:
    """Returns when the entity will be there."""
    found = estimate(forecast, destination, fleet)
    (early, late), (early_80, late_80) = found.interval_s(0.9), found.interval_s(0.8)
    deadline, in_s = destination.deadline_ts, round(found.in_s, 1)
    return Arrival(
        arrival_id=arrival_id("arrival", forecast.forecast_id, destination.destination_id, destination.set_ts),
        entity_id=destination.entity_id,
        destination_id=destination.destination_id,
        set_ts=destination.set_ts,
        forecast_id=forecast.forecast_id,
        anchor_ts=forecast.anchor.ts,
        distance_m=round(found.distance_m, 1),
        in_s=in_s,
        early_s=round(early, 1),
        late_s=round(late, 1),
        early_80_s=round(early_80, 1),
        late_80_s=round(late_80, 1),
        eta_ts=forecast.anchor.ts + round(1000 * in_s),
        deadline_ts=deadline,
        chance_by_deadline=None if deadline is None else round(found.chance_by(deadline), 4),
        passages=found.passages,
    )


def inside(forecast: Forecast, areas: Sequence[Area]) -> Inside | None:
    """Returns how likely the entity is in these areas; None where none of them needs to be spoken of."""
    anchor, found = forecast.anchor, []
    ahead_s = [horizon.h_s for horizon in forecast.horizons]
    for area in areas:
        if not area.may_matter(forecast):
            continue
        now = area.holds(anchor.lat, anchor.lon)
        chances = area.chances(forecast, ahead_s)
        if now or (chances >= LEAST_CHANCE).any():
            chances_by = tuple(
                Chance(h_s, round(float(chance), 4)) for h_s, chance in zip(ahead_s, chances, strict=True)
            )
            found.append(FenceChances(area.geofence_id, now, chances_by))
    if not found:
        return None
    return Inside(
        arrival_id=arrival_id("inside", forecast.forecast_id),
        entity_id=forecast.entity_id,
        forecast_id=forecast.forecast_id,
        anchor_ts=anchor.ts,
        geofences=tuple(found),
    )
