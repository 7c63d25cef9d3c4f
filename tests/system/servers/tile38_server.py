"""A Tile38 for the tests: `tile38-server` on PATH, else a stand-in that answers as it does. Tests import this; it tests
nothing itself.

No registry that CI reaches has the server (its Go module is not served, npm and PyPI have clients alone). The stand-in
knows SET, GET, DEL, TTL, SCAN and PING as far as `pathcast sink tile38` and its tests use them, with the syntax, the
answers in RESP 2 and the errors of Tile38's own `internal/server/crud.go` and of its pages on these commands. What it
does not know it refuses, as Tile38 does.
"""

from __future__ import annotations

import shutil
import socketserver
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from redis import Redis, RedisError

from stream.processes.child import Supervised
from stream.up import embedded

START_S = 120.0  # a bound on waiting
RESERVED = ("lat", "lon", "z")  # names that no field may have


@contextmanager
def running(say: Callable[[str], None]) -> Iterator[str]:
    """Its URL."""
    binary = shutil.which("tile38-server")
    if binary is None:
        with _StandIn((embedded.HOST, 0), _Connection) as server:
            threading.Thread(target=server.serve_forever, name="tile38", daemon=True).start()
            url = f"redis://{embedded.HOST}:{server.server_address[1]}"
            say(f"tile38: no tile38-server on PATH; a stand-in at {url}")
            yield url
            server.shutdown()
        return
    home = Path(tempfile.mkdtemp(prefix="pathcast-tile38-"))
    port = embedded.free_port()
    command = [binary, "-h", embedded.HOST, "-p", str(port), "-d", str(home / "data"), "--appendonly", "no"]
    process = Supervised(command, log=home / "log", remove=home)
    try:
        _wait_until_up(port, process)
        say(f"tile38: {binary} at redis://{embedded.HOST}:{port}")
        yield f"redis://{embedded.HOST}:{port}"
    finally:
        process.stop()


def _wait_until_up(port: int, server: Supervised) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            with Redis(host=embedded.HOST, port=port, protocol=2) as client:
                client.ping()
                return
        except (RedisError, OSError):
            assert server.running, server.log_tail(3)
            assert time.monotonic() < deadline, server.log_tail(3)
            time.sleep(0.05)


class Refused(Exception):
    """Tile38's error for a command."""


@dataclass
class Thing:
    lat: float
    lon: float
    fields: dict[str, str] = field(default_factory=dict)
    until_s: float | None = None  # by the monotonic clock


class _StandIn(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True

    def __init__(self, *how: Any) -> None:
        super().__init__(*how)
        self.collections: dict[str, dict[str, Thing]] = {}
        self.lock = threading.Lock()

    def answer(self, words: Sequence[str]) -> Any:
        command = getattr(self, f"_{words[0].lower()}", None)
        if command is None:
            raise Refused(f"unknown command '{words[0]}'")
        with self.lock:
            now_s = time.monotonic()
            for things in self.collections.values():
                for name in [name for name, one in things.items() if one.until_s is not None and one.until_s <= now_s]:
                    del things[name]
            return command(*words[1:])

    def _ping(self) -> Any:
        return b"PONG"

    def _set(self, key: str, name: str, *words: str) -> Any:
        rest, thing = list(words), None
        fields: dict[str, str] = {}
        until_s = None
        while rest:
            word = rest.pop(0).lower()
            try:
                if word == "field":
                    named, value = rest.pop(0), rest.pop(0)
                    if named in RESERVED:
                        raise Refused(f"invalid argument '{named}'")
                    fields[named] = value
                elif word == "ex":
                    until_s = time.monotonic() + float(rest.pop(0))
                elif word == "point":
                    thing = Thing(float(rest.pop(0)), float(rest.pop(0)))
                else:
                    raise Refused(f"invalid argument '{word}'")
            except IndexError:
                raise Refused("invalid number of arguments") from None
            except ValueError:
                raise Refused("invalid argument") from None
        if thing is None:
            raise Refused("invalid number of arguments")
        things = self.collections.setdefault(key, {})
        kept = things[name].fields if name in things else {}  # SET keeps the fields that it does not name
        thing.fields, thing.until_s = kept | fields, until_s
        things[name] = thing
        return b"OK"

    def _get(self, key: str, name: str, *words: str) -> Any:
        found = self.collections.get(key, {}).get(name)
        if found is None:
            return None
        asked = [word.lower() for word in words]
        if "point" not in asked:
            raise Refused("invalid argument")
        place = [_number(found.lat), _number(found.lon)]
        if "withfields" not in asked:
            return place
        told = [word for pair in sorted(found.fields.items()) for word in pair]
        return [place, told] if told else [place]

    def _del(self, key: str, name: str) -> Any:
        return int(self.collections.get(key, {}).pop(name, None) is not None)

    def _ttl(self, key: str, name: str) -> Any:
        found = self.collections.get(key, {}).get(name)
        if found is None:
            return -2
        return -1 if found.until_s is None else int(found.until_s - time.monotonic())

    def _scan(self, key: str, *_: str) -> Any:
        things = self.collections.get(key, {})
        return [0, [[name, [_number(one.lat), _number(one.lon)]] for name, one in sorted(things.items())]]


def _number(value: float) -> str:
    """The shortest text that means this number."""
    return repr(int(value) if value.is_integer() else value)


class _Connection(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        while head := self.rfile.readline():
            assert head.startswith(b"*"), head
            words = []
            for _ in range(int(head[1:])):
                size = int(self.rfile.readline()[1:])
                words.append(self.rfile.read(size + 2)[:-2].decode())
            try:
                self.wfile.write(_encoded(self.server.answer(words)))  # type: ignore[attr-defined]  # it is a _StandIn
            except Refused as refusal:
                self.wfile.write(f"-ERR {refusal}\r\n".encode())


def _encoded(value: Any) -> bytes:
    if value is None:
        return b"$-1\r\n"
    if isinstance(value, bytes):
        return b"+" + value + b"\r\n"
    if isinstance(value, int):
        return f":{value}\r\n".encode()
    if isinstance(value, list):
        return f"*{len(value)}\r\n".encode() + b"".join(map(_encoded, value))
    raw = str(value).encode()
    return f"${len(raw)}\r\n".encode() + raw + b"\r\n"
