"""One entity's track: order, duplicates, late pings, jumps, silences and gaps. It has no clock of its own."""

from __future__ import annotations

import struct
from bisect import bisect_left
from math import cos, hypot, radians
from operator import sub
from statistics import median
from typing import Final, Literal, NamedTuple

import msgspec

from stream.tracks.fix import FIX_BYTES, Fix, first_ts_ms, last_fix, unpack
from stream.wire import E7, NO_TIME_MS, Reject

CONTEXT_FIXES: Final = 4  # fixes on each side of a gap, for the gap fill
FINAL_AFTER: Final = 2  # accepted pings after the one that closed a gap, until its fill is final
SUSPECTS_TO_MOVE: Final = 2  # quarantined pings in a row that agree with a third: then the track was wrong
M_PER_E7: Final = 6_371_008.8 * 3.141592653589793 / 180 / E7  # 1e-7 degrees of latitude on the mean sphere
TURN_E7: Final = 360 * E7
_POSITION: Final = struct.Struct("<qii4x")
_TS: Final = struct.Struct("<q12x")


class Policy(NamedTuple):
    """The rules of a track, with units. `window_fixes` is the model's `history`."""

    window_fixes: int
    lateness_ms: int = 300_000
    max_speed_mps: float = 90.0  # the fastest trains; a jump is far more often a receiver's error than an aircraft
    jump_slack_m: float = 200.0  # urban canyons move a fix by that much, however small the time step is
    session_gap_s: float = 3_600.0  # a longer silence starts a new session: the old motion tells nothing any more
    gap_min_s: float = 60.0
    gap_cadences: float = 3.0  # at this many, two pings in a row are missing, not one delayed
    cadence_fixes: int = 17  # the latest fixes whose 16 steps give the cadence: it follows a change within minutes
    min_cadence_steps: int = 3
    max_gap_points: int = 240  # of one fill; a finer cadence is widened to fit
    gap_step_ms: int = 0  # between two points of a fill; 0: the track's own cadence
    gap_unit_ms: int = 1  # steps are whole multiples of it: a file whose times are whole seconds has no others


Reason = Literal["silence", "outlier"]


class PendingGap(msgspec.Struct, frozen=True, array_like=True):
    """A gap that was filled provisionally. `age` counts the pings accepted since it closed."""

    start_ms: int
    end_ms: int
    step_ms: int
    reason: Reason
    age: int = 0


class Gap(NamedTuple):
    """A silence to fill: at most 4 packed fixes up to its start, as many from its end, and the times inside it."""

    start: Fix
    end: Fix
    before: bytes
    after: bytes
    times_ms: tuple[int, ...]
    reason: Reason


class Track(msgspec.Struct, frozen=True):
    """Holds what is known of one entity. Input records below `next_offset` are already folded in."""

    window: bytes = b""  # packed fixes, oldest first, times strictly increasing; the last one is the watermark
    next_offset: int = 0
    accepted: int = 0
    late: int = 0
    duplicates: int = 0
    rejected: int = 0
    suspects: bytes = b""  # at most 2 packed fixes that do not fit the window, by place or time, but fit each other
    pending: tuple[PendingGap, ...] = ()

    @property
    def size(self) -> int:
        return len(self.window) // FIX_BYTES


class Accepted(NamedTuple):
    """The ping is in order.

    `restart`: the window before it was cleared; `gap`: closed by this ping; `finals`: gaps to revise now; `retracted`:
    provisional gaps that ended at a false time in the future.
    """

    restart: bool = False
    gap: Gap | None = None
    finals: tuple[Gap, ...] = ()
    retracted: tuple[Gap, ...] = ()


class Late(NamedTuple):
    """The ping is out of order and was put into the window at `position`.

    `retracted`: provisional gaps that it falls into.
    """

    position: int
    retracted: tuple[Gap, ...] = ()


class Duplicate(NamedTuple):
    """The track has a ping of that time already; the first one wins, whatever the coordinates."""


class Rejected(NamedTuple):
    reject: Reject


class Folded(NamedTuple):
    """The track includes this input record already: a replay reached it again."""


Verdict = Accepted | Late | Duplicate | Rejected | Folded
_DUPLICATE: Final = Duplicate()
_FOLDED: Final = Folded()
_PLAIN: Final = Accepted()


def observe(
    track: Track | None, packed: bytes, offset: int, policy: Policy, published_ms: int = NO_TIME_MS
) -> tuple[Track, Verdict]:
    """Folds the fix of the input record at `offset` into its entity's track (None: the entity is new).

    `published_ms` is the record's own timestamp, the only clock that is the same in a replay. It shows whether a ping
    from the future has set the watermark.
    """
    if track is None:
        return Track(packed, offset + 1, 1), Accepted(restart=True)
    if offset < track.next_offset:
        return track, _FOLDED
    ts, lat, lon = _POSITION.unpack(packed)
    last_ts, last_lat, last_lon = _POSITION.unpack_from(track.window, len(track.window) - FIX_BYTES)
    step_ms = ts - last_ts
    if step_ms <= 0:
        return _out_of_order(track, packed, offset, policy, published_ms)
    if step_ms > policy.session_gap_s * 1000:
        return _restart(track, packed, offset)
    limit_m = policy.max_speed_mps * step_ms / 1000 + policy.jump_slack_m
    if not _within(lat - last_lat, lon - last_lon, lat, limit_m):
        return _handle_jump(track, packed, offset, policy)
    window = track.window + packed
    gap = _close_gap(track, step_ms, policy) if step_ms > policy.gap_min_s * 1000 else None
    pending, finals = _aged(window, track.pending) if track.pending else ((), ())
    if gap is not None:
        pending = (*pending, gap)
    grown = Track(
        window[-policy.window_fixes * FIX_BYTES :],
        offset + 1,
        track.accepted + 1,
        track.late,
        track.duplicates,
        track.rejected,
        b"",
        pending,
    )
    if gap is None and not finals:
        return grown, _PLAIN
    return grown, Accepted(gap=_describe_gaps(window, gap)[0] if gap else None, finals=finals)


def _times(packed: bytes) -> list[int]:
    return [ts for (ts,) in _TS.iter_unpack(packed)]


def _within(dlat_e7: int, dlon_e7: int, lat_e7: int, limit_m: float) -> bool:
    """Returns whether a displacement is at most `limit_m` long, on the local plane and the short way round the
    globe."""
    if dlon_e7 > TURN_E7 // 2 or dlon_e7 < -TURN_E7 // 2:
        dlon_e7 = TURN_E7 - abs(dlon_e7)
    if (abs(dlat_e7) + abs(dlon_e7)) * M_PER_E7 <= limit_m:
        return True  # the sum of the sides bounds the length, so nearly every ping needs no trigonometry
    return hypot(dlat_e7, dlon_e7 * cos(radians(lat_e7 / E7))) * M_PER_E7 <= limit_m


def _reachable(one: tuple[int, ...], other: tuple[int, ...], policy: Policy) -> bool:
    """Returns whether something that moves can have been at both fixes."""
    limit_m = policy.max_speed_mps * abs(other[0] - one[0]) / 1000 + policy.jump_slack_m
    return _within(other[1] - one[1], other[2] - one[2], other[1], limit_m)


def _close_gap(track: Track, step_ms: int, policy: Policy) -> PendingGap | None:
    """Returns the gap between the last fix and one `step_ms` later, if the silence is long for the track's cadence."""
    recent = _times(track.window[-policy.cadence_fixes * FIX_BYTES :])
    if len(recent) <= policy.min_cadence_steps:
        return None  # the cadence is unknown, so no ping is known to be missing
    cadence_ms = int(median(map(sub, recent[1:], recent)))
    if step_ms <= policy.gap_cadences * cadence_ms:
        return None
    spacing_ms = max(policy.gap_step_ms or cadence_ms, -(-step_ms // (policy.max_gap_points + 1)))
    spacing_ms += -spacing_ms % policy.gap_unit_ms
    return PendingGap(recent[-1], recent[-1] + step_ms, spacing_ms, "outlier" if track.suspects else "silence")


def _aged(window: bytes, pending: tuple[PendingGap, ...]) -> tuple[tuple[PendingGap, ...], tuple[Gap, ...]]:
    """Returns the gaps that stay pending after one more accepted ping, and those that it makes final."""
    older = [msgspec.structs.replace(gap, age=gap.age + 1) for gap in pending]
    waiting = tuple(gap for gap in older if gap.age < FINAL_AFTER)
    return waiting, _describe_gaps(window, *(gap for gap in older if gap.age >= FINAL_AFTER))


def _describe_gaps(window: bytes, *gaps: PendingGap) -> tuple[Gap, ...]:
    """Returns the gaps with the fixes around them, except gaps whose start late pings pushed out of the window."""
    return tuple(found for gap in gaps if (found := _gap(window, gap)) is not None)


def _gap(window: bytes, gap: PendingGap) -> Gap | None:
    start, end = _place(window, gap.start_ms), _place(window, gap.end_ms)
    if start is None or end is None:
        return None
    before = window[max(0, start + 1 - CONTEXT_FIXES) * FIX_BYTES : (start + 1) * FIX_BYTES]
    after = window[end * FIX_BYTES : (end + CONTEXT_FIXES) * FIX_BYTES]
    # A synthetic ping closer to the end than half a step would only repeat the real one.
    inside = range(gap.start_ms + gap.step_ms, gap.end_ms - gap.step_ms // 2, gap.step_ms)
    return Gap(last_fix(before), last_fix(after[:FIX_BYTES]), before, after, tuple(inside), gap.reason)


def _place(window: bytes, ts_ms: int) -> int | None:
    """Returns the place of the fix of that time; None if there is none."""
    size = len(window) // FIX_BYTES
    place = bisect_left(range(size), ts_ms, key=lambda place: _time(window, place))
    return place if place < size and _time(window, place) == ts_ms else None


def _time(window: bytes, place: int) -> int:
    ts_ms: int
    (ts_ms,) = _TS.unpack_from(window, place * FIX_BYTES)
    return ts_ms


def _restart(track: Track, packed: bytes, offset: int) -> tuple[Track, Accepted]:
    """Starts a window of one fix. Gaps that still awaited later pings become final as they are.

    Gaps that end after the fix are retracted instead: the track goes back from a false watermark, to which they led.
    """
    fresh = Track(packed, offset + 1, track.accepted + 1, track.late, track.duplicates, track.rejected)
    ts_ms = first_ts_ms(packed)
    finals = _describe_gaps(track.window, *(gap for gap in track.pending if gap.end_ms <= ts_ms))
    retracted = _describe_gaps(track.window, *(gap for gap in track.pending if gap.end_ms > ts_ms))
    return fresh, Accepted(restart=True, finals=finals, retracted=retracted)


def _handle_jump(track: Track, packed: bytes, offset: int, policy: Policy) -> tuple[Track, Verdict]:
    """Handles a ping that nothing could have reached."""
    step_ms = first_ts_ms(packed) - last_fix(track.window).ts_ms
    message = f"faster than {policy.max_speed_mps:g} m/s from the ping {step_ms / 1000:g} s before"
    return _suspect(track, packed, offset, policy, "impossible_jump", message)


def _suspect(
    track: Track, packed: bytes, offset: int, policy: Policy, code: str, message: str
) -> tuple[Track, Verdict]:
    """Quarantines a ping that does not fit the window, unless two quarantined before it lead there."""
    ping, suspects, last_ms = last_fix(packed), list(unpack(track.suspects)), last_fix(track.window).ts_ms
    if any(suspect.ts_ms == ping.ts_ms for suspect in suspects):
        return _duplicate(track, offset)
    if suspects and (suspects[-1].ts_ms > last_ms) != (ping.ts_ms > last_ms):
        suspects = []  # those were of the other kind: jumps are after the watermark, late pings before it
    kept = packed
    if suspects and ping.ts_ms < suspects[-1].ts_ms:
        kept = track.suspects
    elif suspects and _reachable(suspects[-1], ping, policy):
        if len(suspects) == SUSPECTS_TO_MOVE:
            return _restart(track, packed, offset)
        kept = track.suspects + packed
    return _refuse(track, offset, code, message, kept)


def _is_in_future(watermark_ms: int, ts_ms: int, published_ms: int, policy: Policy) -> bool:
    """Returns whether a ping that was on time, by its record's timestamp, shows that the watermark lies in the future.

    A ping that was gathered and sent later was not on time, so history moves no track back. A timestamp equal to the
    ping's own time is taken for a copy of it, as stream processors make it, and not for a clock: otherwise all history
    would be on time.
    """
    is_on_time = 0 < abs(published_ms - ts_ms) <= policy.lateness_ms
    return is_on_time and watermark_ms - published_ms > policy.lateness_ms


def _out_of_order(track: Track, packed: bytes, offset: int, policy: Policy, published_ms: int) -> tuple[Track, Verdict]:
    """Handles a ping not after the watermark: a duplicate, one to put in its place, or one too late for that."""
    ping, times = last_fix(packed), _times(track.window)
    index = bisect_left(times, ping.ts_ms)
    if times[index] == ping.ts_ms:
        return _duplicate(track, offset)
    lag_ms, is_full = times[-1] - ping.ts_ms, len(times) >= policy.window_fixes
    if lag_ms > policy.lateness_ms or (is_full and index == 0):  # a full window may have dropped that very ping
        message = (
            f"{lag_ms / 1000:g} s before the entity's newest ping: more than {policy.lateness_ms / 1000:g} s, or "
            "before all pings of a full window"
        )
        if _is_in_future(times[-1], ping.ts_ms, published_ms, policy):
            return _suspect(track, packed, offset, policy, "too_late", message)
        return _refuse(track, offset, "too_late", message)
    at = index * FIX_BYTES
    neighbours = unpack(track.window[max(0, at - FIX_BYTES) : at + FIX_BYTES])
    if not all(_reachable(neighbour, ping, policy) for neighbour in neighbours):
        message = f"faster than {policy.max_speed_mps:g} m/s from its neighbours"
        return _refuse(track, offset, "impossible_jump", message)
    split = [gap for gap in track.pending if gap.start_ms < ping.ts_ms < gap.end_ms]
    window = (track.window[:at] + packed + track.window[at:])[-policy.window_fixes * FIX_BYTES :]
    merged = msgspec.structs.replace(
        track,
        window=window,
        next_offset=offset + 1,
        accepted=track.accepted + 1,
        late=track.late + 1,
        pending=tuple(gap for gap in track.pending if gap not in split),
    )
    return merged, Late(index - is_full, _describe_gaps(track.window, *split))


def _refuse(
    track: Track, offset: int, code: str, message: str, suspects: bytes | None = None
) -> tuple[Track, Rejected]:
    kept = track.suspects if suspects is None else suspects
    noted = msgspec.structs.replace(track, next_offset=offset + 1, rejected=track.rejected + 1, suspects=kept)
    return noted, Rejected(Reject(code, message, "track"))


def _duplicate(track: Track, offset: int) -> tuple[Track, Duplicate]:
    noted = msgspec.structs.replace(track, next_offset=offset + 1, duplicates=track.duplicates + 1)
    return noted, _DUPLICATE
