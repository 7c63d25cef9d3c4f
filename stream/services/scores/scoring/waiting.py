"""One entity: its recent pings, and its forecasts that wait for what happens. All times are its own, in ms UTC.

A forecast waits until the entity's newest ping is `Rules.span_ms` after its anchor. Then a ping that comes up to
LATENESS_MS late is among those that it is compared with, and the result is that of all pings in the order of their
times.

What is kept is bounded at any cadence: of forecasts with one version the first in SLOT_MS, of pings the first in
STEP_MS.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from operator import attrgetter
from typing import Final, NamedTuple

from stream.services.scores.scoring.clock import Mark
from stream.services.scores.scoring.comparing import score
from stream.wire import Anchor, Forecast, Score, loads_forecast
from stream.wire.scoring import TOLERANCE

LATENESS_MS: Final = 300_000  # a worker takes no ping that is later (stream.tracks.track.Policy)
SLOT_MS: Final = 2_000  # at 900 s, some 690 forecasts of 1.7 KB wait for one entity and version, however fast it pings
STEP_MS: Final = 100  # ten pings a second: then some 14,000 of them, 2 MB
PRUNE_EVERY: Final = 16  # forecasts: it costs a look at all that wait


class ScoringRules(NamedTuple):
    longest_s: float = 900.0  # horizons beyond it are not scored

    @property
    def span_ms(self) -> int:
        """How far an entity has to go on until a forecast is scored; and how far the others, until it counts as
        silent."""
        return round(1000 * self.longest_s * (1 + TOLERANCE)) + LATENESS_MS


DEFAULT_RULES: Final = ScoringRules()


class Waits(NamedTuple):
    """A forecast that waits, as the bytes that came: a fifth of its objects."""

    ts: int
    key: tuple[int, str, str | None]
    raw: bytes
    before: Anchor | None  # the ping before the anchor


_TS: Final = attrgetter("ts")


class Entity:
    """What is known of one entity."""

    __slots__ = ("_arrived", "_folded", "_ids", "_pings", "_rules", "_times", "_waiting", "heard_ms", "source")

    def __init__(self, rules: ScoringRules) -> None:
        self._rules = rules
        self._pings: list[Anchor] = []
        self._times: list[int] = []
        self._arrived: deque[tuple[int, Mark]] = deque()  # time of each ping, and where it came, in that order
        self._waiting: list[Waits] = []  # in the order of their anchors
        self._ids: dict[tuple[int, str, str | None], str] = {}  # of those that wait
        self._folded = 0
        self.heard_ms = 0  # the partition's event time when it was heard last
        self.source = -1  # the newest offset in the pings topic that a forecast answered

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def oldest(self) -> Mark | None:
        """Where all that is kept can be read again from."""
        return self._arrived[0][1] if self._arrived else None

    def begins_anew(self, forecast: Forecast) -> bool:
        """Returns whether the worker has begun this track anew, back in time: it answers no ping that is later than
        LATENESS_MS. (A forecast that answers an older record again is a copy.)
        """
        behind = bool(self._times) and forecast.anchor.ts < self._times[-1] - LATENESS_MS
        return behind and forecast.src.offset > self.source

    def wait_for(self, forecast: Forecast, raw: bytes, mark: Mark) -> str:
        """Adds one forecast and its anchor. Returns what it is: `waits`, `duplicate`, `copy` (one that answers an older
        record again, when what it waits for was decided), or `thinned`."""
        ts = forecast.anchor.ts
        newest = self._times[-1] if self._times else ts
        if forecast.src.offset > self.source or ts > newest:
            self.source = forecast.src.offset
        if ts + self._rules.span_ms <= newest:
            return "copy"
        atlas = None if forecast.atlas is None else forecast.atlas.version
        key = ts // SLOT_MS, forecast.model.version, atlas
        before = self._before(ts)
        self._add(forecast.anchor, mark)
        if key in self._ids:
            return "duplicate" if self._ids[key] == forecast.forecast_id else "thinned"
        self._ids[key] = forecast.forecast_id
        insort(self._waiting, Waits(ts, key, raw, before), key=_TS)
        return "waits"

    def due(self) -> list[Score]:
        """Takes the forecasts whose time has come, and returns their scores."""
        found = []
        while self._waiting and self._waiting[0].ts + self._rules.span_ms <= self._times[-1]:
            found.append(self._score(self._waiting.pop(0)))
        self._folded += 1
        if self._folded % PRUNE_EVERY == 0:
            self._prune()
        return found

    def give_up(self) -> list[Score]:
        """Takes all forecasts that wait, and returns their scores by what is known."""
        found = [self._score(one) for one in self._waiting]
        self._waiting.clear()
        return found

    def _score(self, one: Waits) -> Score:
        del self._ids[one.key]
        return score(loads_forecast(one.raw), one.before, self._pings, self._times, self._rules.longest_s)

    def _before(self, ts: int) -> Anchor | None:
        at = bisect_left(self._times, ts)
        return self._pings[at - 1] if at else None

    def _add(self, ping: Anchor, mark: Mark) -> None:
        at = bisect_left(self._times, ping.ts)
        near = self._times[max(0, at - 1) : at + 1]
        if any(ts == ping.ts or ts // STEP_MS == ping.ts // STEP_MS for ts in near):
            return
        self._times.insert(at, ping.ts)
        self._pings.insert(at, ping)
        self._arrived.append((ping.ts, mark))

    def _prune(self) -> None:
        """Forgets the pings that no forecast needs. It changes no score, so it matters to nobody when."""
        needed = self._times[-1]
        for one in self._waiting:
            needed = min(needed, one.ts if one.before is None else one.before.ts)
        gone = bisect_left(self._times, needed)
        del self._times[:gone], self._pings[:gone]
        while self._arrived and self._arrived[0][0] < needed:
            self._arrived.popleft()
