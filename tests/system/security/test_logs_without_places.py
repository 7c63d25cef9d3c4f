"""No log line at info or above has a position: not of sound pings, not of odd ones, not of requests that cannot be
parsed, in worker, ingest and serve."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import bus_feed
import pytest
from pathcast_process import eventually
from worker_process import Worker, assert_all_live

from stream.wire import Ping, Topics, dumps

LAT, LON = 47.361829, 8.547813  # of every record and request here, with other last digits
# Not within a number or a name: a port was 28540 once.
PLACES = re.compile(r"(?<!\w)(47[.,]?36\d|8[.,]?54\d|36182|54781|91\.36|191\.54)")
T0 = 1_700_000_000_000
ANSWER_S = 60.0  # a bound on waiting
LISTENING = re.compile(r"listening at http://127\.0\.0\.1:(\d+)")


@pytest.fixture
def options(kafka: str, redis_url: str, topic_prefix: str) -> dict[str, Any]:
    bus_feed.create_topics(kafka, Topics.of(topic_prefix), partitions=2)
    return {"bootstrap": kafka, "prefix": topic_prefix}


def bodies() -> Iterator[tuple[bytes | None, bytes | None]]:
    """Keys and values: sound pings with a silence and a jump among them, and whatever else has a position in it."""
    for second in (0, 10, 20, 30, 900, 910):
        yield b"bus", dumps(Ping(entity_id="bus", ts=T0 + second * 1000, lat=LAT + second / 1e5, lon=LON))
    yield b"bus", dumps(Ping(entity_id="bus", ts=T0 + 920_000, lat=LAT, lon=LON + 30))  # an impossible jump
    yield b"bus", dumps(Ping(entity_id="bus", ts=T0 + 1_000, lat=LAT, lon=LON))  # late
    members = {
        "lat_out_of_range": {"lat": 91.361829, "lon": LON},
        "lon_out_of_range": {"lat": LAT, "lon": 191.547813},
        "texts": {"lat": "47.361829 N", "lon": "8.547813 E"},
        "lists": {"lat": [LAT], "lon": [LON]},
        "ts": {"lat": LAT, "lon": LON, "ts": "47.361829"},
        "id": {"lat": LAT, "lon": LON, "entity_id": f"{LAT}\n{LON}"},
        "future": {"lat": LAT, "lon": LON, "ts": 4_000_000_000_000},
        "attrs": {"lat": LAT, "lon": LON, "attrs": {"where": f"{LAT},{LON}"}, "hdop": f"{LAT}"},
    }
    for name, more in members.items():
        yield name.encode(), json.dumps({"entity_id": name, "ts": T0, **more}).encode()
    yield b"broken", f'{{"lat":{LAT},"lon":{LON},'.encode()
    yield b"other", f'{{"entity_id":"bus","ts":{T0},"lat":{LAT},"lon":{LON}}}'.encode()  # of another key
    yield f"{LAT}".encode(), f"{LAT},{LON}".encode()
    yield b"empty", None
    yield None, f"$GPGGA,{LAT},N,{LON},E".encode()


@pytest.mark.promise("no log line has a position")
def test_a_worker_logs_no_position(options: dict[str, Any], redis_url: str, tmp_path: Path, weights: Path) -> None:
    topics = Topics.of(options["prefix"])
    more = {"redis": redis_url, "weights": weights, "group": options["prefix"], "log_format": "json"}
    with Worker(tmp_path / "log", **options, **more) as worker:
        worker.wait_until_ready()
        sent = [(key, value, ()) for key, value in bodies()]
        bus_feed.send(options["bootstrap"], topics.pings, iter(sent))
        lives = partial(assert_all_live, worker)
        bus_feed.wait_until_consumed(options["bootstrap"], options["prefix"], topics.pings, lives)
        assert worker.stop() == 0, worker.log()
        assert_no_place(worker.log())
    letters = list(bus_feed.read(options["bootstrap"], topics.dead_letters))
    assert len(letters) >= 8, "odd pings were refused, and where they were stands in their letters"


def test_ingest_logs_no_position(options: dict[str, Any], tmp_path: Path) -> None:
    command = ("ingest", "http")
    with Worker(tmp_path / "log", command=command, **options, listen="127.0.0.1:0", map="owntracks") as ingest:
        port = listening(ingest)
        path = f"/webhook/owntracks?u=me&d=phone&at={LAT},{LON}"
        for _, value in bodies():
            body = value or b""
            lat = json.dumps(LAT)
            asked(port, post(path, body.replace(b'"entity_id"', b'"_type":"location","entity_id"')))
            asked(
                port, post(path, f'{{"_type":"location","tid":"x","tst":"{LAT}","lat":{lat},"lon":"{LON}"}}'.encode())
            )
        odd_requests(port)
        assert ingest.stop() == 0, ingest.log()
        assert_no_place(ingest.log())


def test_serve_logs_no_position(options: dict[str, Any], redis_url: str, tmp_path: Path, weights: Path) -> None:
    more = {"redis": redis_url, "weights": weights, "group": options["prefix"], "listen": "127.0.0.1:0"}
    with Worker(tmp_path / "log", command=("serve",), **options, **more) as serve:
        port = listening(serve)
        for path in (f"/v1/entities?near={LAT},{LON}", f"/v1/entities/{LAT},{LON}/forecast?horizons={LAT}"):
            asked(port, f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        for body in (
            f'{{"lat":{LAT},"lon":"{LON}"}}',
            f'{{"pings":[{{"ts":0,"lat":{LAT},"lon":{LON}}}]',
            f"{LAT},{LON}",
        ):
            for path in ("/v1/eta", "/v1/gapfill"):
                asked(port, post(path, body.encode()))
        odd_requests(port)
        assert serve.stop() == 0, serve.log()
        assert_no_place(serve.log())


def odd_requests(port: int) -> None:
    """What no HTTP parser takes."""
    for line in (
        f"GET /?lat={LAT}&lon={LON}",
        f"{LAT},{LON} / HTTP/1.1",
        f"GET /?lat={LAT}&lon={LON} HTTP/9.{LAT}",
        f"GET / HTTP/1.1\r\nX-At {LAT} {LON}",
        f"$GPGGA,{LAT},N,{LON},E",
        f"GET /{LAT} HTTP/1.1\r\nHost: x\r\nContent-Length: {LAT}",
    ):
        asked(port, f"{line}\r\n\r\n".encode())


def post(path: str, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: close\r\n"
    return head.encode() + f"Content-Length: {len(body)}\r\n\r\n".encode() + body


def asked(port: int, raw: bytes) -> bytes:
    """The answer to these bytes; none if the server hangs up."""
    with socket.create_connection(("127.0.0.1", port), ANSWER_S) as to:
        to.sendall(raw)
        to.shutdown(socket.SHUT_WR)
        found = b""
        try:
            while part := to.recv(65_536):
                found += part
        except ConnectionResetError:
            pass
        return found


def listening(process: Worker) -> int:
    assert eventually(lambda: bool(LISTENING.search(process.log())) or not process.running(), 300), process.log()
    found = LISTENING.search(process.log())
    assert found is not None, process.log()
    return int(found[1])


def assert_no_place(log: str) -> None:
    """Versions, process numbers and times are no positions: each line is looked through without these two."""
    assert "INFO" in log or '"info"' in log, "it logs at all"
    for line in log.splitlines():
        text = re.sub(r'\d{4}-\d\d-\d\dT[\d:.]+Z|"pid":\d+', "", line)
        found = PLACES.search(text)
        assert found is None, f"{found[0]!r} in {line}"
