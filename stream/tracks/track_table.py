"""The tracks of this process's entities in columns: row s is the track of the entity in slot s.

This is the fast version of `stream.tracks.track`; tests/stream/tracks/test_track_table.py holds it to that module.
Nearly every ping is plain: later than the last, within reach of it, after no silence, on a track without suspects or
pending gaps. Compiled code finds and folds those here, a batch at a time. For any other ping the engine calls
`track.observe`, through `read` and `write`.

    ring   FIX [rows, W]  the window; its newest fix is at the book's `newest`, the fix before it to the left
    book   ROW [rows]     the counts of `track.Track`, and what a checkpoint has to write
    odd    by row         suspects and pending gaps, of the few tracks that have any
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.api import FIX, Approach, set_approach
from model.jit import compiled
from stream.tracks.fix import FIX_BYTES
from stream.tracks.track import M_PER_E7, TURN_E7, PendingGap, Policy, Track

COUNTS: Final = ("accepted", "late", "duplicates", "rejected")
ROW: Final = np.dtype(
    [
        ("next_offset", "<i8"),
        *((name, "<u4") for name in COUNTS),
        ("behind", "<i4"),  # fixes that the stored state lacks
        ("size", "<u2"),  # fixes in the ring
        ("newest", "<u2"),  # the place of the newest fix
        ("fresh", "<u2"),  # fixes that are in no checkpoint; W: the whole ring must be written
        ("odd", "?"),
    ],
    align=True,  # 40 bytes: every entity in memory has one
)
_STORED: Final = ("next_offset", *COUNTS, "size", "newest")  # these are also fields of a stored record's head
UNKNOWN: Final = 1 << 30  # `behind` at this value: the stored state cannot be used
WRITING: Final = 1 << 29  # `behind` at this value plus the fixes since: the state is being written
# Lowers a bound that is computed in another order than in `track`, which decides near the bound.
_SURE: Final = 1 - 1e-9

NOT_ASKED: Final = Approach.none(0)

Rows = NDArray[np.int64]


class Observed(NamedTuple):
    """Holds which of N pings were plain. For a plain ping: how many fixes are in the window that ends with it, and the
    time of the oldest of them; and if that is asked for, by which way the thing came. Later pings of the same batch may
    take the place of fixes that tell it.
    """

    plain: NDArray[np.bool_]
    n: Rows
    from_ts: Rows
    approach: Approach = NOT_ASKED

    @classmethod
    def none(cls, pings: int, *, approach: bool = False) -> Observed:
        """Returns rows to be set; with `approach`, ways are asked for."""
        n, from_ts = np.zeros((2, pings), np.int64)
        return cls(np.zeros(pings, np.bool_), n, from_ts, Approach.none(pings) if approach else NOT_ASKED)


class Copied(NamedTuple):
    """A copy of the tracks of some slots."""

    ring: NDArray[Any]
    book: NDArray[Any]  # ROW
    odd: dict[int, tuple[bytes, tuple[PendingGap, ...]]]


class TrackTable:
    """Holds tracks by slot. A slot without a track has size 0.

    It has many methods because each of them must keep the ring and the row of a slot in step.
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self.ring = np.zeros((0, policy.window_fixes), FIX)
        self._book = np.zeros(0, ROW)
        self._odd: dict[int, tuple[bytes, tuple[PendingGap, ...]]] = {}

    def reserve(self, rows: int) -> None:
        """Makes room for slots below `rows`. The system provides the memory only when it is written to."""
        if rows > len(self._book):
            ring, book = np.zeros((rows, self.ring.shape[1]), FIX), np.zeros(rows, ROW)
            _bytes(ring)[: len(self.ring)], book[: len(self._book)] = _bytes(self.ring), self._book
            self.ring, self._book = ring, book

    def clear(self, slots: Rows) -> None:
        """Removes the tracks of these slots. It makes room for the slots first, if needed."""
        if len(slots) and slots.max() >= len(self._book):
            self.reserve(max(int(slots.max()) + 1, 2 * len(self._book)))
        _bytes(self._book)[slots] = 0
        if self._odd:
            for slot in slots.tolist():
                self._odd.pop(slot, None)

    def observe_plain(self, slots: Rows, fixes: NDArray[Any], offsets: Rows, *, approach: bool = False) -> Observed:
        """Folds plain pings into their slots' tracks, in place: for each slot those before its first ping that is not
        plain. With `approach`, also returns by which ways they came.

        The pings of one slot must be side by side, in order.
        """
        p, seen = self._policy, Observed.none(len(slots), approach=approach)
        limits = p.max_speed_mps * _SURE, p.jump_slack_m * _SURE
        silences = int(p.gap_min_s * 1000), int(p.session_gap_s * 1000)
        cadence = p.gap_cadences, p.cadence_fixes, p.min_cadence_steps
        _observe_plain(
            self.ring, self._book, slots, fixes, offsets, *limits, *silences, *cadence, *seen[:3], *seen.approach
        )
        return seen

    def fold(
        self,
        slots: Rows,
        fixes: NDArray[Any],
        offsets: Rows,
        into: Observed,
        fold_odd: Callable[[int], None],
        places: Rows | None = None,
    ) -> None:
        """Folds the pings at `places` (None: all) into their slots' tracks: those that are plain in place, as
        `observe_plain` does, and the others through `fold_odd`. That is called with the place of one, when all before
        it in its slot are folded.

        Sets `into` for the plain ones, and to 0 for each other before `fold_odd` gets it. The pings of one slot must be
        side by side, in order, also among these places.
        """
        left = np.arange(len(slots)) if places is None else places
        asks = into.approach is not NOT_ASKED
        while len(left):
            plain, n, from_ts, approach = self.observe_plain(slots[left], fixes[left], offsets[left], approach=asks)
            into.plain[left], into.n[left], into.from_ts[left] = plain, n, from_ts
            if asks:
                for mine, column in zip(into.approach, approach, strict=True):
                    mine[left] = column
            left = left[~plain]
            first = firsts(slots[left])  # the pings before them were plain
            for place in left[first].tolist():
                fold_odd(place)
            left = left[~first]

    def read(self, slot: int) -> Track | None:
        """Returns the track in a slot; None if there is none."""
        next_offset, accepted, late, duplicates, rejected, _, size, newest, _, odd = self._book[slot].item()
        if not size:
            return None
        ring, first = self.ring[slot], newest + 1 - size
        parts = (ring[first : newest + 1],) if first >= 0 else (ring[first:], ring[: newest + 1])
        window = b"".join(part.tobytes() for part in parts)
        suspects, pending = self._odd[slot] if odd else (b"", ())
        return Track(window, next_offset, accepted, late, duplicates, rejected, suspects, pending)

    def write(self, slot: int, track: Track) -> None:
        """Puts the result of `track.observe` for a slot's track into the slot, or any track into an empty slot."""
        _, accepted, late, _, _, behind, size, newest, fresh, _ = self._book[slot].item()
        places = self.ring.shape[1]
        grown = track.accepted - accepted
        if not size or (grown and (track.late != late or track.size != min(size + 1, places))):
            # Write the window from place 0. If it is longer than the ring, because a model with a longer memory stored
            # it, keep the newest fixes.
            fixes = np.frombuffer(track.window, FIX)[-places:]
            self.ring[slot, : len(fixes)] = fixes
            size, newest, fresh, behind = len(fixes), len(fixes) - 1, places, UNKNOWN
        elif grown:
            newest = (newest + 1) % places
            self.ring[slot, newest] = np.frombuffer(track.window[-FIX_BYTES:], FIX)[0]
            size, fresh, behind = track.size, min(fresh + 1, places), behind + 1
        counts = track.accepted, track.late, track.duplicates, track.rejected
        odd = bool(track.suspects or track.pending)
        self._book[slot] = track.next_offset, *counts, behind, size, newest, fresh, odd
        if odd:
            self._odd[slot] = track.suspects, track.pending
        else:
            self._odd.pop(slot, None)

    def lay(self, slots: Rows, heads: NDArray[Any], rings: NDArray[Any]) -> None:
        """Puts stored tracks into slots as they are in the store: heads [N] with fields of our names, rings [N, W].

        Suspects and pending gaps must be added by `set_odd`.
        """
        _bytes(self.ring)[slots] = _bytes(rings)
        book = np.zeros(len(slots), ROW)
        for name in _STORED:
            book[name] = heads[name]
        book["behind"] = UNKNOWN
        _bytes(self._book)[slots] = _bytes(book)

    def set_odd(self, slot: int, suspects: bytes, pending: tuple[PendingGap, ...]) -> None:
        self._odd[slot] = suspects, pending
        self._book["odd"][slot] = True

    def rings(self, slots: Rows) -> NDArray[np.uint8]:
        """Returns copies of the rings [N, bytes] of these slots."""
        return _bytes(self.ring)[slots]

    def copy_slots(self, slots: Rows) -> Copied:
        odd = {slot: self._odd[slot] for slot in slots.tolist() if slot in self._odd}
        # Whole bytes, so that what lies between the fields of a row is copied, too, and equal tracks are equal bytes.
        return Copied(self.ring[slots], _bytes(self._book)[slots].view(ROW)[:, 0], odd)

    def put_back(self, slots: Rows, copied: Copied) -> None:
        """Restores the tracks in these slots to what `copied` returned."""
        self.ring[slots], self._book[slots] = copied.ring, copied.book
        for slot in slots.tolist():
            self._odd.pop(slot, None)
        self._odd.update(copied.odd)

    def _column(self, name: str, slots: Rows) -> Rows:
        return self._book[name][slots].astype(np.int64)

    def sizes(self, slots: Rows) -> Rows:
        return self._column("size", slots)

    def go_back(self, offset: int) -> None:
        """Lets all tracks take records from this offset on: the log has others there than those that they include."""
        np.minimum(self._book["next_offset"], offset, out=self._book["next_offset"])

    def next_offsets(self, slots: Rows) -> Rows:
        return self._column("next_offset", slots)

    def behind(self, slots: Rows) -> Rows:
        """Returns how many fixes the stored states lack; UNKNOWN or more if there may be no stored state."""
        return self._column("behind", slots)

    def set_behind(self, slots: Rows, behind: Rows | int) -> None:
        self._book["behind"][slots] = behind

    def writing(self, slots: Rows) -> None:
        """Notes that these tracks are being written; until `saved` is called, the store's copy is unknown."""
        self._book["fresh"][slots], self._book["behind"][slots] = 0, WRITING

    def fresh(self, slots: Rows) -> Rows:
        """Returns how many fixes the stored rings lack; W if the whole ring may differ."""
        return self._column("fresh", slots)

    def note_saved(self, slots: Rows, behind: Rows) -> None:
        """Notes that the store has these tracks as they were at `writing`, and states that lacked `behind` fixes then.

        It does not change a window that was replaced since, or a slot that belongs to another entity now.
        """
        now = self._column("behind", slots)
        still = (now >= WRITING) & (now < UNKNOWN)
        self._book["behind"][slots[still]] = now[still] + behind[still] - WRITING

    def ago(self, slots: Rows, back: Rows) -> NDArray[Any]:
        """Returns the fix of each window that is `back` places before its newest."""
        return np.asarray(self.ring[slots, (self._column("newest", slots) - back) % self.ring.shape[1]])

    def newest(self, slots: Rows, counts: Rows) -> NDArray[Any]:
        """Returns the last counts[0] fixes of the first window, then those of the next; oldest first."""
        back = np.repeat(np.cumsum(counts), counts) - np.arange(counts.sum()) - 1
        return self.ago(np.repeat(slots, counts), back)

    def fill(self, heads: NDArray[Any], slots: Rows) -> None:
        """Writes the numbers of these tracks into the fields of the same names."""
        book = self._book[slots]
        for name in _STORED:
            heads[name] = book[name]

    def odd(self, slots: Rows) -> Iterator[tuple[int, bytes, tuple[PendingGap, ...]]]:
        """Yields the rows of the slots that have suspects or pending gaps, and what they have."""
        for row in np.flatnonzero(self._book["odd"][slots]).tolist():
            yield row, *self._odd[int(slots[row])]


def firsts(slots: Rows) -> NDArray[np.bool_]:
    """Returns which rows are the first of their slot. The rows of one slot must be side by side."""
    first = np.ones(len(slots), np.bool_)
    first[1:] = slots[1:] != slots[:-1]
    return first


def _bytes(records: NDArray[Any]) -> NDArray[np.uint8]:
    """Returns the same memory as [N, bytes]: numpy copies records field by field, which takes six times as long."""
    return records.view(np.uint8).reshape(len(records), records.itemsize * math.prod(records.shape[1:]))


@compiled
def _observe_plain(  # type: ignore[no-untyped-def]
    ring, book, slots, fixes, offsets,
    max_mps, slack_m, gap_ms, session_ms, cadences, cadence_fixes, min_steps,
    plain, n, from_ts, in_m, velocity_mps, came,
):  # fmt: skip
    w, asks = ring.shape[1], len(came) > 0
    steps = np.empty(cadence_fixes, np.int64)
    for i in range(len(slots)):
        if i and slots[i] == slots[i - 1] and not plain[i - 1]:
            continue
        row, places = book[slots[i]], ring[slots[i]]
        size, newest = np.int64(row.size), np.int64(row.newest)
        if size == 0 or row.odd or offsets[i] < row.next_offset:
            continue
        last, fix = places[newest], fixes[i]
        step_ms = fix.ts_ms - last.ts_ms
        if step_ms <= 0 or step_ms > session_ms:
            continue
        d_lat, d_lon = abs(np.int64(fix.lat_e7) - last.lat_e7), abs(np.int64(fix.lon_e7) - last.lon_e7)
        if d_lon > TURN_E7 // 2:
            d_lon = TURN_E7 - d_lon
        if (d_lat + d_lon) * M_PER_E7 > max_mps * step_ms / 1000 + slack_m:
            continue
        if step_ms > gap_ms:
            known = min(size, cadence_fixes) - 1
            if known >= min_steps and step_ms > cadences * _median_step(places, newest, known, steps):
                continue
        newest = (newest + 1) % w
        places[newest] = fix
        row.newest, row.size = newest, min(size + 1, w)
        row.next_offset = offsets[i] + 1
        row.accepted, row.fresh, row.behind = row.accepted + 1, min(np.int64(row.fresh) + 1, w), row.behind + 1
        plain[i], n[i], from_ts[i] = True, row.size, places[(newest + 1 - np.int64(row.size)) % w].ts_ms
        if asks:
            came[i] = set_approach(places, newest, np.int64(row.size), in_m[i], velocity_mps[i])


@compiled
def _median_step(places, newest, count, steps):  # type: ignore[no-untyped-def]
    """Returns the median of the last `count` steps, in whole milliseconds."""
    w = len(places)
    for k in range(count):
        step = places[(newest - k) % w].ts_ms - places[(newest - k - 1) % w].ts_ms
        at = k
        while at > 0 and steps[at - 1] > step:
            steps[at] = steps[at - 1]
            at -= 1
        steps[at] = step
    if count % 2:
        return steps[count // 2]
    return (steps[count // 2 - 1] + steps[count // 2]) // 2


assert FIX.itemsize == FIX_BYTES
