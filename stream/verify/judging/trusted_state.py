"""Decides for which entities the replay has the same track and state as the workers, so that they can be judged."""

from __future__ import annotations

from collections import Counter, deque
from math import inf
from typing import Final

from stream.tracks.track import Policy
from stream.verify.published import OTHER_MODEL, REBUILT
from stream.wire import Forecast

SESSION_GAP_MS: Final = 1000 * Policy(window_fixes=1).session_gap_s
SETTLED_EXTRA: Final = 8  # pings beyond a full window: afterwards no ping is in it only because the replay began late


class TrustedState:
    """Records for each entity of one partition whether the replay's track and state are those of the workers.

    If the log begins at 0, they are for all entities. If it begins later, an entity is settled when its window was full
    of replayed pings and some more, or when it began a new session after a silence: then its window cannot contain an
    earlier ping. (One that begins at another place says nothing: the replay may have begun with an outlier, which the
    workers refused.) The same rule holds after a quarantine: the workers began with an empty track, and nobody can tell
    which pings they added to it without an answer.
    """

    def __init__(self, *, complete: bool, history: int) -> None:
        self.complete = complete
        self._enough = history + SETTLED_EXTRA
        self._pings: Counter[str] = Counter()
        self._settled: dict[str, float] = {}  # since which record timestamp; infinity: the record has none
        self._rebuilt: set[str] = set()
        self._failed: set[str] = set()
        self._times: dict[str, deque[int]] = {}  # times of the last `_enough` pings

    def note_time(self, entity: str, ts_ms: int) -> None:
        """Stores the time of a ping. It must be called for each ping."""
        self._times.setdefault(entity, deque(maxlen=self._enough)).append(ts_ms)

    def _was_silent(self, entity: str) -> bool:
        """Returns whether the last ping came after a silence that begins a new session in any track."""
        *before, last = self._times.get(entity, (0,))
        return bool(before) and last - max(before) > SESSION_GAP_MS

    def may_repeat(self, entity: str, ts_ms: int) -> bool:
        """Returns whether a ping of this time may be a duplicate for a worker that added, without an answer, a ping
        which another worker had refused."""
        return ts_ms in self._times.get(entity, ())

    def whole(self, entity: str) -> bool:
        """Returns whether both the workers and the replay have every ping of this entity."""
        return self.complete and entity not in self._failed

    def was_in_quarantine(self, entity: str | None) -> bool:
        """Returns whether the entity was in quarantine, or still is."""
        return entity in self._failed

    def fail(self, entity: str) -> None:
        """Records a quarantine: if the workers get a state of this entity again, it begins after this."""
        self._failed.add(entity)
        self._settled.pop(entity, None)
        self._pings[entity] = 0

    def can_be_judged(self, entity: str | None) -> bool:
        """Returns whether the entity can be judged. None can: the record is not a ping, and needs no history."""
        return entity is None or self.whole(entity) or entity in self._settled

    def could_be_judged_before(self, entity: str, timestamp_ms: int) -> bool:
        return self.whole(entity) or self._settled.get(entity, timestamp_ms) < timestamp_ms

    def exact(self, entity: str) -> bool:
        return entity not in self._rebuilt

    def note(self, entity: str, due: Forecast, caches: int, timestamp_ms: int) -> None:
        """Records the replay's forecast for a ping, and the `cache` bits of the published forecasts."""
        if due.cache == "none":
            self._rebuilt.discard(entity)
        if due.cache == "rebuilt" or caches & (REBUILT | OTHER_MODEL):
            self._rebuilt.add(entity)
        if self.whole(entity) or entity in self._settled:
            return
        self._pings[entity] += 1
        since_ms = inf if timestamp_ms < 0 else timestamp_ms
        if due.cache == "none" and self._pings[entity] > 1 and self._was_silent(entity):
            self._settled[entity] = since_ms
        elif self._pings[entity] >= self._enough:
            self._settled[entity] = since_ms
            self._rebuilt.add(entity)  # the workers' state includes older pings, which still change its last bits
