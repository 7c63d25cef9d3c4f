"""Loads versions beside the stream, as soon as they are needed, and again and again if they cannot be loaded."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Final, Generic, TypeVar

T = TypeVar("T")
log: Final = logging.getLogger(__name__)

RETRY_S: Final = 1.0  # between two tries


class Loader(Generic[T]):
    """Holds what is loaded, by version. All is on the event loop, but for `load`, which may block."""

    def __init__(self, what: str, load: Callable[[str], T], loaded: Mapping[str, T] | None = None) -> None:
        """Takes `what` is loaded, in words, and `load`, which returns a version or raises OSError or ValueError."""
        self._what = what
        self._load = load
        self.loaded: dict[str, T] = dict(loaded or {})
        self.refused: dict[str, str] = {}  # why a version that is needed could not be loaded
        self._loading: dict[str, asyncio.Task[None]] = {}
        self._tried_s: dict[str, float] = {}
        self._news: Callable[[], None] = lambda: None

    def listen(self, news: Callable[[], None]) -> None:
        """Calls `news` when a version was loaded, or is to be tried again."""
        self._news = news

    def need(self, versions: set[str]) -> bool:
        """Begins to load what is needed, and lets go of the rest, once all that is needed is there: until then the rest
        may have to do. Batches under way keep what they ask. Returns whether anything was let go.
        """
        missing = versions - self.loaded.keys()
        gone = set() if missing else self.loaded.keys() - versions
        for version in gone:
            log.info("version %s of the %s is not needed any more", version, self._what)
            del self.loaded[version]
        for version in self.refused.keys() - versions:
            del self.refused[version]
        now_s = asyncio.get_running_loop().time()
        for version in missing - self._loading.keys():
            if version not in self.refused or now_s - self._tried_s[version] >= RETRY_S:
                task = asyncio.create_task(self._load_one(version), name=f"{self._what} {version}")
                self._loading[version] = task
        return bool(gone)

    async def _load_one(self, version: str) -> None:
        loop = asyncio.get_running_loop()
        try:
            found = await asyncio.to_thread(self._load, version)
        except (OSError, ValueError) as error:
            if self.refused.get(version) != str(error):
                log.warning("version %s of the %s is refused, and tried again: %s", version, self._what, error)
            self.refused[version], self._tried_s[version] = str(error), loop.time()
            loop.call_later(RETRY_S, self._news)
        else:
            log.info("version %s of the %s is loaded", version, self._what)
            self.refused.pop(version, None)
            self.loaded[version] = found
            self._news()
        finally:
            del self._loading[version]
