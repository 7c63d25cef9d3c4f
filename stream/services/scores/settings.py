"""The settings of `pathcast beside scores`."""

from __future__ import annotations

from dataclasses import dataclass

from stream.config.security import PLAIN_KAFKA, KafkaSecurity
from stream.members.group_member import Inputs
from stream.services.scores.scoring.scorer import MAX_ENTITIES
from stream.services.scores.scoring.waiting import DEFAULT_RULES, Rules
from stream.wire import Topics


@dataclass(frozen=True)
class ScoreSettings:
    """The settings of one member."""

    bootstrap: str = "127.0.0.1:9092"
    prefix: str = "pathcast"
    group: str = "pathcast-scores"
    rules: Rules = DEFAULT_RULES
    max_entities: int = MAX_ENTITIES
    drift: bool = True
    once: bool = False
    kafka: KafkaSecurity = PLAIN_KAFKA

    @property
    def reads(self) -> Inputs:
        return Inputs((self.topics.forecasts,), self.bootstrap, self.kafka, self.once, self.group)

    @property
    def topics(self) -> Topics:
        return Topics.of(self.prefix)
