"""The settings of `pathcast beside scores`."""

from __future__ import annotations

from dataclasses import dataclass

from stream.members.inputs import MemberSettings
from stream.services.scores.scoring.scorer import MAX_ENTITIES
from stream.services.scores.scoring.waiting import DEFAULT_RULES, ScoringRules


@dataclass(frozen=True)
class ScoreSettings(MemberSettings):
    """The settings of one member."""

    rules: ScoringRules = DEFAULT_RULES
    max_entities: int = MAX_ENTITIES
    drift: bool = True

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.topics.forecasts,)
