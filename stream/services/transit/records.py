"""Makes the record of a trip under way: a pure function of what is known of it at a moment.

Letters: A stops ahead.
"""

from __future__ import annotations

import math
from typing import Final

from stream.services.transit.fleet import UnderWay
from stream.transit.predicting import Arrivals
from stream.transit.predicting.asking import AT_STOP_M, Run
from stream.wire.trips import Position, Prediction, StopAhead, TripUnderWay, update_id

STANDS_MPS: Final = 1.0  # a vehicle that is slower stands
STANDS_M: Final = 30.0  # so does one that moved less in two minutes, where its speed is not known
INCOMING_M: Final = 100.0  # before a stop


def key_parts(trip: UnderWay) -> tuple[str, str, str]:
    """Returns what the key of the record is made of."""
    return f"{trip.run.day:%Y%m%d}", trip.vehicle.trip_id, trip.entity_id


def record_of(trip: UnderWay, now_ms: int) -> TripUnderWay:
    """Returns what is known at that time. It asks the predictor, which notes that for what it learns."""
    vehicle, run = trip.vehicle, trip.run
    arrivals = vehicle.feed.predictor.answer_one(run, now_ms / 1000)
    following = run.pattern.following(run.progress.along_m)
    standing = _standing_at(run, following)
    ahead = [_stop_ahead(trip, arrivals, number, number - following) for number in range(following, len(run.arrival_N))]
    if standing is not None:
        ahead.insert(0, _stop_here(trip, standing, now_ms, ahead[0].arrival_ts))
    start_date, trip_id, entity_id = key_parts(trip)
    return TripUnderWay(
        update_id=update_id(start_date, trip_id, entity_id, now_ms),
        trip_id=trip_id,
        start_date=start_date,
        start_time=clock(float(run.trip.departure_N[0])),
        route_id=run.trip.route_id,
        direction_id=run.trip.direction_id,
        headsign=run.trip.headsign,
        entity_id=entity_id,
        ts=now_ms,
        ping_ts=vehicle.ping_ms,
        lat=vehicle.lat_deg,
        lon=vehicle.lon_deg,
        heading_deg=vehicle.heading_deg,
        speed_mps=vehicle.speed_mps,
        along_m=round(run.progress.along_m, 1),
        position=_position(run, following, standing),
        delay_s=_delay_s(ahead[0], at_stop=standing is not None),
        assigned=True if vehicle.assigned else None,
        feed=vehicle.feed.hash,
        stops=tuple(ahead),
    )


def _standing_at(run: Run, following: int) -> int | None:
    """Returns the stop that the vehicle has reached and not left; None if it is between two."""
    if not run.started:
        return 0
    before = following - 1
    if run.progress.along_m >= run.pattern.reached_N[before] + AT_STOP_M:
        return None
    if not math.isnan(run.speed_mps):
        return before if run.speed_mps < STANDS_MPS else None
    return before if run.moved_m < STANDS_M else None


def _position(run: Run, following: int, standing: int | None) -> Position:
    if standing is not None:
        return "stopped"
    return "incoming" if run.pattern.reached_N[following] - run.progress.along_m < INCOMING_M else "under_way"


def _stop_ahead(trip: UnderWay, arrivals: Arrivals | None, number: int, row: int) -> StopAhead:
    if arrivals is None:
        return _stop(trip, number, "unknown")
    times_A = arrivals.arrival_A, arrivals.departure_A, arrivals.lo_A, arrivals.hi_A
    arrival_ms, departure_ms, early_ms, late_ms = (round(1000 * float(each[row])) for each in times_A)
    times = {"arrival_ts": arrival_ms, "departure_ts": departure_ms, "early_ts": early_ms, "late_ts": late_ms}
    return _stop(trip, number, "predicted", **times)


def _stop_here(trip: UnderWay, number: int, now_ms: int, next_ms: int | None) -> StopAhead:
    """Returns the stop at which the vehicle stands: it has arrived, and leaves at the next moment that it may."""
    run = trip.run
    waits = number == 0 or bool(run.trip.timepoint_N[number])
    departure_ms = max(now_ms, round(1000 * float(run.departure_N[number]))) if waits else now_ms
    if next_ms is not None:
        departure_ms = min(departure_ms, next_ms)
    reached_s = run.passed_at_s if number and run.passed == number + 1 else math.nan
    arrival_ms = trip.vehicle.ping_ms if math.isnan(reached_s) else round(1000 * reached_s)
    arrival_ms = min(arrival_ms, departure_ms)
    times = {"arrival_ts": arrival_ms, "departure_ts": departure_ms, "early_ts": arrival_ms, "late_ts": arrival_ms}
    return _stop(trip, number, "predicted", **times)


def _stop(trip: UnderWay, number: int, prediction: Prediction, **times: int) -> StopAhead:
    """Returns a stop of the trip as the schedule has it, with what is predicted of it."""
    run = trip.run
    stop_id = run.trip.stops_N[number]
    lat_deg, lon_deg, name = trip.vehicle.feed.predictor.schedule.stops[stop_id]
    return StopAhead(
        sequence=int(run.trip.sequence_N[number]),
        stop_id=stop_id,
        name=name,
        lat=lat_deg,
        lon=lon_deg,
        scheduled_arrival_ts=round(1000 * float(run.arrival_N[number])),
        scheduled_departure_ts=round(1000 * float(run.departure_N[number])),
        prediction=prediction,
        **times,
    )


def _delay_s(first: StopAhead, *, at_stop: bool) -> float | None:
    """Returns how late it leaves the stop where it stands, or reaches the next one."""
    if first.arrival_ts is None or first.departure_ts is None:
        return None
    late_ms = (
        first.departure_ts - first.scheduled_departure_ts if at_stop else first.arrival_ts - first.scheduled_arrival_ts
    )
    return late_ms / 1000


def clock(seconds: float) -> str:
    """Returns seconds of a service day as HH:MM:SS, which may pass 24 hours."""
    whole = round(seconds)
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}"
