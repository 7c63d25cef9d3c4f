"""The settings of `pathcast beside atlas`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from stream.atlas.building import DEFAULT_RULES, Rules
from stream.config.security import PLAIN_KAFKA, PLAIN_REDIS, KafkaSecurity, RedisSecurity
from stream.members.group_member import Inputs
from stream.wire import Topics


@dataclass(frozen=True)
class RunSettings:
    """The settings of one member."""

    atlases: Path
    bootstrap: str = "127.0.0.1:9092"
    redis_url: str = field(default="redis://127.0.0.1:6379/0", repr=False)  # it may hold a password
    prefix: str = "pathcast"
    group: str = "pathcast-atlas"
    every_s: float = 3_600.0
    once: bool = False
    retention_days: int = 70
    rules: Rules = DEFAULT_RULES
    weights: str = "small"  # beside whose forecasts it is found out how far passages are to be believed
    without: frozenset[str] = frozenset()  # entities of which nothing is counted
    map: str | None = None  # with which pings of other systems are read: the workers' own
    anew: bool = False  # forget what Redis has, and count from the first record that there is
    kafka: KafkaSecurity = PLAIN_KAFKA
    redis: RedisSecurity = PLAIN_REDIS

    @property
    def reads(self) -> Inputs:
        return Inputs((self.topics.pings,), self.bootstrap, self.kafka, self.once, self.group)

    @property
    def topics(self) -> Topics:
        return Topics.of(self.prefix)
