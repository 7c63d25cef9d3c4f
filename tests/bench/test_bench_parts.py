"""What the benchmarks for developers read from options, logs, forecasts and /proc, without servers."""

from __future__ import annotations

import sys
from itertools import groupby
from operator import attrgetter

import bench_atlas
import bench_scale
import bench_start
import bench_takeover
import bench_worker_step as beside
import numpy as np
import pytest
from measure import parser_of
from simulated_fleet import Fleet

from stream.bench.harness.stats import Rate
from stream.bench.harness.workload import Workload
from stream.config.settings import FETCH_BYTES
from stream.worker import cli
from stream.worker.process_pool import prefix_lines


def test_options_are_fields_and_several_values_stand_between_commas() -> None:
    told = ["--entities", "10,2000", "--timeout-s", "2.5", "--json"]
    asked = parser_of(bench_scale.Options, "scale", "").parse_args(told)
    assert (asked.entities, asked.timeout_s, asked.workers, asked.json) == ((10, 2_000), 2.5, (1, 2, 4), True)


def test_the_bare_step_plays_every_ping_that_the_engine_answered_and_counts_those_behind_the_warm_up() -> None:
    pings = list(Workload(12).rounds(10))
    batches = beside.batches(pings, "t.pings.v1", 4, 64)
    assert sorted(one.value or b"" for batch in batches for one in batch) == sorted(ping.value for ping in pings)
    calls = beside.calls_of("small", batches)
    assert beside.played("small", calls, warm=0.0).pings == 120
    assert 50 <= beside.played("small", calls, warm=0.5).pings <= 60


def test_batches_are_polls_of_fetches_of_each_partition_in_turn() -> None:
    batches = beside.batches(list(Workload(60).rounds(80)), "t.pings.v1", 4, 2048)
    assert [len(batch) for batch in batches] == [2048, 2048, 4800 - 2 * 2048]
    first = next(list(run) for _, run in groupby(batches[0], attrgetter("partition")))
    assert 0.85 * FETCH_BYTES < sum(len(one.key or b"") + len(one.value or b"") for one in first) < FETCH_BYTES


def test_the_first_forecast_of_each_entity_ends_its_outage_and_none_may_have_none() -> None:
    said = [("a", 12.0, "rebuilt"), ("b", 11.5, "hit"), ("a", 13.0, "hit")]
    heads = [bench_takeover.Head(*one) for one in said]
    taken = bench_takeover.taken_of(2, bench_takeover.CACHES, 10.0, heads)
    assert (taken.first_s, taken.caches) == ([1.5, 2.0], {"rebuilt": 1, "hit": 1})
    with pytest.raises(RuntimeError, match="1 of 3 entities"):
        bench_takeover.taken_of(3, bench_takeover.CACHES, 10.0, heads)


def test_what_workers_hold_is_in_the_last_line_of_each_log() -> None:
    log = f"2026-11-29T13:04:05.192Z INFO {cli.READY} 0, 1, 2\n2026-11-29T13:04:06.192Z INFO {cli.READY} 2, 3\n"
    assert [bench_scale.shared_out(logs) for logs in ([log, log], [log, ""])] == [4, -1]
    together = "\n".join(prefix_lines(number, line) for number in (1, 2) for line in log.splitlines())
    assert [bench_start.shared_out(together, workers) for workers in (2, 3)] == [4, -1]
    assigned = (
        "2026-11-29T13:04:05.192Z INFO assigned: partitions 0\n2026-11-29T13:04:09.000Z INFO assigned: partitions 1"
    )
    assert bench_takeover.assigned_at(assigned) == 1_795_957_445.192


def test_what_a_further_entity_takes_is_without_what_they_all_share() -> None:
    few, many = (
        [bench_scale.Cost(count, 1, Rate(1, 1.0, 1.0), 50_000_000 + 12_000 * count + off, 0, 0) for off in (0, -7, 40)]
        for count in (1_000, 10_000)
    )
    assert bench_scale.bytes_per_further_entity(few, many) == 12_000.0


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_command_costs_time_and_its_memory_is_its_own() -> None:
    code = "import time; kept = b'#' * 50_000_000; time.process_time()" + bench_start.PRINT_MEMORY
    wall_s, cpu_s, said = bench_start.timed([sys.executable, "-c", code], timeout_s=60.0)
    resident, anonymous, shared_by_parts = bench_start.memory_mib(said)
    assert wall_s > 0 < cpu_s
    assert 47 < anonymous <= shared_by_parts <= resident < 100


def test_a_version_is_of_every_ping_of_a_fleet_that_shares_streets() -> None:
    fleet = Fleet(40, every_s=60.0)
    pings = np.concatenate([fleet.round() for _ in range(200)])
    assert min(len(np.unique(np.rint(pings[name] / 2e3))) for name in ("lat_e7", "lon_e7")) < len(pings) / 10
    numbers = bench_atlas.run(bench_atlas.Options(vehicles=60, days=0.1), lambda text: None).numbers
    assert numbers["pings"][0] == 60 * 144
    assert numbers["passages"][0] > 500
    assert all(wall > 0 for wall, _ in numbers.values())
