"""Looks in Redis for what workers keep of an entity, and waits until they have removed it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from enum import StrEnum
from functools import partial
from typing import Final

from stream.commands.forget import topics
from stream.commands.forget.findings import Finding, Outcome
from stream.config.settings import Settings
from stream.engine.entities import quarantine, stored_entity
from stream.store.base import Partition, Store
from stream.store.redis_store import RedisStore

PLACE: Final = "states in Redis"
LOOK_S: Final = 0.25  # between two looks; workers write once a second


class _Left(StrEnum):
    NOTHING = "nothing"
    NOT_YET = "the workers have not come to it"
    OLD = "the workers have passed it and not removed it: are some of an earlier release?"
    NEW = "pings have come since: it still sends"


class States:
    """The stored states of one group of workers."""

    def __init__(
        self,
        store: Store,
        topic: str,
        partitions: Sequence[int],
        has_committed: Callable[[int], Awaitable[bool]],
    ) -> None:
        """Takes `has_committed`, which says whether the group of workers ever committed anything of a partition."""
        self._store = store
        self._has_committed = has_committed
        self._worked_on: set[int] = set()  # of which the group has said so; it takes that back no more
        self._partitions: list[Partition] = [(topic, number) for number in partitions]

    async def look(self, entity_id: str) -> Finding:
        """Returns where the entity has a state."""
        numbers = [number for _, number in self._partitions if await self._raw(number, entity_id) is not None]
        if not numbers:
            return Finding(PLACE, Outcome.ABSENT, "no state")
        return Finding(PLACE, Outcome.FOUND, f"a state in partition {', '.join(map(str, numbers))}")

    async def wait(self, entity_id: str, sent_at: Mapping[int, int], wait_s: float, before: Finding) -> Finding:
        """Waits until the workers have come to the records at the offsets `sent_at`, at most `wait_s`, and returns what
        has become of the states. `before` is what `look` found."""
        until_s = time.monotonic() + wait_s
        left = dict.fromkeys(sent_at, _Left.NOT_YET)
        while True:
            for number in [number for number, what in left.items() if what is _Left.NOT_YET]:
                left[number] = await self._left(number, entity_id, sent_at[number])
            if _Left.NOT_YET not in left.values() or time.monotonic() >= until_s:
                return _finding(left, before)
            await asyncio.sleep(LOOK_S)

    async def _left(self, number: int, entity_id: str, sent_at: int) -> _Left:
        # The offset first: a state that is removed meanwhile is seen as not there.
        claim = await self._store.peek((self._partitions[0][0], number))
        raw = await self._raw(number, entity_id)
        if claim.epoch == 0 and raw is None and not await self._is_worked_on(number):
            return _Left.NOTHING  # nobody ever worked here; else Redis lost all, which workers build anew from the log
        if claim.next_offset is None or claim.next_offset <= sent_at:
            return _Left.NOT_YET
        if raw is None:
            return _Left.NOTHING
        return _Left.NEW if _includes(entity_id, raw) > sent_at + 1 else _Left.OLD

    async def _is_worked_on(self, number: int) -> bool:
        if number not in self._worked_on and await self._has_committed(number):
            self._worked_on.add(number)
        return number in self._worked_on

    async def _raw(self, number: int, entity_id: str) -> bytes | None:
        return (await self._store.get_many((self._partitions[0][0], number), [entity_id]))[0]


@asynccontextmanager
async def opened(settings: Settings, partitions: Sequence[int]) -> AsyncIterator[States]:
    store = RedisStore(settings)
    try:
        yield States(store, settings.topics.pings, partitions, partial(topics.has_committed, settings))
    finally:
        await store.close()


def _finding(left: Mapping[int, _Left], before: Finding) -> Finding:
    def where(what: _Left) -> str:
        return ", ".join(str(number) for number, one in sorted(left.items()) if one is what)

    if _Left.OLD in left.values():
        return Finding(PLACE, Outcome.FAILED, before.found, f"partition {where(_Left.OLD)}: {_Left.OLD}")
    if _Left.NOT_YET in left.values():
        note = f"partition {where(_Left.NOT_YET)}: {_Left.NOT_YET}; they will when they run. Give the command again"
        return Finding(PLACE, Outcome.WAITS, before.found, note)
    outcome = Outcome.ABSENT if before.outcome is Outcome.ABSENT else Outcome.REMOVED
    note = f"partition {where(_Left.NEW)}: {_Left.NEW}" if _Left.NEW in left.values() else ""
    return Finding(PLACE, outcome, before.found, note)


def _includes(entity_id: str, raw: bytes) -> int:
    """Returns the next offset of a stored record; 0 if it is damaged."""
    try:
        if quarantine.is_one(raw):
            return quarantine.loads(entity_id, raw).next_offset
        return stored_entity.loads(entity_id, raw).track.next_offset
    except stored_entity.RecordError:
        return 0
