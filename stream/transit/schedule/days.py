"""Counts the times of a schedule: from noon minus twelve hours of a service day, in the agency's time zone.

On the two days of a year when clocks change that is not midnight, and times may pass 24:00.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

HALF_DAY_S = 43_200


class ServiceDays:
    """The service days of one feed, and on which of them a service runs."""

    def __init__(self, zone: ZoneInfo, running: dict[str, set[date]]) -> None:
        self.zone = zone
        self._running = running
        self._starts_s: dict[date, int] = {}

    def start_s(self, day: date) -> int:
        """Returns the epoch second of noon minus twelve hours of the day."""
        if day not in self._starts_s:
            noon = datetime(day.year, day.month, day.day, 12, tzinfo=self.zone)
            self._starts_s[day] = int(noon.timestamp()) - HALF_DAY_S
        return self._starts_s[day]

    def runs(self, service: str, day: date) -> bool:
        """Returns whether a service runs on a day."""
        return day in self._running.get(service, ())

    def around(self, at_s: float) -> tuple[date, date, date]:
        """Returns the days before, of and after an epoch second, in the agency's time zone."""
        today = datetime.fromtimestamp(at_s, UTC).astimezone(self.zone).date()
        return today - timedelta(days=1), today, today + timedelta(days=1)

    def nearest(self, service: str, first_s: int, last_s: int, at_s: float) -> date:
        """Returns the service day whose run, from `first_s` to `last_s` of its clock, is nearest to an epoch second.

        Days on which the service runs go before others: a feed may be older than the recording.
        """
        around = datetime.fromtimestamp(at_s, UTC).astimezone(self.zone).date()
        days = [around + timedelta(days=n) for n in (0, -1, 1)]
        running = self._running.get(service, set())

        def distance(day: date) -> tuple[float, bool]:
            start_s = self.start_s(day)
            return max(0.0, start_s + first_s - at_s, at_s - start_s - last_s), day not in running

        return min(days, key=distance)


def days_of(calendar: list[dict[str, str]], exceptions: list[dict[str, str]]) -> dict[str, set[date]]:
    """Returns the days of each service, of the rows of calendar.txt and calendar_dates.txt."""
    running: dict[str, set[date]] = {}
    for row in calendar:
        first, last = day_of(row["start_date"]), day_of(row["end_date"])
        weekdays = [row[name].strip() == "1" for name in WEEKDAYS]
        span = (first + timedelta(days=n) for n in range((last - first).days + 1))
        running.setdefault(row["service_id"], set()).update(day for day in span if weekdays[day.weekday()])
    for row in exceptions:
        days = running.setdefault(row["service_id"], set())
        if row["exception_type"].strip() == "1":
            days.add(day_of(row["date"]))
        else:
            days.discard(day_of(row["date"]))
    return running


WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


def day_of(text: str) -> date:
    """Returns the day of YYYYMMDD. Raises ValueError for anything else."""
    text = text.strip()
    return date(int(text[:4]), int(text[4:6]), int(text[6:8]))
