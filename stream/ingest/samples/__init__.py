"""Replays recorded vehicles as live sources, to try `pathcast ingest` without a feed or a receiver (`pathcast ingest
sample`): as if the recordings ended now, at any pace.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MINUTE_MS: Final = 60_000


@dataclass(frozen=True)
class Clock:
    """Shifts a recording so that it ends when the replay begins, and plays it faster.

    The shift is whole minutes: an AIS message has the second of the minute in it, which stays as it was recorded.
    """

    first_ms: int  # of the recording
    last_ms: int
    began_ms: int  # of the replay
    speedup: float

    @property
    def shift_ms(self) -> int:
        """Returns what is added to a recorded time."""
        return (self.began_ms - self.last_ms) // MINUTE_MS * MINUTE_MS

    def recorded_ms(self, now_ms: int) -> int:
        """Returns up to when the recording has been played at a time."""
        return min(self.last_ms, self.first_ms + round((now_ms - self.began_ms) * self.speedup))

    def due_ms(self, recorded_ms: int) -> int:
        """Returns when something of the recording is due."""
        return self.began_ms + round((recorded_ms - self.first_ms) / self.speedup)
