"""`pathcast map` as a process that may be killed and started again. Tests import this; it tests nothing itself."""

from __future__ import annotations

import json
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from pathcast_process import COMMAND, environment, eventually
from worker_process import Worker

from stream.up.embedded import free_port


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
        return self.ask(f"/map/entities/{urllib.parse.quote(entity_id, safe='')}")
