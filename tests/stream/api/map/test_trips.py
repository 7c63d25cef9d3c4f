"""What the map's page is told of a vehicle's trip, and of a stop."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import msgspec
from map_rig import T0, fleet_of, forecast, served
from realtime_rig import FEED, record_of, under_way

from stream.transit.schedule import read_schedule
from stream.wire.trips import TripUnderWay


@cache
def trips() -> tuple[TripUnderWay, TripUnderWay]:
    """Returns two trips of the same stops, the second one behind the first."""
    schedule = read_schedule(FEED)
    trip = next(iter(schedule.trips.values()))
    first, later = (
        under_way(schedule, trip, entity_id="bus/1"),
        under_way(schedule, trip, late_s=600.0, entity_id="bus 2"),
    )
    return first, msgspec.structs.replace(later, trip_id="later", ts=first.ts)


async def test_a_vehicle_has_its_stops_ahead_and_a_stop_its_next_arrivals(tmp_path: Path) -> None:
    fleet = fleet_of(forecast("bus/1", T0), forecast("walker", T0))
    async with served(fleet, tmp_path) as map_:

        async def ask(path: str) -> dict[str, object]:
            async with map_.client.get(f"{map_.base}/map/{path}") as said:
                assert said.status == 200
                return dict(await said.json())

        assert (await ask("entities/bus%2F1"))["trip"] is None, "nobody has told of it yet"
        fleet.trips.take(map(record_of, trips()))
        first, later = trips()
        trip = (await ask("entities/bus%2F1"))["trip"]
        assert isinstance(trip, dict)
        assert (trip["route"], trip["delay_s"]) == (first.route_id, 60.0)
        assert [(one["stop_id"], one["at"]) for one in trip["stops"]] == [
            (s.stop_id, s.arrival_ts) for s in first.stops
        ]
        assert (await ask("entities/walker"))["trip"] is None
        stop = await ask(f"stops/{first.stops[1].stop_id}")
        calls = stop["arrivals"]
        assert isinstance(calls, list)
        assert [(one["entity_id"], one["at"]) for one in calls] == [
            ("bus/1", first.stops[1].arrival_ts), ("bus 2", later.stops[1].arrival_ts),
        ]  # fmt: skip
        fleet.trips.take([record_of(first)._replace(value=None)])
        assert (await ask("entities/bus%2F1"))["trip"] is None, "the trip is over"
        assert await ask("stops/nowhere") == {"stop_id": "nowhere", "name": None, "now_ms": first.ts, "arrivals": []}
