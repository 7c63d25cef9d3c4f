"""`pathcast dev bench worker` and `latency`, and the benchmark of a change of weights in tests/bench, small, against
the real servers: what they tell, and that they leave nothing behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pathcast_process
import redis

from stream.bench.harness.drain import WARM
from stream.bench.harness.report import RESULTS as PAGE
from stream.kafka import admin

ENTITIES, ROUNDS = 200, 500  # about a second of a worker: it is looked at every tenth of one
RESULTS = Path(__file__).parents[3] / PAGE
MEASURE = str(Path(__file__).parents[2] / "bench" / "measure.py")
BOUND_S = 600.0  # a bound on waiting, not a claim about speed


def test_bench_worker_measures_a_real_worker(kafka: str, redis_url: str, weights: Path, tmp_path: Path) -> None:
    recorded = RESULTS.read_bytes() if RESULTS.exists() else None
    done = bench(
        *("worker", "--entities", str(ENTITIES), "--rounds", str(ROUNDS), "--runs", "1", "--no-profile", "--json"),
        *("--bootstrap", kafka, "--redis", redis_url, "--weights", str(weights)),
        home=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    told = msgspec.json.decode(done.stdout)
    assert told["bench"] == "worker"
    assert all(told[name] for name in ("when", "machine", "versions", "command", "servers"))

    numbers = told["numbers"]
    (drain,) = numbers["worker"]
    total = ENTITIES * ROUNDS
    # From the first look past the warm tenth: how far past it, the machine decides.
    assert 0 < drain["pings"] <= (1 - WARM) * total
    assert 0 < drain["cpu_s"] <= drain["wall_s"] * (os.cpu_count() or 1)

    assert not pathcast_process.processes_of(tmp_path), "a process of the benchmark still runs"
    assert not list(tmp_path.iterdir()), "a directory of the benchmark is left"
    with admin.connected(kafka) as client:
        assert not [name for name in client.list_topics() if name.startswith("bench")]
    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0
    assert recorded == (RESULTS.read_bytes() if RESULTS.exists() else None), "nothing is recorded without --record"


def test_bench_worker_measures_an_atlas_that_answers(kafka: str, redis_url: str, weights: Path, tmp_path: Path) -> None:
    done = bench(
        *("worker", "--atlas", "--atlas-passages", "100000", "--entities", str(ENTITIES), "--rounds", str(ROUNDS)),
        *("--runs", "2", "--no-profile", "--json", "--bootstrap", kafka, "--redis", redis_url),
        *("--weights", str(weights)),
        home=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    numbers = msgspec.json.decode(done.stdout)["numbers"]
    assert numbers["passages"] >= 100_000
    assert len(numbers["with"]) == len(numbers["without"]) == 2
    for served in numbers["served"]:
        assert served["asked"] == served["forecasts"] > 0, "the last pings are far behind the first of the version"
        assert served["moved"] > 0.9 * served["asked"], "the entries are found"
    assert 0.01 < numbers["ratio"] < 3.0

    assert not pathcast_process.processes_of(tmp_path)
    assert not list(tmp_path.iterdir())
    with admin.connected(kafka) as client:
        assert not [name for name in client.list_topics() if name.startswith("bench")], "the models topic goes, too"


def test_bench_latency_measures_an_atlas_that_answers(
    kafka: str, redis_url: str, weights: Path, tmp_path: Path
) -> None:
    done = bench(
        *("latency", "--atlas", "--atlas-passages", "20000", "--rates", "200", "--seconds", "3", "--runs", "2"),
        *("--entities", str(ENTITIES), "--warm-rounds", "75", "--json", "--bootstrap", kafka, "--redis", redis_url),
        *("--weights", str(weights)),
        home=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    numbers = msgspec.json.decode(done.stdout)["numbers"]
    assert numbers["passages"] >= 20_000
    assert numbers["missing"] == {"without": 0, "with": 0}
    assert len(numbers["with"]) == len(numbers["without"]) == len(numbers["served"]) == 2
    for served in numbers["served"]:
        assert served["asked"] == served["forecasts"] > 0
        assert served["moved"] > served["asked"] / 2, "the pings that are fed are in it, too"
    assert [row["what"].split(", ", 1)[1] for row in numbers["rows"]] == ["p50 ms", "p99 ms", "worker, % of a core"]
    assert all(row["with / without"] > 0 for row in numbers["rows"])
    assert not pathcast_process.processes_of(tmp_path)
    assert not list(tmp_path.iterdir())
    with admin.connected(kafka) as client:
        assert not [name for name in client.list_topics() if name.startswith("bench")], "the models topics go, too"


def test_bench_swap_moves_every_entity_to_the_other_weights(kafka: str, redis_url: str, tmp_path: Path) -> None:
    done = run(
        *(sys.executable, MEASURE, "swap"),
        *("--entities", str(ENTITIES), "--rate", "400", "--ramp-s", "3", "--lead-s", "15", "--seconds", "3"),
        *("--warm-rounds", "200", "--runs", "1", "--json", "--bootstrap", kafka, "--redis", redis_url),
        home=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    numbers = msgspec.json.decode(done.stdout)["numbers"]
    swap = numbers["swap"]
    assert (swap["entities"], swap["states moved"]) == (ENTITIES, ENTITIES)
    assert (swap["late forecasts"], swap["missing"]) == (0, 0)
    assert [one["phase"] for one in numbers["phases"]] == ["before", "announced", "moving", "after"]
    assert all(0 < one["p50 ms"] <= one["p99 ms"] for one in numbers["phases"])
    # The ramp takes 3 s by the rate that the announcer saw, which is at least the true one but for a part of a second.
    assert swap["all rebuilt, s"] > 2.0

    assert not pathcast_process.processes_of(tmp_path)
    assert not list(tmp_path.iterdir())
    with admin.connected(kafka) as client:
        assert not [name for name in client.list_topics() if name.startswith("bench")], "the models topic goes, too"


def bench(*arguments: str, home: Path) -> subprocess.CompletedProcess[str]:
    """`pathcast dev bench ...`, its temporary files under `home`."""
    return run(*pathcast_process.COMMAND, "dev", "bench", *arguments, home=home)


def run(*command: str, home: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=BOUND_S,
        env=pathcast_process.environment(TMPDIR=str(home)),
        check=False,
    )
