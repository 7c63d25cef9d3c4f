"""A feed becomes arrays: service days, clock changes, times that are missing, and feeds that are broken."""

from __future__ import annotations

import zipfile
from datetime import date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from stream.transit.schedule import Schedule, read_schedule
from stream.transit.schedule.days import ServiceDays, days_of

CHICAGO = ZoneInfo("America/Chicago")
FEED = {
    "agency.txt": "agency_id,agency_name,agency_url,agency_timezone\nA,A,http://a.example,America/Chicago\n",
    "stops.txt": "stop_id,stop_lat,stop_lon\ns1,30.00,-97.70\ns2,30.01,-97.70\ns3,30.02,-97.70\ns4,30.03,-97.70\n",
    "trips.txt": "route_id,service_id,trip_id\nr,weekday,t1\nr,weekday,t2\n",
    "stop_times.txt": "trip_id,arrival_time,departure_time,stop_id,stop_sequence\n"
    "t1,23:50:00,23:51:00,s1,10\nt1,,,s2,20\nt1,,,s3,30\nt1,24:06:00,24:06:00,s4,40\n"
    "t2,06:00:00,06:00:00,s1,1\n",
    "calendar.txt": "service_id,monday,tuesday,wednesday,thursday,friday,saturday,sunday,start_date,end_date\n"
    "weekday,1,1,1,1,1,0,0,20150302,20150313\n",
    "calendar_dates.txt": "service_id,date,exception_type\nweekday,20150307,1\nweekday,20150309,2\n",
}


def feed(tmp_path: Path, **changed: str | None) -> Path:
    """Writes a feed of two trips, with other files in the place of some, or without them."""
    path = tmp_path / "feed.zip"
    files = {**FEED, **{f"{name}.txt": text for name, text in changed.items()}}
    with zipfile.ZipFile(path, "w") as written:
        for name, text in files.items():
            if text is not None:
                written.writestr(f"folder/{name}", text)
    return path


def test_a_day_whose_clocks_change_begins_twelve_hours_before_its_noon() -> None:
    """On 8 March 2015 Chicago left out an hour of the night: that day's clock starts at 23:00 of the day before."""
    days = ServiceDays(CHICAGO, {})
    assert days.start_s(date(2015, 3, 8)) == datetime(2015, 3, 7, 23, tzinfo=CHICAGO).timestamp()
    assert days.start_s(date(2015, 3, 9)) == datetime(2015, 3, 9, tzinfo=CHICAGO).timestamp()


def test_calendar_and_exceptions_give_the_days_of_a_service(tmp_path: Path) -> None:
    running = days_of([dict(zip(*(line.split(",") for line in FEED["calendar.txt"].splitlines()), strict=True))], [])
    assert len(running["weekday"]) == 10
    exceptions = [
        {"service_id": "weekday", "date": "20150307", "exception_type": "1"},
        {"service_id": "weekday", "date": "20150309", "exception_type": "2"},
    ]
    assert date(2015, 3, 7) in days_of([], exceptions)["weekday"]
    assert date(2015, 3, 9) not in days_of([], exceptions)["weekday"]


def test_a_trip_after_midnight_belongs_to_the_day_before(tmp_path: Path) -> None:
    schedule = read_schedule(feed(tmp_path))
    trip = schedule.trips["t1"]
    at_s = datetime(2015, 3, 5, 0, 5, tzinfo=CHICAGO).timestamp()
    day = schedule.days.nearest("weekday", int(trip.departure_N[0]), int(trip.arrival_N[-1]), at_s)
    assert day == date(2015, 3, 4)


def test_times_that_are_missing_lie_evenly_between_those_that_are_there(tmp_path: Path) -> None:
    trip = read_schedule(feed(tmp_path)).trips["t1"]
    assert trip.arrival_N.tolist() == [85_800, 86_120, 86_440, 86_760]
    assert (trip.departure_N >= trip.arrival_N).all()
    assert trip.sequence_N.tolist() == [10, 20, 30, 40]


def test_a_trip_with_one_stop_is_none(tmp_path: Path) -> None:
    assert list(read_schedule(feed(tmp_path)).trips) == ["t1"]


def test_stops_of_a_trip_without_a_shape_lie_on_the_line_through_them(tmp_path: Path) -> None:
    schedule = read_schedule(feed(tmp_path))
    pattern = schedule.pattern(schedule.trips["t1"])
    assert np.diff(pattern.reached_N[1:]) == pytest.approx([1_112, 1_112], abs=1)
    assert pattern.path.length_m == pytest.approx(3_336, abs=2)
    assert (schedule.n_links, pattern.links_L.tolist()) == (3, [0, 1, 2])


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"stop_times": None}, "no GTFS feed, as stop_times.txt is not in it"),
        ({"agency": "agency_id,agency_timezone\nA,Mars/North\n"}, "Mars/North"),
        ({"trips": "route_id,trip_id\nr,t1\n"}, "service_id"),
        ({"stop_times": "trip_id,arrival_time,departure_time,stop_id,stop_sequence\nt1,x,x,s1,1\n"}, "broken GTFS"),
        ({"stop_times": "trip_id,arrival_time,departure_time,stop_id,stop_sequence\n"}, "no trip of the feed"),
    ],
)
def test_a_broken_feed_is_an_error_of_one_line_that_names_it(
    tmp_path: Path, changed: dict[str, str | None], told: str
) -> None:
    with pytest.raises(ValueError, match=told) as error:
        read_schedule(feed(tmp_path, **changed))
    assert str(error.value).startswith(str(tmp_path))
    assert "\n" not in str(error.value)


def test_what_is_no_zip_and_what_is_not_there_are_told(tmp_path: Path) -> None:
    (tmp_path / "text.zip").write_text("no zip")
    with pytest.raises(ValueError, match="not a zip"):
        read_schedule(tmp_path / "text.zip")
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_schedule(tmp_path / "absent.zip")


def test_the_fixture_is_read_from_a_folder_in_its_zip() -> None:
    schedule = read_schedule(Path(__file__).with_name("austin.zip"))
    assert isinstance(schedule, Schedule)
    assert len(schedule.trips) > 30
    assert all((np.diff(trip.arrival_N) >= 0).all() for trip in schedule.trips.values())
