"""Chooses which version of the atlas each ping of a worker asks, and loads the files of those that are needed.

`stream.versions.ledger` has the rule. A partition waits, and the others go on, while the answer is not certain:

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
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from aiokafka.errors import KafkaError
from numpy.typing import NDArray

from model.api import Atlas, AtlasError
from stream.kafka.columns import I64
from stream.versions.files import path_of
from stream.versions.hearing import Hearing
from stream.versions.ledger import Answering, certain_below
from stream.wire import VersionRecord

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


@dataclass
class _Wait:
    since_s: float
    over: bool = False  # it was logged that the partition goes on


@dataclass(frozen=True)
class _Partition:
    """Who answers a partition's pings, at one moment."""

    answering: Answering
    which: I64  # by version of `answering`, and none at the end: the index of its atlas, or of the one before it
    missing: NDArray[np.bool_]  # by version, and none: it is not loaded
    sure_below: int
    plain: range  # offsets that one version answers, or none, and it is loaded: empty if others were chosen for


@dataclass(frozen=True)
class Chosen:
    """A `stream.engine.asks.Choice`: the versions of some partitions at one moment. It is good for later pings, too, if
    they are `plain`, until a record comes or a file."""

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
        self._waits: dict[Reason, _Wait] = {}
        self._last = Chosen([], {})  # what was chosen last, for all partitions that were asked for
        self._heard: Sequence[VersionRecord] = ()  # what served then
        self._soon = asyncio.Event()  # set while a partition waits for what a look may find

    def listen(self, news: Callable[[], None]) -> None:
        """Calls `news` whenever partitions that wait should be asked for again."""
        self._news = news

    @property
    def in_use(self) -> dict[int, str]:
        """Returns the version that answered last, by partition; empty for none."""
        answered = {
            number: self._hearing.ledger.version_at(number, last) for number, (_, last, _) in self._asked.items()
        }
        return {number: version or "" for number, version in answered.items()}

    async def choose(self, spans: Mapping[int, tuple[int, int]]) -> tuple[Chosen, set[int]]:
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
            return self._last, set()
        self._load()
        reasons = list(self._reasons(spans))
        over = [one for one in self._waits if one.number in spans and one not in reasons]
        for reason in over:
            del self._waits[reason]
        held = {reason.number for reason in reasons if self._holds(reason, now_s)}
        self._choose(spans)
        return self._last, held

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
                await self._hearing.look()
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

    def _is_plain(self, spans: Mapping[int, tuple[int, int]]) -> bool:
        """Returns whether what was chosen last is right for these pings, and nobody waits."""
        if self._waits or self._heard is not self._hearing.ledger.serving:
            return False
        partitions = self._last.partitions
        for number, (first, last) in spans.items():
            one = partitions.get(number)
            if one is None or first not in one.plain or last not in one.plain or last >= self._certain.get(number, 0):
                return False
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

    def _between(self, number: int, first: int, last: int, around: int = 0) -> Sequence[str]:
        """Returns the versions that answer offsets from `first` to `last`, and so many before and after them."""
        answering = self._hearing.ledger.answering(number)
        begin, end = answering.at(np.array([first, last])).tolist()
        return answering.versions[max(begin - around, 0) : end + 1 + around]

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
            if reason.what != "file":
                self._soon.set()
            return True
        if not wait.over:
            log.warning("partition %d goes on without %s: its forecasts say that they are late", *reason[:1], reason)
            wait.over = True
        return False

    def _choose(self, spans: Mapping[int, tuple[int, int]]) -> None:
        """Chooses for these pings. What was chosen for other partitions stays, as long as nothing is new."""
        ledger = self._hearing.ledger
        if self._heard is not ledger.serving:
            self._last, self._heard = Chosen([], {}), ledger.serving
        index = {atlas.version: at for at, atlas in enumerate(self._last.atlases)}
        partitions = dict(self._last.partitions)
        for number, (first, last) in spans.items():
            whole = ledger.answering(number)
            begin, end = whole.at(np.array([first, last])).tolist()
            asked = range(max(begin, 0), end + 1)
            which = [-1] * (len(asked) + 1)  # the last is for none
            for place, at in enumerate(asked):
                known = next((whole.versions[i] for i in range(at, -1, -1) if whole.versions[i] in self._loaded), None)
                if known is not None:
                    which[place] = index.setdefault(known, len(index))
            missing = [whole.versions[at] not in self._loaded for at in asked]
            undecided = ledger.undecided_from(number)
            open_from = NEVER if undecided is None else undecided
            sure_below, plain = min(self._certain.get(number, 0), open_from), range(0)
            if begin == end and last < sure_below and not any(missing):
                plain = range(*_bounds(whole, end, open_from))
                sure_below = plain.stop
            partitions[number] = _Partition(
                Answering(whole.starts[asked.start : asked.stop], whole.versions[asked.start : asked.stop]),
                np.array(which, np.int64),
                np.array([*missing, False]),
                sure_below,
                plain,
            )
        kept = self._last.atlases
        self._last = Chosen([*kept, *(self._loaded[version] for version in list(index)[len(kept) :])], partitions)

    # -- files --------------------------------------------------------------------------------------------------------

    def _needed(self) -> set[str]:
        """Returns the versions that pings ask now or will next, and those before, which answer where one is missing: of
        the partitions that have pings. And the last one that serves, for partitions that come."""
        ledger, now_s = self._hearing.ledger, asyncio.get_running_loop().time()
        found = {record.version for record in [*ledger.serving[-1:], *ledger.announced]}
        for number, (first, last, at_s) in self._asked.items():
            if now_s - at_s < IDLE_S:
                found.update(self._between(number, first, last, around=1))
        return found

    def _load(self) -> None:
        """Begins to load what is needed, and lets go of what is not: batches under way keep what they ask."""
        needed, now_s = self._needed(), asyncio.get_running_loop().time()
        for version in self._loaded.keys() - needed:
            log.info("version %s of the atlas is not needed any more", version)
            del self._loaded[version]
            self._last = Chosen([], {})  # which would keep it
        self._damaged = {version: at_s for version, at_s in self._damaged.items() if version in needed}
        for version in needed - self._loaded.keys() - self._loading.keys():
            if now_s - self._damaged.get(version, -RETRY_S) >= RETRY_S:
                self._loading[version] = asyncio.create_task(self._load_one(version), name=f"atlas {version}")

    async def _load_one(self, version: str) -> None:
        path, loop = path_of(self._folder, version), asyncio.get_running_loop()
        try:
            atlas = await asyncio.to_thread(Atlas.load, path)
            if atlas.version != version:
                raise AtlasError(f"it is version {atlas.version}")
        except (OSError, ValueError) as error:
            if version not in self._damaged:
                log.warning("%s cannot be loaded and is tried again: %s", path, error)
            self._damaged[version] = loop.time()
            loop.call_later(RETRY_S, self._news)
        else:
            log.info("version %s of the atlas is loaded: %d keys", version, len(atlas.sums))
            self._damaged.pop(version, None)
            self._loaded[version] = atlas
            self._news()
        finally:
            del self._loading[version]


def _bounds(answering: Answering, at: int, open_from: int) -> tuple[int, int]:
    """Returns the first offset that the version `at` answers (-1: none does), and the one after the last, as far as
    that is not open."""
    starts = answering.starts
    return int(starts[at]) if at >= 0 else 0, min(int(starts[at + 1]) if at + 1 < len(starts) else NEVER, open_from)
