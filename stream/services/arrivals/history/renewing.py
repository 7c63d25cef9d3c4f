"""Keeps what is known of earlier tracks: reads it at the start, and again every so often, beside the stream."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from model.arrivals.believing import Fleet
from stream.services.arrivals.history.sources import History

log: Final = logging.getLogger(__name__)

SOON_S: Final = 300.0  # until the next try where nothing is known yet, as in an archive that has only begun


class Renewing:
    """Holds what a history told of the fleet when it was read last; None without a history."""

    def __init__(self, history: History | None, every_s: float) -> None:
        """Reads it once. Raises as `History.read`."""
        self._history = history
        self._every_s = every_s
        self._told = -1  # points, in the log
        self.fleet = None if history is None else _read(history)
        self._say()

    async def run(self, renewed: Callable[[Fleet], None]) -> None:
        """Reads it every so often, in a thread, and tells each result. What cannot be read leaves what was known."""
        while self._history is not None and self._history.grows:
            await asyncio.sleep(self._every_s if self._points() else min(self._every_s, SOON_S))
            try:
                self.fleet = await asyncio.to_thread(_read, self._history)
            except (ValueError, OSError, RuntimeError) as error:  # among them what Kafka refuses
                log.warning("%s cannot be read again, and what was known of it stays: %s", self._history.source, error)
                continue
            self._say()
            renewed(self.fleet)

    def _points(self) -> int:
        return 0 if self.fleet is None else len(self.fleet.passages)

    def _say(self) -> None:
        if self._history is not None and self._points() != self._told:
            self._told = self._points()
            log.info("%s: %s points of earlier tracks", self._history.source, f"{self._told:,}")


def _read(history: History) -> Fleet:
    return Fleet.of(history.read())
