"""The weights that states were made by. A state names them by their fingerprint, and only they can read it.

They are our own (`--weights`), or lie in the registry (`--registry`), from which they are loaded when a state asks them
first. A state of weights that cannot be had is rebuilt from its entity's window by our own, as a worker would do it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from model.api import Predictor

log = logging.getLogger(__name__)

MOST: Final = 4  # networks in memory, of some 10 MB: while weights are changed there are two or three
AGAIN_S: Final = 30.0  # until weights that could not be loaded are tried again
MOST_FAILED: Final = 1_000  # versions; whoever may write to Redis may name any
CAPACITY: Final = 64  # states at a time


class Networks:
    """The networks in memory. It belongs to the event loop; loading does not block it."""

    def __init__(self, own: Predictor, load: Callable[[str], Predictor] | None) -> None:
        """Takes `load`, which returns weights by their version, or raises OSError or ValueError; None: there is no
        registry."""
        self.own = own
        self._load = load
        self._loaded: OrderedDict[str, Predictor] = OrderedDict()  # the last is the one that was used last
        self._loading: dict[str, asyncio.Task[None]] = {}
        self._failed_s: dict[str, float] = {}
        self._reported: set[str] = set()

    @property
    def versions(self) -> list[str]:
        return [self.own.version, *self._loaded]

    def ready(self, version: str) -> Predictor | None:
        """Returns the weights of this version, or our own if they cannot be had; None: `load` must find out."""
        if version == self.own.version or self._load is None:
            return self.own
        if (network := self._loaded.get(version)) is not None:
            self._loaded.move_to_end(version)
            return network
        failed_s = self._failed_s.get(version)
        return self.own if failed_s is not None and self._now_s() - failed_s < AGAIN_S else None

    async def load(self, version: str) -> None:
        """Loads these weights, unless that is under way, and returns when that has succeeded or failed."""
        if self._load is None:
            return
        if version not in self._loading:
            self._loading[version] = asyncio.create_task(self._load_now(version, self._load))
        await asyncio.shield(self._loading[version])

    def _now_s(self) -> float:
        return asyncio.get_running_loop().time()

    async def _load_now(self, version: str, load: Callable[[str], Predictor]) -> None:
        try:
            network = await asyncio.to_thread(load, version)
        except (OSError, ValueError) as error:
            self._failed_s[version] = self._now_s()
            while len(self._failed_s) > MOST_FAILED:
                self._failed_s.pop(next(iter(self._failed_s)))
            if version not in self._reported and len(self._reported) < MOST_FAILED:
                self._reported.add(version)
                log.warning(
                    "weights %s cannot be had (%s): their states are rebuilt by %s", version, error, self.own.version
                )
            return
        finally:
            del self._loading[version]
        log.info("weights %s are loaded", version)
        self._loaded[version] = network
        while len(self._loaded) > MOST:
            self._loaded.popitem(last=False)
