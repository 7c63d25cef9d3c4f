"""When a partition's states are written to the store, and what happens when they cannot. Knows offsets and the store's
errors; knows nothing of the broker."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Final

from redis.exceptions import RedisError

from stream import killpoints
from stream.engine import Engine
from stream.seams import Owned
from stream.tally import Tally

log = logging.getLogger(__name__)

# Input records of one partition whose effect no checkpoint has yet. Behind by that much the pump waits for Redis:
# it bounds what a takeover must replay (some 10 s of work) and the states that only this process holds.
MAX_UNSAVED = 200_000
RETRY_S = (0.1, 0.3, 1.0, 2.0)  # between tries to reach Redis; the last repeats
AWAY: Final = (RedisError, OSError)  # what a store raises while it cannot be reached


class Checkpoints:
    """Writes behind what is committed, a partition at a time."""

    def __init__(self, engine: Engine, every_ms: float, clock: Callable[[], float], tally: Tally) -> None:
        self._engine = engine
        self._tally = tally
        self._every_ms = every_ms
        self._clock = clock
        self._retry_at_ms = 0.0  # not before then
        self._failures = 0  # in a row
        self.away = ""  # why the store cannot be reached; empty while it can
        self.away_since_ms = 0.0

    def due_at_ms(self, owned: Iterable[Owned]) -> float:
        """When to write the next one; infinity if all is written."""
        times = [one.save_at_ms for one in owned if _unsaved(one)]
        return max(self._retry_at_ms, min(times)) if times else float("inf")

    def due(self, owned: Iterable[Owned]) -> Owned | None:
        """The partition that has waited longest for its checkpoint. One between two batches: all at once would hold up
        the pings that come meanwhile."""
        now_ms = self._clock()
        if now_ms < self._retry_at_ms:
            return None
        waiting = (one for one in owned if _unsaved(one) and one.save_at_ms <= now_ms)
        return min(waiting, key=lambda one: one.save_at_ms, default=None)

    async def save(self, owned: Owned) -> None:
        """The states of the partition, which include exactly the records below `next_offset`, all committed. A store
        that is away is no failure: it is tried again later, and said.

        Raises:
            Fenced: another owner claimed the partition, or the store lost its data.
        """
        killpoints.reach("before_checkpoint")
        began_ms = self._clock()
        try:
            await self._engine.checkpoint(owned.partition, owned.epoch, owned.next_offset)
        except AWAY as error:
            delay_s = RETRY_S[min(self._failures, len(RETRY_S) - 1)]
            self._failures += 1
            self._tally.checkpoints_failed += 1
            self.is_away(error)
            behind = owned.next_offset - owned.saved
            log.warning("Redis is away (%s): a checkpoint is %d records behind (limit %d)", error, behind, MAX_UNSAVED)
            self._retry_at_ms = self._clock() + delay_s * 1000
            return
        killpoints.reach("after_checkpoint")
        self._tally.checkpoint_s.observe((self._clock() - began_ms) / 1000)
        owned.saved = owned.next_offset
        owned.save_at_ms = self._clock() + self._every_ms
        self._failures = 0
        self.is_back()

    def is_away(self, error: Exception) -> None:
        if not self.away:
            self.away_since_ms = self._clock()
        self.away = str(error) or repr(error)

    def is_back(self) -> None:
        self.away = ""


def _unsaved(owned: Owned) -> bool:
    return owned.ready and owned.next_offset > owned.saved
