"""Looks up the bounds of the logs, the committed offsets, and the offsets to judge from. Reads no record."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Final, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from stream.config.security import kafka_refusal
from stream.config.settings import Settings
from stream.kafka import admin, log_facts
from stream.kafka.log import Bounds, CommittedOffset, Log, Partition
from stream.kafka.patches import patch_aiokafka
from stream.kafka.reading import Isolation, bounds_by
from stream.verify.log_history import Past, past
from stream.verify.published import Span

EARLIEST: Final = "earliest"


class Start(NamedTuple):
    """States where to judge from: an offset for all partitions, one for some of them, or a time; by default the
    beginning.
    """

    everywhere: int | None = None
    by_partition: Mapping[int, int] | None = None
    time_ms: int | None = None

    @classmethod
    def parse(cls, text: str) -> Start:
        """Parses `earliest`, `1200`, `0:1200,3:900`, or an RFC 3339 time with its zone. Raises ValueError."""
        if text == EARLIEST:
            return cls()
        if text.isdecimal():
            return cls(everywhere=int(text))
        pairs = [part.split(":") for part in text.split(",")]
        if all(len(pair) == 2 and all(number.isdecimal() for number in pair) for pair in pairs):
            return cls(by_partition={int(number): int(offset) for number, offset in pairs})
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            moment = None
        if moment is None or moment.tzinfo is None:
            raise ValueError(
                f"{text!r} is not earliest, OFFSET, PARTITION:OFFSET,... or an RFC 3339 time with its zone"
            )
        return cls(time_ms=round(moment.timestamp() * 1000))


class Outlook(NamedTuple):
    """The input's spans, what the group has committed, and the bounds of each output partition."""

    spans: dict[int, Span]
    committed: dict[int, int | None]
    pasts: dict[int, Past]
    outputs: dict[Partition, Bounds]


@asynccontextmanager
async def _asking(settings: Settings, isolation: Isolation) -> AsyncIterator[AIOKafkaConsumer]:
    """Yields a consumer that only asks and never joins: the group keeps its partitions. Raises ConnectionError."""
    patch_aiokafka()
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.bootstrap.split(","),
        **settings.kafka.arguments(),
        group_id=settings.group,
        enable_auto_commit=False,
        isolation_level=isolation,
    )
    try:
        await consumer.start()
        try:
            yield consumer
        finally:
            await consumer.stop()
    except KafkaError as error:
        refusal = kafka_refusal(settings.bootstrap, settings.kafka, error)
        raise refusal or ConnectionError(f"asking Kafka at {settings.bootstrap} failed: {error!r}") from error


async def outlook(
    settings: Settings, outputs: Sequence[str], start: Start, warmup: int | None, isolation: Isolation
) -> Outlook:
    """Looks everything up, in an order in which correct output cannot look wrong while workers continue: a committed
    record's answers were published before, and a published answer's input was there before.

    `warmup` is the most records before `start` to replay for the states; None: all that the log has.

    Raises:
        ValueError: a topic does not exist.
    """
    pings = settings.topics.pings
    with admin.connect(settings.bootstrap, settings.kafka) as client:
        counts = {topic: admin.partitions_of(client, topic) for topic in (pings, *outputs)}
    async with _asking(settings, isolation) as consumer:
        numbers = [TopicPartition(pings, number) for number in range(counts[pings])]
        commits = {tp.partition: await _read_committed(consumer, tp) for tp in numbers}
        bounds = await bounds_by(consumer, [TopicPartition(t, n) for t in outputs for n in range(counts[t])])
        logs = {tp.partition: await _log(consumer, tp, commits[tp.partition]) for tp in numbers}
        starts = await _starts(consumer, pings, logs, start)
    spans, pasts = {}, {number: past(commits[number], one) for number, one in logs.items()}
    committed = {number: None if commit is None else commit.offset for number, commit in commits.items()}
    for number, one in logs.items():
        first = min(max(one.begin, starts[number]), one.end)
        begin = one.begin if warmup is None else max(one.begin, first - warmup)
        spans[number] = Span(begin, first, pasts[number].due, one.end, pasts[number].cut)
    return Outlook(spans, committed, pasts, bounds)


async def _read_committed(consumer: AIOKafkaConsumer, tp: TopicPartition) -> CommittedOffset | None:
    # This calls the coordinator, because aiokafka's `committed` leaves the metadata out.
    found = await consumer._coordinator.fetch_committed_offsets([tp])
    return CommittedOffset.of(found[tp].offset, found[tp].metadata) if tp in found else None


async def _log(consumer: AIOKafkaConsumer, tp: TopicPartition, committed: CommittedOffset | None) -> Log:
    return await log_facts.ask(consumer, tp, -1 if committed is None else committed.history.leader_epoch)


async def _starts(consumer: AIOKafkaConsumer, topic: str, logs: Mapping[int, Log], start: Start) -> dict[int, int]:
    if start.time_ms is None:
        named = start.by_partition or {}
        return {number: named.get(number, start.everywhere or 0) for number in logs}
    found = await consumer.offsets_for_times({TopicPartition(topic, number): start.time_ms for number in logs})
    # If no record of a partition is as late as that time, there is nothing to judge in it.
    return {tp.partition: logs[tp.partition].end if place is None else place.offset for tp, place in found.items()}
