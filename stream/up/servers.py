"""The embedded broker and store of `pathcast up`, whose state stays in its directory (`stream.up.embedded`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

from kafka.admin import ConfigResource, ConfigResourceType

from stream.config.home import Home
from stream.processes.child import Process, Supervised
from stream.up import embedded

# Where all commands look if they are told nothing, so that `pathcast feed` and `pathcast tail` find them.
KAFKA_PORT: Final = 9092
REDIS_PORT: Final = 6379
# The broker keeps all records in memory, 0.8 KB and more for each, and writes all of them to disk every second.
RETENTION_MS: Final = 3_600_000
PARTITIONS: Final = 4  # of new topics: workers of one machine share them


class EmbeddedServer(NamedTuple):
    """A server that we start ourselves."""

    name: str
    port: int
    command: Callable[[int, Path], list[str]]
    answers: Callable[[int], bool]

    @property
    def address(self) -> str:
        return f"{embedded.HOST}:{self.port}"

    def starter(self, home: Home, lock: int) -> Callable[[], Process]:
        """Returns what starts it, and again on the same port. Raises RuntimeError if its package is not installed."""
        folder = home.server(self.name)
        folder.mkdir(exist_ok=True)
        return partial(Supervised, self.command(self.port, folder), log=home.log(self.name), held=[lock])


def kafka() -> EmbeddedServer:
    return EmbeddedServer("kafka", embedded.usual_port(KAFKA_PORT), embedded.broker_command, embedded.kafka_answers)


def redis() -> EmbeddedServer:
    return EmbeddedServer("redis", embedded.usual_port(REDIS_PORT), embedded.store_command, embedded.redis_answers)


def forget_soon(client: Any, topics: Sequence[str]) -> None:
    """Lets the embedded broker delete records of these topics after RETENTION_MS. `client` is kafka-python's admin."""
    retention = {"retention.ms": str(RETENTION_MS)}
    client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, retention) for name in topics])
