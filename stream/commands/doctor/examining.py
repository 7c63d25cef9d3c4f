"""Gathers all kinds of facts at the same time, each within a time of its own, and asks what follows."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Generic, NamedTuple, TypeVar

from stream.commands.doctor.finding import Finding, ok, problem, warning
from stream.config.security import Refused, shown
from stream.config.settings import DeliveryGuarantee, Settings

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
class Examination:
    """Holds what is to be examined: what settings of a worker name, but for the parts in `without`."""

    settings: Settings
    timeout_s: float = 10.0
    without: frozenset[str] = frozenset()


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


def examine(examination: Examination) -> list[Finding]:
    """Returns all findings, in the order of PARTS. Writes nothing anywhere."""
    parts = {name: part for name, part in _parts(examination).items() if name not in examination.without}
    found: list[Finding] = []
    for name in PARTS:
        if name in parts:
            found += _findings(name, parts[name], examination)
    return found


def _parts(examination: Examination) -> dict[str, Part[Any]]:
    """Begins to gather all that is asked for."""
    from stream.commands.doctor import files_facts

    settings = examination.settings
    said: Part[files_facts.Announced] | None = None
    if settings.asks_versions and "kafka" not in examination.without:
        where = (settings.bootstrap, settings.topics, settings.kafka)
        said = Part(lambda: files_facts.announced(*where, examination.timeout_s), examination.timeout_s)

    def announced() -> files_facts.Announced | None:
        return said.value if said is not None and said.done() else None

    long_s = WEIGHTS_S + 2 * examination.timeout_s
    parts: dict[str, Part[Any]] = {
        "kafka": Part(lambda: _kafka(examination), 2 * examination.timeout_s),
        "redis": Part(lambda: _redis(examination), 2 * examination.timeout_s),
        "weights": Part(lambda: files_facts.weights(settings.weights), long_s),
        "machine": Part(read_machine, long_s),
    }
    if (folder := settings.atlases) is not None:
        parts["atlases"] = Part(lambda: files_facts.atlases(folder, announced()), long_s)
    if (url := settings.registry) is not None:
        parts["registry"] = Part(lambda: files_facts.versions(url, announced()), long_s)
    return parts


def _kafka(examination: Examination) -> Any:
    from stream.commands.doctor import kafka_facts
    from stream.commands.doctor.kafka_topics import roles

    settings, topics = examination.settings, examination.settings.topics
    transactions = [f"{settings.group}|{topics.pings}|0"] if settings.delivery is DeliveryGuarantee.EXACTLY_ONCE else []
    names = list(roles(topics, versions=settings.asks_versions))
    wanted = kafka_facts.Wanted(topics.pings, names, _reads(settings), transactions)
    return kafka_facts.facts(settings.bootstrap, settings.kafka, wanted, examination.timeout_s)


def _reads(settings: Settings) -> dict[str, str]:
    """Returns the groups of all parts, and what each reads."""
    topics, prefix = settings.topics, settings.prefix
    others = {f"{prefix}-atlas": topics.pings, f"{prefix}-archive": topics.pings, f"{prefix}-scores": topics.forecasts}
    return {settings.group: topics.pings, **others}


def _redis(examination: Examination) -> Any:
    from stream.commands.doctor import redis_facts

    return redis_facts.facts(examination.settings.redis_url, examination.settings.redis, examination.timeout_s)


_ADVICE: Final = {
    "kafka": "see that it runs, and that --bootstrap (PATHCAST_BOOTSTRAP) and --kafka-security are right",
    "redis": "see that it runs, and that --redis (PATHCAST_REDIS) is right",
}
_REFUSED: Final = {
    "kafka": "give the user and password that the broker knows: --kafka-user, PATHCAST_KAFKA_PASSWORD, --kafka-ca",
    "redis": "give the user and password that Redis knows: --redis rediss://USER@HOST, PATHCAST_REDIS_PASSWORD",
}


def _findings(name: str, part: Part[Any], examination: Examination) -> list[Finding]:
    from stream.commands.doctor import files_checks, kafka_groups, kafka_topics, redis_checks

    settings = examination.settings
    if not part.done():
        said = f"no answer within {part.within_s:g} s"
        return [problem(name, said, _ADVICE.get(name, "look again with a longer --timeout-s"))]
    if part.error is not None:
        advice = (_REFUSED if isinstance(part.error, Refused) else _ADVICE).get(name, "tell us, with --json")
        return [problem(name, " ".join(str(part.error).split()) or type(part.error).__name__, advice)]
    value: Any = part.value
    if name == "kafka":
        topics, now_ms = settings.topics, 1000 * time.time()
        newest_ms = value.topics[topics.pings].newest_ms
        return [
            *kafka_groups.check_brokers(value, settings.bootstrap),
            *kafka_topics.check_topics(value, topics, versions=settings.asks_versions),
            *kafka_topics.check_places(value.places, topics.pings),
            *kafka_groups.check_groups(value, _reads(settings), settings.group),
            *kafka_groups.check_transactions(value),
            *kafka_groups.check_newest(newest_ms, now_ms, topics.pings),
        ]
    if name == "redis":
        clock = redis_checks.check_clock(value.ahead_ms)
        return [*redis_checks.check_store(value, shown(settings.redis_url)), *clock]
    checks: dict[str, Callable[[Any], list[Finding]]] = {
        "weights": files_checks.check_weights,
        "atlases": files_checks.check_atlases,
        "registry": files_checks.check_versions,
        "machine": check_machine,
    }
    return checks[name](value)
