"""Copies NDJSON with filled rows. The lines of the file are kept byte for byte: only filled rows have `filled`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec

from stream.adapters.column_names import ColumnMap
from stream.adapters.files import MARKS, LineMarks
from stream.commands.files.plan import FILLED, SIGMA, Cursor, FilledPoint
from stream.commands.files.times import like
from stream.wire.ping_rules import event_time_ms

_DIGITS: Final = 7  # of degrees: a centimetre


def sample(path: Path, columns: ColumnMap | None) -> Any:
    """Returns the first value that is a time, None if there is none."""
    with path.open("rb") as file:
        for line in file:
            found = _decode_marks(line.strip())
            if found is not None and event_time_ms(found.t if found.ts is None else found.ts) is not None:
                return found.t if found.ts is None else found.ts
    return None


def copy(path: Path, columns: ColumnMap | None, form: Any, cursor: Cursor, sink: BinaryIO) -> None:
    """Writes the file with the filled rows of the cursor's plan; `form` is what `sample` gave."""
    latest: dict[str, LineMarks] = {}
    row = 0
    with path.open("rb") as file:
        for line, text in enumerate(file, 1):
            sink.write(text)
            value = text.strip()
            if not value:
                continue
            bad = cursor.at(row, line)
            found = None if bad or not cursor.entities else _decode_marks(value)
            if found is not None and str(found.entity_id) in cursor.entities:
                latest[str(found.entity_id)] = found
            points = cursor.after(row)
            if points and not text.endswith(b"\n"):
                sink.write(b"\n")
            for point in points:
                known = latest.get(point.entity_id) or LineMarks(point.entity_id, form)
                sink.write(msgspec.json.encode(_filled_row(point, known)) + b"\n")
            row += 1


def _filled_row(point: FilledPoint, known: LineMarks) -> dict[str, Any]:
    """Returns a filled row whose id and time have the names and forms of an earlier row of its entity."""
    name, form = ("ts", known.ts) if known.ts is not None else ("t", known.t)
    return {
        "entity_id": known.entity_id,
        name: like(form, point.ts_ms),
        "lat": round(point.lat, _DIGITS),
        "lon": round(point.lon, _DIGITS),
        FILLED: True,
        SIGMA: point.sigma_m,
    }


def _decode_marks(value: bytes) -> LineMarks | None:
    try:
        return MARKS.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
