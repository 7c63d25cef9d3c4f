"""Compares two answers to the same input record: which fields must be equal, and how near the others must be. Pure.

These fields may differ after a correct takeover (all others must be equal):

    answer       field                       why it may differ
    all          when it was published       the log decides it
    forecast     latency_ms                  clocks
    forecast     cache: hit -> rebuilt       the new owner could not use the stored state, and rebuilt it
    forecast     next, horizons              only once a state was rebuilt: it begins at the window's oldest ping, while
                                             a streamed one includes earlier pings, and their steps round differently
    forecast,    atlas.late                  a worker may have waited for its version in vain, and another one not
    gap fill
    gap fill     points, length_m,           as above; and always by the last digit, as the rows of a batch share one
                 max_sigma_m                 product of matrices
    dead letter  the headers version         another release may have written it, with other words
                 and message

The header traceparent is nobody's promise: which pings are traced is an option of the worker that answers them.

So numbers are compared to the bit while no state was rebuilt. A late ping rebuilds the state, too (then `cache` is
"rebuilt" in both). A new session starts with a new state (`cache` is "none").

How far a rebuilt state moves a forecast was measured on 25 November 2026 with the weights `small` in bfloat16 on 432
Austin buses, at 12 moments of 80,000 pings. It is equal to the bit while its window contains the whole session. The
others (550 of 5,184) moved, in units of the forecast's own sigma, by 1.0 % in the median and 5.9 % at most (52 m at 15
minutes), the variance by 9 % at most, the time of the next step by 0.5 %. A ping that is missing from the state's last
ten moves a forecast about as far, and shows in `window`, which must be equal.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from hashlib import blake2b
from typing import Final, NamedTuple

import msgspec

from stream.tracing import TRACEPARENT
from stream.wire import (
    ERROR_HEADER_PREFIX,
    Anchor,
    AtlasRef,
    Branch,
    Forecast,
    GapFill,
    GapPoint,
    Horizon,
    Latency,
    Outgoing,
    Record,
    Src,
    context_of,
    dumps,
)
from stream.wire.ids import forecast_id
from stream.wire.positions import rms_sigma_m
from stream.wire.scoring import distance_m

DEFAULT_M: Final = 0.02  # two units of the last published digit of a distance
SHARE_STEP: Final = 0.011  # somewhat more than the last published digit of a share
WORDS: Final = (f"{ERROR_HEADER_PREFIX}version", f"{ERROR_HEADER_PREFIX}message")  # a dead letter's headers for people
_INSTANT: Final = Latency(0.0, 0.0, 0.0)
_NOWHERE: Final = Src("", 0, 0)


class Tolerance(NamedTuple):
    """States how far numbers may be apart: metres, plus fractions of the forecast's own sigma, variance and time."""

    metres: float = DEFAULT_M
    of_sigma: float = 0.1
    of_variance: float = 0.2
    of_time: float = 0.02

    def rounding(self) -> Tolerance:
        """Returns how far float sums in another order may move numbers if no state was rebuilt."""
        return Tolerance(self.metres, 0.001, 0.001, 0.0)


def digest(*parts: bytes | None) -> int:
    """Returns a 64-bit hash of the parts. None and an empty part differ."""
    hashed = blake2b(digest_size=8)
    for part in parts:
        hashed.update(b"-" if part is None else b"+%d:" % len(part) + part)
    return int.from_bytes(hashed.digest(), "little")


def digest_forecast(key: bytes | None, forecast: Forecast) -> int:
    """Returns the digest of everything that must be equal in a forecast whose state was not rebuilt."""
    bare = msgspec.structs.replace(forecast, cache="hit", latency_ms=_INSTANT, src=_NOWHERE)
    return digest(key, dumps(bare))


def digest_anchor(key: bytes | None, entity_id: str, anchor: Anchor) -> int:
    """Returns the digest of what must be right in a forecast without its entity's stored state: the ping it answers."""
    return digest(key, entity_id.encode(), repr(anchor).encode())


def digest_gapfill(key: bytes | None, fill: GapFill) -> int:
    """Returns the digest of a gap fill. Where it asked no version, no atlas is named by workers without --atlases."""
    version = version_of(fill)
    atlas = None if fill.atlas is None or version is None else msgspec.structs.replace(fill.atlas, late=False)
    return digest(key, dumps(msgspec.structs.replace(fill, atlas=atlas)))


def version_of(fill: GapFill) -> str | None:
    """Returns the version of the atlas that a gap fill asked; None if it asked none."""
    return None if fill.atlas is None else fill.atlas.version


def as_published(answer: Outgoing) -> Record:
    """Returns an answer as its reader sees it, apart from its place."""
    return Record(answer.topic, -1, -1, -1, answer.key, answer.value, answer.headers)


def digest_letter(letter: Record) -> int:
    """Returns the digest of a dead letter: the record's key, value and headers, and the context that programs use."""
    kept = [one for one in letter.headers if one[0] not in WORDS and one[0].lower() != TRACEPARENT]
    headers = [part for name, value in kept for part in (name.encode(), value)]
    return digest(letter.key, letter.value, *headers)


def forecast_difference(
    due: Forecast, found: Forecast, tolerance: Tolerance | None, *, alike: bool = True
) -> str | None:
    """Returns why two forecasts differ, in words; None if they do not. Without a tolerance, numbers must be equal.

    The numbers of forecasts of different models are not compared, nor those of different versions of the atlas: then
    `alike` is False.
    """
    for name in ("entity_id", "anchor", "window", "status"):
        if getattr(due, name) != getattr(found, name):
            return f"{name} is {_shown(getattr(found, name))}, expected {_shown(getattr(due, name))}"
    if found.model != due.model:
        return None
    version = None if found.atlas is None else found.atlas.version
    due_id = due.forecast_id if alike else forecast_id(due.entity_id, due.anchor.ts, due.model.version, version)
    if found.forecast_id != due_id:
        return f"forecast_id is {found.forecast_id}, expected {due_id}"
    if [h.h_s for h in found.horizons] != [h.h_s for h in due.horizons]:
        return (
            f"horizons are {_spans(found.horizons)} s, expected {_spans(due.horizons)} s: is --horizons the worker's?"
        )
    if not alike:
        return None
    if _far_pings(due.atlas, found.atlas, tolerance):
        return f"atlas is {_shown(found.atlas)}, expected {_shown(due.atlas)}"
    if _far_branches(due.branches or (), found.branches or (), tolerance):
        return f"branches are {_shown(found.branches)}, expected {_shown(due.branches)}"
    if found.next.dt_early_s is None:  # from a release without these fields, how early and late the next ping may be
        due = msgspec.structs.replace(due, next=msgspec.structs.replace(due.next, dt_early_s=None, dt_late_s=None))
    if tolerance is None:
        same = (found.next, found.horizons) == (due.next, due.horizons)
        return None if same else f"numbers differ by {_worst_m(due, found):g} m at most, though no state was rebuilt"
    return _far_step(due, found, tolerance) or _far_horizon(due, found, tolerance)


def gapfill_difference(due: GapFill, found: GapFill, tolerance: Tolerance) -> str | None:
    """Returns why two gap fills differ, in words; None if they do not. The numbers of different models are not
    compared, nor those of different versions of the atlas."""
    for name in ("entity_id", "start", "end", "reason", "issued_ts"):
        if getattr(due, name) != getattr(found, name):
            return f"{name} is {_shown(getattr(found, name))}, expected {_shown(getattr(due, name))}"
    if [point.ts for point in found.points] != [point.ts for point in due.points]:
        return f"{len(found.points)} points at other times than the {len(due.points)} expected"
    if found.model != due.model or version_of(found) != version_of(due):
        return None
    if version_of(due) is not None and _far_pings(due.atlas, found.atlas, tolerance):
        return f"atlas is {_shown(found.atlas)}, expected {_shown(due.atlas)}"
    if found.method != due.method:
        return f"method is {found.method}, expected {due.method}"
    for one, other in zip(due.points, found.points, strict=True):
        if (far := _far(one, other, tolerance)) is not None:
            return f"the point at {one.ts} {far}"
    sigma_m = due.max_sigma_m
    if abs(found.max_sigma_m - sigma_m) > tolerance.metres + tolerance.of_variance * sigma_m:
        return f"max_sigma_m is {found.max_sigma_m}, expected {sigma_m}"
    if abs(found.length_m - due.length_m) > (len(due.points) + 1) * (
        2 * tolerance.metres + tolerance.of_sigma * sigma_m
    ):
        return f"length_m is {found.length_m}, expected {due.length_m}"
    return None


def letter_difference(due: Record, found: Record) -> str | None:
    """Returns why two dead letters differ, in words; None if they do not."""
    if (due.key, due.value) != (found.key, found.value):
        return "its key and value are not those of the record"
    came, expected = context_of(found.headers), context_of(due.headers)
    for name in (name for name in expected if ERROR_HEADER_PREFIX + name not in WORDS):
        if came.get(name) != expected[name]:
            return f"its {name} is {came.get(name)!r}, expected {expected[name]!r}"
    return None if digest_letter(due) == digest_letter(found) else "its headers are not those of the record"


def _far_step(due: Forecast, found: Forecast, tolerance: Tolerance) -> str | None:
    one, other = due.next, found.next
    if abs(one.dt_s - other.dt_s) > 0.002 + tolerance.of_time * one.dt_s:
        return f"next is in {other.dt_s} s, expected {one.dt_s} s"
    if _far_end(one.dt_early_s, other.dt_early_s, tolerance) or _far_end(one.dt_late_s, other.dt_late_s, tolerance):
        found_s, due_s = (f"{step.dt_early_s} to {step.dt_late_s}" for step in (other, one))
        return f"next is in {found_s} s nine times in ten, expected {due_s} s"
    sigma_m = rms_sigma_m(one.cov_m2)
    apart_m = math.hypot(one.d_east_m - other.d_east_m, one.d_north_m - other.d_north_m)
    if apart_m > tolerance.metres + tolerance.of_sigma * sigma_m:
        return f"next is {apart_m:.2f} m away from where it is expected (sigma {sigma_m:.1f} m)"
    far = _far(_ahead(due), _ahead(found), tolerance)
    return None if far is None else f"next {far}"


def _far_end(due_s: float | None, found_s: float | None, tolerance: Tolerance) -> bool:
    """Returns whether an end of the interval of the next ping's time differs too much. It depends on the logarithms of
    the expected time and of the last intervals, so it may move by more than the expected time itself."""
    if due_s is None or found_s is None:
        return due_s is not found_s
    return abs(due_s - found_s) > 0.01 + 4 * tolerance.of_time * due_s


def _far_pings(due: AtlasRef | None, found: AtlasRef | None, tolerance: Tolerance | None) -> bool:
    """Returns whether two forecasts rest on different numbers of passages. They depend on the expected time of the next
    ping, so those of a rebuilt state may differ a little."""
    if due is None or found is None or tolerance is None:
        return due != found
    return abs(found.pings - due.pings) > 1 + tolerance.of_time * due.pings


def _far_branches(due: Sequence[Branch], found: Sequence[Branch], tolerance: Tolerance | None) -> bool:
    """Returns whether two forecasts say that passages part in different ways. No state decides that, but the last digit
    of a number may differ."""
    if tolerance is None or len(due) != len(found):
        return due != found
    for one, other in zip(due, found, strict=True):
        places = [[place.h_s for place in branch.positions] for branch in (one, other)]
        if places[0] != places[1] or abs(one.share - other.share) > SHARE_STEP:
            return True
        pairs = zip(one.positions, other.positions, strict=True)
        if any(distance_m(a.lat, a.lon, b.lat, b.lon) > tolerance.metres for a, b in pairs):
            return True
    return False


def _far_horizon(due: Forecast, found: Forecast, tolerance: Tolerance) -> str | None:
    for one, other in zip(due.horizons, found.horizons, strict=True):
        if (far := _far(one, other, tolerance)) is not None:
            return f"{one.h_s:g} s ahead {far}"
    return None


def _ahead(forecast: Forecast) -> Horizon:
    """Returns the next step as a horizon, with absolute coordinates."""
    anchor, step = forecast.anchor, forecast.next
    return Horizon(step.dt_s, anchor.lat + step.d_lat, anchor.lon + step.d_lon, step.cov_m2)


def _far(one: Horizon | GapPoint, other: Horizon | GapPoint, tolerance: Tolerance) -> str | None:
    sigma_m = rms_sigma_m(one.cov_m2)
    apart_m = distance_m(one.lat, one.lon, other.lat, other.lon)
    if not apart_m <= tolerance.metres + tolerance.of_sigma * sigma_m:
        return f"is {apart_m:.2f} m away from where it is expected (sigma {sigma_m:.1f} m)"
    spread_m2 = max(abs(a - b) for a, b in zip(one.cov_m2, other.cov_m2, strict=True))
    if not spread_m2 <= tolerance.metres**2 + tolerance.of_variance * sigma_m**2:
        return f"has the covariance {other.cov_m2} m2, expected {one.cov_m2}"
    return None


def _worst_m(due: Forecast, found: Forecast) -> float:
    pairs = zip((_ahead(due), *due.horizons), (_ahead(found), *found.horizons), strict=True)
    return round(max(distance_m(one.lat, one.lon, other.lat, other.lon) for one, other in pairs), 3)


def _spans(horizons: Sequence[Horizon]) -> str:
    return ", ".join(f"{horizon.h_s:g}" for horizon in horizons)


def _shown(field: object) -> str:
    if isinstance(field, Anchor):
        return f"{field.lat}, {field.lon} at {field.ts}"
    if isinstance(field, msgspec.Struct):
        return ", ".join(f"{name} {item}" for name, item in msgspec.structs.asdict(field).items())
    return repr(field)
