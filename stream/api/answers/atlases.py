"""Finds the atlas that answers a state's last ping, as the models topic says for its offset."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from pathlib import Path
from typing import Final, NamedTuple

from aiokafka.errors import KafkaError

from model.api import Atlas, AtlasError
from stream.versions.announcement_reader import AnnouncementReader
from stream.versions.files import path_of

log = logging.getLogger(__name__)

LOOK_S: Final = 2.0
EVERY_S: Final = 5.0
AGAIN_S: Final = 10.0  # until a file that could not be read is tried again
MOST: Final = 3  # versions in memory: the newest, and two before it


class RequestedAtlas(NamedTuple):
    """The version of the atlas that a ping asks, None where none serves; and the atlas, None where it is not loaded."""

    version: str | None
    atlas: Atlas | None


NONE: Final = RequestedAtlas(None, None)


class Atlases:
    """The versions in memory. It belongs to the event loop; loading does not block it."""

    def __init__(self, announcements: AnnouncementReader, folder: Path) -> None:
        self._announcements = announcements
        self._folder = folder
        self._loaded: OrderedDict[str, Atlas] = OrderedDict()
        self._loading: dict[str, asyncio.Task[None]] = {}
        self._failed_s: dict[str, float] = {}

    async def run(self) -> None:
        """Looks now and then what is announced, until it is cancelled."""
        while True:
            try:
                async with asyncio.timeout(LOOK_S):
                    await self._announcements.look()
            except (KafkaError, OSError, TimeoutError, RuntimeError) as error:
                log.warning("the models topic cannot be read: %r", error)
            for record in self._announcements.ledger.serving[-1:]:
                await self.load(record.version)
            await asyncio.sleep(EVERY_S)

    def of(self, number: int, offset: int) -> tuple[RequestedAtlas, bool]:
        """Returns what the ping at this offset of the partition of this number asks; and whether `load` may find its
        atlas."""
        version = self._announcements.ledger.version_at(number, offset)
        if version is None:
            return NONE, False
        atlas = self._loaded.get(version)
        if atlas is not None:
            self._loaded.move_to_end(version)
        failed_s = self._failed_s.get(version)
        return RequestedAtlas(version, atlas), atlas is None and (
            failed_s is None or self._now_s() - failed_s >= AGAIN_S
        )

    async def load(self, version: str) -> None:
        """Loads a version, unless that is done or under way, and returns when that has succeeded or failed."""
        if version in self._loaded:
            return
        if version not in self._loading:
            self._loading[version] = asyncio.create_task(self._load(version))
        await asyncio.shield(self._loading[version])

    async def _load(self, version: str) -> None:
        try:
            atlas = await asyncio.to_thread(Atlas.load, path_of(self._folder, version))
            if atlas.version != version:
                raise AtlasError(f"it is version {atlas.version}")
        except (OSError, AtlasError) as error:
            if version not in self._failed_s:
                log.warning("atlas %s cannot be loaded, and is tried again when it is asked: %s", version, error)
            self._failed_s[version] = self._now_s()
            return
        finally:
            del self._loading[version]
        self._failed_s.pop(version, None)
        self._loaded[version] = atlas
        while len(self._loaded) > MOST:
            self._loaded.popitem(last=False)

    def _now_s(self) -> float:
        return asyncio.get_running_loop().time()
