"""Maps the columns of a table to the fields of a ping, by our names or by a map, and converts their values to the types
and units of these fields. It reads no file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from stream.wire import Ping

FIELDS: Final = Ping.__struct_fields__
_TEXTS: Final = frozenset({"entity_id", "trip_id", "category", "source"})
_WHOLE: Final = frozenset({"ts", "sats", "received_ts"})
_REQUIRED: Final = ("entity_id", "ts", "lat", "lon")
_PER_MS: Final = {"us": 1_000, "ns": 1_000_000}

# The columns that a map may name, besides the fields of a ping.
NAMES: Final = ("entity_id", "traj_id", "mode")
TIMES: Final = ("t", "ts")
NUMBERS: Final = ("lat", "lon", "speed_mps", "heading_deg")
PER_S: Final = {"ms": 10**3, "s": 1, "us": 10**6, "ns": 10**9}  # the units of a number that is a time
_OURS: Final = (*NAMES, *TIMES, *NUMBERS)
_CLOCKS: Final = (*PER_S, "rfc3339")


@dataclass(frozen=True)
class ColumnMap:
    """A file's names for our columns, and the form of its times."""

    yours: tuple[tuple[str, str], ...] = ()  # (our name, the file's name); a column that is not listed has our name
    clock: str = "ms"

    @classmethod
    def parse(cls, spec: str, besides: Sequence[str] = ()) -> ColumnMap:
        """Parses `ours[:what]=yours,...`, where ours may be one of `besides`, too.

        Raises ValueError, which shows the wrong part.
        """
        known = tuple(dict.fromkeys((*_OURS, *besides)))
        found: dict[str, str] = {}
        clock = "ms"
        for part in spec.split(","):
            left, equals, name = part.partition("=")
            ours, colon, what = left.strip().partition(":")
            ours = "t" if ours == "ts" else ours
            if not equals or not name.strip() or ours not in known or ours in found:
                raise ValueError(f"columns: {part.strip()!r} is not ours=yours, with ours once of {', '.join(known)}")
            if colon and (ours != "t" or what not in _CLOCKS):
                raise ValueError(f"columns: {part.strip()!r}: only t may be marked, as one of {', '.join(_CLOCKS)}")
            found[ours] = name.strip()
            clock = what or clock
        return cls(tuple(sorted(found.items())), clock)

    def __str__(self) -> str:
        """Returns the map in one spelling, independent of the given order; empty if it names nothing."""
        return ",".join(
            f"{ours}:{self.clock}={yours}" if ours == "t" else f"{ours}={yours}" for ours, yours in self.yours
        )


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
        if yours not in present:
            raise ValueError(f"{path}: no column {yours} (for {ours}); {has}")
        column |= {field: yours for field in ("ts" if ours == "t" else ours,) if field in fields}
    missing = ["t (or ts)" if name == "ts" else name for name in _REQUIRED if name not in column]
    if missing:
        hint = "--columns maps names, and porto:FILE or ais:FILE names a format"
        raise ValueError(f"{path}: no column {', '.join(missing)}; {has} ({hint})")
    return column


def columns_of(place: dict[str, str]) -> list[str]:
    """Returns the file's columns to read. One may have two of our names: entity_id=trip,trip_id=trip."""
    return list(dict.fromkeys(place.values()))


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
    for number in (int, float) if field in _WHOLE else (float,):
        try:
            return number(text)
        except ValueError:
            continue
    return text
