"""Members beside the workers, each as its service builds it: `stream.services` and all below it, unchanged."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol

from stream.atlas.counting.member import Runner as AtlasRunner
from stream.atlas.counting.settings import RunSettings
from stream.config.settings import Settings
from stream.members.group_member import GroupMember
from stream.services.latest.taking_over import take_over
from stream.services.latest.unit import LatestRules
from stream.services.member import Member
from stream.services.plan import Plan
from stream.services.scores.member import Runner as ScoresRunner
from stream.services.scores.settings import ScoreSettings
from stream.store.days_store import DaysStore

NO_VERSION_S: Final = 1e8
# Longer than a world: when silent entities end depends on when one looks, too.
LATEST_RULES: Final = LatestRules(expire_ms=30 * 86_400_000)


class Process(Protocol):
    """What runs in a host."""

    @property
    def stopping(self) -> Any: ...

    async def run(self) -> None: ...


class _Stopping:
    """Tells a member to stop, as a worker is told by its event."""

    def __init__(self, member: GroupMember[Any]) -> None:
        self._member = member

    def set(self) -> None:
        self._member.stop()


class SimulatedMember:
    """One process. `run` lasts until it fails or is stopped."""

    def __init__(self, kind: str, settings: Settings) -> None:
        self.kind = kind
        self.member: GroupMember[Any] | None = None
        self._settings = settings
        self._is_stopped = False

    @property
    def stopping(self) -> Any:
        return self if self.member is None else _Stopping(self.member)

    def set(self) -> None:
        """Lets a process end that has not begun."""
        self._is_stopped = True

    async def run(self) -> None:
        """Works until it is told to stop. Raises what a member ends with."""
        if self._is_stopped:
            return
        self.member = MAKERS[self.kind](self._settings)
        try:
            await self.member.run()
        finally:
            await self.member.close()
            if isinstance(self.member, AtlasRunner):
                await self.member._store.close()


def latest_plan(settings: Settings) -> Plan:
    topics = settings.topics
    inputs = topics.forecasts, topics.gapfills
    return Plan("latest", inputs, group_of("latest", settings), bootstrap=settings.bootstrap)


def score_settings(settings: Settings) -> ScoreSettings:
    return ScoreSettings(bootstrap=settings.bootstrap, group=group_of("scores", settings))


def atlas_settings(settings: Settings) -> RunSettings:
    """Returns settings by which no version is due in a world: these would be files."""
    return RunSettings(
        Path("/nowhere"),
        bootstrap=settings.bootstrap,
        group=group_of("atlas", settings),
        redis_url=settings.redis_url,
        every_s=NO_VERSION_S,
    )


def open_days(settings: RunSettings) -> DaysStore:
    return DaysStore(settings.redis_url, settings.group, settings.retention_days * 86_400)


def group_of(kind: str, settings: Settings) -> str:
    return f"{settings.group}-{kind}"


def _latest(settings: Settings) -> Member:
    plan = latest_plan(settings)
    return Member(plan, partial(take_over, plan, settings.topics, LATEST_RULES))


def _scores(settings: Settings) -> ScoresRunner:
    made = score_settings(settings)
    return ScoresRunner(made, made.reads.consumer())


def _atlas(settings: Settings) -> AtlasRunner:
    made = atlas_settings(settings)
    return AtlasRunner(made, open_days(made), made.reads.consumer())


MAKERS: Final[dict[str, Callable[[Settings], GroupMember[Any]]]] = {
    "latest": _latest,
    "scores": _scores,
    "atlas": _atlas,
}
INPUTS: Final[dict[str, Callable[[Settings], tuple[str, ...]]]] = {
    "latest": lambda settings: latest_plan(settings).inputs,
    "scores": lambda settings: score_settings(settings).inputs,
    "atlas": lambda _: (),  # whose own store says up to where it has counted
}


def find_shared(members: Iterable[tuple[str, GroupMember[Any]]]) -> list[str]:
    """Returns which numbers two members of one kind hold by the same generation of their group."""
    holders: dict[tuple[str, int, int], int] = {}
    for kind, member in members:
        for number in member._holdings:
            where = kind, member._generation, number
            holders[where] = holders.get(where, 0) + 1
    return [
        f"shared: {many} members of {kind} hold partition {number} by generation {generation}"
        for (kind, generation, number), many in holders.items()
        if many > 1
    ]
