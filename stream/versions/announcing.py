"""Announces versions of atlas and weights to the workers, in the two steps that `stream.versions.ledger` explains.

One announcer at a time may write: each has the same transactional id, so that a new one fences the one before, which
may have stood still between its two steps. What it left announced is confirmed or withdrawn first of all.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from math import ceil
from typing import Any, Final, Literal, NamedTuple, TypeVar

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError
from msgspec.structs import replace

from stream.config import failpoints
from stream.config.security import PLAIN_KAFKA, KafkaSecurity, kafka_refusal
from stream.kafka import admin
from stream.kafka.patches import patch_aiokafka
from stream.kafka.producer import retrieve_end
from stream.kafka.reading import reader
from stream.versions.announcement_reader import AnnouncementReader
from stream.versions.ledger import Ledger, first_offsets, is_in_time
from stream.versions.weights import WeightsLedger, end_canary
from stream.wire import ALL, LAST_SERIAL, VERSION_KEY, WEIGHTS_KEY, Topics, VersionRecord, WeightsRecord, dumps

log: Final = logging.getLogger(__name__)
T = TypeVar("T", VersionRecord, WeightsRecord)
Role = Literal["all", "canary"]

LEAD_S: Final = 60.0
# Of the first version of an atlas: whoever waits for it has none so far. A worker that is not done with its file lets
# the pings wait.
FIRST_LEAD_S: Final = 10.0
SAMPLE_S: Final = 2.0  # over which the rate of pings is measured
TRIES: Final = 6  # each gives twice the room of the one before
SEEN_S: Final = 30.0  # until a committed record can be read; mostly some milliseconds
PAUSE_S: Final = 0.02


class NotAnnounced(RuntimeError):
    """Pings came faster than announcements could be made, or there is no number for one."""


class Plan(NamedTuple):
    """From where on something may begin, and how many pings come a second, by partition."""

    first: dict[int, int]
    rates: dict[int, float]


class Moment(NamedTuple):
    """Where a partition's log ended."""

    at_s: float  # by the monotonic clock
    end: int


@dataclass
class Announcer:
    """Brings versions into service. `Announcer.open` makes one; open another after an exception that is not
    NotAnnounced."""

    _bootstrap: str
    _topics: Topics
    _security: KafkaSecurity
    _announcements: AnnouncementReader
    _producer: AIOKafkaProducer
    _asker: AIOKafkaConsumer  # it is told where logs end, with what is not committed
    _lead_s: float
    _sample_s: float
    _began: dict[int, Moment] = field(default_factory=dict)  # by partition, when this announcer first saw its end

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        bootstrap: str,
        topics: Topics,
        security: KafkaSecurity = PLAIN_KAFKA,
        *,
        lead_s: float = LEAD_S,
        sample_s: float = SAMPLE_S,
    ) -> AsyncIterator[Announcer]:
        """Yields the announcer, once all others are fenced and what they began is ended. Creates the models topic if it
        is absent.

        Raises Refused if a broker denies access, KafkaError, or as `admin.connect` and `admin.create_models` do.
        """
        await asyncio.to_thread(_provide, bootstrap, topics, security)
        patch_aiokafka()
        producer = AIOKafkaProducer(
            bootstrap_servers=bootstrap.split(","),
            **security.arguments(),
            transactional_id=topics.models,
            acks="all",
        )
        try:
            await producer.start()
            async with (
                AnnouncementReader.open(bootstrap, topics, security) as announcements,
                reader(bootstrap.split(","), security.arguments(), "read_uncommitted") as asker,
            ):
                announcer = cls(bootstrap, topics, security, announcements, producer, asker, lead_s, sample_s)
                await announcer.settle()
                yield announcer
        except KafkaError as error:
            if (refusal := kafka_refusal(bootstrap, security, error)) is not None:
                raise refusal from error
            raise
        finally:
            await producer.stop()

    @property
    def ledger(self) -> Ledger:
        """Returns what the models topic says, with all that this announcer has written."""
        return self._announcements.ledger

    @property
    def weights(self) -> WeightsLedger:
        """Returns the same of weights."""
        return self._announcements.weights

    async def announce(
        self, version: str, *, includes: Mapping[int, int], contains: Mapping[str, Any]
    ) -> VersionRecord:
        """Brings a version into service, whose file lies where workers look for it, and returns its record. It takes
        some seconds, `sample_s` of them to see how fast pings come.

        A version serves once: for one that does already, this returns the record that there is.

        Raises:
            NotAnnounced: it was withdrawn after TRIES tries.
            ProducerFenced: another announcer has begun.
            KafkaError, OSError, TimeoutError: the brokers do not answer. What is announced and not confirmed makes
                workers wait, until the next call or the next announcer settles it.
        """
        await self.settle()
        if (found := self.ledger.get(version)) is not None:
            return found

        def record(plan: Plan) -> VersionRecord:
            return VersionRecord(
                version=version,
                state="announced",
                first=plan.first,
                topic=self._topics.pings,
                includes=dict(includes),
                contains=dict(contains),
                issued_ts=int(time.time() * 1000),
            )

        lead_s = self._lead_s if self.ledger.serving else min(self._lead_s, FIRST_LEAD_S)
        return await self._announce(f"version {version} of the atlas", record, lead_s)

    async def announce_weights(
        self, version: str, name: str, *, role: Role, parts: int = ALL, ramp_s: float = 0.0, reason: str
    ) -> WeightsRecord:
        """Brings weights into service, which lie where workers look for them, and returns their announcement.

        Args:
            role: "all"; or "canary", for `parts` in 10,000 of the entities.
            ramp_s: how long it takes until every entity has followed, at the present rate of pings.
            reason: one sentence, for whoever asks why.

        Raises as `announce`.
        """
        await self.settle()
        serial = self.weights.next_serial
        if serial > LAST_SERIAL:
            raise NotAnnounced(
                f"the models topic has an announcement with the last number that there is, {LAST_SERIAL}: write a null "
                f"value for its key, {WEIGHTS_KEY}{LAST_SERIAL:010}"
            )

        def record(plan: Plan) -> WeightsRecord:
            return WeightsRecord(
                kind="weights",
                serial=serial,
                version=version,
                name=name,
                role=role,
                state="announced",
                parts=parts,
                first=plan.first,
                ramp={number: ceil(ramp_s * rate) if role == "all" else 0 for number, rate in plan.rates.items()},
                topic=self._topics.pings,
                reason=reason,
                issued_ts=int(time.time() * 1000),
            )

        made = await self._announce(f"version {version} of the weights", record)
        await self._publish({one.key: None for one in self.weights.list_superseded(await self._begins())})
        return made

    async def end(self, record: WeightsRecord) -> None:
        """Ends a canary, from the next pings on. Raises as `announce`."""
        await self.settle()
        await self._announce(f"the end of the canary {record.version}", lambda plan: end_canary(record, plan.first))

    async def retire(self, versions: Iterable[str]) -> None:
        """Takes versions out of service for good. Pings that only they may answer have none then, so choose them by
        `Ledger.list_superseded`. Raises as `announce`.
        """
        gone: dict[bytes, bytes | None] = {f"{VERSION_KEY}{version}".encode(): None for version in versions}
        await self._publish(gone)

    async def settle(self) -> None:
        """Confirms or withdraws what is announced and does not serve yet. Raises as `announce`."""
        await self._announcements.look()
        atlases, weights = self.ledger.announced, self.weights.announced
        if not (atlases or weights):
            return
        numbers = await self._numbers()
        for version in (*(one.version for one in atlases), *(one.version for one in weights)):
            log.warning("version %s was announced and not confirmed", version)
        for atlas in atlases:
            await self._settle(atlas, numbers)
        for one in weights:
            await self._settle(one, numbers)

    async def _announce(self, what: str, record: Callable[[Plan], T], lead_s: float | None = None) -> T:
        """Takes both steps for what `record` makes of a plan. Returns it as it serves."""
        numbers, lead_s = await self._numbers(), self._lead_s if lead_s is None else lead_s
        for attempt in range(TRIES):
            before = await self._moments(numbers)
            await asyncio.sleep(self._sample_s)
            now = await self._moments(numbers)
            rates = {number: self._rate(number, before, now) for number in numbers}
            in_lead = {number: 2**attempt * lead_s * rate for number, rate in rates.items()}
            ends = {number: moment.end for number, moment in now.items()}
            made = record(Plan(first_offsets(ends, in_lead), rates))
            await self._publish({made.key: dumps(made)})
            failpoints.reach("within_announcement")
            if (served := await self._settle(made, numbers)) is not None:
                return served
        raise NotAnnounced(f"{what} was announced {TRIES} times, and pings came faster each time")

    async def _settle(self, record: T, numbers: range) -> T | None:
        """Takes the second step for what is announced, given the partitions that there are: aiokafka would ask for the
        end of another one until its time is up. Returns the record, or None if it had to be withdrawn."""
        opens = record.first
        canary_ends = isinstance(record, WeightsRecord) and record.until is not None
        if isinstance(record, WeightsRecord) and record.until is not None:
            opens = record.until
        moments = await self._moments([number for number in opens if number in numbers])
        if not is_in_time(opens, {number: moment.end for number, moment in moments.items()}):
            log.warning("pings came too fast, or a partition is gone: version %s is withdrawn", record.version)
            former = dumps(replace(record, state="serving", until=None)) if canary_ends else None
            await self._publish({record.key: former})
            return None
        served = replace(record, state="serving")
        await self._publish({served.key: dumps(served)})
        return served

    async def _numbers(self) -> range:
        return range(await asyncio.to_thread(_partitions, self._bootstrap, self._topics.pings, self._security))

    async def _begins(self) -> dict[int, int]:
        """Returns the offsets of the first pings that are still in the log."""
        tps = [TopicPartition(self._topics.pings, number) for number in await self._numbers()]
        return {tp.partition: begin for tp, begin in (await self._asker.beginning_offsets(tps)).items()}

    async def _publish(self, records: Mapping[bytes, bytes | None]) -> None:
        """Returns when every reader can see the records: brokers answer a commit before it shows."""
        if not records:
            return
        async with self._producer.transaction():
            retrieve_end(self._producer)
            for key, value in records.items():
                last = await self._producer.send_and_wait(self._topics.models, value, key, partition=0)
        async with asyncio.timeout(SEEN_S):
            while True:
                await self._announcements.look()
                if self._announcements.next_offset > last.offset:
                    return
                await asyncio.sleep(PAUSE_S)

    async def _moments(self, numbers: Iterable[int]) -> dict[int, Moment]:
        """Returns the ends of these partitions of the pings topic."""
        tps = {TopicPartition(self._topics.pings, number): number for number in numbers}
        ends = await self._asker.end_offsets(list(tps))
        found = {tps[tp]: Moment(time.monotonic(), end) for tp, end in ends.items()}
        self._began = found | self._began
        return found

    def _rate(self, number: int, before: Mapping[int, Moment], now: Mapping[int, Moment]) -> float:
        """Returns how many pings come a second, by the sample or since this announcer began: whichever is more."""
        at_s, end = now[number]
        return max((end - then.end) / max(at_s - then.at_s, 1e-3) for then in (before[number], self._began[number]))


def _provide(bootstrap: str, topics: Topics, security: KafkaSecurity) -> None:
    with admin.connect(bootstrap, security) as client:
        admin.create_models(client, topics)


def _partitions(bootstrap: str, topic: str, security: KafkaSecurity) -> int:
    with admin.connect(bootstrap, security) as client:
        return admin.partitions_of(client, topic)
