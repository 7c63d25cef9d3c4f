"""Members beside the workers, each as its service builds it: `stream.services` and all below it, unchanged."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol

from archived import WorldsArchive
from member_watch import Around, Watch
from plans import Beside
from versions_oracle import EVERY_S, RULES

from stream.atlas.building import DEFAULT_RULES
from stream.atlas.counting.member import Runner as AtlasRunner
from stream.atlas.counting.settings import RunSettings
from stream.config.settings import Settings
from stream.members.group_member import GroupMember
from stream.services.arrivals.running import Arrivals, ArrivalSettings
from stream.services.arrivals.table import Table
from stream.services.latest.taking_over import take_over
from stream.services.latest.unit import LatestRules
from stream.services.member import Member
from stream.services.plan import Plan
from stream.services.scores.member import Runner as ScoresRunner
from stream.services.scores.scoring.waiting import ScoringRules
from stream.services.scores.settings import ScoreSettings
from stream.store.days_store import DaysStore

NO_VERSION_S: Final = 1e8
# Longer than a world: when silent entities end depends on when one looks, too.
LATEST_RULES: Final = LatestRules(expire_ms=30 * 86_400_000)
# A forecast waits until its vehicle has gone on by so long and `LATENESS_MS`: nine pings, as a world has some dozens.
SCORE_RULES: Final = ScoringRules(longest_s=60.0)
LATENESS_MS: Final = 20_000  # instead of 300,000
POLL_TAKES_S: Final = 0.001
ARRIVALS_EVERY_S: Final = 20.0


Told = Callable[[Mapping[int, int]], None]


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
    """One process. `run` lasts until it fails, is stopped, or has come to the end that it was to come to."""

    def __init__(
        self, beside: Beside, settings: Settings, archive: WorldsArchive | None, around: Around, told: Told
    ) -> None:
        """`told` is called when it has come to its end, with the ends of the logs at which it was to stop."""
        self.kind = beside.kind
        self.member: GroupMember[Any] | None = None
        self._beside = beside
        self._settings = settings
        self._archive = archive
        self._around = around
        self._told = told
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
        member = self.member = self._make()
        if isinstance(member, ScoresRunner) and self._beside.once:
            member.inputs = replace(member.inputs, once=True)
        if self._beside.most_polled:
            member.MOST_POLLED = self._beside.most_polled  # type: ignore[misc]
        member._get_many = _taking_time(member._get_many)  # type: ignore[method-assign]
        Watch(self.kind, member, self._around)
        try:
            numbers: set[int] = set()
            member._last = _noting(member._last, member, numbers)  # type: ignore[method-assign]
            await member.run()
            if self._beside.once and not member._stopping.is_set():
                self._told({tp.partition: end for tp, end in (member._until or {}).items() if tp.partition in numbers})
        finally:
            await member.close()
            if isinstance(member, AtlasRunner):
                await member._store.close()

    def _make(self) -> GroupMember[Any]:
        if self.kind == "archive":
            assert self._archive is not None
            return self._archive.member()
        return MAKERS[self.kind](self._settings)


def _taking_time(get_many: Any) -> Any:
    """Returns what polls, and takes some time for it: else whoever polls for less than a millisecond would do so for
    ever, as no time passes."""

    async def get_many_later(timeout_ms: int) -> Any:
        await asyncio.sleep(POLL_TAKES_S)
        return await get_many(timeout_ms)

    return get_many_later


def _noting(last: Any, member: GroupMember[Any], numbers: set[int]) -> Any:
    """Returns what gives numbers away, and notes which these are."""

    async def give_away(some: Collection[int]) -> None:
        numbers.clear()
        numbers.update(some)
        await last(some)

    return give_away


def latest_plan(settings: Settings) -> Plan:
    topics = settings.topics
    inputs = topics.forecasts, topics.gapfills
    return Plan("latest", inputs, group_of("latest", settings), bootstrap=settings.bootstrap)


def score_settings(settings: Settings) -> ScoreSettings:
    return ScoreSettings(bootstrap=settings.bootstrap, group=group_of("scores", settings), rules=SCORE_RULES)


def atlas_settings(settings: Settings) -> RunSettings:
    """Returns settings by which no version is due in a world, unless it has a folder for their files."""
    return RunSettings(
        settings.atlases or Path("/nowhere"),
        bootstrap=settings.bootstrap,
        group=group_of("atlas", settings),
        redis_url=settings.redis_url,
        every_s=NO_VERSION_S if settings.atlases is None else EVERY_S,
        rules=DEFAULT_RULES if settings.atlases is None else RULES,
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


def _arrivals(settings: Settings) -> Member:
    made = ArrivalSettings(
        None, 0.0, None, ARRIVALS_EVERY_S, 100, bootstrap=settings.bootstrap, group=group_of("arrivals", settings)
    )
    arrivals, topics = Arrivals(made), settings.topics
    arrivals._table = Table(made.bootstrap, topics.destinations, 1, arrivals._in_force)  # as `provide` does
    return Member(Plan("arrivals", made.inputs, made.group, made.bootstrap), arrivals.begin)


MAKERS: Final[dict[str, Callable[[Settings], GroupMember[Any]]]] = {
    "latest": _latest,
    "scores": _scores,
    "atlas": _atlas,
    "arrivals": _arrivals,
}
INPUTS: Final[dict[str, Callable[[Settings], tuple[str, ...]]]] = {
    "latest": lambda settings: latest_plan(settings).inputs,
    "scores": lambda settings: score_settings(settings).inputs,
    "arrivals": lambda settings: (settings.topics.forecasts,),
    "atlas": lambda _: (),  # whose own store says up to where it has counted
    "archive": lambda _: (),
}
