"""Entities that lie where murmur2 does not put them: librdkafka sends by CRC32, so the same id came to lie in two
partitions, and nothing said so."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from engine_rig import CHECKPOINT, CRASH, SETTINGS, A, B, Rig, ping, steady
from hypothesis import given
from hypothesis import strategies as st

from model.api import Predictor
from stream.engine.engine import Engine
from stream.engine.entities.placement import partitions_of
from stream.kafka.partitioner import partition_of

Make = Callable[..., Predictor]
HERE, THERE, THERE_TOO = "a", "d", "bus-2"  # murmur2 puts the first into partition 0 of 2, the others into 1


class Watching(Rig):
    """It knows that the topic has two partitions."""

    def started(self) -> Engine:
        engine = Engine(self.make(), self.store, SETTINGS, clock_ms=lambda: 30.0, max_resident=self.max_resident)
        engine.placement.partitions = 2
        return engine


@given(st.lists(st.text(max_size=40), min_size=1), st.integers(1, 10_000))
def test_compiled_code_puts_ids_where_kafkas_clients_put_them(ids: list[str], partitions: int) -> None:
    assert partitions_of(ids, partitions).tolist() == [partition_of(one.encode(), partitions) for one in ids]


async def test_entities_elsewhere_are_counted_as_they_come_and_logged_once(
    make_predictor: Make, caplog: pytest.LogCaptureFixture
) -> None:
    rig = Watching(make_predictor)
    assert [partition_of(one.encode(), 2) for one in (HERE, THERE, THERE_TOO)] == [A[1], B[1], B[1]]
    await rig.feed(*steady(HERE, 3))
    assert not caplog.messages
    await rig.feed(*steady(THERE, 3), *steady(THERE_TOO, 1), CHECKPOINT, ping(THERE, 40))
    assert rig.counts.misplaced == 2, "once for each, and not for each ping"
    (line,) = caplog.messages
    assert line.startswith("pings of 'd' lie in partition 0 of pathcast.pings.v1, and murmur2 gives partition 1 of 2")
    assert "partitioner=murmur2_random" in line
    await rig.feed(CRASH, ping(THERE, 50))
    assert rig.counts.misplaced == 1, "again as it is read from Redis, by a process that counts anew"


async def test_nothing_is_said_while_the_number_of_partitions_is_unknown(
    make_predictor: Make, caplog: pytest.LogCaptureFixture
) -> None:
    rig = Rig(make_predictor)
    await rig.feed(*steady(THERE, 2))
    assert rig.counts.misplaced == 0
    assert not caplog.messages


async def test_records_without_a_key_or_a_ping_are_no_entities(make_predictor: Make) -> None:
    rig = Watching(make_predictor)
    await rig.batch(b"no ping", b"{}")
    assert rig.counts.misplaced == 0
