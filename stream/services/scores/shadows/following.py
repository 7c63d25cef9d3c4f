"""Runs the announced shadows beside the stream, and says what they forecast of the pings whose forecasts are scored.

Everything follows the forecasts topic: a shadow answers a ping when the published forecast of that ping is scored. So
the offset that is committed for the forecasts is good for the shadows, too, and a successor that reads forecasts again
makes the same forecasts of shadows again. For that it reads the pings again, too (`begin_of`).

A forecast's `src` names its ping. Workers write the forecasts of partition n of the pings into partition n of the
forecasts (stream.kafka.producer), if both topics have as many partitions: `check_partitions` refuses others.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
from aiokafka.errors import KafkaError

from model.api import Predictor
from stream.config.security import kafka_refusal
from stream.kafka.reading import reread
from stream.kafka.records.record_columns import Records
from stream.registry import Registry
from stream.services.scores.owned import Beside
from stream.services.scores.settings import ScoreSettings
from stream.services.scores.shadows.lane import KEPT, Lane, engine_settings
from stream.services.scores.shadows.pings import Pings
from stream.versions.announcement_reader import AnnouncementReader
from stream.versions.fetching import fetched
from stream.versions.loading import Loader
from stream.wire import Src, WeightsRecord
from stream.wire.messages import decoded

log: Final = logging.getLogger(__name__)

WINDOWS: Final = 64_000  # pings of a partition before the first one that is answered: as a takeover without a store
MOST_AGAIN: Final = 1_000_000  # pings that are read again at most: some 10 s of work
LOOK_S: Final = 10.0  # for which the models topic may stay silent; then what was heard before counts
HOLD_S: Final = 180.0  # for which scores wait until weights are loaded: they are 23 minutes late anyway
AWAY_S: Final = 60.0  # for which no shadow is tried in a partition whose pings could not be read
FEW: Final = 256  # slots of a new engine: they grow
SAY_S: Final = 10.0
NO_PINGS: Final = (KafkaError, OSError, TimeoutError, RuntimeError)


class Standing(NamedTuple):
    """Where one shadow stands in one partition."""

    version: str
    number: int
    entities: int
    folded: int  # pings


class _Sourced(msgspec.Struct):
    """The only field of a forecast that is asked here."""

    src: Src


_SOURCE: Final = msgspec.json.Decoder(_Sourced)


@dataclass
class _Part:
    """What is followed of one partition."""

    owner: object
    next: int  # the first ping that is not folded yet
    lanes: dict[str, Lane] = field(default_factory=dict)  # by version
    failed: set[str] = field(default_factory=set)
    not_before: float = 0.0  # when the pings may be read again after they could not be


class Shadows:
    """All shadows of one member. One task may call it, but for `drop` and what only looks."""

    def __init__(
        self, settings: ScoreSettings, announcements: AnnouncementReader, pings: Pings, loader: Loader[Path]
    ) -> None:
        self._settings = settings
        self._engine = engine_settings(settings.prefix, settings.horizons_s, settings.map)
        self._topic = settings.topics.pings
        self._announcements = announcements
        self._pings = pings
        self._loader = loader
        self._parts: dict[int, _Part] = {}
        self._deaf = False
        self._held: set[str] = set()  # versions for which scores have waited
        self._news = asyncio.Event()
        loader.listen(self._news.set)

    @classmethod
    @asynccontextmanager
    async def opened(cls, settings: ScoreSettings) -> AsyncIterator[Shadows]:
        """Yields one that has heard what is announced. Raises KafkaError, Refused, or RegistryError for a registry that
        cannot be."""
        assert settings.registry is not None
        Registry.opened(settings.registry, settings.registry_cache)
        async with AsyncExitStack() as stack:
            announcements = await stack.enter_async_context(
                AnnouncementReader.opened(settings.bootstrap, settings.topics, settings.kafka)
            )
            try:
                await announcements.look()
            except KafkaError as error:
                raise kafka_refusal(settings.bootstrap, settings.kafka, error) or error from error
            pings = await stack.enter_async_context(Pings.opened(settings))
            load = partial(_checked, settings.registry, settings.registry_cache)
            yield cls(settings, announcements, pings, Loader("shadow", load))

    async def look(self) -> None:
        """Hears what is announced, and begins to load it. To be called after forecasts were read and before they are
        scored: what is announced later is so for pings that come later than theirs (stream.versions.ledger)."""
        try:
            async with asyncio.timeout(LOOK_S):
                await self._announcements.look()
            self._deaf = False
        except NO_PINGS as error:
            if not self._deaf:
                log.warning("the models topic cannot be read (%r): what was announced before counts", error)
            self._deaf = True
        needed = {one.version for one in self._announced}
        self._loader.need(needed)
        self._held &= needed
        self._pings.keep(self._parts.keys())

    async def beside(self, number: int, owner: object, records: Records) -> Beside | None:
        """Returns for each of these forecasts what shadows say of its ping; None if there are no shadows. `owner` is
        who scores this partition: for another one than before, all is made again."""
        sources = [_source(raw, self._topic, number) for raw in records.values.each()]
        known = [one for one in sources if one is not None]
        if not known:
            return None
        part = self._parts.get(number)
        if part is None or part.owner is not owner or min(known) + KEPT < part.next:  # the last: a log was made anew
            part = self._parts[number] = _Part(owner, min(known))
        try:
            if time.monotonic() >= part.not_before:
                await self._begin(part, number, min(known), max(known))
            if not part.lanes:
                return None
            return [await self._said(part, number, source) for source in sources]
        except NO_PINGS as error:
            log.warning(
                "%s/%d cannot be read (%r): its forecasts are scored without shadows", self._topic, number, error
            )
            part.lanes.clear()
            part.not_before = time.monotonic() + AWAY_S
            return None

    def drop(self, number: int) -> None:
        """Follows a partition no more. Any task may call it."""
        self._parts.pop(number, None)  # its pings are let go by the next `look`, in the task that reads them

    @property
    def refused(self) -> dict[str, str]:
        """Returns the shadows that are announced and cannot be run, and why."""
        failed = {version: "its engine failed" for part in self._parts.values() for version in part.failed}
        return failed | self._loader.refused

    def standings(self) -> list[Standing]:
        return [
            Standing(version, number, lane.entities, lane.folded)
            for number, part in sorted(self._parts.items())
            for version, lane in sorted(part.lanes.items())
        ]

    @property
    def _announced(self) -> list[WeightsRecord]:
        # Also those that are not confirmed yet: a shadow answers nobody, so nothing has to wait for that.
        return [one for one in self._announcements.weights.records if one.role == "shadow"]

    async def _begin(self, part: _Part, number: int, low: int, high: int) -> None:
        """Lets the partition have a lane for each shadow that has to answer pings of these offsets, and no other."""
        firsts: dict[str, int] = {}
        for one in self._announced:
            if (first := one.first.get(number)) is not None and first <= high:
                firsts[one.version] = min(first, firsts.get(one.version, first))
        for version in part.lanes.keys() - firsts.keys():
            log.info("shadow %s has ended in partition %d", version, number)
            del part.lanes[version]
        part.failed &= firsts.keys()
        if not part.lanes:
            part.next = low
        for version, first in sorted(firsts.items()):
            if version not in part.lanes and version not in part.failed and await self._is_loaded(version):
                await self._start(part, number, version, first)
        part.lanes = dict(sorted(part.lanes.items()))

    async def _is_loaded(self, version: str) -> bool:
        """Waits for weights that are being loaded, once and not for ever."""
        loader = self._loader
        with suppress(TimeoutError):
            async with asyncio.timeout(0.0 if version in self._held else HOLD_S):
                while version not in loader.loaded and version not in loader.refused:
                    self._news.clear()
                    await self._news.wait()
        self._held.add(version)
        return version in loader.loaded

    async def _start(self, part: _Part, number: int, version: str, first: int) -> None:
        """Begins a lane, and folds what came before the pings that are to be answered."""
        folder = self._loader.loaded[version]
        pings = self._topic, number
        begin, answered = begin_of(first, part.next), max(first, part.next)
        log.info("shadow %s in partition %d: answers from %d on, reads from %d", version, number, answered, begin)
        try:
            predictor = await asyncio.to_thread(Predictor.load, folder, capacity=FEW)
        except (OSError, ValueError) as error:
            self._fail(part, number, version, error)
            return
        lane = Lane(predictor, pings, self._engine, first=answered, most=self._settings.max_entities)
        part.lanes[version] = lane
        servers, access = self._settings.bootstrap.split(","), self._settings.kafka.arguments()
        said_s = time.monotonic()
        async for records in reread(servers, pings, begin, part.next, access=access):
            await self._fold(part, number, version, records)
            if version not in part.lanes:
                return
            if time.monotonic() - said_s >= SAY_S:
                log.info("shadow %s in partition %d: at %d of %d", version, number, records.next_offset, part.next)
                said_s = time.monotonic()

    async def _said(self, part: _Part, number: int, source: int | None) -> Sequence[bytes]:
        """Returns what the lanes say of a ping, by version."""
        if source is None:
            return ()
        while part.next <= source:
            records, part.next = await self._pings.read(number, part.next)
            for version in list(part.lanes):
                if records:
                    await self._fold(part, number, version, records)
        said = (lane.take(source) for lane in part.lanes.values())
        return [one for one in said if one is not None]

    async def _fold(self, part: _Part, number: int, version: str, records: Records) -> None:
        try:
            await part.lanes[version].fold(records)
        except Exception as error:  # whatever it is, the published forecasts are scored on
            self._fail(part, number, version, error)

    def _fail(self, part: _Part, number: int, version: str, error: Exception) -> None:
        log.error("shadow %s is given up in partition %d: %r", version, number, error, exc_info=error)
        part.lanes.pop(version, None)
        part.failed.add(version)


def begin_of(first: int, low: int) -> int:
    """Returns the ping to begin with, for a shadow that was announced from `first` on and has to answer from `low` on.

    It is always the same one, so that whoever goes on has the same states, to the last bit. Only a shadow that is older
    than MOST_AGAIN begins later: then entities with fewer pings since than a window has are in warm-up again, and the
    others' states are equal but for rounding.
    """
    return max(0, first - WINDOWS, low - MOST_AGAIN)


def _source(raw: bytes | None, topic: str, number: int) -> int | None:
    """Returns the offset of a forecast's ping; None for what is no forecast, or of a ping of another partition."""
    try:
        src = decoded(_SOURCE, raw or b"").src
    except msgspec.DecodeError:
        return None
    return src.offset if (src.topic, src.partition) == (topic, number) else None


def _checked(registry: str, cache: Path | None, version: str) -> Path:
    """Raises OSError or ValueError if these weights cannot be used."""
    fetched(registry, version, FEW, cache)
    return Registry.opened(registry, cache).fetch("weights", version)


def check_partitions(client: Any, settings: ScoreSettings, partitions_of: Callable[[Any, str], int]) -> None:
    """Raises ValueError if a partition of the forecasts is not that of the pings with the same number."""
    topics = settings.topics
    pings, forecasts = partitions_of(client, topics.pings), partitions_of(client, topics.forecasts)
    if pings != forecasts:
        raise ValueError(
            f"{topics.pings} has {pings} partitions and {topics.forecasts} has {forecasts}: shadows are run only where "
            "both have as many, so leave out --registry"
        )
