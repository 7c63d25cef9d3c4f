"""The page of the map shows a vehicle's stops ahead, and who comes next at one of them, from the trips topic."""

from __future__ import annotations

from typing import Any

import bus_feed
import msgspec
from map_browser import Opened
from realtime_rig import FEED, record_of, under_way

from stream.kafka import admin
from stream.transit.schedule import read_schedule
from stream.wire import Topics

NAME = "4th <b>& Main</b>"
ROWS = "[...document.querySelectorAll('[data-table=trip] tbody tr')].length"


def test_the_chosen_vehicle_has_its_stops_and_a_stop_its_next_arrivals(opened: Opened, scene: Any) -> None:
    topics = Topics.of(scene.prefix)
    drawn = max(opened.state()["drawn"], key=lambda one: one["track"])
    schedule = read_schedule(FEED)
    trip = under_way(schedule, next(iter(schedule.trips.values())), entity_id=drawn["id"], headsign="Downtown")
    stops = tuple(msgspec.structs.replace(one, name=NAME if n == 1 else None) for n, one in enumerate(trip.stops[:5]))
    record = record_of(msgspec.structs.replace(trip, stops=stops))
    with admin.connect(scene.kafka) as client:
        admin.create_other(client, topics, topics.trips, partitions=1)
    bus_feed.send(scene.kafka, topics.trips, iter([(record.key, record.value, ())]))
    opened.page.evaluate("(id) => { location.hash = `entity=${encodeURIComponent(id)}` }", drawn["id"])
    opened.until(f"{ROWS} === 5")
    assert f"Route {trip.route_id} to Downtown, 60 s late" in opened.page.inner_text("#entity-trip caption")
    opened.page.click("[data-table=trip] tr:nth-child(2) button")
    opened.until("document.querySelector('[data-table=stop]') !== null")
    told = opened.page.inner_text("#entity-stop")
    assert f"Next at {NAME}" in told, "a name is text and never read as HTML"
    assert drawn["id"] in told
    assert opened.page.evaluate("document.querySelector('#entity-stop button').dataset.id") == drawn["id"]
    bus_feed.send(scene.kafka, topics.trips, iter([(record.key, None, ())]))
    opened.until(f"{ROWS} === 0")
    assert opened.said == []
