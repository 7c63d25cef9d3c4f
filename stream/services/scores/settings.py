"""The settings of `pathcast scores run`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from stream.config.security import PLAIN_KAFKA, KafkaSecurity
from stream.config.settings import DEFAULT_HORIZONS_S
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
    registry: str | None = None  # where the weights of shadows lie; None: no shadow is run
    registry_cache: Path | None = None
    horizons_s: tuple[float, ...] = DEFAULT_HORIZONS_S  # of the shadows' forecasts: the workers' own
    map: str | None = None  # with which shadows read pings of other systems: the workers' own

    @property
    def reads(self) -> Inputs:
        return Inputs((self.topics.forecasts,), self.bootstrap, self.kafka, self.once)

    @property
    def topics(self) -> Topics:
        return Topics.of(self.prefix)
