"""Runs `pathcast verify`: reads the outputs, replays the input, and compares both.

    checkpoints' offsets -> committed offsets -> ends of the outputs -> ends of the input   (looked up in this order)
    models   -> Announced: which version of the atlas answers which ping, if there are atlases
    outputs  -> Published: digests by the input record that they answer
    input    -> per partition: Replay, which reads doubted answers back from the outputs

Memory: 25 bytes per input record, 13 KB per entity of one partition, and 150 bytes per entity of all. It publishes and
commits nothing, and takes over no partition.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

from aiokafka.errors import KafkaError
from redis.exceptions import RedisError

from model.api import Predictor
from stream.adapters.live.on_topic import reader_of
from stream.config.security import kafka_refusal, shown
from stream.config.settings import UNLIMITED, Settings
from stream.engine.engine import Engine
from stream.kafka import admin
from stream.kafka.log import Partition
from stream.kafka.reading import INPUT_ISOLATION, Isolation, reread
from stream.kafka.records.record_columns import Records
from stream.store.base import Store
from stream.store.redis_store import RedisStore
from stream.verify.atlases import NamedAtlases, choice_of_replay, read_announced
from stream.verify.compare import Tolerance
from stream.verify.judging.doubts import Place
from stream.verify.judging.judge import Judge, JudgingRules
from stream.verify.log_history import Past
from stream.verify.offsets import Outlook, Start, outlook
from stream.verify.published import Book, Published, Span
from stream.verify.replay import Replay
from stream.verify.report import Example, Report, Verdict
from stream.verify.stored_states import Replayed, States
from stream.verify.versions import Announced
from stream.verify.weights import AnnouncedWeights, Loaded
from stream.wire import Record

BATCH_RECORDS: Final = 8_192  # many more than a worker's: steps are fuller, and no answer depends on the batch
EVERYBODY: Final = 1 << 30  # entities in memory: the replay has no store, so all must stay

Show = Callable[[str, int, int], None]  # what is done, how many, of how many


@dataclass(frozen=True)
class Wanted:
    """Holds what to verify, in addition to the workers' own settings."""

    once: bool = False  # the workers' guarantee is exactly_once
    start: Start = field(default_factory=Start)
    warmup: int | None = None  # the most records before `start` to replay for the states; None: all that the log has
    states: bool = False
    tolerance: Tolerance = field(default_factory=Tolerance)
    to_the_bit: bool = True
    allow_retention: bool = False

    @property
    def isolation(self) -> Isolation:
        return "read_committed" if self.once else "read_uncommitted"


async def verify(settings: Settings, wanted: Wanted, show: Show) -> Report:
    """Verifies and returns the report.

    Raises ConnectionError or RuntimeError if a server cannot be read, ValueError if a topic does not exist.
    """
    began = time.monotonic()
    predictor = Predictor.load(settings.weights)
    store = RedisStore(settings) if wanted.states else None
    try:
        report = await _Run(settings, wanted, predictor, store, show).report()
    except KafkaError as error:
        refusal = kafka_refusal(settings.bootstrap, settings.kafka, error)
        raise refusal or ConnectionError(f"reading Kafka at {settings.bootstrap} failed: {error!r}") from error
    except RedisError as error:
        where = shown(settings.redis_url)
        raise ConnectionError(f"no Redis answers at {where} ({error}): is --redis right?") from error
    finally:
        if store is not None:
            await store.close()
    report.seconds = time.monotonic() - began
    return report


class _Run:
    def __init__(
        self, settings: Settings, wanted: Wanted, predictor: Predictor, store: Store | None, show: Show
    ) -> None:
        self._settings = settings
        self._wanted = wanted
        self._predictor = predictor
        self._store = store
        self._show = show
        self._pings = settings.topics.pings
        self._foreign = reader_of(settings.map)
        self._replayed = Replayed()
        without_quota = replace(settings, max_stored_entities=UNLIMITED)
        self._engine = Engine(predictor, self._replayed, without_quota, clock_ms=lambda: 0.0, max_resident=EVERYBODY)
        allowed = frozenset[Verdict](["retention"] if wanted.allow_retention else [])
        self._atlases = NamedAtlases()
        self._networks = Loaded([predictor])
        self._announced: Announced | None = None
        self._weights: AnnouncedWeights | None = None
        self._report = Report("exactly_once" if wanted.once else "at_least_once", allowed=allowed)

    async def report(self) -> Report:
        checkpoints = await self._checkpoints()
        topics = self._settings.topics
        outputs = (topics.forecasts, topics.gapfills, topics.dead_letters)
        look = await outlook(self._settings, outputs, self._wanted.start, self._wanted.warmup, self._wanted.isolation)
        self._note(look)
        self._report.entities.partitions = len(look.spans)
        for number, span in look.spans.items():
            self._report.tally(number)
            self._blame_past(number, look.pasts[number], span)
        if self._settings.asks_versions:
            atlases, weights = await read_announced(self._settings, self._predictor.version, self._report)
            self._announced = None if self._settings.atlases is None else atlases
            if self._settings.registry is not None:
                self._weights = weights
                self._networks.load(self._settings.registry, weights.versions, self._report)
        published = await self._read_outputs(look)
        self._load(published)
        done, total = 0, sum(span.end - span.begin for span in look.spans.values())
        for number, book in sorted(published.books.items()):
            replay = self._replay(number, book, checkpoints.get(number), look.committed[number])
            async for records in self._batches((self._pings, number), book.span.begin, book.span.end):
                await replay.feed(records)
                self._show("replaying the input", done + records[-1].offset + 1 - book.span.begin, total)
            await replay.end()
            await replay.again(partial(self._anew, number, book.span.begin))
            self._engine.drop((self._pings, number))
            done += book.span.end - book.span.begin
        return self._report

    def _replay(self, number: int, book: Book, checkpoint: int | None, committed: int | None) -> Replay:
        wanted, partition = self._wanted, (self._pings, number)
        rules = JudgingRules(
            self._settings.topics,
            wanted.tolerance,
            self._predictor.history,
            once=wanted.once,
            to_the_bit=wanted.to_the_bit,
            ttl_ms=self._settings.state_ttl_s * 1000,
            versions=self._atlases.versions,
            announced=self._announced,
            models=self._networks.index.keys(),
            weights=self._weights,
            foreign=self._foreign,
        )
        judge = Judge(number, book, rules, self._report)
        states = None
        if self._store is not None:
            ttl_ms = self._settings.state_ttl_s * 1000
            states = States(partition, self._store, self._engine.predictors, judge, rules, self._report, ttl_ms=ttl_ms)
            states.plan(checkpoint, committed)
        asked = choice_of_replay(book, self._atlases, self._networks.networks)
        return Replay(self._engine, self._replayed, judge, states, self._fetch, asked)

    async def _checkpoints(self) -> dict[int, int | None]:
        """Returns the offset of each partition's checkpoint."""
        if self._store is None:
            return {}
        with admin.connect(self._settings.bootstrap, self._settings.kafka) as client:
            numbers = range(admin.partitions_of(client, self._pings))
        return {number: (await self._store.peek((self._pings, number))).next_offset for number in numbers}

    def _blame_past(self, number: int, past: Past, span: Span) -> None:
        """Reports truncations from `span.start` on, and records that retention deleted unanswered."""
        if past.cut is not None and past.cut >= span.start:
            example = Example("log_shortened", self._pings, number, past.cut, None, past.why)
            self._report.blame(example)
        if past.lost:
            why = past.lost_now or "retention deleted them before the group came to them, as its last commit says"
            self._report.blame(Example("retention", self._pings, number, None, None, why), past.lost)

    def _note(self, look: Outlook) -> None:
        """Adds notes about what cannot be judged to the report."""
        for number, span in sorted(look.spans.items()):
            if look.committed[number] is None and span.end > span.begin:
                self._report.notes.append(
                    f"partition {number}: group {self._settings.group} has committed nothing, so nothing is due yet"
                )
            if span.begin > 0:
                self._report.notes.append(
                    f"partition {number}: replayed from offset {span.begin} on, not from 0: an entity is judged once "
                    "its window is full of replayed pings, or starts anew; numbers within the tolerance"
                )

    async def _read_outputs(self, look: Outlook) -> Published:
        """Reads the outputs and returns the digests of all answers."""
        published = Published(self._settings.topics, look.spans, self._networks.index.keys(), self._report)
        done, total = 0, sum(bounds.end - bounds.begin for bounds in look.outputs.values())
        for partition, bounds in look.outputs.items():
            async for records in self._read(partition, *bounds):
                for record in records:
                    published.add(record)
                self._show("reading the outputs", done + records[-1].offset + 1 - bounds.begin, total)
            done += bounds.end - bounds.begin
        return published

    def _load(self, published: Published) -> None:
        """Loads the versions of the atlas that the answers name."""
        folder = self._settings.atlases
        if folder is not None:
            self._atlases.load(folder, published.named, self._settings.topics.models, self._report)
        elif any(one.atlas is not None and one.atlas.version is not None for one in published.named):
            self._report.notes.append(
                "forecasts asked versions of an atlas: their numbers are compared with --atlases DIR alone"
            )

    async def _fetch(self, places: Set[Place]) -> dict[Place, Record]:
        """Returns the published records at these places, as far as they still exist."""
        offsets: dict[Partition, set[int]] = {}
        for topic, number, offset in places:
            offsets.setdefault((topic, number), set()).add(offset)
        found: dict[Place, Record] = {}
        for partition, wanted in offsets.items():
            async for records in self._read(partition, min(wanted), max(wanted) + 1):
                found |= {(r.topic, r.partition, r.offset): r for r in records if r.offset in wanted}
        return found

    async def _anew(self, number: int, begin: int, end: int) -> AsyncIterator[Sequence[Record]]:
        """Yields the input of a partition, of which the engine then knows nothing."""
        self._engine.drop((self._pings, number))
        async for records in self._batches((self._pings, number), begin, end):
            yield records

    async def _batches(self, partition: Partition, start: int, end: int) -> AsyncIterator[Sequence[Record]]:
        """Yields the input in batches of some BATCH_RECORDS."""
        gathered: list[Record] = []
        async for records in self._read(partition, start, end, isolation=INPUT_ISOLATION):
            gathered += records
            if len(gathered) >= BATCH_RECORDS:
                yield gathered
                gathered = []
        if gathered:
            yield gathered

    def _read(
        self, partition: Partition, start: int, end: int, isolation: Isolation | None = None
    ) -> AsyncIterator[Records]:
        servers = self._settings.bootstrap.split(",")
        level = isolation or self._wanted.isolation
        return reread(servers, partition, start, end, access=self._settings.kafka.arguments(), isolation=level)
