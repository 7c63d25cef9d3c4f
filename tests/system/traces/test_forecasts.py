"""A worker's traces, as a collector gets them: each ping of a sampled entity is one trace from its sender to its
forecast, nobody else has one, and a collector that is away holds nobody up."""

from __future__ import annotations

import hashlib
import hmac
import re
import socket
from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import bus_feed
import pytest
from pathcast_process import eventually
from trace_collector import ReceivedSpan, collecting
from worker_process import Worker, assert_all_live

from stream.tracing.sampling import is_sampled, threshold
from stream.wire import Ping, Topics, dumps, loads_forecast

SHARE = 0.15
BUSES = [f"bus-{n}" for n in range(60)]
SAMPLED = [name for name in BUSES if is_sampled(name, threshold(SHARE))]
ROUNDS = 3
T0 = 1_700_000_000_000
KEY = "a key of the test"
SENDERS = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
PARTS = ["consume", "batch wait", "track", "step", "write", "publish", "commit"]
SOON = {"OTEL_BSP_SCHEDULE_DELAY": "100"}  # ms, between two requests to the collector

Options = dict[str, Any]


@pytest.fixture
def options(kafka: str, redis_url: str, topic_prefix: str, weights: Path) -> Options:
    bus_feed.create_topics(kafka, Topics.of(topic_prefix), partitions=2)
    servers = {"bootstrap": kafka, "redis": redis_url, "weights": weights}
    return {**servers, "prefix": topic_prefix, "group": topic_prefix, "trace_share": SHARE}


def pings() -> Iterator[bus_feed.Raw]:
    """Three of each bus. The first ping of the first sampled one has a sender that traces."""
    for second in range(ROUNDS):
        for n, name in enumerate(BUSES):
            sent = (("traceparent", SENDERS.encode()),) if (second, name) == (0, SAMPLED[0]) else ()
            ping = Ping(entity_id=name, ts=T0 + 10_000 * second, lat=30.0 + n / 1000, lon=-97.0 + second / 10_000)
            yield name.encode(), dumps(ping), sent


def answered(options: Options, log: Path, **environment: str) -> str:
    """Lets a worker answer all pings; its log."""
    topics = Topics.of(options["prefix"])
    with Worker(log, environment={**SOON, **environment}, **options) as worker:
        worker.wait_until_ready()
        bus_feed.send(options["bootstrap"], topics.pings, pings())
        lives = partial(assert_all_live, worker)
        bus_feed.wait_until_consumed(options["bootstrap"], options["group"], topics.pings, lives)
        assert worker.stop() == 0, worker.log()
        return worker.log()


def collected(options: Options, log: Path, **environment: str) -> list[ReceivedSpan]:
    with collecting() as collector:
        answered(options, log, OTEL_EXPORTER_OTLP_ENDPOINT=collector.endpoint, PATHCAST_TRACE_KEY=KEY, **environment)
        assert eventually(lambda: len(collector.spans) >= len(SAMPLED) * ROUNDS * (1 + len(PARTS)))
        return collector.spans


def by_trace(spans: list[ReceivedSpan]) -> dict[str, dict[str, ReceivedSpan]]:
    found: dict[str, dict[str, ReceivedSpan]] = defaultdict(dict)
    for span in spans:
        assert span.name not in found[span.trace_id], "a span came twice"
        found[span.trace_id][span.name] = span
    return found


@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
def test_each_ping_of_a_sampled_entity_is_one_trace_to_its_forecast(
    options: Options, tmp_path: Path, delivery: str
) -> None:
    assert 1 < len(SAMPLED) < len(BUSES) // 3, "some and not all"
    spans = collected({**options, "delivery": delivery}, tmp_path / "log")
    traces = by_trace(spans)
    topics = Topics.of(options["prefix"])
    sent = {(one.partition, one.offset): one for one in bus_feed.read(options["bootstrap"], topics.pings)}
    assert len(traces) == len(SAMPLED) * ROUNDS
    places = {}
    for trace_id, trace in traces.items():
        whole = trace.pop("ping")
        assert sorted(trace, key=PARTS.index) == PARTS
        assert whole.service == "pathcast-worker"
        at = whole.attributes
        assert at["messaging.destination.name"] == topics.pings
        place = int(at["messaging.destination.partition.id"]), at["messaging.kafka.offset"]
        places[trace_id] = place
        ping = sent[place]
        name = (ping.key or b"").decode()
        assert at["pathcast.entity_hash"] == hmac.new(KEY.encode(), name.encode(), hashlib.sha256).hexdigest()[:16]
        _check_parents(whole, trace, dict(ping.headers).get("traceparent"))
        _check_times(whole, trace, ping.timestamp_ms, delivery == "exactly_once")
        assert name not in str(whole), "no id"
        assert not re.search(r"30\.0|97\.0|-97|\blat|\blon", str(at)), "no place"
    assert {(sent[place].key or b"").decode() for place in places.values()} == set(SAMPLED)
    _check_forecasts(options, traces, places)


def _check_parents(whole: ReceivedSpan, parts: dict[str, ReceivedSpan], sender: bytes | None) -> None:
    assert {part.parent_id for part in parts.values()} == {whole.span_id}
    if sender is None:
        assert whole.parent_id == ""
    else:
        assert sender.decode().split("-")[1:3] == [whole.trace_id, whole.parent_id]


def _check_times(whole: ReceivedSpan, parts: dict[str, ReceivedSpan], published_ms: int, once: bool) -> None:
    """One part after the other, all within the whole; only what Kafka did before is before it."""
    order = [parts[name] for name in PARTS]
    assert order[0].begin_ns == published_ms * 1_000_000
    assert order[0].end_ns == whole.begin_ns == parts["batch wait"].begin_ns
    for one, after in pairwise(order):
        assert one.begin_ns <= one.end_ns
        if not (once and one.name == "publish"):
            assert one.end_ns <= after.begin_ns, (one.name, after.name)
    assert order[-1].end_ns == whole.end_ns
    if once:
        assert (parts["publish"].begin_ns, parts["publish"].end_ns) == (order[-1].begin_ns, order[-1].end_ns)


def _check_forecasts(
    options: Options, traces: dict[str, dict[str, ReceivedSpan]], places: dict[str, tuple[int, int]]
) -> None:
    """The forecasts of sampled pings name the span in which they were published, and no other forecast names one."""
    due = {place: f"00-{trace_id}-{traces[trace_id]['publish'].span_id}-01" for trace_id, place in places.items()}
    said: dict[tuple[int, int], str] = {}
    forecasts = list(bus_feed.read(options["bootstrap"], Topics.of(options["prefix"]).forecasts))
    assert len(forecasts) == len(BUSES) * ROUNDS
    for record in forecasts:
        src = loads_forecast(record.value or b"").src
        header = dict(record.headers).get("traceparent")
        if header is not None:
            said[src.partition, src.offset] = header.decode()
    assert said == due


def test_ids_are_shown_if_that_is_asked_for(options: Options, tmp_path: Path) -> None:
    spans = collected(options, tmp_path / "log", PATHCAST_TRACE_ENTITY_IDS="1")
    assert {span.attributes["pathcast.entity_id"] for span in spans if span.name == "ping"} == set(SAMPLED)


def test_a_collector_that_is_away_holds_nobody_up(options: Options, tmp_path: Path) -> None:
    with socket.socket() as taken:  # nobody listens there
        taken.bind(("127.0.0.1", 0))
        away = f"http://127.0.0.1:{taken.getsockname()[1]}"
        log = answered(
            options,
            tmp_path / "log",
            OTEL_EXPORTER_OTLP_ENDPOINT=away,
            OTEL_BSP_MAX_QUEUE_SIZE="16",
            OTEL_BSP_MAX_EXPORT_BATCH_SIZE="8",
        )
    forecasts = list(bus_feed.read(options["bootstrap"], Topics.of(options["prefix"]).forecasts))
    assert len(forecasts) == len(BUSES) * ROUNDS
    assert "WARNING" in log
    assert "export" in log.lower() or "Queue full" in log, log


def test_nothing_is_traced_by_default(options: Options, tmp_path: Path) -> None:
    with collecting() as collector:
        answered({**options, "trace_share": 0}, tmp_path / "log", OTEL_EXPORTER_OTLP_ENDPOINT=collector.endpoint)
        assert collector.spans == []
    forecasts = bus_feed.read(options["bootstrap"], Topics.of(options["prefix"]).forecasts)
    assert not any("traceparent" in dict(one.headers) for one in forecasts)
