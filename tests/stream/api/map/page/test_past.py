"""The fleet at a time that is over: where its entities are between the pings that the server tells."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from node_page import run

MODULES = ("state/past.js", "drawing/geometry.js")


def seen(track: list[list[float]], ahead: list[list[float]], times: list[int]) -> Any:
    """Latitude, longitude, heading and track of one entity at these times, one after the other."""
    told = {"id": "a", "ts": track[-1][0], "lat": track[-1][1], "lon": track[-1][2], "track": track, "ahead": ahead}
    return run(
        f"""(() => {{
            const fleet = new past.PastFleet({{ entities: [{json.dumps(told)}] }}, 0, 0);
            const mover = fleet.movers.get("a");
            return {times}.map((ms) => {{
                fleet.seek(ms);
                const [lat, lon] = geometry.degrees(mover.shownX(), mover.shownY());
                const {{ heading, moving, track }} = mover;
                return {{ lat, lon, heading, moving, track: track.map((point) => point[0]) }};
            }});
        }})()""",
        *MODULES,
    )


TRACK = [[0, 0.0, 10.0], [30_000, 0.0, 10.01], [60_000, 0.01, 10.01]]
AHEAD = [[90_000, 0.02, 10.01], [400_000, 0.02, 10.05]]


def test_between_two_pings_an_entity_is_on_the_way_from_one_to_the_other() -> None:
    """Whatever the order of the times: a time bar is moved to and fro."""
    middle, ahead, back = seen(TRACK, AHEAD, [15_000, 75_000, 15_000])
    assert middle == back
    assert (middle["lat"], middle["lon"]) == (pytest.approx(0, abs=1e-9), pytest.approx(10.005))
    assert (ahead["lat"], ahead["lon"]) == (pytest.approx(0.015, rel=1e-5), pytest.approx(10.01))
    assert (middle["heading"], ahead["heading"]) == (pytest.approx(math.pi / 2), pytest.approx(0))
    assert middle["moving"] is True


def test_its_track_ends_with_the_ping_that_it_goes_to() -> None:
    begin, later, last = seen(TRACK, AHEAD, [10, 60_000, 500_000])
    assert begin["track"] == [0, 30_000]
    assert later["track"] == [0, 30_000, 60_000, 90_000]
    assert last["track"] == [0, 30_000, 60_000, 90_000, 400_000]


def test_before_its_first_and_after_its_last_ping_it_stands() -> None:
    before, after = seen(TRACK, [], [-5_000, 70_000])
    assert (before["lat"], before["lon"]) == (pytest.approx(0, abs=1e-9), pytest.approx(10.0))
    assert (after["lat"], after["lon"]) == (pytest.approx(0.01), pytest.approx(10.01))
    assert after["moving"] is False


def test_during_a_long_silence_it_stays_where_it_was_last_seen() -> None:
    silent, going = seen(TRACK, AHEAD, [270_000, 340_000])
    assert silent["lon"] == pytest.approx(10.01)
    assert going["lon"] == pytest.approx(10.03)


def test_another_time_is_come_to_little_by_little_and_then_reached() -> None:
    times = run(
        "[0, 16, 33, 50, 2000].reduce((found, ms) => [...found, past.settled(found.at(-1), 10_000, ms)], [100_000])",
        "state/past.js",
    )
    assert times[1] == 100_000
    assert times == sorted(times, reverse=True)
    assert len(set(times)) == 5
    assert times[-1] == 10_000
