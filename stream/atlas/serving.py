"""Chooses which version of the atlas each ping of a worker asks, and loads the files of those that are needed.

`stream.atlas.ledger` has the rule. A partition waits, and the others go on, while the answer is not certain:

    the models topic cannot be read    and the pings lie beyond what the last look makes certain
    a version is announced             and may answer them, if it is confirmed
    a version's file is not loaded     which answers them

Nobody waits longer than a bound for one of these. Then the pings ask the version before (or none), and each forecast
says that it is late.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from aiokafka.errors import KafkaError
from numpy.typing import NDArray

from model.api import Atlas, AtlasError
from stream.atlas.hearing import Hearing
from stream.atlas.ledger import Answering, certain_below
from stream.kafka.columns import I64

log: Final = logging.getLogger(__name__)

LOOK_S: Final = 2.0  # a look takes a millisecond
EVERY_S: Final = 5.0  # between two looks of a worker that has no pings, so that files are loaded before they are needed
RETRY_S: Final = 1.0  # between two looks that fail, or two tries to load a file
SOON_S: Final = 0.1  # between two looks while a partition waits for a version to be confirmed
IDLE_S: Final = 600.0  # a partition without pings for so long keeps no file loaded
NEVER: Final = np.iinfo(np.int64).max


class Reason(NamedTuple):
    """What a partition waits for."""

    number: int
    what: str  # "topic", "confirmed" or "file"
    version: str = ""

    def __str__(self) -> str:
        return {
            "topic": "the models topic, which cannot be read",
            "confirmed": f"version {self.version} of the atlas, which is announced and not confirmed",
            "file": f"version {self.version} of the atlas, which is not loaded",
        }[self.what]


@dataclass(frozen=True)
class _Partition:
    """Who answers a partition's pings, at one moment."""

    answering: Answering
    which: I64  # by version of `answering`, and none at the end: the index of its atlas, or of the one before it
    missing: NDArray[np.bool_]  # by version, and none: it is not loaded
    sure_below: int


@dataclass(frozen=True)
class Chosen:
    """A `stream.engine.asks.Choice`: the versions of some partitions at one moment."""

    atlases: Sequence[Atlas]
    partitions: Mapping[int, _Partition]

    def of(self, number: int, offsets: I64) -> tuple[I64, NDArray[np.bool_]]:
        one = self.partitions[number]
        places = one.answering.at(offsets)
        return one.which[places], one.missing[places] | (offsets >= one.sure_below)


class Versions:
    """Which version answers, for one worker. All is on the event loop, but for the loading of files."""

    def __init__(
        self,
        hearing: Hearing,
        folder: Path,
        *,
        hold_s: float,
        log_end: Callable[[int], int | None] = lambda number: None,
    ) -> None:
        """Takes `log_end`, which returns where a partition's log ends, as far as is known without asking: the further
        it is seen, the longer a look is good for.
        """
        self._hearing = hearing
        self._folder = folder
        self._hold_s = hold_s
        self._log_end = log_end
        self._news: Callable[[], None] = lambda: None
        self._certain: dict[int, int] = {}  # below these offsets the last look is good
        self._deaf = False  # the last look failed
        self._loaded: dict[str, Atlas] = {}
        self._loading: dict[str, asyncio.Task[None]] = {}
        self._damaged: dict[str, float] = {}  # when a file could not be loaded
        self._asked: dict[int, tuple[int, int, float]] = {}  # by partition: the offsets asked last, and when
        self._waits: dict[Reason, float] = {}  # since when
        self._soon = asyncio.Event()  # set while a partition waits for what a look may find

    def listen(self, news: Callable[[], None]) -> None:
        """Calls `news` whenever partitions that wait should be asked for again."""
        self._news = news

    @property
    def in_use(self) -> dict[int, str]:
        """Returns the version that answered last, by partition; empty for none."""
        answered = {number: self._hearing.ledger.version_at(number, last) for number, (_, last, _) in self._asked.items()}
        return {number: version or "" for number, version in answered.items()}

    async def choose(self, spans: Mapping[int, tuple[int, int]]) -> tuple[Chosen, set[int]]:
        """Returns the versions for pings of these partitions, and the partitions that must wait.

        `spans` has the first and the last offset of each partition's pings.
        """
        if not self._deaf and any(last >= self._certain.get(number, 0) for number, (_, last) in spans.items()):
            # Before the look: what is announced after it lies beyond these.
            ends = {number: max(self._log_end(number) or 0, last + 1) for number, (_, last) in spans.items()}
            if await self._look():
                self._certain |= {number: certain_below(end) for number, end in ends.items()}
        # No await from here on: what is decided is of one moment.
        now_s = self._now_s()
        self._asked |= {number: (first, last, now_s) for number, (first, last) in spans.items()}
        self._load()
        held = {reason.number for reason in self._reasons(spans) if self._holds(reason, now_s)}
        return self._chosen(spans), held

    async def run(self) -> None:
        """Looks now and then, and often while a partition waits for it, until it is cancelled."""
        while True:
            waits_s = RETRY_S if self._deaf or self._damaged else EVERY_S
            try:
                async with asyncio.timeout(waits_s):
                    await self._soon.wait()
                await asyncio.sleep(SOON_S)
            except TimeoutError:
                pass
            self._soon.clear()
            await self._look()
            self._load()
            self._news()

    # -- what is known ------------------------------------------------------------------------------------------------

    async def _look(self) -> bool:
        """Returns whether the models topic was read to its end."""
        try:
            async with asyncio.timeout(LOOK_S):
                await self._hearing.look()
        except (KafkaError, OSError, TimeoutError, RuntimeError) as error:
            if not self._deaf:
                log.warning("the models topic cannot be read (%r): who has pings beyond the last look waits", error)
            self._deaf = True
            return False
        if self._deaf:
            log.warning("the models topic can be read again")
        self._deaf = False
        return True

    def _reasons(self, spans: Mapping[int, tuple[int, int]]) -> Iterator[Reason]:
        """Yields why these pings must wait."""
        ledger = self._hearing.ledger
        for number, (first, last) in spans.items():
            if last >= self._certain.get(number, 0):
                yield Reason(number, "topic")
            for record in ledger.announced:
                if record.first.get(number, NEVER) <= last:
                    yield Reason(number, "confirmed", record.version)
            for version in self._between(number, first, last):
                if version not in self._loaded:
                    yield Reason(number, "file", version)

    def _between(self, number: int, first: int, last: int, more: int = 0) -> Sequence[str]:
        """Returns the versions that answer offsets from `first` to `last`, and so many after them."""
        answering = self._hearing.ledger.answering(number)
        begin, end = answering.at(np.array([first, last])).tolist()
        return answering.versions[max(begin, 0) : end + 1 + more]

    def _holds(self, reason: Reason, now_s: float) -> bool:
        """Returns whether a partition waits for this, or has waited for it long enough."""
        since_s = self._waits.get(reason)
        if since_s is None:
            log.info("partition %d waits for %s", reason.number, reason)
            self._waits[reason] = since_s = now_s
            asyncio.get_running_loop().call_later(self._hold_s, self._expire, reason, now_s)
        if now_s - since_s >= self._hold_s:
            return False
        if reason.what != "file":
            self._soon.set()
        return True

    def _expire(self, reason: Reason, since_s: float) -> None:
        if self._waits.get(reason) == since_s:
            log.warning("partition %d goes on without %s: its forecasts say late", reason.number, reason)
            self._waits[reason] = since_s - 1.0  # clocks are rounded
            self._news()
