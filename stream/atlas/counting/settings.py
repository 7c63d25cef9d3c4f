"""The settings of `pathcast beside atlas`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from stream.atlas.building import DEFAULT_RULES, Rules
from stream.atlas.counting.history import History
from stream.config.security import PLAIN_REDIS, RedisSecurity
from stream.members.inputs import MemberSettings


@dataclass(frozen=True)
class RunSettings(MemberSettings):
    """The settings of one member."""

    atlases: Path
    redis_url: str = field(default="redis://127.0.0.1:6379/0", repr=False)  # it may hold a password
    every_s: float = 3_600.0
    retention_days: int = 70
    rules: Rules = DEFAULT_RULES
    weights: str = "small"  # beside whose forecasts it is found out how far passages are to be believed
    without: frozenset[str] = frozenset()  # entities of which nothing is counted
    map: str | None = None  # with which pings of other systems are read: the workers' own
    history: History | None = None  # what the fleet drove before: the first version is made of it at once
    anew: bool = False  # forget what Redis has, and count from the first record that there is
    redis: RedisSecurity = PLAIN_REDIS

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.topics.pings,)
