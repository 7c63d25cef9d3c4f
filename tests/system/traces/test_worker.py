"""A worker's traces, as a collector gets them: each ping of a sampled entity is one trace from its sender to its
forecast, which its gap fills and its dead letter name, too; nobody else has one; `pathcast verify` judges all of it as
ever; and a collector that is away holds nobody up."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import socket
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import bus_feed
import pytest
import redis_server
from pathcast_process import PATIENCE_S, VERIFY, environment
from trace_collector import ReceivedSpan, collecting
from worker_process import Worker, assert_all_live

from stream.tracing.sampling import is_sampled, threshold
from stream.wire import ERROR_HEADER_PREFIX, Ping, Record, Topics, dumps, loads_forecast, loads_gapfill

SHARE = 0.2
BUSES = [f"bus-{n}" for n in range(60)]
TRUCKS = [f"truck-{n}" for n in range(12)]
SAMPLED = {name for name in (*BUSES, *TRUCKS) if is_sampled(name, threshold(SHARE))}
FIRST = next(name for name in BUSES if name in SAMPLED)
ROUNDS = 3
SILENCE_S = [*range(0, 100, 10), 900, 910, 920]  # of a truck: its fill is provisional, and final two pings later
SPANS = ROUNDS * len(SAMPLED & {*BUSES}) + (len(SILENCE_S) + 1) * len(SAMPLED & {*TRUCKS})  # of whole pings
T0 = 1_700_000_000_000
KEY = "a key of the test"
SENDERS = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
PARTS = ["consume", "batch wait", "track", "step", "write", "publish", "commit"]
CODE = "lat_out_of_range"

Options = dict[str, Any]


def rounds() -> Iterator[bus_feed.Raw]:
    """Three pings of each bus. The first ping of the first sampled one has a sender that traces."""
    for second in range(ROUNDS):
        for n, name in enumerate(BUSES):
            sent = (("traceparent", SENDERS.encode()),) if (second, name) == (0, FIRST) else ()
            ping = Ping(entity_id=name, ts=T0 + 10_000 * second, lat=30.0 + n / 1000, lon=-97.0 + second / 10_000)
            yield name.encode(), dumps(ping), sent


def silences() -> Iterator[bus_feed.Raw]:
    """A silence in the track of each truck, and at its end a ping without a place on Earth. The sender of these last
    ones traces."""
    for second in SILENCE_S:
        for n, name in enumerate(TRUCKS):
            place = {"lat": 30.0 + n / 1000, "lon": -97.0 + second / 10_000}
            yield name.encode(), dumps(Ping(entity_id=name, ts=T0 + second * 1000, **place)), ()
    for name in TRUCKS:
        headers = ("kept", b"as it came"), ("Traceparent", SENDERS.encode())
        yield name.encode(), dumps(Ping(entity_id=name, ts=T0 + 930_000, lat=91.5, lon=-97.0)), headers


def answered(options: Options, log: Path, pings: Iterable[bus_feed.Raw], **sends: str) -> str:
    """Lets a worker answer all pings, and stops it, which sends the last spans; its log."""
    topics = Topics.of(options["prefix"])
    bus_feed.create_topics(options["bootstrap"], topics, partitions=2)
    with Worker(log, environment=sends, **options) as worker:
        worker.wait_until_ready()
        bus_feed.send(options["bootstrap"], topics.pings, iter(pings))
        lives = partial(assert_all_live, worker)
        bus_feed.wait_until_consumed(options["bootstrap"], options["group"], topics.pings, lives)
        assert worker.stop() == 0, worker.log()
        return worker.log()


class Traced(NamedTuple):
    """What a worker made of the pings, and what a collector got of that."""

    options: Options
    spans: list[ReceivedSpan]

    def read(self, topic: str) -> list[Record]:
        return list(bus_feed.read(self.options["bootstrap"], getattr(Topics.of(self.options["prefix"]), topic)))

    @property
    def exactly_once(self) -> bool:
        return bool(self.options["delivery"] == "exactly_once")

    @property
    def publishing(self) -> dict[str, ReceivedSpan]:
        """The spans in which something was published, by the header that names them."""
        return {f"00-{one.trace_id}-{one.span_id}-01": one for one in self.spans if one.name == "publish"}

    def wholes(self) -> list[ReceivedSpan]:
        return [one for one in self.spans if one.name == "ping"]


@pytest.fixture(scope="module", params=["at_least_once", "exactly_once"])
def traced(
    request: pytest.FixtureRequest, kafka: str, weights: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Traced]:
    """With exactly_once, the spans show ids, as is asked for."""
    assert 1 < len(SAMPLED & {*TRUCKS}) < len(TRUCKS)
    assert 1 < len(SAMPLED & {*BUSES}) < len(BUSES) // 3, "some and not all"
    folder, prefix = tmp_path_factory.mktemp("traces"), f"traces{time.monotonic_ns()}"
    with redis_server.running(lambda line: None) as redis_url, collecting() as collector:
        options = {"bootstrap": kafka, "redis": redis_url, "weights": weights, "prefix": prefix, "group": prefix}
        options |= {"delivery": request.param, "trace_share": SHARE}
        sends = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint, "PATHCAST_TRACE_KEY": KEY}
        sends |= {"PATHCAST_TRACE_ENTITY_IDS": "1"} if request.param == "exactly_once" else {}
        answered(options, folder / "log", chain(rounds(), silences()), **sends)
        yield Traced(options, collector.spans)


def place_of(at: dict[str, Any]) -> tuple[int, int]:
    return int(at["messaging.destination.partition.id"]), int(at["messaging.kafka.offset"])


def test_each_ping_of_a_sampled_entity_is_one_trace(traced: Traced) -> None:
    sent = {(one.partition, one.offset): one for one in traced.read("pings")}
    places = {place_of(one.attributes): one for one in traced.wholes()}
    assert len(places) == len(traced.wholes()) == SPANS
    assert {(sent[place].key or b"").decode() for place in places} == SAMPLED
    for place, whole in places.items():
        name = (sent[place].key or b"").decode()
        at = whole.attributes
        assert whole.service == "pathcast-worker"
        assert at["messaging.destination.name"] == Topics.of(traced.options["prefix"]).pings
        if traced.exactly_once:
            assert at["pathcast.entity_id"] == name, "as is asked for"
        else:
            digest = hmac.new(KEY.encode(), name.encode(), hashlib.sha256).hexdigest()
            assert at["pathcast.entity_hash"] == digest[:16]
            assert name not in str(whole), "no id"
        assert not re.search(r"30\.0|97\.0|-97|91\.5|\blat|\blon", str({**at, "pathcast.dead_letter": ""})), "no place"


def test_the_parts_of_a_ping_follow_each_other_and_its_sender(traced: Traced) -> None:
    sent = {(one.partition, one.offset): one for one in traced.read("pings")}
    parts: dict[str, dict[str, ReceivedSpan]] = defaultdict(dict)
    for span in traced.spans:
        if span.name != "ping":
            assert span.name not in parts[span.parent_id], "a span came twice"
            parts[span.parent_id][span.name] = span
    for whole in traced.wholes():
        ping = sent[place_of(whole.attributes)]
        if (ping.key or b"").decode() in BUSES:
            sender = dict(ping.headers).get("traceparent", b"").decode().split("-")
            assert [whole.trace_id, whole.parent_id] == (sender[1:3] if len(sender) == 4 else [whole.trace_id, ""])
            check_times(whole, parts[whole.span_id], ping.timestamp_ms, traced.exactly_once)


def check_times(whole: ReceivedSpan, parts: dict[str, ReceivedSpan], published_ms: int, once: bool) -> None:
    """One part after the other, all within the whole; only what Kafka did before is before it."""
    assert sorted(parts, key=PARTS.index) == PARTS
    order = [parts[name] for name in PARTS]
    assert {one.trace_id for one in order} == {whole.trace_id}
    assert order[0].begin_ns == published_ms * 1_000_000
    assert order[0].end_ns == whole.begin_ns == parts["batch wait"].begin_ns
    for one, after in pairwise(order):
        assert one.begin_ns <= one.end_ns
        if not (once and one.name == "publish"):
            assert one.end_ns <= after.begin_ns, (one.name, after.name)
    assert order[-1].end_ns == whole.end_ns
    if once:
        assert (parts["publish"].begin_ns, parts["publish"].end_ns) == (order[-1].begin_ns, order[-1].end_ns)


def test_forecasts_of_sampled_pings_name_the_span_in_which_they_were_published(traced: Traced) -> None:
    """And no other forecast names one."""
    wholes = {one.span_id: place_of(one.attributes) for one in traced.wholes()}
    due = {wholes[one.parent_id]: header for header, one in traced.publishing.items()}
    forecasts = traced.read("forecasts")
    assert len(forecasts) == len(BUSES) * ROUNDS + len(TRUCKS) * len(SILENCE_S)
    for record in forecasts:
        forecast = loads_forecast(record.value or b"")
        header = dict(record.headers).get("traceparent", b"").decode()
        assert (header != "") == (forecast.entity_id in SAMPLED)
        assert header in ("", due.get((forecast.src.partition, forecast.src.offset)))


def test_gap_fills_of_sampled_pings_name_their_span(traced: Traced) -> None:
    fills = traced.read("gapfills")
    assert len(fills) == 2 * len(TRUCKS)
    wholes = {one.span_id: one for one in traced.wholes()}
    for record in fills:
        name = loads_gapfill(record.value or b"").entity_id
        told = [value.decode() for header, value in record.headers if header == "traceparent"]
        assert len(told) == (name in SAMPLED), name
        for one in told:
            assert wholes[traced.publishing[one].parent_id].attributes["pathcast.gap_fills"] == 1
    counted = [one for one in wholes.values() if "pathcast.gap_fills" in one.attributes]
    assert len(counted) == 2 * len(SAMPLED & {*TRUCKS})


def test_dead_letters_of_sampled_pings_name_their_span(traced: Traced) -> None:
    wholes = {place_of(one.attributes): one for one in traced.wholes()}
    letters = traced.read("dead_letters")
    assert len(letters) == len(TRUCKS)
    for letter in letters:
        headers = dict(letter.headers)
        told = [value.decode() for header, value in letter.headers if header.lower() == "traceparent"]
        assert headers["kept"] == b"as it came"
        assert len(told) == 1
        if (letter.key or b"").decode() not in SAMPLED:
            assert told == [SENDERS], "the sender's, as it came"
            continue
        of = wholes[int(headers[f"{ERROR_HEADER_PREFIX}partition"]), int(headers[f"{ERROR_HEADER_PREFIX}offset"])]
        assert traced.publishing[told[0]].parent_id == of.span_id
        assert SENDERS.split("-")[1:3] == [of.trace_id, of.parent_id]
        assert of.attributes["pathcast.dead_letter"] == CODE
        assert "91.5" not in str(of.attributes)


def test_the_verifier_traces_nothing_and_yet_finds_what_is_due(traced: Traced) -> None:
    names = ("bootstrap", "redis", "prefix", "group", "weights", "delivery")
    options = [f"--{name}={traced.options[name]}" for name in names]
    command = [*VERIFY, *options, "--json", "--numbers=close"]
    run = subprocess.run(command, capture_output=True, timeout=PATIENCE_S, env=environment(), check=False)
    report = json.loads(run.stdout)
    assert report["ok"], (report["examples"], run.stderr)
    assert report["total"]["dead_letters"] == len(TRUCKS)


def test_a_collector_that_is_away_holds_nobody_up(
    kafka: str, redis_url: str, topic_prefix: str, weights: Path, tmp_path: Path
) -> None:
    options = {"bootstrap": kafka, "redis": redis_url, "weights": weights, "prefix": topic_prefix}
    options |= {"group": topic_prefix, "trace_share": SHARE}
    few = {"OTEL_BSP_MAX_QUEUE_SIZE": "16", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "8"}
    with socket.socket() as taken:  # nobody listens there
        taken.bind(("127.0.0.1", 0))
        away = f"http://127.0.0.1:{taken.getsockname()[1]}"
        log = answered(options, tmp_path / "log", rounds(), OTEL_EXPORTER_OTLP_ENDPOINT=away, **few)
    assert len(list(bus_feed.read(kafka, Topics.of(topic_prefix).forecasts))) == len(BUSES) * ROUNDS
    assert "WARNING" in log
    assert "export" in log.lower() or "Queue full" in log, log
