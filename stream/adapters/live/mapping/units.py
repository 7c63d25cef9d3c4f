"""Converts values of a message to our units, from the units that a map states.

A number may be written as a text, as many devices do. A value that cannot be converted stays as it is, so that the
rules of the ping's field (`stream.wire.ping_rules`) refuse it, or drop it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from math import degrees, inf
from typing import Any, Final

from stream.adapters.live.parsed import FOOT_M, KMH_MPS, KNOT_MPS, MPH_MPS
from stream.wire.escape import shown
from stream.wire.ping_rules import SECONDS_BELOW

Convert = Callable[[Any], Any]

_NUMBER: Final = re.compile(r"\s*[+-]?[0-9]{1,20}(\.[0-9]{0,20})?([eE][+-]?[0-9]{1,3})?\s*")
_ZONE: Final = re.compile(r"(?:Z|z|([+-][0-9]{2}):?([0-9]{2}))$")
_HAS_TIME: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}")
_MS_OF: Final = {"s": 1_000.0, "ms": 1.0, "us": 1e-3, "ns": 1e-6}


def number(value: Any) -> Any:
    """Returns a number for a text that is one; anything else as it is."""
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        return float(value) if not value.strip().lstrip("+-").isdigit() else int(value)
    return value


def _of_numbers(convert: Callable[[float], float]) -> Convert:
    """Returns a conversion that leaves alone what is no number."""

    def convert_number(value: Any) -> Any:
        value = number(value)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return value
        try:
            return convert(value)
        except (OverflowError, ValueError):
            return inf

    return convert_number


def _multiply_by(factor: float) -> Convert:
    return _of_numbers(lambda value: value * factor)


def _divide_by(divisor: int) -> Convert:
    """Divides, as the quotient is the nearest number to the decimal fraction; a product with 1e-7 often is not."""
    return _of_numbers(lambda value: value / divisor)


def _convert_epoch(unit: str) -> Convert:
    """Converts a time since 1970 UTC to whole milliseconds."""
    factor = _MS_OF[unit]

    def convert(value: float) -> float:
        ms = round(value * factor)
        # Milliseconds before 1973 would pass for seconds. With a stated unit they are too old.
        return ms if ms >= SECONDS_BELOW else min(ms, 0)

    return _of_numbers(convert)


def _add_zone_colon(value: Any) -> Any:
    """Returns a time in RFC 3339, if only its zone lacks the colon. A number becomes a text that is no time."""
    if not isinstance(number(value), str):
        return f"{shown(value)}, a number" if isinstance(value, int | float | str) else value
    text: str = value.strip()
    zone = _ZONE.search(text)
    return f"{text[: zone.start()]}{zone[1]}:{zone[2]}" if zone is not None and zone[1] else text


def _assume_utc(value: Any) -> Any:
    """Returns a time in RFC 3339; one without a zone is in UTC."""
    text = _add_zone_colon(value)
    return f"{text}Z" if isinstance(text, str) and _HAS_TIME.match(text) and not _ZONE.search(text) else text


def _text(value: Any) -> Any:
    """Returns a whole number as its digits: trips are often numbered."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**18 else value


_TIME: Final[Mapping[str, Convert]] = {
    "auto": lambda value: value,  # s or ms since 1970, or RFC 3339, as `stream.wire.ping_rules` tells them apart
    **{unit: _convert_epoch(unit) for unit in _MS_OF},
    "rfc3339": _add_zone_colon,
    "utc": _assume_utc,
}
_PLACE: Final[Mapping[str, Convert]] = {
    "deg": number,
    "1e-5 deg": _divide_by(10**5),
    "1e-6 deg": _divide_by(10**6),
    "1e-7 deg": _divide_by(10**7),  # also known as E7
}
_SPEED: Final = {
    "m/s": number,
    "km/h": _multiply_by(KMH_MPS),
    "mph": _multiply_by(MPH_MPS),
    "knots": _multiply_by(KNOT_MPS),
    "cm/s": _divide_by(100),
}
_LENGTH: Final = {
    "m": number,
    "km": _multiply_by(1_000.0),
    "ft": _multiply_by(FOOT_M),
    "cm": _divide_by(100),
    "mm": _divide_by(1_000),
}
_COURSE: Final = {
    "deg": number,
    "0.01 deg": _divide_by(100),
    "0.1 deg": _divide_by(10),
    "rad": _of_numbers(lambda value: degrees(value) % 360.0),
}

# By field: the units that a map may state, the first of which needs no statement.
UNITS: Final[Mapping[str, Mapping[str, Convert]]] = {
    "entity_id": {"": lambda value: value},
    "ts": _TIME,
    "lat": _PLACE,
    "lon": _PLACE,
    "alt_m": _LENGTH,
    "speed_mps": _SPEED,
    "heading_deg": _COURSE,
    "accuracy_m": _LENGTH,
    "hdop": {"": number},
    "sats": {"": number},
    "valid": {"": lambda value: value},
    "received_ts": _TIME,
    "trip_id": {"": _text},
    "category": {"": _text},
    "source": {"": _text},
}
