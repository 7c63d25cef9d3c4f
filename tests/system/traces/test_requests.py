"""One trace from an HTTP request over its ping to the forecast, and spans of the requests that ask for it: named by the
route, with no id, no place and no query."""

from __future__ import annotations

import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import bus_feed
import ingest_process
import msgspec
import pytest
import redis_server
from pathcast_process import COMMAND, eventually
from trace_collector import Collector, ReceivedSpan, collecting
from worker_process import Worker, assert_all_live

from stream.tracing.sampling import is_sampled, threshold
from stream.wire import Topics, loads_forecast

SHARE = 0.3
TRACKERS = [f"35262533322{n:04}" for n in range(40)]
SAMPLED = [name for name in TRACKERS if is_sampled(name, threshold(SHARE))]
OTHERS = [name for name in TRACKERS if name not in SAMPLED]
SENDERS = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
NOW_S = int(time.time())
SERVER, PRODUCER, CONSUMER = 2, 4, 5
ROUTE = "/v1/entities/{id}/forecast"


class Scene(NamedTuple):
    collector: Collector
    ingest: str  # addresses
    serve: str
    kafka: str
    topics: Topics

    def named(self, name: str) -> list[ReceivedSpan]:
        return [one for one in self.collector.spans if one.name == name]


@pytest.fixture(scope="module")
def scene(kafka: str, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A worker, `ingest http` and `serve`, which trace; and what came of some requests."""
    folder, prefix = tmp_path_factory.mktemp("traces"), f"traces{time.monotonic_ns()}"
    topics = Topics.of(prefix)
    bus_feed.create_topics(kafka, topics, partitions=2)
    with collecting() as collector, redis_server.running(lambda line: None) as redis_url:
        how = {"bootstrap": kafka, "redis": redis_url, "weights": weights, "prefix": prefix, "group": prefix}
        traces = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
            "OTEL_BSP_SCHEDULE_DELAY": "100",  # ms
            "PATHCAST_TRACE_SHARE": str(SHARE),
            "PATHCAST_TRACE_KEY": "a key of the test",
        }
        served = partial(Worker, program=COMMAND, command=("serve",), environment=traces)
        with (
            Worker(folder / "worker.log", environment=traces, checkpoint_ms=200, **how) as worker,
            ingest_process.http(folder / "in.log", "flespi", kafka=kafka, prefix=prefix, environment=traces) as door,
            served(folder / "serve.log", listen=0, **how) as serve,
        ):
            worker.wait_until_ready()
            serve.wait_for("listening at http://", 300)
            found = re.search(r"listening at (http://[^,]+),", serve.log())
            assert found is not None
            base = door.url.removesuffix("/webhook")
            assert post(f"{door.url}/flespi", SAMPLED[0], OTHERS[0], traceparent=SENDERS) == 200
            assert post(f"{door.url}/flespi", SAMPLED[1]) == 200
            assert post(f"{door.url}/flespi", OTHERS[1], traceparent=SENDERS) == 200
            assert post(f"{base}/lat/47.1234/{SAMPLED[2]}", SAMPLED[2], traceparent=trace(True)) == 404
            assert post(f"{base}/lat/47.1234/{SAMPLED[2]}", SAMPLED[2], traceparent=trace(False)) == 404
            lives = partial(assert_all_live, worker, door.process, serve)
            bus_feed.wait_until_consumed(kafka, prefix, topics.pings, lives)
            scene = Scene(collector, base, found[1], kafka, topics)
            question = f"{scene.serve}/v1/entities"
            assert eventually(lambda: ask(f"{question}/{OTHERS[0]}/forecast?horizon_s=47.1234", SENDERS) == 200)
            for page in ("healthz", "readyz", "metrics"):
                assert eventually(partial(answers, f"{scene.serve}/{page}")), serve.log()
            assert ask(f"{question}/{SAMPLED[0]}/forecast?horizon_s=47.1234", SENDERS) == 200
            assert ask(f"{question}/{SAMPLED[5]}/forecast") == 404
            assert ask(f"{question}?bbox=8.5,47.1234,8.6,47.2", trace(True)) == 200
            for process in (worker, door.process, serve):
                assert process.stop() == 0, process.log()
            yield scene


def trace(sampled: bool) -> str:
    """A `traceparent` whose trace is sampled by its id, or is not."""
    ids = (f"{n:032x}" for n in range(1, 1_000))
    return f"00-{next(one for one in ids if is_sampled(one, threshold(SHARE)) == sampled)}-00f067aa0ba902b7-01"


def post(url: str, *trackers: str, traceparent: str | None = None) -> int:
    place = {"position.latitude": 47.1234, "position.longitude": 8.5}
    body = msgspec.json.encode([{"ident": name, "timestamp": NOW_S, **place} for name in trackers])
    return ask(url, traceparent, data=body)


def ask(url: str, traceparent: str | None = None, **more: Any) -> int:
    headers = {"Content-Type": "application/json", **({} if traceparent is None else {"traceparent": traceparent})}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers, **more), timeout=60) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def answers(url: str) -> bool:
    """Whether a page answers 200 to a request whose trace is sampled."""
    return ask(url, trace(True)) == 200


def test_a_request_its_ping_and_its_forecast_are_one_trace(scene: Scene) -> None:
    requests = scene.named("POST /webhook/flespi")
    assert len(requests) == 2, "of the two that brought a sampled entity"
    continued, begun = sorted(requests, key=lambda one: one.parent_id == "")
    assert ["00", continued.trace_id, continued.parent_id, "01"] == SENDERS.split("-")
    pings = {(one.key or b"").decode(): one for one in bus_feed.read(scene.kafka, scene.topics.pings)}
    assert len(pings) == 4
    forecasts = {loads_forecast(one.value or b"").entity_id: one for one in read_forecasts(scene)}
    for request, tracker in ((continued, SAMPLED[0]), (begun, SAMPLED[1])):
        assert (request.service, request.kind, request.failed) == ("pathcast-ingest", SERVER, False)
        here = [one for one in scene.collector.spans if one.trace_id == request.trace_id]
        sent = next(one for one in here if (one.name, one.service) == ("publish", "pathcast-ingest"))
        assert (sent.kind, sent.parent_id) == (PRODUCER, request.span_id)
        assert request.begin_ns <= sent.begin_ns <= sent.end_ns <= request.end_ns
        assert dict(pings[tracker].headers)["traceparent"].decode() == f"00-{sent.trace_id}-{sent.span_id}-01"
        ping = next(one for one in here if one.name == "ping")
        assert (ping.service, ping.kind, ping.parent_id) == ("pathcast-worker", CONSUMER, sent.span_id)
        assert dict(forecasts[tracker].headers)["traceparent"].decode().split("-")[1] == request.trace_id
    for tracker in OTHERS[:2]:
        assert "traceparent" not in dict(pings[tracker].headers), "no part of the trace that brought it"


def read_forecasts(scene: Scene) -> list[Any]:
    return list(bus_feed.read(scene.kafka, scene.topics.forecasts))


def test_a_span_of_a_request_says_route_status_and_whose(scene: Scene) -> None:
    found, missing = sorted(scene.named(f"GET {ROUTE}"), key=lambda one: one.attributes["http.response.status_code"])
    assert [one.attributes["http.response.status_code"] for one in (found, missing)] == [200, 404]
    assert ["00", found.trace_id, found.parent_id, "01"] == SENDERS.split("-")
    assert missing.parent_id == ""
    for one in (found, missing):
        assert (one.service, one.kind, one.failed) == ("pathcast-serve", SERVER, False)
        assert (one.attributes["http.request.method"], one.attributes["http.route"]) == ("GET", ROUTE)
        assert one.begin_ns < one.end_ns
    pings = {one.attributes["pathcast.entity_hash"] for one in scene.named("ping")}
    assert found.attributes["pathcast.entity_hash"] in pings, "as in the spans of its pings"


def test_a_request_that_names_no_entity_is_sampled_by_its_trace(scene: Scene) -> None:
    (listed,) = scene.named("GET /v1/entities")
    (unknown,) = scene.named("POST")
    for one in (listed, unknown):
        assert [one.trace_id, one.parent_id] == trace(True).split("-")[1:3]
    assert unknown.attributes == {"http.request.method": "POST", "http.response.status_code": 404}


def test_no_span_has_an_id_a_place_or_a_query(scene: Scene) -> None:
    spans = scene.collector.spans
    assert {one.service for one in spans} == {"pathcast-worker", "pathcast-ingest", "pathcast-serve"}
    for one in spans:
        assert not any(tracker in str(one) for tracker in TRACKERS), one
        assert not re.search(r"47\.1|\blat|\blon|\?", f"{one.name} {one.attributes}"), one


def test_probes_have_no_spans(scene: Scene) -> None:
    assert not [one for one in scene.collector.spans if re.search(r"healthz|readyz|metrics", one.name)]
