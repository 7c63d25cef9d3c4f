"""`pathcast bench serve`: what the HTTP API costs a worker beside it.

A worker answers pings at a steady rate, between a feeder and a subscriber. Each run measures its latencies three times,
in turns that change with the run: alone; beside a `pathcast serve` that nobody asks, which reads the forecasts; and
beside one that gets so many requests a second, each for a forecast that it computes from the stored state.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from stream.bench.harness import launch, topics
from stream.bench.harness.line import Line, Measured, percents
from stream.bench.harness.programs.requester import READY as ASKING
from stream.bench.harness.programs.requester import Ask, Asked
from stream.bench.harness.report import UNKNOWN, Cell, Report, Table
from stream.bench.harness.servers import Servers
from stream.bench.harness.stats import middle, percentile, plus_minus
from stream.bench.harness.warm import warmed
from stream.wire import Topics

Show = Callable[[str], None]
ALONE, BESIDE, ASKED = KINDS = ("alone", "beside a serve that nobody asks", "beside a serve that is asked")
LISTENING: Final = "listening at http://"
QUERY: Final = "horizon_s=60&horizon_s=600"  # one that workers publish, and one that they do not
EXTRA_S: Final = 8.0  # for which requests go on before and after what is measured
UNLIMITED: Final = "1000000"  # requests per second of one client
COLUMNS: Final = (
    *("worker", "p50 ms", "p99 ms", "± of p99", "p99.9 ms", "missing", "worker, % of a core", "broker, % of a core"),
    *("serve, % of a core", "answers", "answer p50 ms", "answer p99 ms", "not 200"),
)


@dataclass(frozen=True)
class Options:
    """The options of the benchmark."""

    weights: str = "small"
    rate: float = 1_000.0  # pings/s
    requests: float = 500.0  # per second
    seconds: float = 20.0  # per measurement
    runs: int = 5
    entities: int = 1_000
    warm_rounds: int = 64
    partitions: int = 8
    timeout_s: float = 600.0
    data: Path | None = None


class Turn(NamedTuple):
    """One measurement."""

    kind: str
    measured: Measured
    serve_part: float | None = None  # of a core
    asked: Asked | None = None


def run(options: Options, servers: Servers, show: Show) -> Report:
    """Runs the benchmark. Raises launch.Failed or ConnectionError if a process or a server stops."""
    with (
        topics.fresh(servers.bootstrap, options.partitions) as names,
        warmed(options, servers, names, show) as (worker, drained),
    ):
        line = Line(options, servers, names, worker, options.entities * options.warm_rounds)
        turns = []
        for number in range(options.runs):
            for kind in in_turn(number):
                show(f"run {number + 1} of {options.runs}: {kind}")
                turns.append(_turn(kind, options, servers, names, line))
    return report_of(options, servers, drained, turns)


def in_turn(number: int) -> tuple[str, ...]:
    """Returns in which order a run measures, so that none is always the first."""
    at = number % len(KINDS)
    return (*KINDS[at:], *KINDS[:at])


def _turn(kind: str, options: Options, servers: Servers, names: Topics, line: Line) -> Turn:
    if kind == ALONE:
        return Turn(kind, line.measured(options.rate, options.seconds))
    with _serve(options, servers, names) as (api, url):
        if kind == BESIDE:
            measured, part = _measured(options, line, api)
            return Turn(kind, measured, part)
        count = round(options.requests * (options.seconds + EXTRA_S))
        entities = [f"e{number:06d}" for number in range(options.entities)]  # as harness.workload names them
        how = Ask(url=url, entities=entities, rate_per_s=options.requests, count=count, query=QUERY)
        command = launch.module_command("harness.programs.requester", msgspec.json.encode(how).decode())
        with launch.process("requester", command) as requester:
            requester.wait_for(ASKING)
            measured, part = _measured(options, line, api)
            requester.wait(options.timeout_s)
            asked = msgspec.json.decode(requester.log().splitlines()[-1], type=Asked)
        return Turn(kind, measured, part, asked)


@contextmanager
def _serve(options: Options, servers: Servers, names: Topics) -> Iterator[tuple[launch.Process, str]]:
    prefix = topics.prefix_of(names)
    own = {"listen": "0", "rate": UNLIMITED, "burst": UNLIMITED, "stale_after": "3650d", "keep": "1h"}
    more = launch.worker_options(servers, names, prefix, options.weights, **own)
    with launch.process("serve", [*launch.PATHCAST, "serve", *more]) as api:
        api.wait_for(LISTENING)
        found = re.search(re.escape(LISTENING) + r"(\S+),", api.log())
        assert found is not None, "the line was there"
        yield api, f"http://{found[1]}"


def _measured(options: Options, line: Line, api: launch.Process) -> tuple[Measured, float]:
    before_s = api.usage().cpu_s
    measured = line.measured(options.rate, options.seconds)
    # It waits a little longer than it measures, so this is a little too low, by the time that its processes take to
    # start.
    return measured, (api.usage().cpu_s - before_s) / options.seconds


def report_of(options: Options, servers: Servers, drained: float, turns: Sequence[Turn]) -> Report:
    rows = [row_of([one for one in turns if one.kind == kind]) for kind in KINDS]
    alone, _, asked = ([one for one in turns if one.kind == kind] for kind in KINDS)
    pairs = zip(alone, asked, strict=True)
    ratio = middle([_p99(other) / _p99(one) for one, other in pairs])
    numbers: dict[str, Any] = {
        "options": {**asdict(options), "data": str(options.data or "")},
        "p99_ratio": ratio,
        "drained_per_wall_s": drained,
        "rows": [dict(zip(COLUMNS, row, strict=True)) for row in rows],
        "runs": [[one.kind, _p99(one), None if one.asked is None else msgspec.to_builtins(one.asked)] for one in turns],
    }
    notes = [
        f"{options.rate:,.0f} pings/s, {options.requests:,.0f} requests/s, {options.entities:,} entities, "
        f"{options.partitions} partitions, weights {options.weights}",
        f"medians of {options.runs} runs of {options.seconds:g} s, in turns; the p99 of a worker beside a serve that "
        f"is asked is {ratio:.2f} times that of one alone (median of the runs)",
        "feeder, broker, Redis, worker, subscriber, serve and its client share this machine's cores",
    ]
    table = Table("due time of a ping to its forecast in a subscriber", COLUMNS, rows)
    return Report("serve", [table], numbers, notes, servers.what)


def row_of(turns: Sequence[Turn]) -> tuple[Cell, ...]:
    """Returns the medians of some turns of one kind, the spread of their p99, and the sums of what is missing."""
    runs = [one.measured for one in turns]
    half, p99, p999 = ([percentile(one.latencies_ms, percent) for one in runs] for percent in (50.0, 99.0, 99.9))
    ranks = (middle(half), middle(p99), plus_minus(p99), middle(p999), sum(one.missing for one in runs))
    parts = [one.serve_part for one in turns if one.serve_part is not None]
    row: tuple[Cell, ...] = (turns[0].kind, *ranks, *percents([one.load for one in runs]))
    row += (100 * middle(parts) if parts else UNKNOWN,)
    asked = [one.asked for one in turns if one.asked is not None]
    if not asked:
        return (*row, *[UNKNOWN] * 4)
    refused = sum(count for one in asked for status, count in one.statuses.items() if status != "200")
    columns = ([getattr(one, name) for one in asked] for name in ("answered", "p50_ms", "p99_ms"))
    return (*row, *map(middle, columns), refused)


def _p99(turn: Turn) -> float:
    return percentile(turn.measured.latencies_ms, 99.0)
