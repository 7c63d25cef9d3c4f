"""One entity: its track, its former forecasts, and what became of them. All times are its pings' own, in ms UTC.

All of it is bounded, at any cadence:

    track       places, at least SPACING apart in time, of the last `keep_ms`: 240 of 24 bytes
    formers     forecasts, the first in each SLOT_MS, until they are `keep_ms` old and compared: 31 of 0.4 KB
    compared    of each horizon the last MOST_COMPARED

With three horizons and pings every two seconds that is 43 KB (`tests/stream/api/map/test_memory.py` measures it).

A forecast is compared as the scorer does (`stream.services.scores.scoring.comparing`): for each horizon h with the ping
nearest to t + h, if that is within 20 % of h, and it is read at that ping's time. The scorer waits for late pings; a
map does not, and decides as soon as the entity has a ping at or after t + h.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import msgspec

from stream.api.map.fleet.moments import MAX_HORIZONS, Moment, ahead_of, of_past, pack, unpack
from stream.services.scores.scoring.comparing import nearest, outcome
from stream.wire import Anchor, Outcome
from stream.wire.positions import Cov, covariance, position

POINTS: Final = 240  # of a track
SLOT_MS: Final = 30_000
LONGEST_S: Final = 900.0  # later horizons are not compared: until then the forecast has to be kept
MOST_COMPARED: Final = 20  # of a horizon: ten minutes at one in SLOT_MS
MOST_FORMERS: Final = 64
SNAPSHOT_POINTS: Final = 60
AHEAD_POINTS: Final = 24  # a minute of a full track: a page glides along them until it is told of another time


class Former(NamedTuple):
    """A forecast that is kept, and the ping before its anchor."""

    ts: int
    raw: bytes  # a Moment
    before: Anchor | None


class Compared(msgspec.Struct, frozen=True, array_like=True):
    """One horizon of a former forecast, and the ping that it was compared with."""

    at: int
    h_s: float
    lat: float
    lon: float
    cov_m2: Cov
    true_ts: int
    true_lat: float
    true_lon: float
    error_m: float
    damped_m: float | None
    in50: bool
    in90: bool

    @property
    def outcome(self) -> Outcome:
        return Outcome(self.h_s, (self.true_ts - self.at) / 1000, self.error_m, self.damped_m, self.in50, self.in90)


_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(Compared)


class Entity:
    """The newest forecast, the track and the former forecasts of one entity."""

    __slots__ = ("_compared", "_formers", "_keep_ms", "_last", "_raw", "_track", "_waiting", "shown")

    def __init__(self, keep_ms: int) -> None:
        self._keep_ms = keep_ms
        self._raw = b""
        self._last: Anchor | None = None
        self._track = array("d")  # ts, lat, lon of each point
        self._formers: deque[Former] = deque()
        self._waiting: dict[float, deque[Former]] = {}  # by horizon, in the order of their anchors
        self._compared: dict[float, deque[bytes]] = {}
        self.shown: bytes | None = None  # as it is told to pages, until something changes

    # -- what comes --------------------------------------------------------------------------------------------------

    def take(self, moment: Moment) -> list[Compared]:
        """Takes the newest forecast, whose anchor is the newest ping. Returns what it decides of former ones."""
        anchor = Anchor(moment.ts, moment.lat, moment.lon)
        if self._last is not None and anchor.ts < self._last.ts:
            self._go_back(anchor.ts)
        before = self._last if self._last is not None and self._last.ts < anchor.ts else None
        comparisons = [] if before is None else list(self._compare(before, anchor))
        self._raw, self._last, self.shown = pack(moment), anchor, None
        self._extend(anchor)
        self._keep(moment, before)
        return comparisons

    def _go_back(self, ts: int) -> None:
        """Forgets what was after this time: the receiver's clock was ahead."""
        self._last = None
        while len(self._track) and self._track[-3] >= ts:
            del self._track[-3:]
        for queue in (self._formers, *self._waiting.values()):
            while queue and queue[-1].ts >= ts:
                queue.pop()

    def _extend(self, anchor: Anchor) -> None:
        """Adds a point. The last one is replaced if it is nearer to the one before than the points of a full track."""
        track, spacing_ms = self._track, self._keep_ms / POINTS
        is_near = len(track) >= 6 and track[-3] - track[-6] < spacing_ms
        if is_near or (len(track) and track[-3] == anchor.ts):
            del track[-3:]
        track.extend((anchor.ts, anchor.lat, anchor.lon))
        old = 0
        while track[old] < anchor.ts - self._keep_ms:
            old += 3
        del track[:old]

    def _keep(self, moment: Moment, before: Anchor | None) -> None:
        formers = self._formers
        if not formers or moment.ts // SLOT_MS != formers[-1].ts // SLOT_MS:
            former = Former(moment.ts, pack(of_past(moment)), before)
            formers.append(former)
            for h_s, *_ in moment.horizons:
                if h_s <= LONGEST_S and (h_s in self._waiting or len(self._waiting) < MAX_HORIZONS):
                    self._waiting.setdefault(h_s, deque(maxlen=MOST_FORMERS)).append(former)
        while len(formers) > MOST_FORMERS or formers[0].ts < moment.ts - self._keep_ms - SLOT_MS:
            formers.popleft()

    def _compare(self, before: Anchor, anchor: Anchor) -> Iterator[Compared]:
        """Yields the comparisons that this ping decides: of horizons that end between it and the one before."""
        for h_s, queue in self._waiting.items():
            while queue and queue[0].ts + 1000 * h_s <= anchor.ts:
                comparison = compare(queue.popleft(), h_s, before, anchor)
                if comparison is not None:
                    kept = self._compared.setdefault(h_s, deque(maxlen=MOST_COMPARED))
                    kept.append(_ENCODER.encode(comparison))
                    yield comparison

    # -- what is known -----------------------------------------------------------------------------------------------

    @property
    def moment(self) -> Moment:
        return unpack(self._raw)

    def track(self, until_ms: float | None = None, points: int = POINTS + 1) -> list[tuple[int, float, float]]:
        """Returns time, latitude and longitude of the last so many points, the oldest first."""
        track = self._track
        end = len(track)
        while until_ms is not None and end and track[end - 3] > until_ms:
            end -= 3
        begin = max(0, end - 3 * points)
        return [(int(track[at]), track[at + 1], track[at + 2]) for at in range(begin, end, 3)]

    def ahead(self, since_ms: float, points: int) -> list[tuple[int, float, float]]:
        """Returns time, latitude and longitude of the first so many points after a time, the oldest first."""
        track = self._track
        begin = len(track)
        while begin and track[begin - 3] > since_ms:
            begin -= 3
        end = min(len(track), begin + 3 * points)
        return [(int(track[at]), track[at + 1], track[at + 2]) for at in range(begin, end, 3)]

    def at(self, ms: int) -> Moment | None:
        """Returns the last forecast that is kept from before this time, as one of the past."""
        if self._last is not None and self._last.ts <= ms:
            return of_past(self.moment)
        return next((unpack(one.raw) for one in reversed(self._formers) if one.ts <= ms), None)

    def comparisons(self) -> list[Compared]:
        """Returns what became of former forecasts, the oldest first."""
        comparisons = [_DECODER.decode(raw) for queue in self._compared.values() for raw in queue]
        return sorted(comparisons, key=lambda one: (one.true_ts, one.h_s))

    def counts(self) -> dict[str, Any]:
        """Returns how much is kept, for tests of its bounds."""
        return {
            "points": len(self._track) // 3,
            "formers": len(self._formers),
            "waiting": max(map(len, self._waiting.values()), default=0),
            "compared": max(map(len, self._compared.values()), default=0),
        }


def compare(former: Former, h_s: float, before: Anchor, after: Anchor) -> Compared | None:
    """Returns what came of one horizon, which ends after `before` and not after `after`: two pings that follow each
    other. None if neither is near enough to its end."""
    pings = [one for one in (before, after) if one.ts > former.ts]
    at = nearest([one.ts for one in pings], former.ts, h_s, 0)
    if at is None:
        return None
    target, ahead = pings[at], ahead_of(unpack(former.raw))
    ahead_s = (target.ts - former.ts) / 1000
    result = outcome(ahead, former.before, target, h_s)
    assert result.error_m is not None, "there is a target"
    lat, lon = position(ahead, ahead_s)
    return Compared(
        *(former.ts, h_s, round(lat, 7), round(lon, 7), covariance(ahead, ahead_s)),
        *(target.ts, target.lat, target.lon, result.error_m, result.damped_error_m),
        *(bool(result.inside50), bool(result.inside90)),
    )
