"""The newest atlas that serves: its ways in columns, which the page draws as streets, and its passages, by which an
entity is compared."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from aiokafka.errors import KafkaError

from stream.api.live.newest import Box
from stream.atlas.showing.passages import compare
from stream.atlas.showing.reading import read
from stream.atlas.showing.ways import Ways, ways
from stream.versions.announcement_reader import AnnouncementReader
from stream.versions.files import path_of

if TYPE_CHECKING:
    from model.api import Atlas

log = logging.getLogger(__name__)
EVERY_S: Final = 3.0
LOOK_S: Final = 10.0
KEPT: Final = 2  # versions: forecasts name the one before until workers have the newest


class Streets:
    """The ways in memory. It belongs to the event loop, which neither loading nor comparing blocks."""

    def __init__(
        self,
        announcements: AnnouncementReader | None,
        folder: Path | None,
        is_announced: Callable[[], bool] = lambda: True,
    ) -> None:
        """Takes `is_announced`, which returns whether there is a models topic."""
        self._announcements = announcements
        self._folder = folder
        self._is_announced = is_announced
        self._failed = ""
        self.version: str | None = None
        self.ways: Ways | None = None
        self._atlases: dict[str, Atlas] = {}  # the last ones, mapped from their files

    @property
    def can_look(self) -> bool:
        return self._announcements is not None and self._folder is not None

    @property
    def is_there(self) -> bool:
        return self.ways is not None

    async def run(self) -> None:
        """Looks now and then what is announced, until it is cancelled."""
        while self._announcements is not None and self._folder is not None:
            try:
                async with asyncio.timeout(LOOK_S):
                    if self._is_announced():
                        await self._announcements.look()
            except (KafkaError, OSError, TimeoutError, RuntimeError) as error:
                log.warning("the models topic cannot be read: %r", error)
            for record in self._announcements.ledger.serving[-1:]:
                if record.version != self.version:
                    await self._load(record.version, self._folder)
            await asyncio.sleep(EVERY_S)

    async def _load(self, version: str, folder: Path) -> None:
        try:
            atlas, drawn = await asyncio.to_thread(_read, path_of(folder, version))
        except (OSError, ValueError) as error:
            if self._failed != version:
                log.warning("atlas %s cannot be drawn: %s", version, error)
            self._failed = version
            return
        self.version, self.ways = version, drawn
        self._atlases = dict([*self._atlases.items(), (version, atlas)][-KEPT:])
        log.info("atlas %s is drawn: %d ways", version, len(drawn.n))

    async def compare(self, version: str, track: Sequence[tuple[int, float, float]]) -> dict[str, Any]:
        """Returns the passages that the last ping of a track is compared with, in the version of its forecast or, where
        that is not at hand, in the newest; and which version that is. It waits for the disk in a thread: what is asked
        of a file may not be in memory yet."""
        atlas = self._atlases.get(version) or next(reversed(self._atlases.values()), None)
        if atlas is None:
            return {"version": None, "passages": []}
        return {"version": atlas.version, "passages": await asyncio.to_thread(compare, atlas.passages, track)}

    def flows(self, box: Box | None, most: int) -> dict[str, Any]:
        """Returns the most travelled ways that begin in a box."""
        if self.ways is None:
            return {"version": None, "flows": [], "max_count": 0}
        streets = self.ways
        rows = np.arange(len(streets.n)) if box is None else np.flatnonzero(box.contains(streets.lat, streets.lon))
        if len(rows) > most:
            rows = rows[np.argpartition(-streets.n[rows], most)[:most]]
        rows = rows[np.argsort(-streets.n[rows], kind="stable")]
        columns = [
            np.round(one[rows], 6).tolist() for one in (streets.lat, streets.lon, streets.to_lat, streets.to_lon)
        ]
        counts = np.round(streets.n[rows], 2).tolist()
        flows = list(zip(*columns, counts, strict=True))
        return {"version": self.version, "flows": flows, "max_count": max(counts, default=0)}


def _read(path: Path) -> tuple[Atlas, Ways]:
    atlas = read(path)
    return atlas, ways(atlas.passages)
