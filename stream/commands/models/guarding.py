"""`pathcast models guard`: watches the live scores of weights that were promoted, and rolls them back if they are
worse than those before; and of canaries, which it promotes or stops.

The scores topic is read without a group, as far as --since goes back. What was decided by live scores is decided once:
weights to which it rolled back are not judged against those that failed.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Annotated, Final

import msgspec
import typer
from aiokafka.errors import KafkaError

from stream.commands.models.verdicts import Rules, Verdict, verdict
from stream.config.http_access import address_of, check_free, token
from stream.config.options import (
    DEFAULT_BOOTSTRAP,
    DEFAULT_PREFIX,
    Bootstrap,
    Prefix,
    RegistryCache,
    RegistryUrl,
    log_to_stderr,
    secured,
)
from stream.config.security import PLAIN_KAFKA, KafkaSecurity
from stream.config.times import seconds
from stream.http.beside import serving_beside
from stream.http.rounds import RoundPages, Rounds
from stream.kafka import admin
from stream.kafka.reading import bounds, reread
from stream.members.options import Metrics
from stream.registry import Decision, Registry, RegistryError
from stream.versions.announcing import Announcer
from stream.versions.deciding import Decider, Why
from stream.wire import Score, Topics, loads_scored

log: Final = logging.getLogger(__name__)
BY: Final = "pathcast models guard"
MOST_VERSIONS: Final = 16  # whose scores are kept: the newest
DECISIONS: Final = ("promote", "rollback", "stop")
HANG_S: Final = 300.0  # between two signs of life in a look; Kafka's clients give up within 40 s

HELP = """Roll weights back by themselves if live scores show that they are worse; promote or stop canaries.

Needs `pathcast scores run`. Every minute it compares what was promoted last with what served before, on the entities
that both have answered: the mean log of a forecast's error over damped velocity's. If that is worse by more than
--margin at any horizon, beyond chance, the former weights are announced anew, for all entities at once. The decision
lies in the registry, with its numbers (`pathcast models list --decisions`). A canary that is no worse is promoted, and
one that is worse is stopped.

[bold]Examples[/]

  pathcast models guard --registry /srv/pathcast
  pathcast models guard --registry /srv/pathcast --once --since 6h
"""


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
        with admin.connected(bootstrap, security) as client:
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


async def judged(decider: Decider, registry: Registry, scores: Scores, rules: Rules) -> list[Decision]:
    """Judges all that is pending, and returns what was decided."""
    made = []
    for what, version, before in list(pending(decider, registry)):
        found = verdict(scores.of(version), scores.of(before), rules)
        why = Why(found.reason, BY, {"live": found.numbers})
        if (decision := await _decided(decider, what, version, before, found, why)) is not None:
            log.warning("%s %s: %s", decision.what, decision.version, decision.reason)
            made.append(decision)
        else:
            log.info("%s, against %s: %s", version, before, found.reason)
    return made


async def _decided(decider: Decider, what: str, version: str, before: str, found: Verdict, why: Why) -> Decision | None:
    if found.finding == "too few":
        return None
    if what == "rollback":
        return await decider.rollback(why, to=before) if found.finding == "worse" else None
    if found.finding == "worse":
        return await decider.stop(version, why)
    return await decider.promote(version, why)


@secured
def guard(
    registry: RegistryUrl,
    cache: RegistryCache = None,
    every: Annotated[str, typer.Option("--every", metavar="TIME", help="between two looks at the scores")] = "1m",
    since: Annotated[str, typer.Option("--since", metavar="TIME", help="how far back scores count")] = "7d",
    last: Annotated[int, typer.Option("--last", min=100, help="forecasts of each version, the newest")] = Rules.last,
    fewest: Annotated[int, typer.Option("--fewest", min=10, help="forecasts, before anything is decided")] = (
        Rules.fewest
    ),
    margin: Annotated[
        float, typer.Option("--margin", min=0.0, help="of the log of errors: 0.05 is some 5 % farther off")
    ] = Rules.margin,
    once: Annotated[bool, typer.Option("--once", help="look once, decide, and exit")] = False,
    lead_s: Annotated[
        float, typer.Option("--lead-s", envvar="PATHCAST_LEAD_S", min=0.1, help="how far ahead it announces")
    ] = 60.0,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    prefix: Prefix = DEFAULT_PREFIX,
    metrics: Metrics = "",
    security: KafkaSecurity = PLAIN_KAFKA,
) -> None:
    door = address_of(metrics, "--metrics") if metrics else None
    every_s, since_s = seconds(every, "--every"), seconds(since, "--since")
    log_to_stderr()
    if door is not None:
        check_free(door)
    opened, rules = Registry.opened(registry, cache), Rules(last=last, fewest=fewest, margin=margin)
    rounds = Rounds("guard", None if once else every_s, DECISIONS, hang_s=HANG_S)
    rounds.hindered("no look at the scores has ended yet")
    # Beside it, as a look blocks its event loop while it compares and while it asks for the topic's partitions.
    with serving_beside(door, token(os.environ), RoundPages(rounds).pages()):
        asyncio.run(_serve(opened, rules, rounds, every_s, since_s, lead_s, (bootstrap, prefix, security), once=once))


guard.__doc__ = HELP


async def _serve(
    registry: Registry,
    rules: Rules,
    rounds: Rounds,
    every_s: float,
    since_s: float,
    lead_s: float,
    where: tuple[str, str, KafkaSecurity],
    *,
    once: bool,
) -> None:
    import time

    bootstrap, prefix, security = where
    topics, scores, stop = Topics.of(prefix), Scores(rules.last), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    log.info("watching %s, every %g s", topics.scores, every_s)
    while True:
        rounds.begin()
        try:
            since_ms = round((time.time() - since_s) * 1000)
            await scores.read(bootstrap, topics.scores, security, since_ms, rounds.alive)
            # Opened for each look, so that whoever else announces something is held up by nobody.
            async with Announcer.opened(bootstrap, topics, security, lead_s=lead_s) as announcer:
                made = await judged(Decider(registry, announcer), registry, scores, rules)
            rounds.done(*(one.what for one in made))
            rounds.hindered(None)
        except (KafkaError, RegistryError, OSError, TimeoutError, ValueError) as error:
            if once:
                raise
            log.warning("nothing can be judged now, and is tried again: %s", error)
            rounds.failed()
            rounds.hindered("nothing can be judged now, as the log says")
        if once:
            return
        rounds.wait(every_s)
        with suppress(TimeoutError):
            async with asyncio.timeout(every_s):
                await stop.wait()
        if stop.is_set():
            return
