"""Of which entities the replay knows what the workers knew. Knows forecasts and caches; judges nothing."""

from __future__ import annotations

from collections import Counter, deque
from math import inf
from typing import Final

from stream.verify.published import OTHER_MODEL, REBUILT
from stream.wire import Forecast

SETTLED_EXTRA: Final = 8  # pings beyond a full window, so that none is left that only our late start let in


class TrustedState:
    """What the replay knows of each entity of one partition: whether its track and state are those of the workers.

    From a log that begins at 0, all. From a later beginning, an entity is settled when its window was full of replayed
    pings and some more, or when it began a new session: then its window cannot hold anything from before. After a
    quarantine it is the same: the workers began anew, and which of its pings they took in silence nobody can tell.
    """

    def __init__(self, *, complete: bool, history: int) -> None:
        self.complete = complete
        self._enough = history + SETTLED_EXTRA
        self._pings: Counter[str] = Counter()
        self._settled: dict[str, float] = {}  # and since which record timestamp; infinity: it has none
        self._rebuilt: set[str] = set()
        self._failed: set[str] = set()
        self._times: dict[str, deque[int]] = {}  # of as many of its last pings as a window and some more hold

    def note_time(self, entity: str, ts_ms: int) -> None:
        """Of each of its pings."""
        self._times.setdefault(entity, deque(maxlen=self._enough)).append(ts_ms)

    def may_repeat(self, entity: str, ts_ms: int) -> bool:
        """Whether a ping of that time may be a duplicate to a worker that took in silence what another had refused."""
        return ts_ms in self._times.get(entity, ())

    def whole(self, entity: str) -> bool:
        """Whether the workers know of this entity's every ping, and the replay, too."""
        return self.complete and entity not in self._failed

    def failed(self, entity: str | None) -> bool:
        """Whether it was in quarantine, or still is."""
        return entity in self._failed

    def fail(self, entity: str) -> None:
        """The workers' state of it, if there is one again, begins after this."""
        self._failed.add(entity)
        self._settled.pop(entity, None)
        self._pings[entity] = 0

    def settled(self, entity: str | None) -> bool:
        """None: the record is no ping, which needs no history to tell."""
        return entity is None or self.whole(entity) or entity in self._settled

    def settled_before(self, entity: str, timestamp_ms: int) -> bool:
        return self.whole(entity) or self._settled.get(entity, timestamp_ms) < timestamp_ms

    def exact(self, entity: str) -> bool:
        return entity not in self._rebuilt

    def note(self, entity: str, due: Forecast, caches: int, timestamp_ms: int) -> None:
        """The replay's forecast of an entity's ping, and what the published ones say of their states."""
        if due.cache == "none":
            self._rebuilt.discard(entity)
        if due.cache == "rebuilt" or caches & (REBUILT | OTHER_MODEL):
            self._rebuilt.add(entity)
        if self.whole(entity) or entity in self._settled:
            return
        self._pings[entity] += 1
        since_ms = inf if timestamp_ms < 0 else timestamp_ms
        if due.cache == "none" and self._pings[entity] > 1:
            self._settled[entity] = since_ms
        elif self._pings[entity] >= self._enough:
            self._settled[entity] = since_ms
            self._rebuilt.add(entity)  # the workers' state has older pings behind it, which still move its last bits
