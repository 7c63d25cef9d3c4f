"""What is fed: real motion, the same everywhere."""

from __future__ import annotations

import pytest
from aiokafka.partitioner import DefaultPartitioner

from stream.bench.harness.workload import MAX_STEP_MS, NEVER_MS, Workload
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
