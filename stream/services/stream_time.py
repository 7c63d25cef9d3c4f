"""Tells how far a fleet has come by its pings' own times, and so when an entity has been silent for long.

The time is the latest that two entities have reached (of a single entity: that it has reached). Its callers let no ping
count for later than it was published, so neither a receiver whose clock is ahead nor a recording that is fed
years later ends anybody. It never goes back.

While nothing comes, it goes on as the clock does, from the newest record on: a fleet that goes to sleep together
expires, too. That counts only while the log is known to hold nothing unread.
"""

from __future__ import annotations

from typing import Final

import msgspec

NEVER_MS: Final = 0


class StreamTime(msgspec.Struct, frozen=True, array_like=True):
    """All times are milliseconds UTC."""

    now_ms: int = NEVER_MS
    behind_ms: int = NEVER_MS  # the latest time that two entities have reached
    ahead: str = ""  # the entity that has reached the latest time of all
    ahead_ms: int = NEVER_MS
    published_ms: int = NEVER_MS  # the newest record

    def after(self, entity_id: str, ms: int, published_ms: int) -> StreamTime:
        """Returns the time after one more record, whose ping is of `ms`, and whose record was published at
        `published_ms` (below 0: nobody knows)."""
        behind_ms, ahead, ahead_ms = self.behind_ms, self.ahead, self.ahead_ms
        if entity_id == ahead or not ahead:
            ahead, ahead_ms = entity_id, max(ahead_ms, ms)
        elif ms > ahead_ms:
            behind_ms, ahead, ahead_ms = ahead_ms, entity_id, ms
        else:
            behind_ms = max(behind_ms, ms)
        now_ms = max(self.now_ms, behind_ms or ahead_ms)
        return StreamTime(now_ms, behind_ms, ahead, ahead_ms, max(self.published_ms, published_ms))

    def at(self, quiet_ms: int | None) -> int:
        """Returns the present time. `quiet_ms` is a time by the machine's clock when nothing was unread, or None."""
        if quiet_ms is None or self.published_ms == NEVER_MS:
            return self.now_ms
        return self.now_ms + max(0, quiet_ms - self.published_ms)
