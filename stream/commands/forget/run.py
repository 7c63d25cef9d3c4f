"""The order of the steps: look, tell the workers, wait for them, and then the places that they would fill again."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Final

from redis.exceptions import RedisError

from stream.commands.forget import states, topics
from stream.commands.forget.findings import ELSEWHERE, Finding, Outcome, failed, in_topics
from stream.config.settings import Settings
from stream.config.wording import counted
from stream.kafka import admin

ARCHIVE: Final = "archive"
ERRORS: Final = (OSError, ValueError, RuntimeError, RedisError)  # of a place that is not reached


@dataclass(frozen=True)
class Request:
    """Whom to forget, and where."""

    entity_id: str
    settings: Settings  # of the workers: Kafka, Redis, group and prefix
    archive: str | None = None
    latest_group: str | None = None  # of `beside latest`; None: its default
    wait_s: float = 60.0
    dry_run: bool = False
    archive_only: bool = False


async def forget(request: Request) -> list[Finding]:
    """Forgets an entity, and returns what was found and done in each place.

    A place that is not reached is a finding; the others are gone through all the same. It may be called again.
    """
    if request.archive_only and request.archive is not None:
        return [await _attempt(ARCHIVE, forget_archived(request.archive, request.entity_id, request.dry_run))]
    settings, rows = request.settings, list[Finding]()
    try:
        with admin.connected(settings.bootstrap, settings.kafka) as client:
            partitions = admin.partitions_of(client, settings.topics.pings)
            (newest,) = admin.describe(client, [settings.topics.latest])
            hidden = newest.partitions is None and admin.is_hidden(client, newest.name)
            stays = in_topics(client, settings.topics)
    except ERRORS as error:
        rows += [failed("Kafka", error), failed(states.PLACE, ValueError("workers can only be told through Kafka"))]
    else:
        rows += await _forget_in_workers(request, partitions)
        if newest.partitions is not None:
            told = all(one.is_good for one in rows)
            rows.append(await _attempt(topics.NEWEST, _forget_newest(request, newest.partitions, told=told)))
        elif hidden:
            rows.append(failed(topics.NEWEST, topics.hidden(newest.name)))
        rows.append(stays)
    if request.archive is not None:
        rows.append(await _attempt(ARCHIVE, forget_archived(request.archive, request.entity_id, request.dry_run)))
    return [*rows, *ELSEWHERE]


async def _forget_in_workers(request: Request, partitions: int) -> list[Finding]:
    """Tells the workers, and waits until they have removed the entity's states."""
    entity_id, numbers = request.entity_id, range(partitions)
    async with states.opened(request.settings, numbers) as stored:
        before = await _attempt(states.PLACE, stored.look(entity_id))
        if request.dry_run:
            return [before]
        try:
            sent_at = await topics.tell_workers(request.settings, numbers, entity_id)
        except ERRORS as error:
            return [failed(topics.WORKERS, error), before]
        where = ", ".join(f"{number}:{offset}" for number, offset in sent_at.items())
        what, note = f"a record in each partition, at {where}", "from there on it was never seen"
        sent = Finding(topics.WORKERS, Outcome.SENT, what, note)
        if before.outcome is Outcome.FAILED:
            return [sent, before]
        return [sent, await _attempt(states.PLACE, stored.wait(entity_id, sent_at, request.wait_s, before))]


async def _forget_newest(request: Request, partitions: int, *, told: bool) -> Finding:
    group = request.latest_group or f"{request.settings.prefix}-latest"
    newest = topics.Newest(request.settings, group, partitions)
    if request.dry_run:
        return await newest.look(request.entity_id)
    return await newest.remove(request.entity_id, request.wait_s, told=told)


async def forget_archived(url: str, entity_id: str, dry_run: bool) -> Finding:
    """Removes the entity's pings from an archive. Raises OSError, ValueError, ArchiveDamaged."""
    from stream.adapters.archived.catalog import files_of, open_archive
    from stream.services.archive import changes, forgetting

    archive = open_archive(url, to_change=not dry_run)
    if dry_run:
        columns = (changes.read(archive, [file], ["entity_id"])[0] for file in files_of(archive.manifests()))
        rows = sum(column.to_pylist().count(entity_id) for column in columns)
    else:
        rows = forgetting.forget(archive, entity_id)
    outcome = (Outcome.FOUND if dry_run else Outcome.REMOVED) if rows else Outcome.ABSENT
    note = "" if dry_run else "nothing of it is stored again"
    return Finding(ARCHIVE, outcome, f"{counted(rows, 'ping')} in {archive.storage.url}", note)


async def _attempt(place: str, step: Awaitable[Finding]) -> Finding:
    try:
        return await step
    except ERRORS as error:
        return failed(place, error)
