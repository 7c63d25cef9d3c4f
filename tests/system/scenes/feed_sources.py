"""Sources that broadcast, each over its real transport: a feed over HTTP, a receiver over TCP or UDP, a serial port,
and gpsd. And `pathcast ingest NAME` as a process. Tests import this; it tests nothing itself."""

from __future__ import annotations

import os
import pty
import shutil
import socket
import subprocess
import threading
import time
import tty
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pathcast_process
from google.transit.gtfs_realtime_pb2 import FeedMessage
from pathcast_process import eventually
from pyais import encode_dict
from worker_process import Worker

from stream.up.embedded import HOST, free_port

LAT_STEP_DEG = 0.001  # 111 m


def ingest(log: Path, *command: object, kafka: str, prefix: str, **environment: str) -> Worker:
    return Worker(
        log,
        program=pathcast_process.COMMAND,
        command=("ingest", *map(str, command)),
        environment=pathcast_process.environment(**environment),
        bootstrap=kafka,
        prefix=prefix,
    )


# -- messages of the formats: a vehicle at `ts_s`, a step further north each `number` ----------------------------------


def gtfs_feed(ts_s: int, vehicles: Sequence[tuple[str, int]]) -> bytes:
    message = FeedMessage()
    message.header.gtfs_realtime_version = "2.0"
    message.header.timestamp = ts_s
    for who, number in vehicles:
        vehicle = message.entity.add(id=who).vehicle
        vehicle.vehicle.id, vehicle.timestamp = who, ts_s
        vehicle.trip.trip_id, vehicle.trip.route_id = f"trip-{who}", "801"
        vehicle.position.latitude, vehicle.position.longitude = 30.0 + number * LAT_STEP_DEG, -97.75
        vehicle.position.speed = 11.1
    return bytes(message.SerializeToString())


def ais_line(mmsi: int, ts_s: int, number: int) -> bytes:
    """A class A report with a TAG block."""
    given = {"type": 1, "mmsi": mmsi, "lat": 29.0 + number * LAT_STEP_DEG, "lon": -94.75, "speed": 21.6, "course": 0.0}
    (sentence,) = encode_dict({**given, "heading": 511, "second": ts_s % 60}, talker_id="AI")
    tags = f"c:{ts_s}"
    return f"\\{tags}*{_checksum(tags):02X}\\{sentence}\r\n".encode()


def rmc(ts_s: int, number: int) -> bytes:
    at = time.gmtime(ts_s)
    minutes = 30 + number * LAT_STEP_DEG * 60
    clock, date = time.strftime("%H%M%S", at), time.strftime("%d%m%y", at)
    body = f"GNRMC,{clock}.00,A,37{minutes:07.4f},N,12218.0000,W,21.6,0.0,{date},,,A"
    return f"${body}*{_checksum(body):02X}\r\n".encode()


def _checksum(text: str) -> int:
    found = 0
    for byte in text.encode():
        found ^= byte
    return found


# -- transports -------------------------------------------------------------------------------------------------------


class HttpFeed:
    """Answers each request with the next snapshot, and remembers which it has served."""

    def __init__(self, snapshots: Callable[[int], bytes]) -> None:
        self.served: list[bytes] = []
        feed = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = snapshots(len(feed.served))
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
                feed.served.append(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer((HOST, 0), Handler)
        self.url = f"http://{HOST}:{self._server.server_port}/vehicles"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def __enter__(self) -> HttpFeed:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def tcp_peer() -> Iterator[tuple[str, Callable[[], socket.socket]]]:
    """The address of a receiver, and what waits for its client."""
    with socket.create_server((HOST, 0)) as listening:
        listening.settimeout(pathcast_process.PATIENCE_S)
        yield f"{HOST}:{listening.getsockname()[1]}", lambda: listening.accept()[0]


@contextmanager
def serial_line() -> Iterator[tuple[int, str]]:
    """A descriptor to write into, and the path of the port at which that arrives: a pseudo terminal."""
    ours, theirs = pty.openpty()
    try:
        tty.setraw(theirs)
        yield ours, os.ttyname(theirs)
    finally:
        os.close(ours)
        os.close(theirs)


@contextmanager
def real_gpsd(port_path: str, folder: Path) -> Iterator[int]:
    """The port of a gpsd of Debian that reads a serial port. Raises FileNotFoundError if it is not installed."""
    binary = shutil.which("gpsd") or ("/usr/sbin/gpsd" if Path("/usr/sbin/gpsd").exists() else None)
    if binary is None:
        raise FileNotFoundError("no gpsd on PATH")
    port = free_port()
    # -n: it reads at once, and not only when a client watches; -N: in the foreground; -b: it writes nothing to the port
    command = [binary, "-n", "-N", "-b", "-S", str(port), port_path]
    with (folder / "gpsd.log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            assert eventually(lambda: _answers(port)), (folder / "gpsd.log").read_text()
            yield port
        finally:
            process.terminate()
            process.wait(20)


def _answers(port: int) -> bool:
    try:
        with socket.create_connection((HOST, port), timeout=1.0) as client:
            return client.recv(20).startswith(b'{"class":"VERSION"')
    except OSError:
        return False


def pings_by_entity(records: Iterator[Any]) -> dict[str, list[Any]]:
    from stream.tracks.clean import parse

    found: dict[str, list[Any]] = {}
    for record in records:
        ping = parse(record)
        found.setdefault(ping.entity_id, []).append(ping)  # type: ignore[union-attr]
    return found
