"""Scores published forecasts against later pings, as a subscriber would use them.

It reads a forecast at the target's real time (stream.wire.positions). Each forecast has up to one pair per target:
`next` is the entity's next ping; 60, 300 and 900 s are its ping nearest to t + h, if within 20 % of h. Three baselines
get the same pairs: constant velocity continues as between the last two pings, damped velocity does so ever more slowly,
and stay does not move.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from stream.wire.messages import Anchor, Forecast
from stream.wire.positions import EARTH_RADIUS_M, position, turn

HORIZONS_S = (60, 300, 900)
TOLERANCE = 0.2  # as in the evaluation (train/README.md): the ping nearest to t + h within 20 %
REACH_S = HORIZONS_S[-1] * (1 + TOLERANCE)  # a next ping later than this is after a silence, and no step
TARGETS = ("next", *(str(h) for h in HORIZONS_S))
DAMPING_S = 200.0  # time constant of the decay of velocity, as in the evaluation's damped velocity


class Errors(NamedTuple):
    """The distances in metres from the target ping, for the four ways to predict it."""

    model: float
    constant_velocity: float
    damped_velocity: float
    stay: float


def score(forecasts: Iterable[Forecast], tracks: Mapping[str, Sequence[Anchor]]) -> dict[str, list[Errors]]:
    """Returns all pairs by target. `tracks` holds each entity's real pings, in time order, one per time."""
    pairs: dict[str, list[Errors]] = {name: [] for name in TARGETS}
    times = {entity: [ping.ts for ping in track] for entity, track in tracks.items()}
    for forecast in forecasts:
        track, ts = tracks[forecast.entity_id], times[forecast.entity_id]
        here = bisect_left(ts, forecast.anchor.ts)
        if here == 0:
            continue  # constant velocity needs two pings: no pair for any predictor
        for name, target in _targets(track, ts, forecast.anchor.ts):
            pairs[name].append(errors(forecast, track[here - 1], target))
    return pairs


def errors(forecast: Forecast, before: Anchor, target: Anchor) -> Errors:
    """Returns the errors of one pair: `before` is the ping before the anchor, `target` a later one."""
    anchor = forecast.anchor
    ahead_s = (target.ts - anchor.ts) / 1000

    def off_m(place: tuple[float, float]) -> float:
        return distance_m(*place, target.lat, target.lon)

    return Errors(
        model=off_m(position(forecast, ahead_s)),
        constant_velocity=off_m(move_on(before, anchor, ahead_s)),
        damped_velocity=off_m(move_on(before, anchor, damped_s(ahead_s))),
        stay=off_m((anchor.lat, anchor.lon)),
    )


def move_on(before: Anchor, anchor: Anchor, seconds: float) -> tuple[float, float]:
    """Returns latitude and longitude after that many seconds at the velocity between two pings."""
    share = seconds * 1000 / (anchor.ts - before.ts)
    return anchor.lat + share * (anchor.lat - before.lat), anchor.lon + share * turn(anchor.lon - before.lon)


def damped_s(ahead_s: float) -> float:
    """Returns the seconds of undamped travel that equal `ahead_s` with a decaying velocity: damped velocity is
    `move_on` by them.
    """
    return -DAMPING_S * math.expm1(-ahead_s / DAMPING_S)


def distance_m(lat0: float, lon0: float, lat1: float, lon1: float) -> float:
    """Returns the great-circle distance (haversine) in metres between two points in degrees. A latitude may lie beyond
    a pole, as that of a forecast does."""
    phi0, phi1 = math.radians(lat0), math.radians(lat1)
    a = math.sin((phi1 - phi0) / 2) ** 2
    a += math.cos(phi0) * math.cos(phi1) * math.sin(math.radians(lon1 - lon0) / 2) ** 2
    return 2 * EARTH_RADIUS_M * math.asin(math.sqrt(min(1.0, max(0.0, a))))


def _targets(track: Sequence[Anchor], ts: Sequence[int], anchor_ts: int) -> Iterable[tuple[str, Anchor]]:
    after = bisect_right(ts, anchor_ts)
    if after == len(ts):
        return
    if ts[after] - anchor_ts <= REACH_S * 1000:
        yield "next", track[after]
    for horizon_s in HORIZONS_S:
        nearest = _nearest(ts, anchor_ts + horizon_s * 1000, after)
        if abs(ts[nearest] - anchor_ts - horizon_s * 1000) <= TOLERANCE * horizon_s * 1000:
            yield str(horizon_s), track[nearest]


def _nearest(ts: Sequence[int], wanted: int, first: int) -> int:
    """Returns the index, from `first` on, of the time nearest to `wanted`; the earlier of two equally near."""
    right = bisect_left(ts, wanted, first)
    if right == first:
        return first
    if right == len(ts) or wanted - ts[right - 1] <= ts[right] - wanted:
        return right - 1
    return right
