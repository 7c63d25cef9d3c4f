"""The settings that all members have, and the topics that a member reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer

from stream.config.security import PLAIN_KAFKA, KafkaSecurity
from stream.kafka import admin
from stream.kafka.reading import group_consumer
from stream.wire import Topics


@dataclass(frozen=True)
class Inputs:
    """States which topics a member reads, and from which brokers."""

    topics: tuple[str, ...]  # with as many partitions as each other
    bootstrap: str
    kafka: KafkaSecurity = PLAIN_KAFKA
    once: bool = False  # up to the present end
    group: str = ""

    def consumer(self, **more: Any) -> AIOKafkaConsumer:
        """Returns the group's consumer, which is not started. `more` are further options of aiokafka."""
        return group_consumer(self.bootstrap, self.kafka, self.group, **more)

    def partitions(self) -> int:
        """Returns how many partitions each topic has. Raises ValueError if they differ, and as `admin.connect` and
        `admin.partitions_of`."""
        with admin.connect(self.bootstrap, self.kafka) as client:
            numbers = {topic: admin.partitions_of(client, topic) for topic in self.topics}
        if len(set(numbers.values())) > 1:
            said = ", ".join(f"{topic} has {number}" for topic, number in numbers.items())
            raise ValueError(f"{said} partitions: this needs topics with as many partitions as each other")
        return next(iter(numbers.values()))


@dataclass(frozen=True, kw_only=True)
class MemberSettings:
    """Holds the settings that all members have. Subclasses add `inputs`, the topics that they read."""

    bootstrap: str = "127.0.0.1:9092"
    prefix: str = "pathcast"
    group: str = ""
    once: bool = False
    kafka: KafkaSecurity = PLAIN_KAFKA

    @property
    def topics(self) -> Topics:
        return Topics.of(self.prefix)

    @property
    def inputs(self) -> tuple[str, ...]:
        raise NotImplementedError

    @property
    def reads(self) -> Inputs:
        return Inputs(self.inputs, self.bootstrap, self.kafka, self.once, self.group)
