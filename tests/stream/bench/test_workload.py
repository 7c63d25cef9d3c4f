"""What is fed: real motion, the same everywhere; and what the benchmarks make of what came."""

from __future__ import annotations

from itertools import groupby
from operator import attrgetter

import pytest
from aiokafka.partitioner import DefaultPartitioner

from stream.bench.harness.stats import Rate, Sample
from stream.bench.harness.workload import MAX_STEP_MS, NEVER_MS, Workload
from stream.bench.peers.drained import rate_behind, ratios
from stream.bench.workers import scale, step, takeover
from stream.config.settings import FETCH_BYTES
from stream.kafka.partitioner import partition_of
from stream.tracks.clean import parse
from stream.tracks.fix import pack
from stream.tracks.track import Accepted, Policy, Track, observe
from stream.wire import Ping, Record


def test_every_ping_is_accepted_in_order_also_where_a_track_turns_back() -> None:
    """Each ping must lead to one answer: a duplicate, or a jump, would leave the counters waiting for ever."""
    tracks: dict[str, Track | None] = {}
    restarts = 0
    for offset, sent in enumerate(Workload(40).rounds(600)):  # the longest track has 243 pings: there, back, and there
        ping = parse(Record("t", 0, offset, NEVER_MS, sent.entity_id.encode(), sent.value))
        assert isinstance(ping, Ping)
        assert (ping.entity_id, ping.ts) == (sent.entity_id, sent.ts_ms)
        tracks[ping.entity_id], verdict = observe(
            tracks.get(ping.entity_id), pack(ping), offset, Policy(window_fixes=192)
        )
        assert isinstance(verdict, Accepted)
        restarts += verdict.restart
    assert restarts == 40, "only each entity's first ping begins a session"
    assert 1000 * Policy(window_fixes=1).session_gap_s > MAX_STEP_MS


@pytest.mark.parametrize("count", [0, 3, 7, 8, 500, 5_001])  # a walk there and back has 30 to 484 pings
def test_pings_that_are_skipped_are_those_that_would_have_come(count: int) -> None:
    made, passed = Workload(7), Workload(7)
    for first in (0, 5, 7):
        assert len(list(made.pings(first + count))) == first + count
        passed.skip(first)
        passed.skip(count)
        assert list(passed.pings(20)) == list(made.pings(20))


def test_keys_go_where_kafkas_own_partitioner_puts_them() -> None:
    theirs = DefaultPartitioner()
    for number in range(200):
        key = f"e{number:06d}".encode()
        assert partition_of(key, 8) == theirs(key, list(range(8)), list(range(8)))


def test_the_bare_step_plays_every_ping_that_the_engine_answered_and_counts_those_behind_the_warm_up() -> None:
    pings = list(Workload(12).rounds(10))
    batches = step.batches(pings, "t.pings.v1", 4, 64)
    records = [record for batch in batches for record in batch]
    assert sorted(record.value or b"" for record in records) == sorted(ping.value for ping in pings)
    for number in range(4):
        offsets = [record.offset for record in records if record.partition == number]
        assert offsets == list(range(len(offsets)))
    calls = step.calls_of("small", batches)
    answered = sum(len(arguments[1]) for name, arguments in calls if name == "answer")
    assert answered == 120
    assert step.played("small", calls, warm=0.0).pings == 120
    assert 50 <= step.played("small", calls, warm=0.5).pings <= 60


def test_batches_are_polls_of_fetches_of_each_partition_in_turn() -> None:
    batches = step.batches(list(Workload(60).rounds(80)), "t.pings.v1", 4, 2048)
    assert [len(batch) for batch in batches] == [2048, 2048, 4800 - 2 * 2048]
    sizes = [[len(list(run)) for _, run in groupby(batch, attrgetter("partition"))] for batch in batches]
    assert all(len(fetches) > 1 for fetches in sizes[:-1])
    fetch = batches[0][: sizes[0][0]]
    held = sum(len(record.key or b"") + len(record.value or b"") for record in fetch)
    assert 0.85 * FETCH_BYTES < held < FETCH_BYTES


def test_the_first_forecast_of_each_entity_ends_its_outage() -> None:
    heads = [
        takeover.Head("a", 12.0, "rebuilt"),
        takeover.Head("b", 11.5, "hit"),
        takeover.Head("a", 13.0, "hit"),
    ]
    taken = takeover.taken_of(2, takeover.CACHES, 10.0, heads)
    assert (taken.first_s, taken.caches) == ([1.5, 2.0], {"rebuilt": 1, "hit": 1})


def test_an_entity_that_was_never_forecast_again_is_an_error_and_not_left_out() -> None:
    with pytest.raises(RuntimeError, match="1 of 3 entities"):
        takeover.taken_of(3, takeover.CACHES, 10.0, [takeover.Head(x, 11.0, "hit") for x in "ab"])


def test_the_partitions_that_a_worker_holds_are_those_of_its_last_line() -> None:
    log = "12:00 INFO ready: partitions 0, 1, 2\n12:01 INFO assigned: partitions 2\n12:01 INFO ready: partitions 2, 3\n"
    assert scale.held_by(log) == [2, 3]
    assert scale.held_by("12:00 INFO assigned: partitions 0\n") == []


def test_what_ours_drained_before_the_peers_part_does_not_count() -> None:
    samples = [Sample(float(i), float(i), done) for i, done in enumerate([640, 700, 800, 1_640])]
    assert rate_behind(samples, 640, 1_000) == (840, 1.0, 1.0)


def test_ratios_pair_the_runs_side_by_side() -> None:
    ours = [Rate(100, 1.0, 1.0), Rate(300, 1.0, 1.0)]
    theirs = [Rate(10, 1.0, 1.0), Rate(10, 1.0, 1.0)]
    assert ratios(ours, theirs) == [10.0, 30.0]


def test_what_a_further_entity_takes_is_without_what_they_all_share() -> None:
    rate = Rate(1, 1.0, 1.0)
    few, many = (
        [scale.Cost(count, rate, 50_000_000 + 12_000 * count + off, 0, 0, 1) for off in (0, -7_000_000, 40_000_000)]
        for count in (1_000, 10_000)
    )
    assert scale.bytes_per_further_entity(few, many) == 12_000.0
    many[0] = many[0]._replace(rss_bytes=0)  # one odd run of three moves the median to its neighbour, and no further
    assert scale.row_of(many)[4] * 1024 == (50_000_000 + 12_000 * 10_000 - 7_000_000) / 10_000
