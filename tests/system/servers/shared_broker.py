"""One broker for all processes that share a test run. The process that started them owns it, and starts it when the
first test wants it, so that a run without brokers has none. They speak by files in a folder of the run."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import kafka_server
from kafka_server import Broker

PATIENCE_S: Final = 300.0  # a bound on waiting: Maven may have to fetch the jars first
LOOK_S: Final = 0.1
WANTED, THERE, REFUSED = "wanted", "broker.json", "refused"


class SharedBroker:
    """The broker, in the process that owns it."""

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self._folder, self._say = folder, say
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()

    def _serve(self) -> None:
        while not (self._folder / WANTED).exists():
            if self._over.wait(LOOK_S):
                return
        try:
            with kafka_server.running(self._say) as broker:
                _write(self._folder / THERE, json.dumps(broker))
                self._over.wait()
        except kafka_server.Unavailable as reason:
            _write(self._folder / REFUSED, str(reason))


def ask(folder: Path) -> Broker:
    """Returns the shared broker once it answers. Raises Unavailable as `kafka_server.running`, and if it never does."""
    (folder / WANTED).touch()
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if (folder / REFUSED).exists():
            raise kafka_server.Unavailable((folder / REFUSED).read_text())
        if (folder / THERE).exists():
            return Broker(*json.loads((folder / THERE).read_text()))
        time.sleep(LOOK_S)
    raise kafka_server.Unavailable(f"the broker of this run did not start in {PATIENCE_S:.0f} s")


def _write(path: Path, text: str) -> None:
    """Writes a file that others find whole or not at all."""
    path.with_suffix(".part").write_text(text)
    path.with_suffix(".part").rename(path)
