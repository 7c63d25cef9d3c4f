"""The names of all metrics that pathcast's processes serve, as their own code makes them. Tests import this; it tests
nothing itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

from prometheus_client.metrics_core import Metric

from stream.api import metrics as api
from stream.api.map import service as live_map
from stream.atlas.counting.pages import ROWS as OF_ATLAS
from stream.http.rounds import RoundPages, Rounds
from stream.ingest.pages import Pages as IngestPages
from stream.ingest.publishing.sink import Sink
from stream.ingest.source import Source
from stream.members.pages import MemberPages
from stream.services.archive.pages import ROWS as OF_ARCHIVE
from stream.services.member import ROWS as OF_SERVICES
from stream.services.scores.pages import ROWS as OF_SCORES
from stream.services.scores.sums import Sums
from stream.wire import Topics
from stream.worker.monitor import metrics as worker

SERVICES = ("arrivals", "avro", "latest")  # that publish in transactions
IN_ROUNDS = ("guard", "refresh")
PROCESS = {f"process_{name}" for name in ("start_time_seconds", "cpu_seconds_total", "resident_memory_bytes")}


def names() -> set[str]:
    families = {f"{one.name}_total" if one.type == "counter" else one.name for one in _collected()}
    return families | _of_workers() | _of_pages(api) | _of_pages(live_map) | PROCESS | {"pathcast_ready"}


def _collected() -> Iterator[Metric]:
    yield from IngestPages(Sink("127.0.0.1:1", Topics.of(), "x"), Source("x")).collect()
    for name in SERVICES:
        yield from MemberPages(name, Nobody(), OF_SERVICES).collect()
    for name, rows in {"scores": OF_SCORES, "archive": OF_ARCHIVE, "atlas": OF_ATLAS}.items():
        yield from MemberPages(name, Nobody(), rows).collect()
    for name in IN_ROUNDS:
        yield from RoundPages(Rounds(name, 60.0, (), hang_s=60.0)).collect()


def _of_workers() -> set[str]:
    counters = {f"pathcast_{row.name}_total" for row in worker.TABLE if row.family is worker.COUNTER}
    gauges = {f"pathcast_{row.name}" for row in worker.TABLE if row.family is worker.GAUGE}
    return counters | gauges | {one for name, _ in worker.HISTOGRAMS.values() for one in _histogram(f"pathcast_{name}")}


def _of_pages(of: ModuleType) -> set[str]:
    """The names of what answers over HTTP: `serve`, and the map."""
    sizes = {f"{of.PREFIX}{name}" for name in (*of.SIZES, "streams")}
    counters = {f"{of.PREFIX}{name}_total" for name in (*of.COUNTS, "requests", "messages", "streams_dropped")}
    return sizes | counters | _histogram(f"{of.PREFIX}seconds")


def _histogram(name: str) -> set[str]:
    return {f"{name}_{part}" for part in ("bucket", "sum", "count")}


class Nobody:
    """A member of any service, without partitions."""

    read = published = landed = failures = shortened = 0
    announced = None
    sums = Sums()

    def hindrances(self) -> list[str]:
        return []

    def lags(self) -> dict[int, int | None]:
        return {}

    outcomes = standings = places = waiting = lags
