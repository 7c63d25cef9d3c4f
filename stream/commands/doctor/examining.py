"""Gathers all kinds of facts at the same time, each within a time of its own, and asks what follows."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Generic, NamedTuple, TypeVar

from stream.commands.doctor.finding import Finding, ok, problem, warning
from stream.config.security import PLAIN_KAFKA, PLAIN_REDIS, KafkaSecurity, RedisSecurity, Refused, shown
from stream.wire import Topics

LEAST_FILES: Final = 1_024  # sockets to each broker and Redis, atlases, files of an archive


class Machine(NamedTuple):
    files: int  # that a process may have open; -1: without a limit
    instructions: str  # the widest vectors that compiled code uses
    bfloat16: bool


def read_machine() -> Machine:
    import resource

    from model.api import processor

    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return Machine(-1 if files == resource.RLIM_INFINITY else files, *processor())


def check_machine(found: Machine) -> list[Finding]:
    if 0 <= found.files < LEAST_FILES:
        files = warning("open files", f"at most {found.files:,}", f"ulimit -n {LEAST_FILES} or more for the workers")
    else:
        files = ok("open files", "no limit" if found.files < 0 else f"at most {found.files:,}")
    if found.instructions == "none":
        vectors = "no AVX2: layers are plain loops, several times slower"
        return [files, warning("processor", vectors, "run workers on a processor with AVX2")]
    numbers = "with bfloat16" if found.bfloat16 else "without bfloat16: layers are float32, and take longer"
    return [files, ok("processor", f"{found.instructions}, {numbers}")]


T = TypeVar("T")
WEIGHTS_S: Final = 60.0  # to read and check weights takes some seconds, with golden forecasts some more
PARTS: Final = ("kafka", "redis", "weights", "atlases", "registry", "machine")


@dataclass(frozen=True)
class Asked:
    """What is to be examined. A part that is None or in `without` is not."""

    bootstrap: str
    redis_url: str = field(repr=False)  # it may hold a password
    weights: str
    group: str
    prefix: str
    exactly_once: bool = False
    atlases: Path | None = None
    registry: str | None = None
    kafka: KafkaSecurity = PLAIN_KAFKA
    redis: RedisSecurity = PLAIN_REDIS
    timeout_s: float = 10.0
    without: frozenset[str] = frozenset()

    @property
    def topics(self) -> Topics:
        return Topics.of(self.prefix)

    @property
    def versions(self) -> bool:
        return self.atlases is not None or self.registry is not None


class Part(Generic[T]):
    """Facts that a thread gathers. The thread does not keep the process alive."""

    def __init__(self, gather: Callable[[], T], within_s: float) -> None:
        self._gather, self._deadline_s = gather, time.monotonic() + within_s
        self.within_s = within_s
        self.value: T | None = None
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.value = self._gather()
        except Exception as error:  # whatever a server or a file does: it becomes a finding
            self.error = error

    def done(self) -> bool:
        """Waits until the facts are there, or their time is over."""
        self._thread.join(max(0.0, self._deadline_s - time.monotonic()))
        return not self._thread.is_alive()


def examine(asked: Asked) -> list[Finding]:
    """Returns all findings, in the order of PARTS. Writes nothing anywhere."""
    parts = {name: part for name, part in _parts(asked).items() if name not in asked.without}
    found: list[Finding] = []
    for name in PARTS:
        if name in parts:
            found += _findings(name, parts[name], asked)
    return found


def _parts(asked: Asked) -> dict[str, Part[Any]]:
    """Begins to gather all that is asked for."""
    from stream.commands.doctor import files_facts

    said: Part[files_facts.Announced] | None = None
    if asked.versions and "kafka" not in asked.without:
        said = Part(
            lambda: files_facts.announced(asked.bootstrap, asked.topics, asked.kafka, asked.timeout_s), asked.timeout_s
        )

    def announced() -> files_facts.Announced | None:
        return said.value if said is not None and said.done() else None

    long_s = WEIGHTS_S + 2 * asked.timeout_s
    parts: dict[str, Part[Any]] = {
        "kafka": Part(lambda: _kafka(asked), 2 * asked.timeout_s),
        "redis": Part(lambda: _redis(asked), 2 * asked.timeout_s),
        "weights": Part(lambda: files_facts.weights(asked.weights), long_s),
        "machine": Part(read_machine, long_s),
    }
    if (folder := asked.atlases) is not None:
        parts["atlases"] = Part(lambda: files_facts.atlases(folder, announced()), long_s)
    if (url := asked.registry) is not None:
        parts["registry"] = Part(lambda: files_facts.versions(url, announced()), long_s)
    return parts


def _kafka(asked: Asked) -> Any:
    from stream.commands.doctor import kafka_facts
    from stream.commands.doctor.kafka_topics import roles

    topics = asked.topics
    transactions = [f"{asked.group}|{topics.pings}|0"] if asked.exactly_once else []
    names = list(roles(topics, versions=asked.versions))
    wanted = kafka_facts.Wanted(topics.pings, names, _reads(asked), transactions)
    return kafka_facts.facts(asked.bootstrap, asked.kafka, wanted, asked.timeout_s)


def _reads(asked: Asked) -> dict[str, str]:
    """Returns the groups of all parts, and what each reads."""
    topics, prefix = asked.topics, asked.prefix
    others = {f"{prefix}-atlas": topics.pings, f"{prefix}-archive": topics.pings, f"{prefix}-scores": topics.forecasts}
    return {asked.group: topics.pings, **others}


def _redis(asked: Asked) -> Any:
    from stream.commands.doctor import redis_facts

    return redis_facts.facts(asked.redis_url, asked.redis, asked.timeout_s)


_ADVICE: Final = {
    "kafka": "see that it runs, and that --bootstrap (PATHCAST_BOOTSTRAP) and --kafka-security are right",
    "redis": "see that it runs, and that --redis (PATHCAST_REDIS) is right",
}
_REFUSED: Final = {
    "kafka": "give the user and password that the broker knows: --kafka-user, PATHCAST_KAFKA_PASSWORD, --kafka-ca",
    "redis": "give the user and password that Redis knows: --redis rediss://USER@HOST, PATHCAST_REDIS_PASSWORD",
}


def _findings(name: str, part: Part[Any], asked: Asked) -> list[Finding]:
    from stream.commands.doctor import files_checks, kafka_groups, kafka_topics, redis_checks

    if not part.done():
        said = f"no answer within {part.within_s:g} s"
        return [problem(name, said, _ADVICE.get(name, "look again with a longer --timeout-s"))]
    if part.error is not None:
        advice = (_REFUSED if isinstance(part.error, Refused) else _ADVICE).get(name, "tell us, with --json")
        return [problem(name, " ".join(str(part.error).split()) or type(part.error).__name__, advice)]
    value: Any = part.value
    if name == "kafka":
        topics, now_ms = asked.topics, 1000 * time.time()
        newest_ms = value.topics[topics.pings].newest_ms
        return [
            *kafka_groups.check_brokers(value, asked.bootstrap),
            *kafka_topics.check_topics(value, topics, versions=asked.versions),
            *kafka_topics.check_places(value.places, topics.pings),
            *kafka_groups.check_groups(value, _reads(asked), asked.group),
            *kafka_groups.check_transactions(value),
            *kafka_groups.check_newest(newest_ms, now_ms, topics.pings),
        ]
    if name == "redis":
        clock = redis_checks.check_clock(value.ahead_ms)
        return [*redis_checks.check_store(value, shown(asked.redis_url)), *clock]
    checks: dict[str, Callable[[Any], list[Finding]]] = {
        "weights": files_checks.check_weights,
        "atlases": files_checks.check_atlases,
        "registry": files_checks.check_versions,
        "machine": check_machine,
    }
    return checks[name](value)
