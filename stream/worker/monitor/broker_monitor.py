"""Measures how long Kafka has not answered.

aiokafka asks the leader of each partition for records all the time, and a leader answers within some 100 ms even if
there are none. So normally nothing is asked here: it is enough to read when the last fetch was answered. A partition
without an answer for ASK_S may simply not be fetched: it is paused, or the worker has no room for more records, because
Redis is away or because Kafka does not accept its answers. Then its leader is asked where its log ends. A worker
without partitions asks any broker for metadata. Kafka is away for a partition whose leader has not answered for AWAY_S:
the brokers are down, the network is cut, or the partition has no leader while other brokers live.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from stream.kafka.records.record_columns import Partition

log = logging.getLogger(__name__)

# A partition gets another leader within some 6 to 10 s after its leader died. A longer silence needs a person.
AWAY_S: Final = 10.0
ASK_S: Final = 2.0  # how long a leader must be silent before it is asked
PAUSE_S: Final = 2.0  # between two rounds of questions
ANSWER_S: Final = 4.0  # a question without an answer by then is given up; the next round asks again
# The most that one call of `look` adds to a silence; calls are a second apart. A process that was stopped for a minute,
# or got no CPU, could not read answers in that minute, so that minute does not count as Kafka's silence.
STEP_S: Final = 3.0


class Consumer(Protocol):
    """States what this module needs of the consumer. `stream.worker.faust_driver.Consumer` is one."""

    def fetch_stamps(self) -> Mapping[Partition, int | None] | None:
        """Returns, for each assigned partition, a number that changes with each answered fetch; None before the first.
        The whole result is None before the consumer has started. Sends no request."""

    async def ask_leader(self, partition: Partition) -> None:
        """Returns when the partition's leader has answered. Raises if it cannot be asked, or answers with an error."""

    async def ask_any_broker(self) -> None:
        """Returns when some broker has answered. Raises if none does."""


@dataclass(frozen=True)
class Silence:
    """States how long Kafka has not answered, in seconds, at one moment."""

    fetch_ages_s: Mapping[Partition, float] = field(default_factory=dict)  # since the last answered fetch
    leaders_s: Mapping[Partition, float] = field(default_factory=dict)  # since a partition's leader answered anything
    brokers_s: float = 0.0  # since any broker answered a worker without partitions

    @property
    def longest_s(self) -> float:
        return max(self.leaders_s.values(), default=self.brokers_s)

    @property
    def away(self) -> bool:
        """Returns whether Kafka is away, for at least one partition."""
        return self.longest_s > AWAY_S

    @property
    def away_partitions(self) -> list[Partition]:
        """The partitions whose leader is away; it is unknown where their logs end now."""
        return [partition for partition, silent_s in self.leaders_s.items() if silent_s > AWAY_S]


@dataclass
class _Heard:
    """Holds when a partition's leader last answered. At first, this is the moment when it was assigned."""

    stamp: int | None
    fetched_s: float
    answered_s: float


class BrokerMonitor:
    """Reads the consumer's fetch stamps, and asks the brokers if they do not change. It belongs to one event loop."""

    def __init__(self, consumer: Consumer, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` returns seconds and never goes back."""
        self._consumer = consumer
        self._clock = clock
        self._looked_s = clock()
        self._now_s = 0.0  # the time of this process: it stops while the process does
        self._heard: dict[Partition, _Heard] = {}
        self._broker_s = 0.0  # when a broker answered last, or when there was no need to ask
        self._idle = False  # the consumer has started and has no partition

    def look(self) -> Silence:
        """Returns how long Kafka has been silent by now. Sends no request, and may be called as often as one likes."""
        looked_s, self._looked_s = self._looked_s, self._clock()
        self._now_s += min(self._looked_s - looked_s, STEP_S)
        stamps = self._consumer.fetch_stamps()
        self._idle = stamps is not None and not stamps
        if not self._idle:
            self._broker_s = self._now_s
        self._heard = {key: self._update_heard(self._heard.get(key), stamp) for key, stamp in (stamps or {}).items()}
        return Silence(
            {key: self._now_s - heard.fetched_s for key, heard in self._heard.items()},
            {key: self._now_s - heard.answered_s for key, heard in self._heard.items()},
            self._now_s - self._broker_s,
        )

    def _update_heard(self, heard: _Heard | None, stamp: int | None) -> _Heard:
        if heard is None:
            return _Heard(stamp, self._now_s, self._now_s)
        # None is no answer: after a rebalance the partition is assigned again, and has no answered fetch yet.
        if stamp is not None and stamp != heard.stamp:
            return _Heard(stamp, self._now_s, self._now_s)
        return _Heard(stamp, heard.fetched_s, heard.answered_s)

    async def run(self) -> None:
        """Asks the silent leaders, round by round, until it is cancelled. The caller must call `look`."""
        while True:
            await asyncio.gather(*self._questions())
            await asyncio.sleep(PAUSE_S)

    def _questions(self) -> list[Coroutine[Any, Any, None]]:
        silent = [key for key, heard in self._heard.items() if self._now_s - heard.answered_s > ASK_S]
        return [self._ask_leader(key) for key in silent] + ([self._ask_any()] if self._idle else [])

    async def _ask_leader(self, partition: Partition) -> None:
        if await _answer(self._consumer.ask_leader(partition)) and partition in self._heard:
            self._heard[partition].answered_s = self._now_s

    async def _ask_any(self) -> None:
        if await _answer(self._consumer.ask_any_broker()):
            self._broker_s = self._now_s


async def _answer(question: Awaitable[None]) -> bool:
    try:
        async with asyncio.timeout(ANSWER_S):
            await question
    except Exception as error:  # any error: the monitor must not end the worker
        log.debug("a broker gave no answer: %r", error)
        return False
    return True
