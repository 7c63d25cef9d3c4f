"""`pathcast dev bench soak`: runs a worker for a long time at a steady rate, and measures what grows.

One worker is warmed up by a filled topic, and the highest rate with which it keeps up is searched as in `latency`. Then
an open-loop feeder sends a part of that rate for the given time. Every LOOK_S, the benchmark samples the worker's
memory and CPU, the blocks under its Python objects and its records in flight (both from its /metrics), Redis's memory
and keys, and the lag: the pings that were sent and not yet answered. The first part of the time is left out as warm-up,
and the rest is cut into equal slices.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.request import urlopen

import msgspec
from prometheus_client.parser import text_string_to_metric_families

from stream.bench.harness import launch, stores, topics
from stream.bench.harness.line import Line
from stream.bench.harness.programs.feeder import READY as FEEDING
from stream.bench.harness.programs.feeder import Feed
from stream.bench.harness.report import Report, Table
from stream.bench.harness.servers import Servers
from stream.bench.harness.stats import percentile
from stream.bench.harness.warm import warmed
from stream.bench.workers.latency import kept_up_with
from stream.up.embedded import HOST, free_port
from stream.wire import Topics

Show = Callable[[str], None]
LOOK_S: Final = 2.0
SPARE_S: Final = 5.0  # the feeder goes on for so much longer, so that it still runs when the last sample is taken
SCRAPE_S: Final = 5.0  # how long the worker may take to answer
SLICES: Final = 10
WARM: Final = 0.1  # the part of the time in which pools, caches and allocators reach their size
KEEP_BYTES: Final = 128 * 1024 * 1024  # per partition of each topic: the disk must not fill up with time


@dataclass(frozen=True)
class Options:
    """The options of the benchmark."""

    weights: str = "small"
    seconds: float = 1_800.0
    of_max: float = 0.8  # part of the highest rate with which the worker keeps up
    rate: float | None = None  # pings/s, instead of `of_max`
    entities: int = 1_000
    warm_rounds: int = 64
    partitions: int = 8
    timeout_s: float = 600.0  # of the warm-up
    data: Path | None = None


class Look(NamedTuple):
    """One sample: its time (seconds since the feed began), and the values."""

    at_s: float
    rss_bytes: int
    blocks: int
    redis_bytes: int
    redis_keys: int
    cpu_s: float
    answered: int
    lag: int
    in_flight: int


@dataclass(frozen=True)
class Slice:
    """The values of a part of the time. Memory, blocks and keys are medians."""

    from_s: float
    rss_mib: float
    blocks: float
    redis_mib: float
    redis_keys: float
    pings_per_s: float
    cpu_part: float  # of one core
    lag_median: float
    lag_most: int
    in_flight_most: int

    def row(self) -> tuple[float | int, ...]:
        kept = (self.rss_mib, self.blocks, self.redis_mib, self.redis_keys)
        moving = (self.pings_per_s, 100 * self.cpu_part, self.lag_median, self.lag_most, self.in_flight_most)
        return (self.from_s, *kept, *moving)


def run(options: Options, servers: Servers, show: Show) -> Report:
    """Runs the benchmark. Raises launch.Failed or ConnectionError if a process or a server stops."""
    port = free_port()
    with (
        topics.fresh(servers.bootstrap, options.partitions, keep_bytes=KEEP_BYTES) as names,
        warmed(options, servers, names, show, metrics=port) as (worker, drained),
    ):
        line = Line(options, servers, names, worker, options.entities * options.warm_rounds)
        most, rate = None, options.rate
        if rate is None:
            most = kept_up_with(line.measured, drained, show)
            rate = options.of_max * most
        feed = line.feed(rate, options.seconds + SPARE_S, ahead=False)
        looks = _soaked(options, feed, servers, names, worker, port, show)
    return _report(options, servers, most, rate, looks)


def _soaked(
    options: Options, feed: Feed, servers: Servers, names: Topics, worker: launch.Process, port: int, show: Show
) -> list[Look]:
    sent = topics.Counter(servers.bootstrap, [names.pings])
    answered = topics.Counter(servers.bootstrap, topics.answers_of(names))
    feeding = launch.module_command("harness.programs.feeder", msgspec.json.encode(feed).decode())
    looks: list[Look] = []
    with launch.process("feeder", feeding) as feeder:
        feeder.wait_for(FEEDING)
        began_s = time.monotonic()
        while (elapsed_s := time.monotonic() - began_s) < options.seconds:
            usage, redis, seen = worker.usage(), stores.used(servers.redis_url), scraped(port)
            answers = answered.count()  # counted before what was sent, so that the lag cannot be below 0
            looks.append(
                Look(
                    at_s=elapsed_s,
                    rss_bytes=usage.rss_bytes,
                    blocks=int(seen["pathcast_python_blocks"]),
                    redis_bytes=redis.memory_bytes,
                    redis_keys=redis.keys,
                    cpu_s=usage.cpu_s,
                    answered=answers,
                    lag=sent.count() - answers,
                    in_flight=int(seen["pathcast_records_in_flight"]),
                )
            )
            show(f"{feed.rate_per_s:,.0f} pings/s: {elapsed_s:,.0f} of {options.seconds:,.0f} s, lag {looks[-1].lag:,}")
            feeder.check()
            time.sleep(LOOK_S)
        feeder.wait(options.seconds)
    sent.close()
    answered.close()
    return looks


def scraped(port: int) -> dict[str, float]:
    """Returns the worker's metrics, summed over labels. Raises OSError if it does not answer."""
    with urlopen(f"http://{HOST}:{port}/metrics", timeout=SCRAPE_S) as answer:
        text = answer.read().decode()
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name] = found.get(sample.name, 0.0) + sample.value
    return found


def sliced(looks: Sequence[Look], slices: int = SLICES, warm: float = WARM) -> list[Slice]:
    """Cuts the samples after the first `warm` part into equal slices. Raises ValueError if there are too few."""
    kept = [look for look in looks if look.at_s >= warm * looks[-1].at_s]
    if len(kept) < 2 * slices:
        raise ValueError(f"{len(kept)} looks are too few for {slices} slices: soak for longer")
    edges = [round(number * (len(kept) - 1) / slices) for number in range(slices + 1)]
    return [_slice(kept[first : last + 1]) for first, last in pairwise(edges)]


def _slice(looks: Sequence[Look]) -> Slice:
    first, last = looks[0], looks[-1]
    wall_s = last.at_s - first.at_s
    return Slice(
        first.at_s,
        statistics.median(look.rss_bytes for look in looks) / 2**20,
        statistics.median(look.blocks for look in looks),
        statistics.median(look.redis_bytes for look in looks) / 2**20,
        statistics.median(look.redis_keys for look in looks),
        (last.answered - first.answered) / wall_s,
        (last.cpu_s - first.cpu_s) / wall_s,
        statistics.median(look.lag for look in looks),
        max(look.lag for look in looks),
        max(look.in_flight for look in looks),
    )


def growth(parts: Sequence[Slice], of: Callable[[Slice], float]) -> float:
    """Returns by how much the largest slice is above the first, as a part of the first."""
    return max(map(of, parts)) / of(parts[0]) - 1


def _report(options: Options, servers: Servers, most: float | None, rate: float, looks: Sequence[Look]) -> Report:
    parts = sliced(looks)
    kept = ("worker MiB", "Python blocks", "Redis MiB", "Redis keys")
    moving = ("pings/s", "worker, % of a core", "lag, median", "lag, most", "in flight, most")
    table = Table("one worker at a steady rate", ("from, s", *kept, *moving), [part.row() for part in parts])
    lags = sorted(float(look.lag) for look in looks if look.at_s >= parts[0].from_s)
    memory = growth(parts, lambda part: part.rss_mib)
    numbers: dict[str, Any] = {
        "options": {**asdict(options), "data": str(options.data or "")},
        "kept_up_with_per_s": most,
        "rate_per_s": rate,
        "pings": looks[-1].answered - looks[0].answered,
        "memory_growth": memory,
        "blocks_growth": growth(parts, lambda part: part.blocks),
        "redis_growth": growth(parts, lambda part: part.redis_mib),
        "lag_p99": percentile(lags, 99.0),
        "slices": [asdict(part) for part in parts],
    }
    part = "" if most is None else f", {rate / most:.0%} of the {most:,.0f} that the worker keeps up with"
    notes = [
        f"{rate:,.0f} pings/s for {options.seconds:,.0f} s{part}; {options.entities:,} entities, "
        f"{options.partitions} partitions, weights {options.weights}",
        f"the worker's memory is at most {memory:+.1%} of the first slice's, the blocks under its Python objects "
        f"{numbers['blocks_growth']:+.1%}, Redis's memory {numbers['redis_growth']:+.1%}; "
        f"lag p99 {numbers['lag_p99']:,.0f} pings, which are {1000 * numbers['lag_p99'] / rate:,.0f} ms",
    ]
    return Report("soak", [table], numbers, notes, servers.what)
