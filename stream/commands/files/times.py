"""Writes a time in the form in which a file has its times. The forms are those that `stream.wire.ping_rules` reads."""

from __future__ import annotations

import math
import re
from datetime import timedelta
from typing import Any, Final

from stream.adapters.column_names import PER_S, ColumnMap
from stream.adapters.local_times import format_time
from stream.wire.ping_rules import SECONDS_BELOW

_NUMBER: Final = re.compile(r"-?\d+(?:\.(\d*))?")
_TEXT: Final = re.compile(r"\d{4}-\d\d-\d\d([Tt ])\d\d:\d\d:\d\d(?:\.(\d+))?([Zz]|[+-]\d\d:\d\d)?")
_MS_DIGITS: Final = 3  # of a second's fraction: a time has milliseconds


def like(sample: Any, ts_ms: int, columns: ColumnMap | None = None) -> Any:
    """Returns milliseconds since 1970 UTC in the form of `sample`: a number of the same unit and type, or a text.

    A text has as many decimals as the sample, and more where the time would not be exact. A sample that is no time
    gives RFC 3339 text.
    """
    if isinstance(sample, str):
        if columns is not None and columns.has_format:
            return format_time(ts_ms, columns.clock, columns.zone)
        text = sample.strip()
        if (number := _NUMBER.fullmatch(text)) is not None:
            return _digits(ts_ms, _unit(float(text), columns), len(number[1] or ""), dotted="." in text)
        return _text(ts_ms, _TEXT.fullmatch(text), columns.zone if columns else "")
    per_s = PER_S[_unit(sample, columns)]
    if isinstance(sample, float):
        return ts_ms / 1000 * per_s if per_s < 1000 else float(ts_ms * (per_s // 1000))
    return ts_ms * per_s // 1000


def unit_ms(sample: Any, columns: ColumnMap | None = None) -> int:
    """Returns of how many milliseconds the times of this form are whole multiples, as far as that shows: 1000 for whole
    seconds, 1 where any millisecond can be written."""
    if columns is not None and columns.has_format:
        return 1 if "%f" in columns.clock else 1000 if re.search("%[STXcs]", columns.clock) else 60_000
    if isinstance(sample, str):
        text = sample.strip()
        if (number := _NUMBER.fullmatch(text)) is not None:
            return _per_digit(len(number[1] or "")) if _unit(float(text), columns) == "s" else 1
        found = _TEXT.fullmatch(text)
        return 1 if found is None else _per_digit(len(found[2] or ""))
    if isinstance(sample, bool) or not isinstance(sample, int):
        return 1
    return 1000 if _unit(sample, columns) == "s" else 1


def _per_digit(decimals: int) -> int:
    return 1 if decimals >= _MS_DIGITS else 10 ** (_MS_DIGITS - decimals)


def _unit(value: float, columns: ColumnMap | None) -> str:
    """Returns the unit of a number that is a time: the map's, or by its size, as `clean` reads it."""
    clock = columns.clock if columns else "ms"
    if clock in PER_S and clock != "ms":
        return clock
    return "s" if math.isfinite(value) and abs(value) < SECONDS_BELOW else "ms"


def _digits(ts_ms: int, unit: str, decimals: int, *, dotted: bool) -> str:
    if unit != "s":
        whole = str(ts_ms * PER_S[unit] // 1000)
        return f"{whole}.{'0' * decimals}" if dotted else whole
    seconds, ms = divmod(ts_ms, 1000)
    fraction = _fraction(ms, decimals)
    return f"{seconds}.{fraction}" if fraction or dotted else str(seconds)


def _fraction(ms: int, decimals: int) -> str:
    """Returns the decimals of a second: at least so many, and as many as the milliseconds need."""
    exact = f"{ms:03}".rstrip("0")
    return exact.ljust(decimals, "0")


def _text(ts_ms: int, form: re.Match[str] | None, local: str) -> str:
    """Returns ISO 8601 text; of a form without a zone, the time of the zone `local` (UTC if it is empty)."""
    separator, decimals, zone = (form[1], len(form[2] or ""), form[3] or "") if form else ("T", 0, "Z")
    fraction = _fraction(ts_ms % 1000, decimals)
    layout = f"%Y-%m-%d{separator}%H:%M:%S{'.' + fraction if fraction else ''}{zone}"
    if not zone:
        return format_time(ts_ms, layout, local)
    ahead = timedelta() if zone in ("Z", "z") else timedelta(hours=int(zone[1:3]), minutes=int(zone[4:6]))
    return format_time(ts_ms + (-ahead if zone[0] == "-" else ahead) // timedelta(milliseconds=1), layout, "")
