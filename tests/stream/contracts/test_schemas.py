"""Schemas say of the records what the records are."""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Iterator
from typing import Any

import jsonschema
import msgspec
import pytest
from fastavro import parse_schema, schemaless_reader, schemaless_writer
from services_rig import Latest, forecast, gap, record

import stream.wire
from stream.contracts import files
from stream.contracts.asyncapi import asyncapi, asyncapi_text
from stream.contracts.avro_schema import avro_schema
from stream.contracts.catalog import RECORDS, Way, contract
from stream.contracts.json_schema import components, json_schema
from stream.wire import (
    CODES,
    AtlasRef,
    Drift,
    ModelRef,
    Outcome,
    Ping,
    Record,
    Reject,
    Score,
    VersionRecord,
    WeightsRecord,
    dead_letter,
    dumps,
    dumps_scored,
)
from stream.wire.arrivals import (
    Arrival,
    Arrived,
    Chance,
    Circle,
    Destination,
    FenceChances,
    Geofence,
    Inside,
    Reached,
)
from stream.wire.trips import StopAhead, TripUnderWay, dumps_trip

T0 = 1_700_000_000_000


def latest() -> bytes:
    found = Latest()
    found.take(
        [record("t.forecasts.v1", 0, forecast("a", T0, 0)), record("t.gapfills.v1", 0, gap("a", T0 - 90_000, T0))]
    )
    return found.values["a"]


def headers() -> bytes:
    letter = dead_letter("t.dlq", Record("t", 0, 1, 2, b"a", b"x"), Reject("empty", "no", unread=True), version="1")
    return msgspec.json.encode({name: value.decode() for name, value in letter.headers})


FIX: dict[str, Any] = {"entity_id": "a", "ts": T0, "lat": 1.0, "lon": 2.0}
NUMBERS: dict[str, Any] = {
    "alt_m": 3.0,
    "speed_mps": 4.0,
    "heading_deg": 5.0,
    "accuracy_m": 6.0,
    "hdop": 7.0,
    "sats": 8,
}
TEXTS: dict[str, Any] = {"trip_id": "t", "category": "bus", "source": "s", "attrs": {"x": [1, {"y": None}]}}
PING = Ping(**FIX, **NUMBERS, **TEXTS, valid=True, received_ts=T0)
MODEL, ATLAS = ModelRef("m", "0" * 16, True), AtlasRef(None, 0, False)
OUTCOME = Outcome(60.0, 61.0, 1.0, 2.0, True, False)
OFFSETS: dict[str, Any] = {"first": {0: 1}, "topic": "t", "issued_ts": T0}
SCORED: dict[str, Any] = {"forecast_id": "f", "entity_id": "a", "anchor_ts": T0, "status": "ok"}
DRIFT: dict[str, Any] = {
    **{"drift_id": "d", "measured": "error", "topic": "t", "partition": 0, "offset": 1, "anchor_ts": T0},
    **{"before": 1.0, "after": 2.0, "before_n": 64, "after_n": 64},
}
WEIGHTS: dict[str, Any] = {
    **{"kind": "weights", "serial": 1, "version": "0" * 16, "name": "n", "role": "all", "state": "announced"},
    **{"parts": 1, "ramp": {0: 1}, "reason": "r"},
}
GOAL: dict[str, Any] = {"entity_id": "12", "destination_id": "depot", "set_ts": T0}
SAID: dict[str, Any] = {"arrival_id": "a", "forecast_id": "f"}
ESTIMATE: dict[str, Any] = {
    **{"distance_m": 2_140.0, "in_s": 300.0, "early_s": 240.0, "late_s": 420.0, "early_80_s": 250.0},
    **{"late_80_s": 400.0, "eta_ts": T0 + 300_000, "chance_by_deadline": 0.97, "passages": 38},
}
CHANCE = Chance(60.0, 0.02)
STOP: dict[str, Any] = {"lat": 30.2, "lon": -97.7, "scheduled_arrival_ts": T0, "scheduled_departure_ts": T0 + 1}
HERE = StopAhead(
    prediction="predicted",
    **STOP,
    sequence=1,
    stop_id="s1",
    name="Main",
    arrival_ts=T0,
    departure_ts=T0 + 1,
    early_ts=T0 - 1,
    late_ts=T0 + 9,
)
UNKNOWN = StopAhead(**STOP, sequence=2, stop_id="s2", prediction="unknown")
DAY: dict[str, Any] = {"trip_id": "t1", "start_date": "20261202", "start_time": "25:10:00", "route_id": "r"}
TRIP: dict[str, Any] = {
    **DAY,
    **{"update_id": "0" * 16, "entity_id": "12", "ts": T0, "ping_ts": T0 - 5, "lat": 30.2, "lon": -97.7},
    **{"along_m": 120.5, "position": "stopped", "delay_s": -3.0, "feed": "0" * 12, "assigned": True},
}
SAMPLES: dict[str, list[bytes]] = {
    "ping": [dumps(PING), dumps(Ping(**FIX))],
    "forecast": [forecast("a", T0, 0), forecast("a", T0, 0, atlas=ATLAS, model=MODEL)],
    "gapfill": [gap("a", T0, T0 + 9_000_000), gap("a", T0, T0 + 9, revision=1, status="retracted")],
    "latest": [latest()],
    "trip": [dumps_trip(TripUnderWay(**TRIP, stops=(HERE, UNKNOWN))), dumps_trip(TripUnderWay(**TRIP, stops=()))],
    "score": [dumps_scored(Score(**SCORED, model=MODEL, next=Outcome(), horizons=(OUTCOME, Outcome(300.0))))],
    "drift": [dumps_scored(Drift(**DRIFT))],
    "atlas_version": [
        dumps(VersionRecord(version="0" * 16, state="serving", includes={1: 2}, contains={"n": 1}, **OFFSETS))
    ],
    "weights_version": [dumps(WeightsRecord(**WEIGHTS, **OFFSETS))],
    "dead_letter_headers": [headers()],
    "destination": [
        dumps(Destination(**GOAL, lat=30.2, lon=-97.7, radius_m=100.0)),
        dumps(Destination(**GOAL, lat=30.2, lon=-97.7, radius_m=100.0, deadline_ts=T0 + 3_600_000)),
    ],
    "geofence": [
        dumps(Geofence(geofence_id="yard", circle=Circle(30.2, -97.7, 100.0), entity_id="12")),
        dumps(Geofence(geofence_id="yard", polygon=(((-97.7, 30.2), (-97.6, 30.2), (-97.6, 30.3)),))),
    ],
    "reached": [dumps(Reached(**GOAL))],
    "arrival": [dumps(Arrival(**GOAL, **SAID, **ESTIMATE, anchor_ts=T0, deadline_ts=T0 + 3_600_000))],
    "arrived": [
        dumps(Arrived(**GOAL, **SAID, ts=T0, lat=30.2, lon=-97.7, deadline_ts=T0 + 3_600_000, late_s=-3_300.0))
    ],
    "inside": [
        dumps(Inside(**SAID, entity_id="12", anchor_ts=T0, geofences=(FenceChances("yard", False, (CHANCE, CHANCE)),)))
    ],
}


def _structs() -> Iterator[type[msgspec.Struct]]:
    for module in pkgutil.iter_modules(stream.wire.__path__):
        found = importlib.import_module(f"stream.wire.{module.name}")
        for one in vars(found).values():
            ours = isinstance(one, type) and issubclass(one, msgspec.Struct) and one.__module__ == found.__name__
            if ours and not one.__name__.startswith("_"):
                yield one


def test_every_record_of_the_wire_has_a_schema() -> None:
    described = {name for one in RECORDS for name in components(one, "{name}")}
    missing = {struct.__name__ for struct in _structs()} - described - {"WireStruct"}
    assert not missing, f"a row in stream/contracts/catalog.py, and samples here: {missing}"
    assert SAMPLES.keys() == {one.name for one in RECORDS}


def test_every_struct_and_every_field_has_a_meaning() -> None:
    for one in RECORDS:
        for struct, schema in components(one, "{name}").items():
            assert schema["description"].endswith("."), struct
            for field in schema["properties"].values():
                words = field.get("enum", [])
                assert field["description"]
                assert len(words) < 2 or field["description"] != words[0], "it says nothing of its words"


@pytest.mark.parametrize("name", SAMPLES)
def test_records_are_valid(name: str) -> None:
    schema = json_schema(contract(name))
    jsonschema.Draft202012Validator.check_schema(schema)
    for sample in SAMPLES[name]:
        jsonschema.validate(json.loads(sample), schema, cls=jsonschema.Draft202012Validator)


@pytest.mark.parametrize("name", SAMPLES)
def test_what_is_no_record_is_not_valid(name: str) -> None:
    """Each required field is missed, and each field of another type is."""
    one = contract(name)
    validator = jsonschema.Draft202012Validator(json_schema(one))
    record = json.loads(SAMPLES[name][0])
    for field in json_schema(one)["required"]:
        assert not validator.is_valid({key: value for key, value in record.items() if key != field}), field
    for field in record:
        assert not validator.is_valid({**record, field: object()}), field
        if one.way is Way.OUT or field in json_schema(one)["required"]:
            assert not validator.is_valid({**record, field: None}), f"{field} is absent, never null"
    assert validator.is_valid({**record, "a_field_of_a_later_release": 1})


def test_a_ping_has_the_bounds_of_a_ping() -> None:
    validator = jsonschema.Draft202012Validator(json_schema(contract("ping")))
    good = json.loads(dumps(PING))
    bad: dict[str, Any] = {"lat": 90.1, "lon": -180.1, "ts": 5, "entity_id": "", "speed_mps": -1, "sats": 1.5}
    for field, value in bad.items():
        assert not validator.is_valid({**good, field: value}), field
    assert validator.is_valid({**good, "speed_mps": None}), "null is as good as absent where others write"


@pytest.mark.parametrize("name", [name for name in SAMPLES if not contract(name).headers_only])
def test_avro_holds_what_the_json_holds(name: str) -> None:
    from io import BytesIO

    schema = parse_schema(avro_schema(contract(name)))
    for sample in SAMPLES[name]:
        record = _as_avro(json.loads(sample))
        out = BytesIO()
        schemaless_writer(out, schema, record)
        out.seek(0)
        found = schemaless_reader(out, schema, None)
        assert _without_none(found) == _without_none(record)


def _as_avro(record: dict[str, Any]) -> dict[str, Any]:
    """What has free values holds JSON."""
    free = {"attrs", "contains"} & record.keys()
    return {**record, **{name: {key: json.dumps(value) for key, value in record[name].items()} for name in free}}


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {key: _without_none(one) for key, one in value.items() if one is not None}
        return {key: one for key, one in kept.items() if (key, one) != ("late", False)}
    return [_without_none(one) for one in value] if isinstance(value, list) else value


def test_every_field_of_an_avro_schema_is_explained_and_optional_ones_default_to_null() -> None:
    for one in RECORDS:
        if not one.headers_only:
            schema = avro_schema(one)
            assert schema["namespace"] == "pathcast.v1"
            for field in schema["fields"]:
                assert field["doc"]
                if isinstance(field["type"], list):
                    assert field["type"][0] == "null"
                    assert field.get("default", "absent") is None


def test_headers_of_a_dead_letter_are_all_described() -> None:
    described = json_schema(contract("dead_letter_headers"))["properties"].keys()
    big = Record("t", 0, 1, 2, b"a", b"x" * (1 << 25))
    letter = dead_letter("t.dlq", big, Reject("too_large", "", unread=True), version="1")
    assert {name for name, _ in letter.headers} == described
    assert CODES


def test_the_document_of_topics_has_every_topic_once_with_its_messages() -> None:
    document = asyncapi()
    addresses = [one["address"] for one in document["channels"].values()]
    assert sorted(addresses) == sorted({one.topic for one in RECORDS})
    scores = document["channels"]["scores"]["messages"]
    assert set(scores) == {"score", "drift"}
    actions = {name: one["action"] for name, one in document["operations"].items()}
    assert actions["receive_pings"] == "receive"
    assert actions["send_forecasts"] == "send"
    assert "&id" not in asyncapi_text(), "no YAML aliases"


def test_the_committed_files_are_what_the_code_makes_and_break_nobody() -> None:
    assert files.check(files.released_folder(None)) == []
