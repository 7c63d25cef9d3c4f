"""The order of the steps: look, tell the workers, wait for them, and then the places that they would fill again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

from redis.exceptions import RedisError

from stream.commands.forget import archived, latest, pings, remaining, states
from stream.commands.forget.findings import Finding, Outcome, failed
from stream.config.settings import Settings
from stream.kafka import admin

PINGS: Final = "workers' memory"
ERRORS: Final = (OSError, ValueError, RuntimeError, RedisError)  # of a place that is not reached


@dataclass(frozen=True)
class What:
    """Whom to forget, and where."""

    entity_id: str
    settings: Settings  # of the workers: Kafka, Redis, group and prefix
    archive: str | None = None
    latest_group: str | None = None  # of `beside latest`; None: its default
    wait_s: float = 60.0
    dry_run: bool = False
    archive_only: bool = False


async def forget(what: What) -> list[Finding]:
    """Forgets an entity, and returns what was found and done in each place.

    A place that is not reached is a finding; the others are gone through all the same. It may be called again.
    """
    if what.archive_only and what.archive is not None:
        return [await _attempt(archived.PLACE, _archived(what, what.archive))]
    settings = what.settings
    found = []
    try:
        with admin.connected(settings.bootstrap, settings.kafka) as client:
            partitions = admin.partitions_of(client, settings.topics.pings)
            (newest,) = admin.describe(client, [settings.topics.latest])
            hidden = newest.partitions is None and admin.is_hidden(client, newest.name)
            in_topics = remaining.in_topics(client, settings.topics)
    except ERRORS as error:
        found += [failed("Kafka", error), failed(states.PLACE, ValueError("workers can only be told through Kafka"))]
    else:
        found += await _of_workers(what, partitions)
        told = all(one.is_good for one in found)
        if newest.partitions is not None:
            found.append(await _attempt(latest.PLACE, _latest(what, newest.partitions, told=told)))
        elif hidden:
            found.append(failed(latest.PLACE, ValueError(latest.hidden(newest.name))))
        found.append(in_topics)
    if what.archive is not None:
        found.append(await _attempt(archived.PLACE, _archived(what, what.archive)))
    return [*found, *remaining.elsewhere()]


async def _of_workers(what: What, partitions: int) -> list[Finding]:
    """Tells the workers, and waits until they have removed the entity's states."""
    numbers = range(partitions)
    before, sent_at = failed(states.PLACE, ValueError("not looked for")), None
    async with states.opened(what.settings, numbers) as stored:
        before = await _attempt(states.PLACE, lambda: stored.look(what.entity_id))
        if what.dry_run:
            return [before]
        try:
            topic, security = what.settings.topics.pings, what.settings.kafka
            sent_at = await pings.send(what.settings.bootstrap, topic, numbers, what.entity_id, security=security)
        except ERRORS as error:
            return [failed(PINGS, error), before]
        sent = _sent(sent_at)
        if before.outcome is Outcome.FAILED:
            return [sent, before]
        after = stored.removed(what.entity_id, sent_at, what.wait_s, before)
        return [sent, await _attempt(states.PLACE, lambda: after)]


def _sent(sent_at: Mapping[int, int]) -> Finding:
    where = ", ".join(f"{number}:{offset}" for number, offset in sent_at.items())
    return Finding(PINGS, Outcome.SENT, f"a record in each partition, at {where}", "from there on it was never seen")


def _latest(what: What, partitions: int, *, told: bool) -> Callable[[], Awaitable[Finding]]:
    group = what.latest_group or f"{what.settings.prefix}-latest"
    newest = latest.Newest(what.settings, group, partitions)
    if what.dry_run:
        return lambda: newest.look(what.entity_id)
    return lambda: newest.removed(what.entity_id, what.wait_s, told=told)


def _archived(what: What, archive: str) -> Callable[[], Awaitable[Finding]]:
    async def work() -> Finding:
        return archived.removed(archive, what.entity_id, dry_run=what.dry_run)

    return work


async def _attempt(place: str, work: Callable[[], Awaitable[Finding]]) -> Finding:
    try:
        return await work()
    except ERRORS as error:
        return failed(place, error)
