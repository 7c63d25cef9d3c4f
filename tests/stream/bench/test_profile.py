"""Which stage a stack belongs to, and how much of the CPU each stage has."""

from __future__ import annotations

import subprocess
import sys
from typing import Final

import pytest

from stream.bench.workers.profile import OTHER, STAGES, WAITING, loads, shares, stage_of

MAIN = "thread (0x7F01): MainThread"
COMPUTE = "thread (0x7F02): compute_0"
CONSUMER = "thread (0x7F03): Thread-1"
LOOP = "BaseEventLoop._run_once (asyncio/base_events.py)"
FOLD = "Engine._fold (stream/engine/engine.py)"
WRITTEN = "Writer.written (stream/engine/answers.py)"
BATCHES = "Publisher._batches (stream/kafka/producer.py)"
ENCODED = "EncodedBatch.batch (stream/kafka/records/encoded_batches.py)"
TAKE = "PartitionRecords.take (stream/kafka/fetcher.py)"
UNFRAMED = "Records.unframed (stream/kafka/records/record_columns.py)"

# What the worker imports and no ping goes through, by folder: its start and end, and what is asked of it from outside.
ASIDE_BY_FOLDER: Final = {
    "commands": "main names",
    "config": "environment failpoints home http_access options reasons security settings times wording",
    "delivery": "outages ownership partitions",
    "delivery/ownership": "takeover takeover_plan",
    "engine": "counts entities",
    "engine/entities": "quarantine",
    "http": "access limits pages server",
    "kafka": "admin log log_facts membership partitioner patches records",
    "kafka/records": "columns record_columns",  # they count for whoever calls them
    "processes": "child guard keeper logs",
    "registry": "content decisions golden manifest registry store",
    "storage": "folder url",
    "store": "redis_client",
    "tracks": "fix",
    "wire": "escape scores",
    "worker": "app cli client_log consumer_thread log_format memory monitor partition_counts process_pool startup "
    "tracing versions warmup",
    "worker/monitor": "auth_monitor broker_monitor health metrics monitor",
}
ASIDE: Final = {f"{folder}/{name}" for folder, names in ASIDE_BY_FOLDER.items() for name in names.split()}


@pytest.mark.parametrize(
    ("frames", "stage"),
    [
        ((MAIN, LOOP, "Engine.process (stream/engine/engine.py)", "parse (stream/tracks/clean.py)"), "decode"),
        ((COMPUTE, FOLD, "observe (stream/tracks/track.py)", "replace (msgspec/structs.py)"), "track"),
        ((COMPUTE, FOLD, "Predictor.answer (model/api.py)", "Linear.forward (torch/nn/modules/linear.py)"), "step"),
        ((COMPUTE, FOLD, "Tracks.observe_plain (stream/tracks/track_table.py)"), "track"),
        ((COMPUTE, "Predictor.dumps (model/api.py)", "StatePool.dumps (model/serving/state_pool.py)"), "store"),
        ((COMPUTE, FOLD, WRITTEN, "Texts.each (stream/kafka/records/columns.py)"), "encode"),
        ((MAIN, LOOP, BATCHES, ENCODED), "produce"),
        ((LOOP, TAKE, UNFRAMED), "fetch"),
        ((COMPUTE, FOLD, WRITTEN, "round (numpy/core/fromnumeric.py)"), "encode"),
        ((COMPUTE, FOLD), "engine"),
        ((MAIN, LOOP, "Sender._send_produce_req (aiokafka/producer/sender.py)"), "produce"),
        ((MAIN, LOOP, "AIOKafkaConnection._read (aiokafka/conn.py)"), "produce"),
        ((CONSUMER, LOOP, "AIOKafkaConnection._read (aiokafka/conn.py)"), "fetch"),
        ((CONSUMER, LOOP, "Fetcher._proc_fetch_request (aiokafka/consumer/fetcher.py)"), "fetch"),
        ((MAIN, LOOP, "Stream._py_aiter (site-packages/faust/streams.py)"), "Faust"),
        ((CONSUMER, LOOP, "EpollSelector.select (selectors.py)"), WAITING),
        ((COMPUTE, "_worker (concurrent/futures/thread.py)"), WAITING),
        ((COMPUTE, "_worker (concurrent/futures/thread.py)", "_WorkItem.run (concurrent/futures/thread.py)"), OTHER),
        ((MAIN, LOOP), OTHER),
    ],
)
def test_the_innermost_frame_that_a_rule_knows_decides(frames: tuple[str, ...], stage: str) -> None:
    assert stage_of(frames) == stage


def test_every_module_that_a_ping_goes_through_has_a_stage() -> None:
    """A new one, or one that was split off, would count as the event loop's."""
    seen = "import sys, stream.worker.app, stream.worker.cli; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", seen], capture_output=True, text=True, check=True).stdout.split()
    parts = {"/".join(name.split(".")[1:]) for name in loaded if name.count(".") > 1 and name.startswith("stream.")}
    assert {"engine/engine", "delivery/committer", "store/redis_store"} <= parts
    assert parts >= ASIDE, "and of these none that is no more"
    without = {part for part in parts - ASIDE if stage_of((MAIN, f"f (stream/{part}.py)")) == OTHER}
    assert without == set()


def test_samples_divide_what_each_thread_really_used() -> None:
    """A thread that is woken often has many samples in epoll on a busy machine, and hardly any CPU."""
    raw = f"{MAIN};{LOOP};EpollSelector.select (selectors.py) 1000\n{MAIN};{LOOP} 1\n"
    raw += f"{COMPUTE};{FOLD};parse (stream/tracks/clean.py) 3\n{COMPUTE};{FOLD} 1\n"
    found = shares(loads(raw), {0x7F01: 1.0, 0x7F02: 3.0, 0x7F09: 0.5, 0x7F0A: 0.0})
    assert list(found) == list(STAGES)
    assert sum(found.values()) == pytest.approx(1.0)
    assert found["decode"] == pytest.approx(3 / 4 * 3.0 / 4.5)
    assert found["engine"] == pytest.approx(1 / 4 * 3.0 / 4.5)
    assert found[OTHER] == pytest.approx((1.0 + 0.5) / 4.5), "the loop's, and that of a thread which runs no Python"
