"""The gap fills and the dead letter that a sampled ping leads to name its trace, as its forecast does; and
`pathcast verify` judges them as it judges others."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import bus_feed
import pytest
from pathcast_process import PATIENCE_S, VERIFY, environment, eventually
from trace_collector import ReceivedSpan, collecting
from worker_process import Worker, assert_all_live

from stream.tracing.sampling import is_sampled, threshold
from stream.wire import ERROR_HEADER_PREFIX, Ping, Topics, dumps, loads_gapfill

SHARE = 0.3
BUSES = [f"bus-{n}" for n in range(12)]
SAMPLED = {name for name in BUSES if is_sampled(name, threshold(SHARE))}
SECONDS = [*range(0, 100, 10), 900, 910, 920]  # a silence: its fill is provisional, and final two pings later
T0 = 1_700_000_000_000
SENDERS = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
CODE = "lat_out_of_range"


@pytest.fixture
def options(kafka: str, redis_url: str, topic_prefix: str, weights: Path) -> dict[str, Any]:
    bus_feed.create_topics(kafka, Topics.of(topic_prefix), partitions=2)
    servers = {"bootstrap": kafka, "redis": redis_url, "weights": weights}
    return {**servers, "prefix": topic_prefix, "group": topic_prefix}


def pings() -> Iterator[bus_feed.Raw]:
    """A silence in each track, and at its end a ping without a place on Earth. The sender of these last ones traces."""
    for second in SECONDS:
        for n, name in enumerate(BUSES):
            place = {"lat": 30.0 + n / 1000, "lon": -97.0 + second / 10_000}
            yield name.encode(), dumps(Ping(entity_id=name, ts=T0 + second * 1000, **place)), ()
    for name in BUSES:
        headers = ("kept", b"as it came"), ("Traceparent", SENDERS.encode())
        yield name.encode(), dumps(Ping(entity_id=name, ts=T0 + 930_000, lat=91.5, lon=-97.0)), headers


@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
def test_gap_fills_and_dead_letters_of_sampled_pings_name_their_span(
    options: dict[str, Any], tmp_path: Path, delivery: str
) -> None:
    assert 1 < len(SAMPLED) < len(BUSES), "some and not all"
    topics, bootstrap = Topics.of(options["prefix"]), options["bootstrap"]
    with collecting() as collector:
        sends = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint, "OTEL_BSP_SCHEDULE_DELAY": "100"}
        how = {**options, "delivery": delivery, "trace_share": SHARE}
        with Worker(tmp_path / "log", environment=sends, **how) as worker:
            worker.wait_until_ready()
            bus_feed.send(bootstrap, topics.pings, pings())
            lives = partial(assert_all_live, worker)
            bus_feed.wait_until_consumed(bootstrap, options["group"], topics.pings, lives)
            assert eventually(lambda: len(roots(collector.spans)) >= len(SAMPLED) * (len(SECONDS) + 1))
            assert worker.stop() == 0, worker.log()
        spans = collector.spans
    publishing = {f"00-{one.trace_id}-{one.span_id}-01": one for one in spans if one.name == "publish"}
    check_gap_fills(options, spans, publishing)
    check_letters(options, spans, publishing)
    check_verified(options, delivery)


def roots(spans: list[ReceivedSpan]) -> dict[tuple[int, int], ReceivedSpan]:
    """The spans of whole pings, by where these lie."""
    found = [one for one in spans if one.name == "ping"]
    return {place_of(one.attributes): one for one in found}


def place_of(at: dict[str, Any]) -> tuple[int, int]:
    return int(at["messaging.destination.partition.id"]), int(at["messaging.kafka.offset"])


def check_gap_fills(options: dict[str, Any], spans: list[ReceivedSpan], publishing: dict[str, ReceivedSpan]) -> None:
    fills = list(bus_feed.read(options["bootstrap"], Topics.of(options["prefix"]).gapfills))
    assert len(fills) == 2 * len(BUSES)
    wholes = {one.span_id: one for one in spans if one.name == "ping"}
    for record in fills:
        name = loads_gapfill(record.value or b"").entity_id
        told = [value.decode() for header, value in record.headers if header == "traceparent"]
        assert len(told) == (name in SAMPLED), name
        for one in told:
            assert wholes[publishing[one].parent_id].attributes["pathcast.gap_fills"] == 1
    counted = [one for one in wholes.values() if "pathcast.gap_fills" in one.attributes]
    assert len(counted) == 2 * len(SAMPLED)


def check_letters(options: dict[str, Any], spans: list[ReceivedSpan], publishing: dict[str, ReceivedSpan]) -> None:
    whole = roots(spans)
    letters = list(bus_feed.read(options["bootstrap"], Topics.of(options["prefix"]).dead_letters))
    assert len(letters) == len(BUSES)
    for letter in letters:
        headers = dict(letter.headers)
        told = [value.decode() for header, value in letter.headers if header.lower() == "traceparent"]
        assert headers["kept"] == b"as it came"
        assert len(told) == 1
        if (letter.key or b"").decode() not in SAMPLED:
            assert told == [SENDERS], "the sender's, as it came"
            continue
        at = tuple(int(headers[ERROR_HEADER_PREFIX + name]) for name in ("partition", "offset"))
        of = whole[at]
        assert publishing[told[0]].parent_id == of.span_id
        assert SENDERS.split("-")[1:3] == [of.trace_id, of.parent_id]
        assert of.attributes["pathcast.dead_letter"] == CODE
        assert "91.5" not in str(of.attributes)


def check_verified(options: dict[str, Any], delivery: str) -> None:
    """The replay traces nothing, and yet finds what is due."""
    asked = {name: options[name] for name in ("bootstrap", "redis", "prefix", "group", "weights")}
    command = [*VERIFY, *(f"--{name}={value}" for name, value in asked.items()), f"--delivery={delivery}", "--json"]
    run = subprocess.run(
        [*command, "--numbers=close"], capture_output=True, timeout=PATIENCE_S, env=environment(), check=False
    )
    report = json.loads(run.stdout)
    assert report["ok"], (report["examples"], run.stderr)
    assert report["total"]["dead_letters"] == len(BUSES)
