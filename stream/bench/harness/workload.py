"""Makes pings for benchmarks by repeating real tracks.

An entity is one of the recorded tracks with its own id and its own starting place. It runs to the track's end, then
back again with the times mirrored, and so on: endless real motion with stops, turns and silences, without a jump where
it turns around. The same arguments give the same pings everywhere, so that a subscriber in another process knows when
each was due.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

import stream
from stream.adapters.files import read
from stream.tracks.clean import parse
from stream.wire import Ping, Record, dumps

SAMPLE: Final = Path(stream.__file__).parent / "demo" / "sample" / "austin_buses.csv.gz"
SHORTEST: Final = 16  # the fewest pings of a track that is used
BEGIN_MS: Final = 1_700_000_000_000  # of the first round
MIN_STEP_MS: Final = 1_000
MAX_STEP_MS: Final = 1_800_000  # a longer silence is cut to this, under the hour after which a new track begins
NEVER_MS: Final = 4_102_444_800_000  # a record timestamp later than every ping's
STRIDE: Final = 37  # pings between the starting places of two entities of one track; prime, so they differ for long


class Sent(NamedTuple):
    """One ping to send."""

    entity_id: str
    ts_ms: int
    value: bytes


@dataclass(frozen=True)
class Base:
    """One recorded track, walked there and back: positions, speeds, and the time from each ping to the next."""

    lat: NDArray[Any]
    lon: NDArray[Any]
    speed_mps: list[float | None]
    step_ms: NDArray[Any]  # one fewer than pings
    since_ms: NDArray[Any]  # from the first ping to each of one walk there and back

    def at(self, index: int) -> int:
        """Returns the ping at `index` of the endless walk there and back."""
        last = len(self.lat) - 1
        place = index % (2 * last)
        return place if place <= last else 2 * last - place

    def before(self, index: int) -> int:
        """Returns the milliseconds from the ping before `index` to the one at `index`."""
        return int(self.step_ms[min(self.at(index - 1), self.at(index))])

    def between(self, first: int, last: int) -> int:
        """Returns the milliseconds from the ping at `first` to the one at `last`, which is the same or a later one."""
        return self._since(last) - self._since(first)

    def _since(self, index: int) -> int:
        walks, place = divmod(index, len(self.since_ms) - 1)
        return walks * int(self.since_ms[-1]) + int(self.since_ms[place])


@dataclass
class Workload:
    """The pings of `entities` entities, round by round. A round has the next ping of every entity."""

    entities: int
    data: Path | None = None
    _bases: list[Base] = field(init=False, repr=False)
    _ids: list[str] = field(init=False, repr=False)
    _ts: list[int] = field(init=False, repr=False)
    _made: int = field(init=False, default=0, repr=False)

    def __post_init__(self) -> None:
        """Raises ValueError for a count below 1 or data without a long enough track, OSError if it cannot be read."""
        if self.entities < 1:
            raise ValueError(f"there must be at least 1 entity, got {self.entities}")
        self._bases = bases(self.data or SAMPLE)
        self._ids = [f"e{number:06d}" for number in range(self.entities)]
        # The starts differ by some ms, so that no two entities' pings have the same time.
        self._ts = [BEGIN_MS + number * 7 for number in range(self.entities)]

    def rounds(self, count: int) -> Iterator[Sent]:
        """Yields the next `count` pings of every entity, from where the last call ended."""
        return self.pings(count * self.entities)

    def pings(self, count: int) -> Iterator[Sent]:
        """Yields the next `count` pings, from where the last call ended, which may be within a round."""
        bases, ids, times = self._bases, self._ids, self._ts
        for made in range(self._made, self._made + count):
            self._made = made + 1
            round_, number = divmod(made, self.entities)
            base = bases[number % len(bases)]
            index = number * STRIDE + round_
            place = base.at(index)
            if round_:
                times[number] += base.before(index)
            ts = times[number]
            ping = Ping(
                entity_id=ids[number],
                ts=ts,
                lat=float(base.lat[place]),
                lon=float(base.lon[place]),
                speed_mps=base.speed_mps[place],
            )
            yield Sent(ids[number], ts, dumps(ping))

    def skip(self, count: int) -> None:
        """Passes over the next `count` pings, without making them."""
        begin, end = self._made, self._made + count
        for number in range(self.entities):
            first, last = (self._last_round(number, made) for made in (begin, end))
            start = number * STRIDE
            self._ts[number] += self._bases[number % len(self._bases)].between(start + first, start + last)
        self._made = end

    def _last_round(self, number: int, made: int) -> int:
        """Returns the round of an entity's last ping among the first `made`, or 0 if it has none, whose time is that
        of its first one."""
        return max(0, (made - number - 1) // self.entities)


def bases(path: Path) -> list[Base]:
    """Returns the tracks of a file, read as by `pathcast feed`, that have at least SHORTEST pings."""
    tracks: dict[str, list[Ping]] = {}
    for row in read(path):
        ping = parse(Record("", 0, 0, NEVER_MS, row.key, row.value))
        if isinstance(ping, Ping):
            tracks.setdefault(ping.entity_id, []).append(ping)
    found = [_base(pings) for pings in tracks.values() if len(pings) >= SHORTEST]
    if not found:
        raise ValueError(f"{path}: no entity has {SHORTEST} pings, so there is no track to measure with")
    return found


def _base(pings: list[Ping]) -> Base:
    ordered = sorted(pings, key=lambda ping: ping.ts)
    steps = np.diff(np.array([ping.ts for ping in ordered], dtype=np.int64)).clip(MIN_STEP_MS, MAX_STEP_MS)
    return Base(
        np.array([ping.lat for ping in ordered]),
        np.array([ping.lon for ping in ordered]),
        [ping.speed_mps for ping in ordered],
        steps,
        np.concatenate([[0], np.cumsum([*steps, *steps[::-1]])]),
    )
