"""When fetches are sent, by a clock that only sleeping moves."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition

from stream.kafka import pacing
from stream.kafka.pacing import BESIDE_EVERY_S, EVERY_S, FEW_BYTES, FEW_EVERY_S, Pace

PINGS = TopicPartition("pings", 0)
ROOM = 64 * 1024


class Fetcher:
    """The parts of aiokafka's fetcher that are paced. It notes when each fetch was sent, and to which broker."""

    _max_partition_fetch_bytes = ROOM

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._records: dict[TopicPartition, Any] = {}
        self.sent: list[tuple[float, int]] = []
        self.answer_bytes = FEW_BYTES

    async def _proc_fetch_request(self, assignment: Any, node: int, request: Any) -> bool:
        self.sent.append((self._clock.now_s, node))
        self._records[PINGS] = SimpleNamespace(_partition_records=SimpleNamespace(size=self.answer_bytes))
        return self.answer_bytes > 0


class Clock:
    now_s = 100.0
    slept = 0

    def monotonic(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        wakes_s = self.now_s + seconds
        await asyncio.sleep(0)
        self.now_s = max(self.now_s, wakes_s)
        self.slept += 1


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(pacing, "time", clock)
    monkeypatch.setattr(pacing, "asyncio", SimpleNamespace(sleep=clock.sleep, CancelledError=asyncio.CancelledError))
    return clock


@pytest.fixture
def fetcher(clock: Clock) -> Fetcher:
    fetcher = Fetcher(clock)
    Pace(fetcher)
    return fetcher


def fetch(fetcher: Fetcher, node: int = 1) -> Any:
    return fetcher._proc_fetch_request(None, node, SimpleNamespace(topics=[("pings", [(0, 5, ROOM)])]))


async def test_a_ping_after_a_silence_is_fetched_at_once_and_the_next_ones_gather(
    fetcher: Fetcher, clock: Clock
) -> None:
    assert await fetch(fetcher)
    assert clock.slept == 0
    clock.now_s += 0.003
    await fetch(fetcher)
    assert fetcher.sent == [(100.0, 1), (pytest.approx(100.0 + EVERY_S), 1)]


async def test_few_pings_gather_longer(fetcher: Fetcher, clock: Clock) -> None:
    fetcher.answer_bytes = FEW_BYTES - 1
    await fetch(fetcher)
    fetcher.answer_bytes = FEW_BYTES
    await fetch(fetcher)
    await fetch(fetcher)
    first, second, third = (at for at, _ in fetcher.sent)
    assert (second - first, third - second) == (pytest.approx(FEW_EVERY_S), pytest.approx(EVERY_S))


async def test_nothing_that_came_in_vain_delays_the_next_ping(fetcher: Fetcher, clock: Clock) -> None:
    """An answer without a record, after the longest wait at the broker: the next fetch goes at once."""
    fetcher.answer_bytes = 0
    await fetch(fetcher)
    clock.now_s += 0.1
    await fetch(fetcher)
    assert clock.slept == 0


async def test_all_brokers_are_asked_at_the_same_moment(fetcher: Fetcher, clock: Clock) -> None:
    await fetch(fetcher)
    await asyncio.gather(fetch(fetcher, 1), fetch(fetcher, 2), fetch(fetcher, 3))
    assert [at for at, _ in fetcher.sent[1:]] == [pytest.approx(100.0 + EVERY_S)] * 3


async def test_a_backlog_is_fetched_without_a_pause(fetcher: Fetcher, clock: Clock) -> None:
    fetcher.answer_bytes = ROOM // 2
    for _ in range(3):
        await fetch(fetcher)
    assert clock.slept == 0
    fetcher.answer_bytes = ROOM // 2 - 1
    await fetch(fetcher)
    await fetch(fetcher)
    assert clock.slept == 1


async def test_an_assignment_that_ends_sends_nothing(fetcher: Fetcher, monkeypatch: pytest.MonkeyPatch) -> None:
    """aiokafka cancels the fetches of an assignment that is over, and when it closes it lets none of them raise."""
    await fetch(fetcher)
    monkeypatch.setattr(pacing, "asyncio", asyncio)
    task = asyncio.create_task(fetch(fetcher))
    await asyncio.sleep(0)
    task.cancel()
    assert await task is False
    assert len(fetcher.sent) == 1


async def test_a_consumer_that_has_time_is_paced_by_its_own_interval(clock: Clock) -> None:
    fetcher = Fetcher(clock)
    Pace(fetcher, BESIDE_EVERY_S)
    await fetch(fetcher)
    await fetch(fetcher)
    first, second = (at for at, _ in fetcher.sent)
    assert second - first == pytest.approx(BESIDE_EVERY_S)
