"""`pathcast beside guard`: watches the live scores of weights that were promoted, and rolls them back if they are
worse than those before; and of canaries, which it promotes or stops.

The scores topic is read without a group, as far as --since goes back. What was decided by live scores is decided once:
weights to which it rolled back are not judged against those that failed.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from threading import Event
from typing import Annotated, Final

import msgspec
import typer
from aiokafka.errors import KafkaError

from stream.commands.models.verdicts import Verdict, VerdictBounds, verdict
from stream.config.options import RegistryCache, RegistryUrl, option
from stream.config.security import KafkaSecurity
from stream.config.times import seconds
from stream.http.rounds import RoundPages, Rounds
from stream.kafka import admin
from stream.kafka.reading import bounds, reread
from stream.members.command import ServiceOptions
from stream.members.running import Running, Service
from stream.registry import Decision, Registry, RegistryError
from stream.versions.announcing import Announcer
from stream.versions.deciding import Decider, Why
from stream.wire import Score, Topics, loads_scored

log: Final = logging.getLogger(__name__)
BY: Final = "pathcast models guard"
MOST_VERSIONS: Final = 16  # whose scores are kept: the newest
DECISIONS: Final = ("promote", "rollback", "stop")
HANG_S: Final = 300.0  # between two signs of life in a look; Kafka's clients give up within 40 s


class Scores:
    """The newest scores of each version."""

    def __init__(self, last: int) -> None:
        self._last = last
        self._by_version: dict[str, deque[Score]] = defaultdict(lambda: deque(maxlen=last))
        self._next: dict[int, int] = {}

    def of(self, version: str) -> list[Score]:
        return list(self._by_version.get(version, ()))

    def take(self, raw: bytes) -> bool:
        """Keeps a record of the scores topic if it is a score. Returns whether it is."""
        try:
            one = loads_scored(raw)
        except msgspec.DecodeError:
            return False
        if not isinstance(one, Score):
            return False
        self.add(one)
        return True

    def add(self, score: Score) -> None:
        version = score.model.version
        kept = self._by_version.pop(version, None) or deque(maxlen=self._last)
        kept.append(score)
        self._by_version[version] = kept  # the last is the newest
        while len(self._by_version) > MOST_VERSIONS:
            del self._by_version[next(iter(self._by_version))]

    async def read(
        self, bootstrap: str, topic: str, security: KafkaSecurity, since_ms: int, alive: Callable[[], None]
    ) -> int:
        """Reads what came since it was last called, or since then, and calls `alive` now and then. Returns how many
        scores. Raises KafkaError."""
        servers, access = bootstrap.split(","), security.arguments()
        with admin.connect(bootstrap, security) as client:
            numbers = range(admin.partitions_of(client, topic))
        found = 0
        for (_, number), (begin, end) in (await bounds(servers, [(topic, n) for n in numbers], access=access)).items():
            start = max(self._next.get(number, begin), begin)
            async for records in reread(servers, (topic, number), start, end, access=access):
                alive()
                for raw, ts_ms in zip(records.values.each(), records.timestamps_ms.tolist(), strict=True):
                    found += ts_ms >= since_ms and self.take(raw or b"")
            self._next[number] = end
        return found


def pending(decider: Decider, registry: Registry) -> Iterator[tuple[str, str, str]]:
    """Yields what is to be judged: promote (a canary that may be) or rollback, the version, and the one before it."""
    serving, decided = decider.serving, registry.decisions()
    for one in decider.canaries:
        before = None if serving is None else serving.version
        before = before or registry.manifest("weights", one.version).parent
        if before is not None:
            yield "promote", one.version, before
    if serving is None:
        return
    about = [one for one in decided if one.version == serving.version and one.what in ("promote", "rollback")]
    if about and about[-1].what == "promote":
        before = about[-1].instead_of or registry.manifest("weights", serving.version).parent
        if before is not None:
            yield "rollback", serving.version, before


async def judge(decider: Decider, registry: Registry, scores: Scores, rules: VerdictBounds) -> list[Decision]:
    """Judges all that is pending, and returns what was decided."""
    await decider.catch_up()  # what is pending follows from the decisions that the registry has
    made = []
    for what, version, before in list(pending(decider, registry)):
        found = verdict(scores.of(version), scores.of(before), rules)
        why = Why(found.reason, BY, {"live": found.numbers})
        if (decision := await _decide(decider, what, version, before, found, why)) is not None:
            log.warning("%s %s: %s", decision.what, decision.version, decision.reason)
            made.append(decision)
        else:
            log.info("%s, against %s: %s", version, before, found.reason)
    return made


async def _decide(decider: Decider, what: str, version: str, before: str, found: Verdict, why: Why) -> Decision | None:
    if found.finding == "too few":
        return None
    if what == "rollback":
        return await decider.rollback(why, to=before) if found.finding == "worse" else None
    if found.finding == "worse":
        return await decider.stop(version, why)
    return await decider.promote(version, why)


def offer(
    common: ServiceOptions,
    registry: RegistryUrl,
    cache: RegistryCache = None,
    guard_every: Annotated[
        str, typer.Option("--guard-every", metavar="TIME", help="between two looks at the scores")
    ] = "1m",
    guard_since: Annotated[str, typer.Option("--guard-since", metavar="TIME", help="how far back scores count")] = "7d",
    guard_last: Annotated[
        int, typer.Option("--guard-last", min=100, help="forecasts of each version, the newest")
    ] = VerdictBounds.last,
    fewest: Annotated[
        int, typer.Option("--fewest", min=10, help="forecasts, before anything is decided")
    ] = VerdictBounds.fewest,
    margin: Annotated[
        float, typer.Option("--margin", min=0.0, help="of the log of errors: 0.05 is some 5 % farther off")
    ] = VerdictBounds.margin,
    lead_s: Annotated[float, option("--lead-s", "LEAD_S", "how far ahead it announces", min=0.1)] = 60.0,
) -> Service:
    """Rolls weights back by themselves if live scores show that they are worse, and promotes or stops canaries."""
    every_s, since_s = seconds(guard_every, "--guard-every"), seconds(guard_since, "--guard-since")
    rules = VerdictBounds(last=guard_last, fewest=fewest, margin=margin)

    @asynccontextmanager
    async def open_service() -> AsyncIterator[Running]:
        guard = Guard(Registry.open(registry, cache), rules, common, every_s, since_s, lead_s)
        yield Running(guard, RoundPages(guard.rounds))

    return Service("guard", open_service)


class Guard:
    """Looks at the scores every so often. It has a thread and an event loop of its own, as a look blocks that while it
    compares and while it asks for the topic's partitions."""

    def __init__(
        self,
        registry: Registry,
        rules: VerdictBounds,
        common: ServiceOptions,
        every_s: float,
        since_s: float,
        lead_s: float,
    ) -> None:
        self.rounds = Rounds("guard", None if common.once else every_s, DECISIONS, hang_s=HANG_S)
        self.rounds.hindered("no look at the scores has ended yet")
        self._registry, self._rules, self._common = registry, rules, common
        self._every_s, self._since_s, self._lead_s = every_s, since_s, lead_s
        self._topics, self._scores = Topics.of(common.prefix), Scores(rules.last)
        self._stop = Event()

    def stop(self) -> None:
        self._stop.set()

    async def run(self) -> None:
        await asyncio.to_thread(self._look_on)

    def _look_on(self) -> None:
        log.info("watching %s, every %g s", self._topics.scores, self._every_s)
        while not self._stop.is_set():
            self.rounds.begin()
            try:
                made = asyncio.run(self._look())
                self.rounds.done(*(one.what for one in made))
                self.rounds.hindered(None)
            except (KafkaError, RegistryError, OSError, TimeoutError, ValueError) as error:
                if self._common.once:
                    raise
                log.warning("nothing can be judged now, and is tried again: %s", error)
                self.rounds.failed()
                self.rounds.hindered("nothing can be judged now, as the log says")
            if self._common.once:
                return
            self.rounds.wait(self._every_s)
            self._stop.wait(self._every_s)

    async def _look(self) -> list[Decision]:
        """Reads the scores that are new, and returns what was decided by them."""
        bootstrap, _, _, kafka = self._common
        since_ms = round((time.time() - self._since_s) * 1000)
        await self._scores.read(bootstrap, self._topics.scores, kafka, since_ms, self.rounds.alive)
        # Opened for each look, so that whoever else announces something is held up by nobody.
        async with Announcer.open(bootstrap, self._topics, kafka, lead_s=self._lead_s) as announcer:
            return await judge(Decider(self._registry, announcer), self._registry, self._scores, self._rules)
