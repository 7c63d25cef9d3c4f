"""Notes whether the source of a transport is connected, for the readiness probe and the log."""

from __future__ import annotations

import logging
import time
from typing import Final

log: Final = logging.getLogger(__name__)

SAY_EVERY_S: Final = 10.0  # while messages are lost


class Source:
    """The state of one source. A transport that waits for others to connect need not tell anything."""

    def __init__(self, name: str) -> None:
        self.started = False  # the sink is connected, and the transport has begun
        self._name = name
        self.lost = 0  # messages of a source that cannot be held back, such as UDP
        self._away_s: float | None = None
        self._said_s = -SAY_EVERY_S

    @property
    def is_away(self) -> bool:
        return self._away_s is not None

    def away(self, why: str) -> None:
        """Notes that the source does not answer; logs it once, until it is back."""
        if self._away_s is None:
            log.warning("%s: the source is away: %s", self._name, why)
            self._away_s = time.monotonic()

    def back(self) -> None:
        """Notes that the source answers."""
        if self._away_s is not None:
            log.info("%s: the source is back, after %.0f s", self._name, time.monotonic() - self._away_s)
            self._away_s = None

    def lose(self, messages: int) -> None:
        """Counts messages that came and were lost, as too many waited for Kafka; logs the count at most each 10 s."""
        self.lost += messages
        if time.monotonic() - self._said_s >= SAY_EVERY_S:
            self._said_s = time.monotonic()
            log.warning("%s: %d messages lost so far: too many wait for Kafka", self._name, self.lost)
