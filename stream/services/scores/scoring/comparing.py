"""Compares one forecast with the pings of its entity: the protocol of the evaluation (train/README.md), on records.

The targets of a forecast are the entity's next ping, and for each horizon h the ping nearest to t + h among those
within 20 % of h. The record is read at the target's real time (stream.wire.positions). Damped velocity starts from the
same anchor and the ping before it, as far as that was known when the forecast came.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Final

from stream.wire import Anchor, Forecast, Outcome, Score
from stream.wire.positions import Ahead, covariance, mahalanobis2, offset_en_m, position, radius2
from stream.wire.scoring import TOLERANCE, damped_s, distance_m, move_on

INSIDE50: Final = radius2(0.5)
INSIDE90: Final = radius2(0.9)


def score(
    forecast: Forecast, before: Anchor | None, pings: Sequence[Anchor], times_ms: Sequence[int], longest_s: float
) -> Score:
    """Returns the score against the pings that are known, one per time and in the order of their times.

    A next ping is a step, not a silence, up to `longest_s` and 20 % after the anchor. Horizons beyond `longest_s` have
    no outcome.
    """
    ts = forecast.anchor.ts
    after = bisect_right(times_ms, ts)
    is_step = after < len(pings) and times_ms[after] - ts <= 1000 * longest_s * (1 + TOLERANCE)
    horizons = []
    for horizon in forecast.horizons:
        at = nearest(times_ms, ts, horizon.h_s, after) if horizon.h_s <= longest_s else None
        horizons.append(outcome(forecast, before, None if at is None else pings[at], horizon.h_s))
    return Score(
        forecast_id=forecast.forecast_id,
        entity_id=forecast.entity_id,
        anchor_ts=ts,
        model=forecast.model,
        atlas=forecast.atlas,
        status=forecast.status,
        next=outcome(forecast, before, pings[after] if is_step else None, None),
        horizons=tuple(horizons),
    )


def outcome(forecast: Ahead, before: Anchor | None, target: Anchor | None, h_s: float | None) -> Outcome:
    """Returns what came of one horizon, or of the next step: `target` is the ping that it is compared with, `before`
    the one before the anchor."""
    if target is None:
        return Outcome(h_s)
    anchor = forecast.anchor
    ahead_s = (target.ts - anchor.ts) / 1000
    lat, lon = position(forecast, ahead_s)
    error_en_m = offset_en_m(lat, lon, target.lat, target.lon, anchor.lat)
    surprise = mahalanobis2(error_en_m, covariance(forecast, ahead_s))
    damped = None if before is None else move_on(before, anchor, damped_s(ahead_s))
    return Outcome(
        h_s=h_s,
        dt_s=ahead_s,
        error_m=_centimetres(distance_m(lat, lon, target.lat, target.lon)),
        damped_error_m=None if damped is None else _centimetres(distance_m(*damped, target.lat, target.lon)),
        inside50=surprise <= INSIDE50,
        inside90=surprise <= INSIDE90,
    )


def _centimetres(metres: float) -> float:
    return round(metres, 2)


def nearest(times_ms: Sequence[int], ts: int, horizon_s: float, first: int) -> int | None:
    """Returns the index, from `first` on, of the time nearest to the horizon's, the earlier of two equally near; None
    if that is not within TOLERANCE of it.
    """
    wanted = ts + 1000 * horizon_s
    right = bisect_left(times_ms, wanted, first)
    near = [at for at in (right - 1, right) if first <= at < len(times_ms)]
    at = min(near, key=lambda index: abs(times_ms[index] - wanted), default=None)
    return None if at is None or abs(times_ms[at] - wanted) > TOLERANCE * 1000 * horizon_s else at
