"""Records that workers and services publish are CloudEvents, by the cloudevents library (Kafka's binary mode)."""

from __future__ import annotations

import json
from collections.abc import Iterable

import jsonschema
import pytest
from cloudevents.core.base import BaseCloudEvent
from cloudevents.core.bindings.kafka import KafkaMessage, from_binary_event
from engine_rig import Rig, ping, steady
from services_rig import TOPICS, Latest, forecast, gap, record

from stream.contracts.asyncapi import asyncapi
from stream.contracts.catalog import RECORDS
from stream.wire import Headers, Outgoing
from stream.wire.ids import EVENT_ID, event_headers

T0 = 1_700_000_000_000


def event_of(one: Outgoing) -> BaseCloudEvent:
    return from_binary_event(KafkaMessage(headers=dict(one.headers), key=one.key, value=one.value or b""))


def check(made: Iterable[Outgoing], kind: str) -> list[BaseCloudEvent]:
    found = []
    for one in made:
        event = event_of(one)
        assert event.get_specversion() == "1.0"
        assert event.get_type() == f"pathcast.{kind}.v1"
        assert event.get_datacontenttype() == "application/json"
        assert event.get_extension("partitionkey") == (one.key or b"").decode()
        assert event.get_data() == json.loads(one.value or b"")
        found.append(event)
    values = {(event.get_source(), event.get_id()): json.dumps(event.get_data()) for event in found}
    assert len(values) == len(set(values.values())), "source and id together are one event"
    return found


async def test_forecasts_and_gap_fills_are_events(rig: Rig) -> None:
    await rig.feed(*steady("a", 12), ping("a", 900), ping("a", 910), ping("a", 920), ping("a", 930))
    forecasts = check([one for one in rig.out if one.topic.endswith("forecasts.v1")], "forecast")
    assert len(forecasts) == 16
    assert {event.get_source() for event in forecasts} == {"/pathcast.pings.v1/0"}
    assert forecasts[0].get_id() == forecasts[0].get_data()["forecast_id"]
    gaps = check([one for one in rig.out if one.topic.endswith("gapfills.v1")], "gapfill")
    assert {event.get_data()["revision"] for event in gaps} == {0, 1}


def test_the_latest_forecasts_are_events_of_which_each_value_is_another() -> None:
    latest = Latest()
    latest.take([record(TOPICS.forecasts, 0, forecast("a", T0, 0))])
    latest.take([record(TOPICS.gapfills, 0, gap("a", T0 - 90_000, T0))])
    late = forecast("a", T0 - 5_000, 2, status="stale")
    latest.fold([record(TOPICS.forecasts, 1, forecast("b", T0 + 60_000, 1)), record(TOPICS.forecasts, 2, late)])
    latest.take([record(TOPICS.forecasts, 3, forecast("c", T0 + 50_000, 3)), record(TOPICS.forecasts, 4, late)])
    events = check(latest.records, "latest")
    assert len({event.get_id() for event in events}) == len(events) == 5


@pytest.mark.parametrize("kind", [one.event for one in RECORDS if one.event])
def test_the_document_of_topics_describes_these_headers(kind: str) -> None:
    schema = next(asyncapi()["components"]["schemas"][f"{one.name}_event"] for one in RECORDS if one.event == kind)
    headers: Headers = (*event_headers(kind, "t", 0), (EVENT_ID, b"x"))  # type: ignore[arg-type]
    as_text = {name: value.decode() for name, value in headers}
    jsonschema.validate(as_text, schema)
    for name in as_text:
        assert not jsonschema.Draft202012Validator(schema).is_valid({**as_text, name: 1})
