"""The event time of a partition: how far its fleet has come, by its pings' own times.

It is the latest time that two entities have reached, so that one receiver whose clock is ahead ends nobody's waiting.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

NEVER_MS: Final = 0


class Mark(msgspec.Struct, frozen=True, array_like=True):
    """An offset, and the event time before the record there is folded."""

    offset: int
    now_ms: int
    ahead: str  # the entity whose newest ping is the latest of all
    ahead_ms: int


class Clock(NamedTuple):
    now_ms: int = NEVER_MS
    ahead: str = ""
    ahead_ms: int = NEVER_MS

    def after(self, entity_id: str, ts_ms: int) -> Clock:
        """Returns the clock after one more ping."""
        if entity_id == self.ahead:
            return self if ts_ms <= self.ahead_ms else Clock(self.now_ms, entity_id, ts_ms)
        if ts_ms > self.ahead_ms:
            return Clock(max(self.now_ms, self.ahead_ms), entity_id, ts_ms)
        return self if ts_ms <= self.now_ms else Clock(ts_ms, self.ahead, self.ahead_ms)

    def at(self, offset: int) -> Mark:
        return Mark(offset, *self)

    @classmethod
    def of(cls, mark: Mark) -> Clock:
        return cls(mark.now_ms, mark.ahead, mark.ahead_ms)
