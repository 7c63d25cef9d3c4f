"""Maps the columns of a table to the fields of a ping, by our names or by a map, and converts their values to the types
and units of these fields. It reads no file.

A map states which of your columns is which of ours, and the form of your times:

    t:s=timestamp,lat=y,lon=x,entity_id=vehicle        ours[:form]=yours

    t or t:ms            milliseconds since 1970 UTC, or a column of Arrow's timestamp type, of any unit
    t:us, t:ns           micro- and nanoseconds since 1970 UTC
    t:s                  seconds since 1970 UTC, whole or not
    t:rfc3339            text with its zone: 2026-11-25T13:22:48Z, 2026-11-25 14:22:48.5+01:00
    t:iso                the same with or without a zone: 2026-11-25 13:22:48
    t:%d.%m.%Y %H:%M:%S  text of any other format (strptime's); t:FORMAT=date+time joins two columns by a space

A time without a zone is of the time zone that goes with the map, else UTC.
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from stream.adapters.local_times import ISO, LocalTimes, check_format, find_zone
from stream.wire import Ping

FIELDS: Final = Ping.__struct_fields__
_TEXTS: Final = frozenset({"entity_id", "trip_id", "category", "source"})
_WHOLE: Final = frozenset({"ts", "sats", "received_ts"})
_REQUIRED: Final = ("entity_id", "ts", "lat", "lon")
DECIMAL_COMMA: Final = re.compile(r"\s*[+-]?\d*,\d+\s*")  # as Germans, French and many others write 30,29
_PER_MS: Final = {"us": 1_000, "ns": 1_000_000}

# The columns that a map may name, besides the fields of a ping.
NAMES: Final = ("entity_id", "traj_id", "mode")
TIMES: Final = ("t", "ts")
NUMBERS: Final = ("lat", "lon", "speed_mps", "heading_deg")
PER_S: Final = {"ms": 10**3, "s": 1, "us": 10**6, "ns": 10**9}  # the units of a number that is a time
_OURS: Final = (*NAMES, *TIMES, *NUMBERS)
_CLOCKS: Final = (*PER_S, "rfc3339", ISO)
_FORMAT: Final = "%"  # what a format of times has, and no other form of them


@dataclass(frozen=True)
class ColumnMap:
    """A file's names for our columns, the form of its times, and the zone of those that have none."""

    yours: tuple[tuple[str, str], ...] = ()  # (our name, the file's name); a column that is not listed has our name
    clock: str = "ms"
    zone: str = ""  # an IANA name; empty: UTC

    @classmethod
    def parse(cls, spec: str, besides: Sequence[str] = (), zone: str | None = None) -> ColumnMap:
        """Parses `ours[:form]=yours,...`, where ours may be one of `besides`, too.

        Raises ValueError, which shows the wrong part.
        """
        known = tuple(dict.fromkeys((*_OURS, *besides)))
        found: dict[str, str] = {}
        clock = "ms"
        for part in _split_parts(spec):
            left, equals, name = part.partition("=")
            ours, colon, form = left.strip().partition(":")
            ours = "t" if ours == "ts" else ours
            if not equals or not name.strip() or ours not in known or ours in found:
                raise ValueError(f"columns: {part.strip()!r} is not ours=yours, with ours once of {', '.join(known)}")
            if colon and (ours != "t" or not (form in _CLOCKS or _FORMAT in form)):
                clocks = ", ".join((*_CLOCKS, "a format such as %d.%m.%Y %H:%M:%S"))
                raise ValueError(f"columns: {part.strip()!r}: only t may be marked, as one of {clocks}")
            if _FORMAT in form:
                check_format(form)
            found[ours] = name.strip()
            clock = form or clock
        return cls(tuple(sorted(found.items())), clock).in_zone(zone)

    def in_zone(self, zone: str | None) -> ColumnMap:
        """Returns the map for times of that zone. Raises ValueError for a wrong one, or for times that are numbers."""
        if zone is None:
            return self
        find_zone(zone)
        if self.clock in PER_S and self.clock != "ms":
            raise ValueError(f"a time zone is for times that are text, and t:{self.clock} are numbers")
        return replace(self, zone=zone)

    @property
    def has_format(self) -> bool:
        """Returns whether times are text of a format of strptime."""
        return _FORMAT in self.clock

    def local_times(self) -> LocalTimes | None:
        """Returns what reads times that are text, for one reading of a file; None if it is left to the rules of a ping,
        which know RFC 3339."""
        if self.clock == ISO or self.has_format:
            return LocalTimes(self.clock, self.zone)
        return LocalTimes(ISO, self.zone) if self.zone else None

    def __str__(self) -> str:
        """Returns the map in one spelling, independent of the given order; empty if it names nothing."""
        return ",".join([*self._parts(), *([f"zone={self.zone}"] if self.zone else [])])

    def _parts(self) -> list[str]:
        return [f"{ours}:{self.clock}={yours}" if ours == "t" else f"{ours}={yours}" for ours, yours in self.yours]

    def options(self) -> str:
        """Returns the options of a command line that give this map, quoted for a shell."""
        columns = [f"--columns {shlex.quote(','.join(self._parts()))}"] if self.yours else []
        return " ".join([*columns, *([f"--timezone {shlex.quote(self.zone)}"] if self.zone else [])])


def map_of(columns: str | None, zone: str | None, besides: Sequence[str] = FIELDS) -> ColumnMap | None:
    """Returns the map that the two options of a command line give; None without them. Raises ValueError."""
    if columns is not None:
        return ColumnMap.parse(columns, besides, zone)
    return None if zone is None else ColumnMap().in_zone(zone)


def _split_parts(spec: str) -> list[str]:
    """Splits a map at its commas, but for those within a format: `t:%d.%m.%Y, %H:%M=time` is one part."""
    parts: list[str] = []
    for piece in spec.split(","):
        if parts and _FORMAT in parts[-1] and "=" not in parts[-1]:
            parts[-1] += f",{piece}"
        else:
            parts.append(piece)
    return parts


def parts_of(name: str, present: Sequence[str]) -> tuple[str, ...]:
    """Returns the columns whose texts make the value, joined by spaces: `date+time` are two, unless it is the name of
    one."""
    return (name,) if name in present else tuple(part.strip() for part in name.split("+"))


def find_columns(
    path: Path,
    present: Sequence[str],
    columns: ColumnMap | None,
    fields: Sequence[str] = FIELDS,
    times: Sequence[str] = ("ts", "t"),
) -> dict[str, str]:
    """Returns the file's column for each of these fields, of which its time is `ts`; the first of `times` that is there
    is that of the time. Raises ValueError, which names what is missing."""
    column = {name: name for name in fields if name in present}
    if (time := next((name for name in times if name in present), None)) is not None:
        column["ts"] = time
    has = f"it has {', '.join(present) or 'none'}"
    for ours, yours in columns.yours if columns else ():
        if any(part not in present for part in parts_of(yours, present)):
            raise ValueError(f"{path}: no column {yours} (for {ours}); {has}")
        column |= {field: yours for field in ("ts" if ours == "t" else ours,) if field in fields}
    missing = ["t (or ts)" if name == "ts" else name for name in _REQUIRED if name not in column]
    if missing:
        hint = "--columns maps names, and porto:FILE or ais:FILE names a format"
        raise ValueError(f"{path}: no column {', '.join(missing)}; {has} ({hint})")
    return column


def columns_of(place: dict[str, str], present: Sequence[str]) -> list[str]:
    """Returns the file's columns to read. One may have two of our names: entity_id=trip,trip_id=trip."""
    return list(dict.fromkeys(part for name in place.values() for part in parts_of(name, present)))


def milliseconds(value: Any, columns: ColumnMap | None) -> Any:
    """Converts a number in the map's unit to milliseconds. Other values are left as they are, for `clean` to reject."""
    clock = columns.clock if columns else "ms"
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return value
    if clock == "s":
        return round(value * 1000)
    return int(value // _PER_MS[clock]) if clock in _PER_MS else value


def arrow_values(name: str, column: Any) -> list[Any]:
    """Returns a column as Python values of the field's type, or as they are if Arrow cannot cast them."""
    import pyarrow as pa
    from pyarrow import compute

    if pa.types.is_floating(column.type) and name in _WHOLE:  # NaN marks an absent value, and no integer can be NaN
        column = compute.if_else(compute.is_nan(column), pa.scalar(None, column.type), column)
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("ms"), safe=False).cast(pa.int64())
    wanted = {"valid": pa.bool_(), "attrs": column.type}.get(name, pa.float64())
    if name in _TEXTS:
        wanted = pa.string()
    elif name in _WHOLE:
        wanted = column.type if name == "ts" else pa.int64()
    with suppress(pa.ArrowInvalid, pa.ArrowNotImplementedError):
        column = column.cast(wanted)
    return list(column.to_pylist())


def cell(field: str, text: str) -> Any:
    """Converts the text of a cell to the field's type; returns the text if it cannot."""
    text = text.strip()
    if field in _TEXTS:
        return text
    if field == "valid":
        return {"true": True, "false": False, "1": True, "0": False}.get(text.lower(), text)
    if DECIMAL_COMMA.fullmatch(text) and field != "ts":
        text = text.replace(",", ".")
    for number in (int, float) if field in _WHOLE else (float,):
        try:
            return number(text)
        except ValueError:
            continue
    return text
