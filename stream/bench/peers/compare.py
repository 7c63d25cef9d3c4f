"""`pathcast bench peers`: compares the same forecasts from the same records by other means, by each process's CPU time.

    pathcast worker             the product
    constant velocity in ours   the lower bound of everything but the model: the same worker with nothing to compute
    plain Faust agent           the same weights over the full window per ping; one ping at a time, and by takes
    Quix Streams                the same, with its window in RocksDB
    PyFlink                     skipped, and the report gives the reason

The topic has `warm_rounds` pings per entity and then those that count. Our two workers process the first part to fill
their windows. The peers are too slow for that: their group starts after it, with the windows that it would have left.
Each is then measured for at most `seconds`, after its first tenth.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
from kafka import TopicPartition

from stream.bench.harness import launch, stores, topics
from stream.bench.harness.drain import rate_of, too_short, watch
from stream.bench.harness.report import Cell, Report, Table
from stream.bench.harness.servers import Servers
from stream.bench.harness.stats import Rate, Sample, middle, plus_minus
from stream.bench.harness.workload import Sent, Workload
from stream.bench.peers.model import Peer
from stream.wire import Topics

Show = Callable[[str], None]
FIRST_S: Final = 240.0  # until the first answer: imports, the group, a JVM
WARM_S: Final = 600.0  # the longest that our workers may take to drain the warm part
OURS: Final = "pathcast worker"
NO_FLINK: Final = (  # from the packages' own metadata, November 2026: check again after a release of apache-flink
    "apache-flink 2.3.0 cannot be installed beside pathcast: it takes apache-beam up to 2.61.0, which needs "
    "pyarrow < 17, and pathcast reads with pyarrow >= 18"
)
NOT_HERE: Final = "{} is not installed: pip install 'pathcast[{}]'"


@dataclass(frozen=True)
class Options:
    """The options of the benchmark."""

    weights: str = "small"
    entities: int = 2_000
    rounds: int = 100
    warm_rounds: int = 64  # the model's window
    partitions: int = 8
    seconds: float = 30.0  # per peer at most
    runs: int = 5
    take: int = 256
    only: Sequence[str] = ()  # keys of PEERS; empty: all
    data: Path | None = None

    @property
    def pings(self) -> int:
        return self.entities * self.rounds


Command = Callable[[Options, Servers, Topics, str, Path], list[str]]


class Kind(NamedTuple):
    """One way to make the forecasts."""

    name: str
    command: Command | None  # None: it cannot run here, for the reason `why`
    needs: tuple[str, str] | None = None  # a module, and the extra that installs it
    primed: bool = True  # starts after the warm part, with full windows
    why: str = ""


def _program(module: str, *, taking: bool = False) -> Command:
    def command(options: Options, servers: Servers, names: Topics, group: str, home: Path) -> list[str]:
        peer = Peer(
            bootstrap=servers.bootstrap,
            prefix=topics.prefix_of(names),
            group=group,
            weights=options.weights,
            home=str(home),
            take=options.take if taking else 1,
            entities=options.entities,
            primed_rounds=options.warm_rounds,
            data=None if options.data is None else str(options.data),
        )
        return launch.module_command(module, msgspec.json.encode(peer).decode())

    return command


def _worker(options: Options, servers: Servers, names: Topics, group: str, home: Path) -> list[str]:
    return launch.worker_command(launch.worker_options(servers, names, group, options.weights))


def _floor(options: Options, servers: Servers, names: Topics, group: str, home: Path) -> list[str]:
    ours = launch.worker_options(servers, names, group, options.weights)
    return launch.module_command("peers.floor", "worker", *ours)


PEERS: Final[dict[str, Kind]] = {
    "pathcast": Kind(OURS, _worker, primed=False),
    "floor": Kind("constant velocity in ours", _floor, primed=False),
    "faust": Kind("plain Faust agent, one ping at a time", _program("peers.faust_agent")),
    "faust-take": Kind("plain Faust agent, take()", _program("peers.faust_agent", taking=True)),
    "quix": Kind("Quix Streams", _program("peers.quix"), ("quixstreams", "peers")),
    "flink": Kind("PyFlink", None, why=NO_FLINK),
}


def run(options: Options, servers: Servers, show: Show) -> Report:
    """Runs the benchmark. A peer that cannot run is skipped, and the report gives the reason. Raises ConnectionError if
    a server stops."""
    found: dict[str, list[Rate]] = {}
    skipped: dict[str, str] = {}
    with topics.fresh(servers.bootstrap, options.partitions) as names:
        show(f"filling the topic with {options.pings:,} pings of {options.entities:,} entities")
        workload = Workload(options.entities, options.data)
        _prefill(servers, names, options, workload.rounds(options.warm_rounds))
        start = topics.ends(servers.bootstrap, names.pings, options.partitions)
        _prefill(servers, names, options, workload.rounds(options.rounds))
        for number in range(1, options.runs + 1):  # in turn, so that other load on the machine affects all alike
            for key in options.only or PEERS:
                if key in skipped:
                    continue
                show(f"{PEERS[key].name}, run {number} of {options.runs}")
                try:
                    rate = _rate(key, options, servers, names, start, number)
                    found.setdefault(key, []).append(rate)
                except (launch.Failed, ValueError) as error:
                    if key == "pathcast":
                        raise
                    skipped[key] = str(error)
    return _report(options, servers, found, skipped)


def _prefill(servers: Servers, names: Topics, options: Options, pings: Iterator[Sent]) -> None:
    topics.prefill(servers.bootstrap, names.pings, options.partitions, pings)


def _rate(
    key: str, options: Options, servers: Servers, names: Topics, start: Mapping[TopicPartition, int], number: int
) -> Rate:
    kind = PEERS[key]
    if kind.command is None:
        raise launch.Failed(kind.why)
    if kind.needs is not None and find_spec(kind.needs[0]) is None:
        raise launch.Failed(NOT_HERE.format(*kind.needs))
    with stores.group(servers, f"{topics.prefix_of(names)}-{key}-{number}") as group, _home() as home:
        if kind.primed:
            topics.move(servers.bootstrap, group, start)
        warm = 0 if kind.primed else options.entities * options.warm_rounds
        counter = topics.Counter(servers.bootstrap, topics.answers_of(names))
        with launch.process(kind.name, kind.command(options, servers, names, group, home)) as peer:
            peer.wait_until(lambda: counter.count() > 0, "answer", FIRST_S)
            watch([peer], counter, warm, timeout_s=WARM_S)
            samples = watch([peer], counter, warm + options.pings, timeout_s=options.seconds)
        counter.close()
    return rate_behind(samples, warm, options.pings)


def rate_behind(samples: Sequence[Sample], warm: int, total: int) -> Rate:
    """Returns the rate after the warm part, without the first tenth of the rest."""
    return rate_of([sample._replace(done=max(0, sample.done - warm)) for sample in samples], total)


@contextmanager
def _home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="pathcast-peer-", ignore_cleanup_errors=True) as home:
        yield Path(home)


def _report(options: Options, servers: Servers, found: dict[str, list[Rate]], skipped: dict[str, str]) -> Report:
    ours = found.get("pathcast")
    rows: list[list[Cell]] = []
    for key, rates in found.items():
        if key in skipped:
            continue
        per_cpu = [rate.per_cpu_s for rate in rates]
        times: Cell = middle(ratios(ours, rates)) if ours else "-"
        spreads = plus_minus(per_cpu)
        rows.append([PEERS[key].name, middle(per_cpu), spreads, middle([rate.per_wall_s for rate in rates]), times])
    columns = ("by", "pings/s of its CPU", "±", "pings/s of wall", "pathcast is so many times faster (CPU)")
    numbers: dict[str, Any] = {
        "options": {**asdict(options), "data": str(options.data or "")},
        "peers": {key: [rate._asdict() for rate in rates] for key, rates in found.items()},
        "times_faster": {
            key: middle(ratios(ours, rates)) for key, rates in found.items() if ours and key not in skipped
        },
        "skipped": skipped,
    }
    notes = [
        f"{options.pings:,} pings of {options.entities:,} entities with windows of {options.warm_rounds} before, "
        f"{options.partitions} partitions, weights {options.weights}, at most {options.seconds:g} s each, "
        f"take({options.take}); medians of {options.runs} runs",
        *too_short([rate for rates in found.values() for rate in rates]),
        *(f"{PEERS[key].name}: skipped, {why}" for key, why in skipped.items()),
    ]
    return Report("peers", [Table("the same forecasts by other means", columns, rows)], numbers, notes, servers.what)


def ratios(ours: Sequence[Rate], theirs: Sequence[Rate]) -> list[float]:
    """Returns the ratios run by run, so that both numbers of a pair come from the same state of the machine."""
    return [our.per_cpu_s / their.per_cpu_s for our, their in zip(ours, theirs, strict=False)]
