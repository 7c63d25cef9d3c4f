"""A worker that forecasts the demo's buses as they come, and `pathcast map` beside it. Tests import this; it tests
nothing itself."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Final

import bus_feed
from pathcast_process import COMMAND, environment, eventually
from worker_process import Worker, assert_all_live

from stream.adapters.files import read
from stream.demo.embedded import free_port
from stream.wire import Ping, Topics, dumps

HOSTILE: Final = ('<img src=x onerror="window.hacked=1">\u202e\u2066drow\U0001f68c&amp;\'' + "W" * 128)[:128]
FIRST: Final = 1_500  # pings before the map is looked at: every bus has a track then
PINGS_S: Final = 8.0  # from then on: enough for eleven minutes, and each bus moves every five seconds


def buses() -> Iterator[bus_feed.Raw]:
    """The sample's pings, and with every fortieth one of a hostile id beside it."""
    for number, row in enumerate(read(bus_feed.SAMPLE)):
        yield row.key, row.value, ()
        if number % 40 == 0 and row.ts_ms is not None:
            ping = Ping(entity_id=HOSTILE, ts=row.ts_ms, lat=30.27 + number / 100_000, lon=-97.74)
            yield HOSTILE.encode(), dumps(ping), ()


class MapServer:
    """`pathcast map` at a port that stays the same when it is started anew."""

    def __init__(self, folder: Path, kafka: str, prefix: str, *, token: str = "", **options: object) -> None:
        self._port = free_port()
        self._log = folder / f"map{self._port}.log"
        self._options = {"bootstrap": kafka, "prefix": prefix, "listen": self._port, **options}
        self._token = token
        self._process: Worker | None = None
        self.base = f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> MapServer:
        self.start()
        return self

    def __exit__(self, *what: Any) -> None:
        assert self._process is not None
        self._process.__exit__(*what)

    def start(self) -> None:
        env = environment(**({"PATHCAST_MAP_TOKEN": self._token} if self._token else {}))
        self._process = Worker(self._log, program=COMMAND, command=("map",), environment=env, **self._options)
        assert eventually(lambda: self._ready() or not self._lives()), self._process.log()
        assert self._lives(), self._process.log()

    def _lives(self) -> bool:
        return self._process is not None and self._process.running()

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.base}/readyz", timeout=10) as said:
                return bool(said.status == 200)
        except OSError:
            return False

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()

    def ask(self, path: str, **query: object) -> Any:
        """The JSON of an answer."""
        asked = f"?{urllib.parse.urlencode(query)}" if query else ""
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        with urllib.request.urlopen(urllib.request.Request(self.base + path + asked, headers=headers)) as said:
            return json.load(said)

    def entity(self, entity_id: str) -> Any:
        return self.ask(f"/v1/entities/{urllib.parse.quote(entity_id, safe='')}")


@contextmanager
def live_fleet(kafka: str, redis_url: str, prefix: str, weights: Path, folder: Path) -> Iterator[Worker]:
    """A worker that has answered the first pings, and gets more as long as this lasts."""
    topics = Topics.of(prefix)
    how = {"bootstrap": kafka, "redis": redis_url, "weights": weights, "prefix": prefix, "group": prefix}
    with Worker(folder / "worker.log", **how, partitions=2) as worker:
        worker.wait_until_ready()
        rows = buses()
        bus_feed.send(kafka, topics.pings, islice(rows, FIRST))
        bus_feed.wait_until_consumed(kafka, prefix, topics.pings, partial(assert_all_live, worker))
        stop = threading.Event()
        feeder = threading.Thread(target=bus_feed.send, args=(kafka, topics.pings, _paced(rows, stop)))
        feeder.start()
        try:
            yield worker
        finally:
            stop.set()
            feeder.join()


def _paced(rows: Iterator[bus_feed.Raw], stop: threading.Event) -> Iterator[bus_feed.Raw]:
    """The rows one by one, until it is to stop."""
    for row in rows:
        if stop.wait(1 / PINGS_S):
            return
        yield row
