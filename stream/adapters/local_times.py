"""Reads the times of files that are text: of any format, and of a clock on the wall of some time zone.

A clock that is set back shows an hour twice. Which of the two a row means is said by the rows of its entity before it,
if they are in the order of time: the first, unless that would be before the last of them. A time that a clock never
showed, because it was set forward, is none.
"""

from __future__ import annotations

import difflib
import zoneinfo
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final

ISO: Final = "iso"  # the name of the form that is ISO 8601, with a zone or without
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MS: Final = timedelta(milliseconds=1)
_EXAMPLE: Final = datetime(2026, 1, 26, 15, 55, 12, tzinfo=UTC)


def check_format(form: str) -> None:
    """Raises ValueError unless `form` is a format of strptime that has a whole date."""
    try:
        read = datetime.strptime(_EXAMPLE.strftime(form), form)
    except ValueError as error:
        raise ValueError(f"{form!r} is no format of a time: {error}") from None
    if read.date() != _EXAMPLE.date():
        raise ValueError(f"{form!r} is no format of a time: it lacks a part of the date (%d.%m.%Y, %Y-%m-%d, ...)")


def find_zone(name: str) -> tzinfo:
    """Returns a time zone by its IANA name. Raises ValueError, which names similar ones, if there is none."""
    try:
        return zoneinfo.ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        near = difflib.get_close_matches(name, sorted(zoneinfo.available_timezones()), 3, 0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else "such as Europe/London, America/Chicago or UTC"
        raise ValueError(f"no time zone is called {name!r}: {hint}") from None


class LocalTimes:
    """Converts the times of one reading of a file, row by row in the file's order."""

    def __init__(self, form: str, zone: str = "") -> None:
        """Takes a format of strptime or ISO, and the time zone of times that have none: UTC if it is empty.

        Raises ValueError for a wrong one.
        """
        if form != ISO:
            check_format(form)
        self._form = form
        self._zone = find_zone(zone) if zone else UTC
        self._latest: dict[object, int] = {}  # by entity, in ms: the last time that was read

    def describe(self) -> str:
        """Returns how its times are written, for people."""
        return "as in 2026-11-25 13:22:48" if self._form == ISO else f"of the format {self._form}"

    def to_ms(self, text: str, entity: object) -> int | None:
        """Returns milliseconds since 1970 UTC; None for a text that is no time of this form."""
        text = text.strip()
        if self._form == ISO and text[4:5] != "-":  # a number would be a year, a month and a day without signs
            return None
        try:
            at = datetime.fromisoformat(text) if self._form == ISO else datetime.strptime(text, self._form)
        except ValueError:
            return None
        return self.local_ms(at, entity)

    def local_ms(self, at: datetime, entity: object) -> int | None:
        """Returns milliseconds since 1970 UTC; None for a local time that there never was."""
        if at.tzinfo is not None:
            ts_ms = (at - _EPOCH) // _MS
        else:
            first, second = (at.replace(tzinfo=self._zone, fold=fold) for fold in (0, 1))
            ahead, later = first.utcoffset(), second.utcoffset()
            assert ahead is not None
            assert later is not None
            if ahead < later:
                return None
            ts_ms = (at.replace(tzinfo=UTC) - ahead - _EPOCH) // _MS
            if ahead > later and ts_ms < self._latest.get(entity, ts_ms):
                ts_ms += (ahead - later) // _MS
        self._latest[entity] = ts_ms
        return ts_ms


def format_time(ts_ms: int, form: str, zone: str) -> str:
    """Returns the text of a time in a format of strptime, on the clock of that zone (UTC if it is empty)."""
    return (_EPOCH + ts_ms * _MS).astimezone(find_zone(zone) if zone else UTC).strftime(form)
