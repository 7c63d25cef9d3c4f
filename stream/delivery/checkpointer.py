"""Decides when a partition's states are written to the store, and handles failed writes.

It makes one checkpoint at a time, in legs (`stream.engine.entities.snapshot`). Between two batches it dumps a leg,
which takes some milliseconds. The leg is written while the engine works on, once the batch that was folded last is
committed: the store must never be ahead of the committed offset.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Container, Iterable, Iterator
from typing import Any, Final, NamedTuple

from redis.exceptions import RedisError

from stream.config import failpoints
from stream.delivery.accounts import Accounts
from stream.delivery.outages import Outages
from stream.delivery.partitions import AT_ONCE, Owned
from stream.engine.engine import Engine
from stream.engine.entities.snapshot import Snapshot
from stream.store.base import Fenced

log = logging.getLogger(__name__)

# Limit of one partition's input records that are in no checkpoint yet. At this limit the partition waits for Redis. It
# bounds what a takeover must replay (some 10 s of work) and the states that only this process holds.
MAX_UNSAVED = 200_000
RETRY_S = (0.1, 0.3, 1.0, 2.0)  # between tries to reach Redis; the last repeats
AWAY: Final = (RedisError, OSError)  # what a store raises while it cannot be reached


class Refusal(NamedTuple):
    """Another owner claimed the partition, or the store lost its data."""

    owned: Owned
    error: Fenced


class UnderWay(NamedTuple):
    """The checkpoint that is being made."""

    of: Owned
    what: Snapshot
    began_ms: float

    @property
    def stands(self) -> bool:
        """Returns whether the partition is still ours, by the same claim as when this checkpoint began."""
        return self.of.ready and self.of.epoch == self.what.epoch


class Checkpointer:
    """Writes checkpoints of committed states, one partition at a time."""

    def __init__(
        self,
        engine: Engine,
        every_ms: float,
        clock: Callable[[], float],
        accounts: Accounts,
        outages: Outages,
        tell: Callable[[], None],
    ) -> None:
        """Takes `tell`, which is called when there is something for `go_on` to do."""
        self._engine = engine
        self._accounts = accounts
        self._outages = outages
        self._every_ms = every_ms
        self._clock = clock
        self._tell = tell
        self._now: UnderWay | None = None
        self._writing: asyncio.Task[bool] | None = None  # writes a leg; its result is whether the leg was written
        self._retry_at_ms = 0.0  # no write is tried before this time
        self._failures = 0  # in a row, over all partitions

    def due_at_ms(self, owned: Iterable[Owned]) -> float:
        """Returns when `go_on` has something to do; infinity if everything is written, or is being written."""
        if self._writing is not None:
            return float("-inf") if self._writing.done() else float("inf")
        times = [one.save_at_ms for one in owned if _needs_checkpoint(one)]
        return max(self._retry_at_ms, min(times)) if times else float("inf")

    async def go_on(self, owned: Iterable[Owned], last_commit: asyncio.Task[Any] | None) -> Refusal | None:
        """Notes what has been written since the last call, and starts to write the next leg.

        Call it while nobody else uses the engine. A store that cannot be reached is not an error here: it is logged,
        and the write is tried again later.

        Args:
            last_commit: the task that commits the batch that was folded last, if it is not done yet.
        """
        if self._writing is not None:
            if not self._writing.done():
                return None
            if (refusal := self._settle()) is not None:
                return refusal
        if self._now is None and (one := self._due(owned)) is not None:
            failpoints.reach("before_checkpoint")
            what = self._engine.begin_checkpoint(one.partition, one.epoch, one.taken)
            self._now = UnderWay(one, what, self._clock())
            one.save_at_ms = max(one.save_at_ms, 0.0)  # what is AT_ONCE from here on is not in it
        if self._now is not None:
            of, what, _ = self._now
            await what.dump(of.taken)
            self._writing = asyncio.create_task(self._write_leg(self._now, of.taken, last_commit))
            self._writing.add_done_callback(lambda _: self._tell())
        return None

    def _due(self, owned: Iterable[Owned]) -> Owned | None:
        """Returns the partition that has waited longest for its checkpoint.

        Partitions are written one after the other: all at once would hold up the pings that come meanwhile.
        """
        now_ms = self._clock()
        if now_ms < self._retry_at_ms:
            return None
        waiting = (one for one in owned if _needs_checkpoint(one) and one.save_at_ms <= now_ms)
        return min(waiting, key=lambda one: one.save_at_ms, default=None)

    async def _write_leg(self, now: UnderWay, folded: int, last_commit: asyncio.Task[Any] | None) -> bool:
        """Writes a leg when all records below `folded` are committed. Returns false if that does not happen."""
        if last_commit is not None:
            await asyncio.wait([last_commit])
        if not now.stands or now.of.next_offset < folded:
            return False
        await now.what.write()
        return True

    def _settle(self) -> Refusal | None:
        """Handles the result of writing a leg."""
        now, writing = self._now, self._writing
        assert now is not None, "nothing is under way"
        assert writing is not None, "nothing is being written"
        of, what, began_ms = now
        self._writing = None
        try:
            sound = writing.result() and now.stands
        except AWAY as error:
            self._give_up()
            self._put_off(of, error)
        except Fenced as error:
            self._give_up()
            return Refusal(of, error) if now.stands else None
        else:
            if not sound:
                self._give_up()
                return None
            what.settle()
            if what.done:
                failpoints.reach("after_checkpoint")
                self._now = None
                self._accounts.checkpoint_s.observe((self._clock() - began_ms) / 1000)
                of.saved = what.next_offset
                if of.save_at_ms != AT_ONCE:
                    of.save_at_ms = self._clock() + self._every_ms
            else:
                failpoints.reach("between_legs")
            self._failures = of.checkpoints_failed = 0
            self._outages.note_success(of, "checkpoint")
        return None

    def _give_up(self) -> None:
        assert self._now is not None, "nothing is under way"
        self._now.what.give_up()
        self._now = None

    def _put_off(self, of: Owned, error: Exception) -> None:
        """Tries again later, after the other partitions, because the store may refuse this one alone.

        While the store refuses all of them, one is tried at a time, because each try dumps states that are not written.
        """
        self._retry_at_ms = self._clock() + _delay_s(self._failures) * 1000
        of.save_at_ms = self._clock() + _delay_s(of.checkpoints_failed) * 1000
        self._failures += 1
        of.checkpoints_failed += 1
        self._accounts.checkpoints_failed += 1
        self._outages.note_failure(of, "checkpoint", error)
        behind = of.next_offset - of.saved
        log.warning(
            "Redis is away (%s): the checkpoint of partition %d is %d records behind (limit %d)",
            *(error, of.partition[1], behind, MAX_UNSAVED),
        )

    async def leave(self, leaving: Container[Owned]) -> None:
        """Ends the checkpoint that is under way, if it is of one of these partitions.

        Call it while nobody else uses the engine. Raises what the write raised.
        """
        if self._now is None or self._now.of not in leaving:
            return
        if self._writing is not None:
            await asyncio.wait([self._writing])
            writing, self._writing = self._writing, None
            self._give_up()
            writing.result()
        else:
            self._give_up()

    def abandon(self) -> None:
        """Cancels the write that is under way."""
        if self._writing is not None:
            self._writing.cancel()


def _needs_checkpoint(owned: Owned) -> bool:
    """Returns whether a checkpoint of the partition is allowed and has something to write."""
    return owned.ready and not owned.unread and owned.next_offset > owned.saved


def _delay_s(failures: int) -> float:
    return RETRY_S[min(failures, len(RETRY_S) - 1)]


def delays() -> Iterator[float]:
    """Yields the seconds to wait before each next try to reach the store, without end."""
    yield from RETRY_S
    while True:
        yield RETRY_S[-1]
