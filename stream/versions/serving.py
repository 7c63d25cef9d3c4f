"""Chooses which versions the pings of a worker ask, and has those loaded that are needed.

`stream.versions.ledger` and `stream.versions.weights` have the rules. A partition waits, and the others go on, while
the answer is not certain:

    the models topic cannot be read    and the pings lie beyond what the last look makes certain
    a version is announced             and may answer them, if it is confirmed
    a version is not loaded            which answers them

Nobody waits longer than a bound for one of these. Then the pings ask the version before (or none), and each forecast
says that it is late.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol

from aiokafka.errors import KafkaError

from stream.versions.announcement_reader import AnnouncementReader
from stream.versions.atlases import Atlases, ChosenAtlases
from stream.versions.ledger import certain_below
from stream.versions.loading import RETRY_S, Loader
from stream.versions.networks import ChosenWeights, Networks

log: Final = logging.getLogger(__name__)

LOOK_S: Final = 2.0  # a look takes a millisecond
EVERY_S: Final = 5.0  # between two looks of a worker that has no pings, so that versions are loaded before they are due
SOON_S: Final = 0.1  # between two looks while a partition waits for a version to be confirmed
IDLE_S: Final = 600.0  # a partition without pings for so long keeps nothing loaded


class Reason(NamedTuple):
    """What a partition waits for."""

    number: int
    what: str  # "topic", "confirmed" or "loaded"
    kind: str = ""  # "atlas" or "weights"
    version: str = ""

    def __str__(self) -> str:
        return {
            "topic": "the models topic, which cannot be read",
            "confirmed": f"version {self.version} of the {self.kind}, which is announced and not confirmed",
            "loaded": f"version {self.version} of the {self.kind}, which is not loaded",
        }[self.what]


@dataclass
class _Wait:
    since_s: float
    over: bool = False  # it was logged that the partition goes on


class Side(Protocol):
    """One kind of versions: `Atlases` or `Networks`."""

    @property
    def kind(self) -> str: ...

    @property
    def loader(self) -> Loader[Any]: ...

    def list_unconfirmed(self, number: int, last: int) -> Iterator[str]:
        """Yields the versions that are announced, and may answer pings of this partition up to this offset."""

    def missing(self, number: int, first: int, last: int) -> Iterator[str]:
        """Yields the versions that may answer these offsets and are not loaded."""

    def is_plain(self, spans: Mapping[int, tuple[int, int]]) -> bool:
        """Returns whether one version answers all of these pings of each partition, and nothing is new since the last
        choice."""

    def load(self, recent: Iterable[tuple[int, int, int]]) -> None:
        """Has loaded what is needed, and lets go of the rest. `recent` has the partitions that have pings, with the
        first and last offset that was asked for."""


class Chosen(NamedTuple):
    """The versions for the pings that were asked for, and the numbers of the partitions that must wait."""

    atlas: ChosenAtlases | None
    weights: ChosenWeights | None
    waiting: set[int]


class Versions:
    """Which versions answer, for one worker. All is on the event loop, but for the loading."""

    def __init__(
        self,
        announcements: AnnouncementReader,
        atlases: Atlases | None,
        networks: Networks | None,
        *,
        hold_s: float,
        log_end: Callable[[int], int | None] = lambda number: None,
    ) -> None:
        """Takes the atlases and the networks, each None if it does not change here, and `log_end`, which returns where
        a partition's log ends, as far as is known without asking: the further it is seen, the longer a look is good
        for.
        """
        self._announcements = announcements
        self._atlases = atlases
        self._networks = networks
        self._sides: list[Side] = [one for one in (atlases, networks) if one is not None]
        self._hold_s = hold_s
        self._log_end = log_end
        self._news: Callable[[], None] = lambda: None
        self._certain: dict[int, int] = {}  # below these offsets the last look is good
        self._deaf = False  # the last look failed
        self._asked: dict[int, tuple[int, int, float]] = {}  # by partition: the offsets asked last, and when
        self._waits: dict[Reason, _Wait] = {}
        self._soon = asyncio.Event()  # set while a partition waits for what a look may find

    def listen(self, news: Callable[[], None]) -> None:
        """Calls `news` whenever partitions that wait should be asked for again."""
        self._news = news
        for side in self._sides:
            side.loader.listen(news)

    @property
    def in_use(self) -> dict[int, str]:
        """Returns the version of the atlas that answered last, by partition; empty for none."""
        if self._atlases is None:
            return {}
        return {number: self._atlases.version_at(number, last) or "" for number, (_, last, _) in self._asked.items()}

    @property
    def refused(self) -> dict[str, str]:
        """Returns the versions that are needed and cannot be loaded, and why."""
        return {version: why for side in self._sides for version, why in side.loader.refused.items()}

    @property
    def announcements_refused(self) -> int:
        """Returns how many records of the models topic were refused."""
        return self._announcements.refused

    async def choose(self, spans: Mapping[int, tuple[int, int]]) -> Chosen:
        """Returns the versions for pings of these partitions, and the partitions that must wait.

        `spans` has the first and the last offset of each partition's pings.
        """
        for number, (first, _) in spans.items():
            # The topic was created anew. Or the partition came back from another worker: that costs but a look.
            if number in self._asked and first < self._asked[number][0]:
                self._certain.pop(number, None)
        if not self._deaf and any(last >= self._certain.get(number, 0) for number, (_, last) in spans.items()):
            # Before the look: what is announced after it lies beyond these.
            ends = {number: max(self._log_end(number) or 0, last + 1) for number, (_, last) in spans.items()}
            if await self._look():
                self._certain |= {number: certain_below(end) for number, end in ends.items()}
        # No await from here on: what is decided is of one moment.
        now_s = asyncio.get_running_loop().time()
        self._forget_waits(now_s)
        self._asked |= {number: (first, last, now_s) for number, (first, last) in spans.items()}
        if self._is_plain(spans):
            return self._choose(spans, set())
        self._load()
        reasons = list(self._reasons(spans))
        over = [one for one in self._waits if one.number in spans and one not in reasons]
        for reason in over:
            del self._waits[reason]
        held = {reason.number for reason in reasons if self._holds(reason, now_s)}
        if self._atlases is not None:
            self._atlases.choose(spans, self._certain)
        return self._choose(spans, held)

    async def ready(self) -> None:
        """Looks once, and waits until the weights are loaded that serve now, for at most `hold_s`: so that entities
        come from the store into the weights that wrote them.
        """
        if self._networks is None or not await self._look():
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(self._hold_s):
                self._load()
                while not self._networks.is_ready():
                    await asyncio.sleep(SOON_S)
                    self._load()

    async def run(self) -> None:
        """Looks now and then, and often while a partition waits for it, until it is cancelled."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(RETRY_S if self._deaf else EVERY_S):
                    await self._soon.wait()
                await asyncio.sleep(SOON_S)
            self._soon.clear()
            await self._look()
            self._load()
            self._news()

    # -- what is known ------------------------------------------------------------------------------------------------

    async def _look(self) -> bool:
        """Returns whether the models topic was read to its end."""
        try:
            async with asyncio.timeout(LOOK_S):
                await self._announcements.look()
        except (KafkaError, OSError, TimeoutError, RuntimeError) as error:
            if not self._deaf:
                log.warning("the models topic cannot be read (%r): partitions with newer pings wait", error)
            self._deaf = True
            return False
        if self._deaf:
            log.warning("the models topic can be read again")
        self._deaf = False
        self._waits = {one: wait for one, wait in self._waits.items() if one.what != "topic"}
        return True

    def _choose(self, spans: Mapping[int, tuple[int, int]], held: set[int]) -> Chosen:
        atlas = None if self._atlases is None else self._atlases.last
        weights = None if self._networks is None else self._networks.choose(spans, self._certain)
        return Chosen(atlas, weights, held)

    def _is_plain(self, spans: Mapping[int, tuple[int, int]]) -> bool:
        """Returns whether what was chosen last is right for these pings, and nobody waits."""
        if self._waits or any(last >= self._certain.get(number, 0) for number, (_, last) in spans.items()):
            return False
        return all(side.is_plain(spans) for side in self._sides)

    def _reasons(self, spans: Mapping[int, tuple[int, int]]) -> Iterator[Reason]:
        """Yields why these pings must wait."""
        for number, (first, last) in spans.items():
            if last >= self._certain.get(number, 0):
                yield Reason(number, "topic")
            for side in self._sides:
                for version in side.list_unconfirmed(number, last):
                    yield Reason(number, "confirmed", side.kind, version)
                for version in side.missing(number, first, last):
                    yield Reason(number, "loaded", side.kind, version)

    def _forget_waits(self, now_s: float) -> None:
        """Ends the waits of partitions without pings, whose reasons may have ended meanwhile and come back. Who is held
        is asked for again after `hold_s`, and a little."""
        for one in list(self._waits):
            if now_s - self._asked[one.number][2] > 2 * self._hold_s:
                del self._waits[one]

    def _holds(self, reason: Reason, now_s: float) -> bool:
        """Returns whether a partition waits for this, and has not waited for too long."""
        wait = self._waits.get(reason)
        if wait is None:
            log.info("partition %d waits for %s", reason.number, reason)
            wait = self._waits[reason] = _Wait(now_s)
            asyncio.get_running_loop().call_later(self._hold_s, self._news)
        if now_s - wait.since_s < self._hold_s:
            if reason.what != "loaded":
                self._soon.set()
            return True
        if not wait.over:
            log.warning("partition %d goes on without %s: its forecasts say that they are late", *reason[:1], reason)
            wait.over = True
        return False

    def _load(self) -> None:
        now_s = asyncio.get_running_loop().time()
        recent = [(number, first, last) for number, (first, last, at_s) in self._asked.items() if now_s - at_s < IDLE_S]
        for side in self._sides:
            side.load(recent)
