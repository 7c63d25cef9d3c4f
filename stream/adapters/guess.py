"""Guesses what the columns of a table mean, by their names and by the values of its first rows.

A guess is only made where it is plain: a name that people give such a column, and values that agree with it. What is
not plain is left to `--columns`, and the error says what was seen.
"""

from __future__ import annotations

import csv
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, Final

from stream.adapters.column_names import PER_S, ColumnMap, cell, parts_of
from stream.adapters.csv_rows import open_text, split_header, unpacking
from stream.adapters.local_times import ISO, LocalTimes
from stream.wire.ping_rules import event_time_ms

ROWS: Final = 2_000  # that are looked at: enough for a date whose day is after the 12th in most files
SHOWN: Final = 3  # rows in an error
MOST_SHARE: Final = 0.9  # of the values that must agree with a guess: files have bad rows
_UNITS: Final = (("s", 10**8, 10**10), ("ms", 10**11, 10**13), ("us", 10**14, 10**16), ("ns", 10**17, 10**19))

# Words of columns' names, in lower case and without accents; Vehicle_Ref has two. The first of a field counts most.
_WORDS: Final = {
    "lat": "lat latitude breite breitengrad latitud latitudine gpslat y",
    "lon": "lon lng long longitude laenge lange laengengrad langengrad longitud longitudine gpslon gpslng gpslong x",
    "entity_id": "entity vehicle vehicleid veh bus busid car carid truck truckid van taxi taxiid cab tram train bike "
    "scooter ship vessel boat aircraft icao icao24 mmsi imei device deviceid tracker unit unitid asset assetid vrm "
    "plate registration kennzeichen fahrzeug fahrzeugid wagen vehicule vehiculo veicolo fleet driver courier rider "
    "user userid uid person animal individual tag collar object track trackid id name",
    "ts": "t ts timestamp datetime time fixtime gpstime basedatetime zeitstempel zeitpunkt zeit datumzeit datumuhrzeit "
    "when recorded reported at date datum fecha hora horodatage heure dataora",
    "heading_deg": "heading course bearing azimuth cog",
}
# Words of columns that are no such thing although they have a word of it: a vehicle's type, the time of an upload.
_OTHERS: Final = (
    "type model make class category status state speed lat lon latitude longitude version group color colour "
    "server received inserted updated uploaded zone timezone offset diff delta duration elapsed prev previous next"
)
_DATES: Final = ("date", "datum", "fecha", "day", "gpsdate", "localdate")
_CLOCKS: Final = ("time", "zeit", "uhrzeit", "hora", "heure", "clock", "timeofday", "gpstime", "localtime")

_DAYS: Final = (
    "%d.%m.%Y",
    "%d/%m/%Y",
    "%m/%d/%Y",
    "%d-%m-%Y",
    "%m-%d-%Y",
    "%Y-%m-%d",
    "%Y/%m/%d",
    "%Y.%m.%d",
    "%Y%m%d",
)
_SHORT_DAYS: Final = ("%d.%m.%y", "%d/%m/%y", "%m/%d/%y", "%d-%b-%Y", "%d %b %Y", "%d-%b-%y", "%b %d, %Y", "%b %d %Y")
_HOURS: Final = ("%H:%M:%S", "%H:%M:%S.%f", "%H:%M", "%I:%M:%S %p", "%I:%M %p", "%H.%M.%S", "%H%M%S")
_FORMATS: Final = tuple(
    f"{day}{between}{hour}" for day in (*_DAYS, *_SHORT_DAYS) for between in (" ", "T", ", ", "") for hour in _HOURS
)


class NotPlain(ValueError):
    """The columns of a table are not plain. The message is one line that says what was seen, and what would help."""


def guess_columns(path: Path, given: ColumnMap | None = None) -> ColumnMap:
    """Returns the names of a table's columns, those of `given` among them: those that our own names do not show are
    guessed. It equals `given`, or ColumnMap(), if there is nothing to guess.

    Raises NotPlain (a ValueError) if a column is missing, or its values could mean two things; OSError.
    """
    names, rows = _first_rows(path)
    if not any(names):
        raise NotPlain(f"{path}: Empty: it has no line with the names of columns")
    columns = {name: [row[at] for row in rows if at < len(row)] for at, name in enumerate(names)}
    return _Guess(path, names, columns, given or ColumnMap()).map()


def _first_rows(path: Path) -> tuple[list[str], list[Sequence[Any]]]:
    if path.suffix.lower() == ".parquet":
        import pyarrow as pa  # takes a tenth of a second, for which the other formats should not wait
        from pyarrow import parquet

        try:
            file = parquet.ParquetFile(path)
            batch = next(file.iter_batches(ROWS), None)
        except (pa.ArrowException, OSError) as error:
            raise ValueError(f"{path}: not a Parquet file, or damaged: {error}") from error
        names = list(file.schema_arrow.names)
        columns = [] if batch is None else [column.to_pylist() for column in batch.columns]
        return names, list(zip(*columns, strict=True))
    with unpacking(path), open_text(path) as file:
        delimiter, names = split_header(next((line for line in file if line.strip()), ""))
        return names, list(islice(_records(csv.reader(file, delimiter=delimiter)), ROWS))


def _records(reader: Iterator[list[str]]) -> Iterator[list[str]]:
    """Yields the records that have cells; one that cannot be read (a field of 128 KiB) is left out."""
    while True:
        try:
            row = next(reader, None)
        except csv.Error:
            continue
        if row is None:
            return
        if row:
            yield row


class _Guess:
    """Guesses from what is known of a table: its columns' names and their first values."""

    def __init__(
        self, path: Path, names: Sequence[str], columns: Mapping[str, Sequence[Any]], given: ColumnMap
    ) -> None:
        self._path, self._names, self._columns, self._given = path, names, columns, given
        self._taken = {part for _, yours in given.yours for part in parts_of(yours, names)}

    def map(self) -> ColumnMap:
        """Returns the whole map. Raises NotPlain."""
        found = dict(self._given.yours)
        for ours, people in _PEOPLES.items():
            if ours not in found and ours not in self._names:
                column = self._find(ours)
                if column is None:
                    raise self._not_plain(f"no column is plainly the {people} ({ours})")
                found[ours] = column
        clock = self._given.clock
        if "t" not in found or clock == "ms":
            found, clock = self._time(found)
        has_others = "heading_deg" in (*found, *self._names) or found == dict(self._given.yours)
        if not has_others and (column := self._find("heading_deg")) is not None:
            found["heading_deg"] = column
        zone = "" if clock in PER_S and clock != "ms" else self._given.zone  # numbers are in UTC anyway
        return ColumnMap(tuple(sorted(found.items())), clock, zone)

    def _time(self, found: dict[str, str]) -> tuple[dict[str, str], str]:
        """Returns the map with the column of the time, and its form."""
        named = found.get("t") or next((name for name in ("ts", "t") if name in self._names), None)
        is_there = named is not None and all(part in self._columns for part in parts_of(named, self._names))
        if named is not None and (not is_there or (named in self._columns and not _needs_form(self._columns[named]))):
            return found, "ms"
        if named is None:
            named = self._date_and_clock() or self._find("ts")
        if named is None:
            raise self._not_plain("no column is plainly the time (t)")
        parts = parts_of(named, self._names)
        values = [" ".join(map(str, cells)) for cells in zip(*(self._columns[part] for part in parts), strict=False)]
        forms = _forms(self._columns[named] if len(parts) == 1 else values)
        if not forms and named in ("ts", "t"):
            return found, "ms"  # its rows are rejects, each with its reason
        if not forms:
            shown = repr(next((value for value in values if str(value).strip()), ""))
            raise self._not_plain(f"column {named} has {shown}, which is no form of time that is known here")
        if len(forms) > 1:
            raise self._not_plain(f"column {named} has {values[0]!r}, which may be {' or '.join(forms)}")
        return {**found, "t": named}, forms[0]

    def _date_and_clock(self) -> str | None:
        """Returns two columns, a date and a time of the day, if that is how the table has its times."""
        date, clock = (
            next((name for name in self._names if "".join(_words(name)) in known), None) for known in (_DATES, _CLOCKS)
        )
        if (
            date is None
            or clock is None
            or date == clock
            or _forms(self._columns[date])
            or _forms(self._columns[clock])
        ):
            return None
        return f"{date}+{clock}"

    def _find(self, ours: str) -> str | None:
        """Returns the column whose name says most plainly that it is this field, if its values agree, and takes it;
        where no name says it, the only column whose values do. None if there is none."""
        agreeing = [name for name in self._names if name not in self._taken and _agrees(ours, self._columns[name])]
        ranked = sorted((rank, name) for name in agreeing if (rank := _rank(ours, name)) is not None)
        nameless = [name for name in agreeing if all(_rank(one, name) is None for one in _WORDS)]
        by_values = [
            name for name in nameless if ours == "ts" or (ours == "entity_id" and _repeats(self._columns[name]))
        ]
        column = ranked[0][1] if ranked else by_values[0] if len(by_values) == 1 else None
        if column is not None:
            self._taken.add(column)
        return column

    def _not_plain(self, what: str) -> NotPlain:
        shown = [
            ", ".join(str(values[row]) for values in self._columns.values() if row < len(values))
            for row in range(SHOWN)
        ]
        rows = "; ".join(row for row in shown if row) or "no row"
        return NotPlain(
            f"{self._path}: {what}. It has the columns {', '.join(self._names) or 'none'}; its first rows: {rows}. "
            "Say which is which: --columns 't:%d.%m.%Y %H:%M:%S=TIME,entity_id=ID,lat=LATITUDE,lon=LONGITUDE'"
        )


_PEOPLES: Final = {"lat": "latitude", "lon": "longitude", "entity_id": "vehicle's id"}
_WITHIN: Final = {"lat": (-90.0, 90.0), "lon": (-180.0, 180.0), "heading_deg": (-0.1, 360.1)}


def _agrees(ours: str, values: Sequence[Any]) -> bool:
    """Returns whether values may be those of this field. Nothing speaks against a column without values."""
    if ours == "ts":
        return bool(_forms(values))
    some = [cell(ours, str(value)) for value in values if not _is_empty(value)]
    if ours not in _WITHIN:
        return (len(some) > len(values) / 2 or not values) and not _counts_rows(some)
    low, high = _WITHIN[ours]
    within = sum(isinstance(value, float) and low <= value <= high for value in some)
    return within >= MOST_SHARE * len(some)


def _counts_rows(texts: Sequence[str]) -> bool:
    """Returns whether they are the numbers of rows, which belong to no vehicle."""
    if len(texts) < 3 or not all(text.isdigit() for text in texts):
        return False
    return all(int(after) == int(before) + 1 for before, after in pairwise(texts))


def _needs_form(values: Sequence[Any]) -> bool:
    """Returns whether the rules of a ping do not read these times; they know ms, s and RFC 3339."""
    some = [value for value in values if not _is_empty(value)]
    if not some or not isinstance(some[0], str):
        return False
    return sum(event_time_ms(cell("ts", value)) is not None for value in some) < MOST_SHARE * len(some)


def _forms(values: Sequence[Any]) -> list[str]:
    """Returns the forms of time in which nearly all values can be read: one, if it is plain."""
    some = [value for value in values if not _is_empty(value)]
    if not some:
        return []
    if all(hasattr(value, "isoformat") for value in some):
        return ["ms"]  # a column of times, as Parquet has them
    enough = MOST_SHARE * len(some)
    numbers = [cell("sats", str(value)) for value in some]
    for unit, low, high in _UNITS:
        if sum(isinstance(number, int | float) and low <= number < high for number in numbers) >= enough:
            return [unit]
    texts = [str(value).strip() for value in some]
    if sum(event_time_ms(text) is not None for text in texts if not text.isdigit()) >= enough:
        return ["rfc3339"]
    iso = LocalTimes(ISO)
    if sum(len(text) > len("2026-11-25") and iso.to_ms(text, None) is not None for text in texts) >= enough:
        return [ISO]
    return _formats(texts, enough)


def _formats(texts: Sequence[str], enough: float) -> list[str]:
    """Returns the formats of strptime that read nearly all texts. Of two that do, one with a time in order, or with a
    shorter span, is the one: days and months that are taken for each other jump."""
    fits = [form for form in _FORMATS if LocalTimes(form).to_ms(texts[0], None) is not None]
    found: dict[tuple[int | None, ...], str] = {}
    for form in fits:
        times = LocalTimes(form)
        read = tuple(times.to_ms(text, None) for text in texts)
        if sum(ts_ms is not None for ts_ms in read) >= enough:
            found.setdefault(read, form)
    if len(found) < 2:
        return list(found.values())
    spans = {
        form: max(known) - min(known)
        for read, form in found.items()
        if (known := [ms for ms in read if ms is not None])
    }
    shortest = sorted(spans, key=spans.__getitem__)
    return shortest[:1] if spans[shortest[0]] * 10 < spans[shortest[1]] else shortest


def _is_empty(value: Any) -> bool:
    return value is None or str(value).strip().lower() in ("", "null", "none", "nan", "na", "n/a")


def _rank(ours: str, name: str) -> tuple[bool, int, int] | None:
    """Returns how plainly a name says that it is this field, less for more plainly; None if it does not."""
    words, known = _words(name), _WORDS[ours].split()
    places = [known.index(word) for word in words if word in known]
    if not places:
        return None
    return not {*words}.isdisjoint({*_OTHERS.split()} - {*known}), min(places), len(words)


def _words(name: str) -> list[str]:
    """Returns the words of a name: of `VehicleRef`, `vehicle_ref` and `Vehicle ref` the same two."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return re.sub("(?<=[a-z0-9])(?=[A-Z])|[^A-Za-z0-9]+", " ", plain).lower().split()


def _repeats(values: Sequence[Any]) -> bool:
    """Returns whether the values may be names: texts with letters, few of them, each often."""
    some = [str(value) for value in values if not _is_empty(value)]
    return len(some) > 2 and len(set(some)) * 3 <= len(some) and all(re.search("[A-Za-z]", text) for text in some)
