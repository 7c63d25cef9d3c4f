"""How long Kafka has not answered. Knows partitions and seconds; knows no client and no page.

aiokafka asks the leader of each partition for records all the time, and a leader answers within some 10 ms even where
there are none. So in health nothing is asked here: it is enough to look when the last fetch was answered. A partition
that is silent for ASK_S may only be one that nobody fetches: it is paused, or the worker has no room for more records,
be it because Redis is away or because Kafka does not take its answers. Then its leader is asked where its log ends. A
worker without partitions asks any broker for metadata. What has not answered for AWAY_S is away: the brokers are down,
the way to them is cut, or the partition has no leader while other brokers live.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from stream.kafka.record_columns import Partition

log = logging.getLogger(__name__)

# A partition gets another leader within some 6 to 10 s after its leader died. What takes longer needs a person.
AWAY_S: Final = 10.0
ASK_S: Final = 2.0  # of silence, before somebody is asked
PAUSE_S: Final = 2.0  # between two rounds of questions
ANSWER_S: Final = 4.0  # a question without an answer by then is given up; the next round asks again
# The most that one look adds to a silence; looks are a second apart. A process that was stopped for a minute, or got no
# CPU, did not listen in that minute: what it did not hear then is not Kafka's silence.
STEP_S: Final = 3.0


class Consumer(Protocol):
    """What is asked of the consumer. `stream.worker.faust_driver.Consumer` is one."""

    def fetch_stamps(self) -> Mapping[Partition, int | None] | None:
        """For each assigned partition a number that differs after each answered fetch; None before the first. The
        whole is None before the consumer has started. Asks nobody."""

    async def ask_leader(self, partition: Partition) -> None:
        """Return when the partition's leader has answered. Raises if it cannot be asked, or says no."""

    async def ask_any_broker(self) -> None:
        """Return when some broker has answered. Raises if none does."""


@dataclass(frozen=True)
class Silence:
    """How long nothing was heard, in seconds, at one moment."""

    fetch_ages_s: Mapping[Partition, float] = field(default_factory=dict)  # since the last answered fetch
    leaders_s: Mapping[Partition, float] = field(default_factory=dict)  # since a partition's leader answered anything
    brokers_s: float = 0.0  # since any broker answered a worker without partitions

    @property
    def longest_s(self) -> float:
        return max(self.leaders_s.values(), default=self.brokers_s)

    @property
    def away(self) -> bool:
        """Whether Kafka is away, for one partition at least."""
        return self.longest_s > AWAY_S

    @property
    def away_partitions(self) -> list[Partition]:
        """Those whose leader is away; where their logs end now is not known."""
        return [partition for partition, silent_s in self.leaders_s.items() if silent_s > AWAY_S]


@dataclass
class _Heard:
    """When something was heard of a partition; it begins as if that were the moment when the partition came."""

    stamp: int | None
    fetched_s: float
    answered_s: float


class BrokerMonitor:
    """Looks at the consumer's stamps, and asks where they stand still. For one event loop."""

    def __init__(self, consumer: Consumer, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives seconds and never goes back."""
        self._consumer = consumer
        self._clock = clock
        self._looked_s = clock()
        self._now_s = 0.0  # the time of this process: it stands still while the process does
        self._heard: dict[Partition, _Heard] = {}
        self._broker_s = 0.0  # when a broker answered last, or when there was no need to ask
        self._idle = False  # there is a consumer, and it has no partition

    def look(self) -> Silence:
        """What is known now. Asks nobody, and may be called as often as one likes."""
        looked_s, self._looked_s = self._looked_s, self._clock()
        self._now_s += min(self._looked_s - looked_s, STEP_S)
        stamps = self._consumer.fetch_stamps()
        self._idle = stamps is not None and not stamps
        if not self._idle:
            self._broker_s = self._now_s
        self._heard = {key: self._seen(self._heard.get(key), stamp) for key, stamp in (stamps or {}).items()}
        return Silence(
            {key: self._now_s - heard.fetched_s for key, heard in self._heard.items()},
            {key: self._now_s - heard.answered_s for key, heard in self._heard.items()},
            self._now_s - self._broker_s,
        )

    def _seen(self, heard: _Heard | None, stamp: int | None) -> _Heard:
        if heard is None:
            return _Heard(stamp, self._now_s, self._now_s)
        # None is no answer: a rebalance gives the partition anew, and nothing was heard of the new one yet.
        if stamp is not None and stamp != heard.stamp:
            return _Heard(stamp, self._now_s, self._now_s)
        return _Heard(stamp, heard.fetched_s, heard.answered_s)

    async def run(self) -> None:
        """Ask what is silent, round by round. Runs until cancelled; `look` is others' to call."""
        while True:
            await asyncio.gather(*self._questions())
            await asyncio.sleep(PAUSE_S)

    def _questions(self) -> list[Coroutine[Any, Any, None]]:
        silent = [key for key, heard in self._heard.items() if self._now_s - heard.answered_s > ASK_S]
        return [self._ask_leader(key) for key in silent] + ([self._ask_any()] if self._idle else [])

    async def _ask_leader(self, partition: Partition) -> None:
        if await _answered(self._consumer.ask_leader(partition)) and partition in self._heard:
            self._heard[partition].answered_s = self._now_s

    async def _ask_any(self) -> None:
        if await _answered(self._consumer.ask_any_broker()):
            self._broker_s = self._now_s


async def _answered(question: Awaitable[None]) -> bool:
    try:
        async with asyncio.timeout(ANSWER_S):
            await question
    except Exception as error:  # whatever it is: who watches must not end what he watches
        log.debug("a broker gave no answer: %r", error)
        return False
    return True
