"""The ways to make the same forecasts from the same records, and how each is started with full windows.

    pathcast worker             the product
    constant velocity in ours   the lower bound of everything but the model: the same worker with nothing to compute
    plain Faust agent           the same weights over the full window per ping; one ping at a time, and by takes
    Quix Streams                the same, with its window in RocksDB
    PyFlink                     skipped, and the report gives the reason

The topic begins with `warm_rounds` pings per entity. Our two workers process these to fill their windows. The peers are
too slow for that: their group starts after them, with the windows that they would have left.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Final, Generic, NamedTuple, TypeVar

import msgspec
from kafka import TopicPartition

from stream.bench.harness import launch, stores, topics
from stream.bench.harness.drain import watch
from stream.bench.harness.servers import Servers
from stream.bench.peers.model import Peer
from stream.wire import Topics

FIRST_S: Final = 240.0  # until the first answer: imports, the group, a JVM
T = TypeVar("T")
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
    drain: bool = True  # a filled topic, as fast as each peer goes
    rounds: int = 100  # pings per entity in it
    rates: Sequence[float] = (100.0, 1_000.0)  # pings/s, steady; empty: only the drain
    warm_rounds: int = 64  # the model's window
    partitions: int = 8
    seconds: float = 30.0  # per peer and rate, and per peer and drain at most
    runs: int = 5
    take: int = 256
    only: Sequence[str] = ()  # keys of PEERS; empty: all
    timeout_s: float = 600.0  # of what is drained before each measurement
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


@dataclass(frozen=True)
class Results(Generic[T]):
    """Holds the results of each peer's runs, and why peers were skipped, by their keys."""

    found: dict[str, list[T]]
    skipped: dict[str, str]

    @property
    def whole(self) -> dict[str, list[T]]:
        """The results of the peers that failed in no run."""
        return {key: runs for key, runs in self.found.items() if key not in self.skipped}


class Started(NamedTuple):
    """A running peer that has answered already, and the counter of all answers since before its start."""

    process: launch.Process
    counter: topics.Counter
    warm: int  # answers to the warm part, which only our workers give


@contextmanager
def started(
    key: str, options: Options, servers: Servers, names: Topics, start: Mapping[TopicPartition, int], group_end: str
) -> Iterator[Started]:
    """Yields a peer with full windows, whose next pings are those behind `start`, of which there must be some.

    Raises launch.Failed if it ends, or does not answer.
    """
    kind = PEERS[key]
    assert kind.command is not None, "in_turn calls only for those that can run here"
    with stores.group(servers, f"{topics.prefix_of(names)}-{key}-{group_end}") as group, _home() as home:
        if kind.primed:
            topics.move(servers.bootstrap, group, start)
        warm = 0 if kind.primed else options.entities * options.warm_rounds
        counter = topics.Counter(servers.bootstrap, topics.answers_of(names))
        with launch.process(kind.name, kind.command(options, servers, names, group, home)) as peer:
            peer.wait_until(lambda: counter.count() > 0, "answer", FIRST_S)
            watch([peer], counter, warm, timeout_s=options.timeout_s)
            yield Started(peer, counter, warm)
        counter.close()


def in_turn(options: Options, one: Callable[[str, int], T]) -> Results[T]:
    """Calls `one` with each peer and the number of each run. The peers take turns, so that other load on the machine
    affects all alike.

    One that fails is skipped from then on, with its reason. Our own worker's failure is raised: nothing could be
    compared.
    """
    keys = tuple(options.only or PEERS)
    results = Results[T](found={}, skipped={key: why for key in keys if (why := _why_not(PEERS[key])) is not None})
    for number, key in product(range(1, options.runs + 1), keys):
        if key in results.skipped:
            continue
        try:
            result = one(key, number)
        except (launch.Failed, ValueError) as error:
            if key == "pathcast":
                raise
            results.skipped[key] = str(error)
        else:
            results.found.setdefault(key, []).append(result)
    return results


def _why_not(kind: Kind) -> str | None:
    """Returns why it cannot run here; None if it can."""
    if kind.command is None:
        return kind.why
    if kind.needs is not None and find_spec(kind.needs[0]) is None:
        return NOT_HERE.format(*kind.needs)
    return None


@contextmanager
def _home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="pathcast-peer-", ignore_cleanup_errors=True) as home:
        yield Path(home)
