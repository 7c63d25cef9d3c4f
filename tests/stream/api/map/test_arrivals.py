"""Who is expected where: what the map keeps of the arrivals topic, and what its page is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from map_rig import T0, fleet_of, forecast, publish, served

from stream.api.map.fleet import arrivals
from stream.api.map.fleet.fleet import Fleet
from stream.api.map.sources.topics import FleetReader
from stream.kafka.records.record_columns import Records
from stream.wire import Record, Topics
from stream.wire.arrivals import Arrival, Arrived, Inside, dumps_arrivals

MINUTE_MS = 60_000


def arrival(entity_id: str, place: str, in_s: float, at: int = T0, set_ts: int = T0, **more: Any) -> Arrival:
    return Arrival(
        arrival_id=f"{entity_id}/{place}/{at}",
        entity_id=entity_id,
        destination_id=place,
        set_ts=set_ts,
        forecast_id="f",
        anchor_ts=at,
        distance_m=1_000.0,
        in_s=in_s,
        early_s=in_s / 2,
        late_s=in_s * 2,
        early_80_s=in_s / 2,
        late_80_s=in_s * 2,
        eta_ts=at + round(in_s * 1000),
        passages=3,
        **more,
    )


def arrived(entity_id: str, place: str, set_ts: int = T0) -> Arrived:
    return Arrived(
        arrival_id="a", entity_id=entity_id, destination_id=place, set_ts=set_ts, forecast_id="f", ts=T0, lat=0, lon=0
    )


def told(fleet: Fleet, most: int = 10, now_ms: int = T0) -> list[tuple[str, list[str]]]:
    entities = fleet.expect(now_ms, most)["entities"]
    return [(one["id"], [place["place"] for place in one["arrivals"]]) for one in entities]


def test_each_entity_has_its_places_the_soonest_first() -> None:
    fleet = fleet_of(forecast("a", T0), forecast("b", T0), forecast("c", T0))
    for record in (arrival("a", "far", 900), arrival("a", "near", 300), arrival("b", "depot", 60)):
        fleet.arrivals.update(record)
    fleet.arrivals.update(Inside(arrival_id="i", entity_id="c", forecast_id="f", anchor_ts=T0, geofences=()))
    fleet.arrivals.update(arrival("unseen", "depot", 1))
    assert told(fleet) == [("b", ["depot"]), ("a", ["near", "far"])]
    assert fleet.expect(T0, 1)["more"] == 1
    fleet.arrivals.update(arrival("a", "near", 20, at=T0 + 1_000))
    (first, *_) = fleet.expect(T0, 10)["entities"]
    assert first["arrivals"][0] == {
        "place": "near",
        "eta_ts": T0 + 21_000,
        "early_ts": T0 + 11_000,
        "late_ts": T0 + 41_000,
        "deadline_ts": None,
        "chance_by_deadline": None,
        "distance_m": 1_000.0,
        "passages": 3,
    }


def test_who_has_arrived_is_expected_there_no_more_until_it_is_sent_again() -> None:
    fleet = fleet_of(forecast("a", T0))
    fleet.arrivals.update(arrival("a", "depot", 60))
    fleet.arrivals.update(arrived("a", "depot", set_ts=T0 - 1))
    assert told(fleet) == [("a", ["depot"])], "that was an earlier way there"
    fleet.arrivals.update(arrived("a", "depot"))
    assert (told(fleet), len(fleet.arrivals)) == ([], 0)
    fleet.arrivals.update(arrival("a", "depot", 60, set_ts=T0 + 1))
    assert told(fleet) == [("a", ["depot"])]


def test_an_estimate_goes_when_forecasts_come_without_one_and_stays_of_who_is_silent() -> None:
    """A destination that was taken back has no record in the arrivals topic."""
    fleet = fleet_of(forecast("cleared", T0), forecast("silent", T0), stale_ms=10 * MINUTE_MS)
    for name in ("cleared", "silent"):
        fleet.arrivals.update(arrival(name, "depot", 60))
    publish(fleet, forecast("cleared", T0 + 5 * MINUTE_MS))
    assert {name for name, _ in told(fleet)} == {"cleared", "silent"}
    publish(fleet, forecast("cleared", T0 + 5 * MINUTE_MS + 1))
    assert told(fleet) == [("silent", ["depot"])]
    assert fleet.expect(T0 + 11 * MINUTE_MS, 10)["entities"][0]["stale"]
    fleet.end("silent")
    assert (told(fleet), len(fleet.arrivals)) == ([], 1), "only the one that is not shown is still kept"


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrivals, "MOST", 2)
    kept = arrivals.Arrivals(most_entities=2)
    for name in ("a", "b", "a", "c"):
        for place in ("one", "two", "three"):
            kept.update(arrival(name, place, 60))
    assert kept.ids() == ["a", "c"]
    assert [one["place"] for one in kept.of("a", T0)] == ["three", "two"]


async def test_the_page_is_told_of_records_of_the_topic(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("")
    fleet = fleet_of(forecast("a", T0))
    reader = FleetReader(fleet)
    by_topic = {one.topic: one for one in reader.sources(Topics.of("p"), "latest", MINUTE_MS, 0)}
    source = by_topic["p.arrivals.v1"]
    assert source.keep_ms == MINUTE_MS
    values = dumps_arrivals(arrival("a", "depot", 60)), b"{}", None
    source.take(Records.of([Record(source.topic, 0, at, T0, b"a", one) for at, one in enumerate(values)]))
    assert reader.unreadable == 2
    async with served(fleet, tmp_path) as shown:
        status, said = await shown.get("/map/arrivals")
        assert (status, [one["id"] for one in said["entities"]], said["more"]) == (200, ["a"], 0)
        _, entity = await shown.get("/map/entities/a")
        assert entity["arrivals"] == said["entities"][0]["arrivals"]
        assert (await shown.get("/map/arrivals?x=1"))[0] == 400
