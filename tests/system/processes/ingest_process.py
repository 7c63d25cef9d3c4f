"""`pathcast ingest http` as a process of its own, and a sender. Tests import it; it tests nothing itself."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

import pathcast_process
from worker_process import Worker

START_S = 240.0  # a bound on waiting


class Door:
    """A running server; `url` and the name of a map are a webhook's address."""

    def __init__(self, process: Worker, url: str) -> None:
        self.process = process
        self.url = url


@contextmanager
def http(
    log: Path, *maps: str, kafka: str, prefix: str, environment: Mapping[str, str] = MappingProxyType({})
) -> Iterator[Door]:
    arguments = ("ingest", "http", *(f"--map={one}" for one in maps), "--listen=127.0.0.1:0", "--max-rate=100000")
    ours = pathcast_process.environment(**environment)
    program = pathcast_process.COMMAND
    with Worker(log, program=program, command=arguments, environment=ours, bootstrap=kafka, prefix=prefix) as process:
        process.wait_for("listening at ", START_S)
        found = re.search(r"listening at (http://\S+)/webhook/", process.log())
        assert found is not None
        yield Door(process, f"{found[1]}/webhook")
