"""Finds the passages nearest to a ping or a gap, and where each of them was when: the fast version of
`model.atlas.buckets.around`, and of `neighbours`, `ways` and `beside` in `model.atlas.asking`.

Shapes: J nearest passages, n passages of a bucket, S numbers of a signature.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.atlas import asking, branching, filling
from model.atlas import buckets as at
from model.atlas.published import NUMBERS, Published
from model.atlas.ways import IN_M, IN_S, ON_M, SPEED_MPS
from model.jit import compiled
from model.kinematics.geo import E7, M_PER_DEG, MIN_COS_LAT

J: Final = asking.NEAREST
TIMES_S: Final = asking.TIMES_S
W: Final = len(TIMES_S)
PER_S: Final = np.append(np.nan, 1 / np.diff(TIMES_S))  # [W] of the way to a place from the one before it
FAR: Final = np.inf
METRES_OF_E7: Final = M_PER_DEG / E7
_GRID_S: Final = 15.0
# For each multiple of _GRID_S after the first place, the first place that is not before it; at least the second.
_UPPER: Final = np.maximum(np.searchsorted(TIMES_S, np.arange(TIMES_S[0], TIMES_S[-1], _GRID_S)), 1)
_B: Final = asking.BESIDE
_IN_WEIGHTS2: Final = np.array(asking.IN_WEIGHTS) ** 2
_TILES: Final = float(1 << at.ZOOM)
_MASK: Final = (1 << at.ZOOM) - 1
_OCTANT: Final = (1 << at.OCTANT_BITS) - 1
_TURN: Final = 360 * E7
_RAD: Final = np.pi / 180.0
_PART: Final = 128  # passages of a bucket that are compared at a time
assert len(IN_S) == 3  # `_set_apart` has no loop over them
assert filling.MOST <= J
# The passages that are nearest to a ping or a gap, nearest first, and what is found of each. It is a record, because
# numba counts in every function who refers to an array, and that took longer than all the rest. Nobody counts who
# refers to a record: it has to lie in an array that the caller keeps.
NEAR: Final = np.dtype(
    [
        ("row", "<i8", J),
        ("place", "<i8", J),  # of its bucket
        ("mark", "<i4", J),  # -1 where there is none
        ("apart", "<f8", J),  # squared metres
        ("weight", "<f8", J),
        ("counts", "<f8", J),  # the weight, for one question; 0 where the answer is not known
        ("last", "<i8", J),  # of the places at asking.TIMES_S, that is known
        ("way", "<f8", (_B + 1, 2, J)),  # the first of these places, in metres from its own ping
        ("own", "<f8", (2, J)),  # where its own ping is
        ("begin", "<f8", (3, J)),  # when it was beside the ping or the gap's start, and where
        ("end", "<f8", (3, J)),  # when it was beside the gap's end, and where
        ("far", "<f8", J),  # from there, squared metres
        ("went", "<f8", (2, J)),  # for one question
        ("led", "<i8", J),  # which way on it goes, of those told apart; one more: elsewhere; -1: not known far enough
        ("led_weight", "<f8", branching.WAYS),
        ("led_by_many", "<i8", branching.WAYS),  # whether two vehicles or more go it
        ("candidate", "<f8", _PART),  # squared metres
    ],
    align=True,
)


def columns_of(version: Published) -> list[NDArray[Any]]:
    """Returns the columns of a version as they are asked: the signatures in one line."""
    columns: tuple[NDArray[Any], ...] = version._replace(signature=version.signature.reshape(-1))
    return [read_only(column) for column in columns]


def new_room() -> NDArray[Any]:
    return np.zeros(1, NEAR)


def read_only(column: NDArray[Any]) -> NDArray[Any]:
    """Returns a view that cannot be written to, as a mapped file cannot: numba compiles for one kind of arrays only."""
    view = np.ascontiguousarray(column).view()
    view.flags.writeable = False
    return view


@compiled
def find_nearest(  # type: ignore[no-untyped-def]
    bucket, stop, origin_e7, signature, mark, vehicle, me, fix, in_m, velocity_mps, i, near
):
    """Finds the passages nearest to a ping, and returns how many there are."""
    x, y, beside_x, beside_y = cells_around(fix)
    came_e, came_n = -in_m[i, 0, 0], -in_m[i, 0, 1]
    if np.hypot(came_e, came_n) < at.CAME_M:
        octant, other = np.int64(at.STILL), np.int64(at.STILL)
    else:
        turns = np.arctan2(came_e, came_n) * (4 / np.pi) + 0.5
        octant = np.int64(np.floor(turns))
        other = (octant + (-1 if turns - octant < 0.5 else 1)) % 8
        octant = octant % 8
    scale, count = east_scale(fix), 0
    for j in range(J):
        near.mark[j] = -1
    for tile_x in (x & _MASK, beside_x & _MASK):
        column = tile_x << at.COLUMN
        place = first_place(bucket, column | (min(y, beside_y) << at.OCTANT_BITS))
        last = column | (max(y, beside_y) << at.OCTANT_BITS) | at.STILL
        while place < len(bucket) and bucket[place] <= last:
            one = bucket[place] & _OCTANT
            if one in (octant, other):
                for part in range(stop[place - 1] if place else 0, stop[place], _PART):
                    some = min(stop[place] - part, _PART)
                    _set_apart(stop, origin_e7, signature, place, part, some, fix, scale, in_m, velocity_mps, i, near)
                    for j in range(some if len(vehicle) else 0):
                        if vehicle[part + j] == me:
                            near.candidate[j] = FAR
                    least = near.apart[J - 1] if count == J else FAR
                    for j in range(some):
                        if near.candidate[j] < least:
                            count = put(near, J, count, part + j, place, mark[part + j], near.candidate[j])
                            least = near.apart[J - 1] if count == J else FAR
            place += 1
    return count


@compiled
def _set_apart(  # type: ignore[no-untyped-def]
    stop, origin_e7, signature, place, part, some, fix, scale, in_m, velocity_mps, i, near
):
    """Sets how far apart from a ping some passages of a bucket are, from `part` on, squared: several at a time."""
    origin_e, origin_n = apart_m(fix, scale, origin_e7[place, 0], origin_e7[place, 1])
    a_e, a_n, b_e, b_n = in_m[i, 0, 0], in_m[i, 0, 1], in_m[i, 1, 0], in_m[i, 1, 1]
    c_e, c_n, v_e, v_n = in_m[i, 2, 0], in_m[i, 2, 1], velocity_mps[i, 0], velocity_mps[i, 1]
    of_a, of_b, of_c, of_v = _IN_WEIGHTS2[0], _IN_WEIGHTS2[1], _IN_WEIGHTS2[2], asking.SPEED_S**2
    begin = stop[place - 1] if place else 0
    # Unsigned: so numba asks of none whether it is negative.
    n, first = np.uint64(stop[place] - begin), np.uint64((NUMBERS - 1) * begin + part)
    for j in range(np.uint64(some)):
        k = first + j
        north, e = origin_n + signature[k] * METRES_OF_E7, origin_e + signature[k + n] * scale
        k += np.uint64(2) * n
        was_a = (e + signature[k] * IN_M - a_e) ** 2 + (north + signature[k + n] * IN_M - a_n) ** 2
        k += np.uint64(2) * n
        was_b = (e + signature[k] * IN_M - b_e) ** 2 + (north + signature[k + n] * IN_M - b_n) ** 2
        k += np.uint64(2) * n
        was_c = (e + signature[k] * IN_M - c_e) ** 2 + (north + signature[k + n] * IN_M - c_n) ** 2
        k += np.uint64(2) * n
        off_v = (signature[k] * SPEED_MPS - v_e) ** 2 + (signature[k + n] * SPEED_MPS - v_n) ** 2
        near.candidate[j] = e * e + north * north + of_a * was_a + of_b * was_b + of_c * was_c + of_v * off_v


@compiled
def put(near, most, count, row, place, mark, far):  # type: ignore[no-untyped-def]
    """Puts a passage where it belongs among the nearest. Returns how many there are."""
    if count == most and far >= near.apart[most - 1]:
        return count
    alike = 0
    for j in range(count):
        alike += near.mark[j] == mark
    if alike < asking.MOST_OF_ONE:
        count = min(count + 1, most)
        j = count - 1
    else:
        j = count - 1
        while near.mark[j] != mark:
            j -= 1
        if far >= near.apart[j]:
            return count
    while j > 0 and near.apart[j - 1] > far:
        near.row[j], near.place[j] = near.row[j - 1], near.place[j - 1]
        near.mark[j], near.apart[j] = near.mark[j - 1], near.apart[j - 1]
        j -= 1
    near.row[j], near.place[j], near.mark[j], near.apart[j] = row, place, mark, far
    return count


@compiled
def first_place(bucket, key):  # type: ignore[no-untyped-def]
    """Returns the first place whose bucket is not before a key: np.searchsorted, without a branch that a processor
    would have to guess."""
    place, many = np.uint64(0), np.uint64(len(bucket))
    while many > np.uint64(0):
        half = (many + np.uint64(1)) >> np.uint64(1)
        place += half if bucket[place + half - np.uint64(1)] < key else np.uint64(0)
        many -= half
    return np.int64(place)


@compiled
def cells_around(fix):  # type: ignore[no-untyped-def]
    """Returns the column and row of the cell of a FIX record, and of the nearest ones beside and above or below it."""
    lat = min(max(fix.lat_e7 / E7, -at.MAX_LAT_DEG), at.MAX_LAT_DEG) * _RAD
    column = (fix.lon_e7 / E7 / 360.0 + 0.5) * _TILES
    row = (0.5 - np.arcsinh(np.tan(lat)) / (2 * np.pi)) * _TILES
    x, y = np.int64(np.floor(column)), np.int64(np.floor(row))
    return x, y, x + (-1 if column - x < 0.5 else 1), y + (-1 if row - y < 0.5 else 1)


@compiled
def set_way(  # type: ignore[no-untyped-def]
    stop, origin_e7, signature, on, known, p, place, fix, scale, near, j
):
    """Sets where a passage of a bucket was at asking.TIMES_S, and where its own ping is, from a FIX record."""
    begin = stop[place - 1] if place else 0
    each, first = stop[place] - begin, (NUMBERS - 1) * begin + p
    e, north = apart_m(fix, scale, origin_e7[place, 0], origin_e7[place, 1])
    near.own[0, j], near.own[1, j] = e + signature[first + each] * scale, north + signature[first] * METRES_OF_E7
    near.way[0, 0, j], near.way[0, 1, j] = signature[first + 2 * each] * IN_M, signature[first + 3 * each] * IN_M
    for number in range(2, _B + 1):
        near.way[number, 0, j], near.way[number, 1, j] = on[p, number - 2, 0] * ON_M, on[p, number - 2, 1] * ON_M
    near.last[j] = known[p] + 1


@compiled
def set_beside(near, count):  # type: ignore[no-untyped-def]
    """Sets when some passages were nearest to the ping, where they were then, and how far apart, several at a time."""
    for j in range(count):
        near.far[j] = FAR
    for number in range(_B):
        from_s, each_s = TIMES_S[number], TIMES_S[number + 1] - TIMES_S[number]
        for j in range(count):
            a_e, a_n = near.way[number, 0, j], near.way[number, 1, j]
            d_e, d_n = near.way[number + 1, 0, j] - a_e, near.way[number + 1, 1, j] - a_n
            off_e, off_n = -near.own[0, j] - a_e, -near.own[1, j] - a_n
            share = min(max((off_e * d_e + off_n * d_n) / max(d_e * d_e + d_n * d_n, 1e-9), 0.0), 1.0)
            apart = (off_e - share * d_e) ** 2 + (off_n - share * d_n) ** 2
            nearer = (number < near.last[j]) & (apart < near.far[j])
            near.far[j] = apart if nearer else near.far[j]
            near.begin[0, j] = from_s + share * each_s if nearer else near.begin[0, j]
            near.begin[1, j] = a_e + share * d_e if nearer else near.begin[1, j]
            near.begin[2, j] = a_n + share * d_n if nearer else near.begin[2, j]


@compiled
def set_reached(on, p, near, j, to_e, to_n, gap_s):  # type: ignore[no-untyped-def]
    """Sets when a passage was nearest to the end of a gap, and where it was then, if that took about as long as the
    gap; returns how far apart they were, squared."""
    far, e, north = FAR, to_e - near.own[0, j], to_n - near.own[1, j]
    first_s, last_s = near.begin[0, j] + filling.QUICKEST * gap_s, near.begin[0, j] + filling.SLOWEST * gap_s
    for number in range(1, near.last[j]):
        from_s, to_s = TIMES_S[number], TIMES_S[number + 1]
        if to_s < first_s:
            continue
        if from_s > last_s:
            break
        low, high = 0.0, 1.0
        if first_s > from_s:
            low = (first_s - from_s) / (to_s - from_s)
        if last_s < to_s:
            high = (last_s - from_s) / (to_s - from_s)
        a_e, a_n = 0.0, 0.0
        if number > 1:
            a_e, a_n = on[p, number - 2, 0] * ON_M, on[p, number - 2, 1] * ON_M
        d_e, d_n = on[p, number - 1, 0] * ON_M - a_e, on[p, number - 1, 1] * ON_M - a_n
        length2 = max(d_e * d_e + d_n * d_n, 1e-9)
        share = min(max(((e - a_e) * d_e + (north - a_n) * d_n) / length2, low), high)
        there_e, there_n = a_e + share * d_e, a_n + share * d_n
        apart = (e - there_e) ** 2 + (north - there_n) ** 2
        if apart < far:
            far = apart
            near.end[0, j], near.end[1, j], near.end[2, j] = from_s + share * (to_s - from_s), there_e, there_n
    return far


@compiled
def place_at(on, near, j, at_s):  # type: ignore[no-untyped-def]
    """Returns where a passage was at a time of its known way."""
    upper = upper_of(at_s)
    share = (at_s - TIMES_S[upper - 1]) * PER_S[upper]
    low_e, low_n = place(on, near, j, upper - 1)
    high_e, high_n = place(on, near, j, upper)
    return low_e + (high_e - low_e) * share, low_n + (high_n - low_n) * share


@compiled
def upper_of(at_s):  # type: ignore[no-untyped-def]
    """Returns the first place of a way that is not before a time; the second at least, the last at most."""
    step = np.int64((at_s - TIMES_S[0]) / _GRID_S)
    upper = _UPPER[step] if step < len(_UPPER) else W - 1
    while upper < W - 1 and TIMES_S[upper] < at_s:
        upper += 1
    return upper


@compiled
def place(on, near, j, number):  # type: ignore[no-untyped-def]
    """Returns where a passage was at asking.TIMES_S[number]."""
    if number <= 1:
        return near.way[number, 0, j], near.way[number, 1, j]
    return on[near.row[j], number - 2, 0] * ON_M, on[near.row[j], number - 2, 1] * ON_M


@compiled
def east_scale(fix):  # type: ignore[no-untyped-def]
    """Returns the metres of 1e-7 degrees of longitude at a FIX record."""
    return METRES_OF_E7 * max(np.cos(np.radians(fix.lat_e7 / E7)), MIN_COS_LAT)


@compiled
def apart_m(fix, scale, lat_e7, lon_e7):  # type: ignore[no-untyped-def]
    """`geo.displacement_m` from a FIX record to a place."""
    d_lon = np.int64(lon_e7) - fix.lon_e7
    if abs(d_lon) > _TURN // 2:
        d_lon = (d_lon + _TURN // 2) % _TURN - _TURN // 2
    return d_lon * scale, (np.int64(lat_e7) - fix.lat_e7) * METRES_OF_E7
