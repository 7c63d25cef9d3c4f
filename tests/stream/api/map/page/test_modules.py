"""The page's pure modules, run by Node: its regions are those of `stream.wire.positions`, its boxes cross the date
line, and its fleet glides, keeps ten minutes of track and forgets what is gone."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from node_page import run

from stream.client.regions import outline
from stream.wire.positions import radius2


def test_a_region_is_as_large_as_the_scorers() -> None:
    shares = [0.5, 0.9, 0.99]
    said = run(f"{shares}.map(geometry.squaredRadius)", "drawing/geometry.js")
    assert said == pytest.approx([radius2(share) for share in shares], rel=1e-3)


@pytest.mark.parametrize("cov_m2", [[900.0, 0.0, 100.0], [500.0, 300.0, 400.0], [400.0, -390.0, 400.0]])
def test_a_regions_ellipse_is_the_exported_outline(cov_m2: list[float]) -> None:
    said = run(f"geometry.ellipse({cov_m2}, 0.9)", "drawing/geometry.js")
    ring = outline(0.0, 0.0, (cov_m2[0], cov_m2[1], cov_m2[2]), 0.0, 0.9)[0]
    metres = [(math.radians(lon) * 6_371_008.8, math.radians(lat) * 6_371_008.8) for lon, lat in ring]
    for east_m, north_m in metres:  # each corner lies on the ellipse, whose axes are turned by the angle
        along = east_m * math.cos(said["angle"]) + north_m * math.sin(said["angle"])
        across = north_m * math.cos(said["angle"]) - east_m * math.sin(said["angle"])
        assert (along / said["longM"]) ** 2 + (across / said["shortM"]) ** 2 == pytest.approx(1.0, abs=0.01)


def test_a_place_is_where_it_was_after_the_way_to_the_map_and_back() -> None:
    lat, lon = run("geometry.degrees(...geometry.mercator(-33.86, 151.2))", "drawing/geometry.js")
    assert (lat, lon) == (pytest.approx(-33.86), pytest.approx(151.2))


def test_a_box_across_the_date_line_has_its_west_above_its_east() -> None:
    boxes = "[[170, -10, 200, 10], [-300, -10, 300, 10], [1, 2, 3, 4]]"
    said = run(f"{boxes}.map(geometry.boxText)", "drawing/geometry.js")
    assert [[float(side) for side in one.split(",")] for one in said] == [
        [170, -10, -160, 10], [-180, -10, 180, 10], [1, 2, 3, 4],
    ]  # fmt: skip


def test_a_hull_leaves_out_what_is_inside() -> None:
    said = run("geometry.hull([[0, 0], [4, 0], [2, 1], [4, 4], [0, 4], [2, 2]])", "drawing/geometry.js")
    assert sorted(map(tuple, said)) == [(0, 0), (0, 4), (4, 0), (4, 4)]


WAY = [[-60, 9, 9], [0, 0, 0], [50, 0, 5], [100, 0, 10], [200, 10, 10]]


def through(places: list[list[float]], ways: list[list[list[float]]]) -> Any:
    return run(f"branches.through({places}, {ways})", "drawing/branches.js")


def test_a_branch_goes_through_its_places_and_between_them_as_the_nearest_passage_did() -> None:
    """The passage is 1 to the left at the first place, and at the last on it."""
    places = [[0, 1, 0], [200, 10, 10]]
    far, short = [[s, x + 50, y] for s, x, y in WAY], WAY[:4]
    said = through(places, [far, WAY, short])
    assert said == [[0, 1, 0], [50, 0.75, 5], [100, 0.5, 10], [200, 10, 10]]
    assert through(places, [short]) == places, "straight, where none is known for so long"


def test_a_branch_that_went_slower_than_the_passage_keeps_to_its_way() -> None:
    """Its place at 100 s is where the passage was after 50 s already. By the times alone, the line left the street."""
    places = [[0, 0, 0], [100, 0, 5], [200, 10, 10]]
    assert through(places, [WAY]) == [[0, 0, 0], [100, 0, 5], [100, 0, 10], [200, 10, 10]]


ENTITY = """(ts, lat) => ({ id: "a", ts, lat, lon: 0, east_mps: 0, north_mps: 1, horizons: [], stale: false })"""


def fleet(script: str) -> Any:
    return run(f"((entity, fleet) => {{ {script} }})({ENTITY}, new fleet.Fleet())", "state/fleet.js")


def test_an_entity_glides_to_its_new_ping_in_the_time_that_pings_are_apart() -> None:
    places = fleet(
        """fleet.replace({ entities: [{ ...entity(1000, 0), track: [[1000, 0, 0]] }] }, 0);
        fleet.update({ updates: [entity(2000, 1)] }, 10_000);
        fleet.update({ updates: [entity(3000, 2)] }, 12_000);
        const mover = fleet.movers.get("a");
        return [12_000, 13_000, 14_000, 99_000].map((at) => mover.shownY(at));"""
    )
    begin, half, end, later = places
    assert begin > half > end, "north is up"
    assert half == pytest.approx((begin + end) / 2)
    assert end == later


def test_a_track_grows_by_new_pings_not_by_late_ones_and_keeps_ten_minutes() -> None:
    track = fleet(
        """fleet.replace({ entities: [{ ...entity(0, 0), track: [[0, 0, 0]] }] }, 0);
        for (const ts of [300_000, 600_000, 900_000, 800_000]) fleet.update({ updates: [entity(ts, 1)] }, ts);
        return fleet.movers.get("a").track.map((point) => point[0]);"""
    )
    assert track == [300_000, 600_000, 900_000]


def test_a_final_fill_replaces_the_provisional_one_and_a_retracted_one_goes() -> None:
    left = fleet(
        """fleet.replace({ entities: [entity(9000, 0)] }, 0);
        const fill = (from_ts, final, points) => ({ id: "a", from_ts, to_ts: from_ts + 1000, final, points });
        const points = [[1, 0, 0]];
        fleet.update({ fills: [fill(1, false, points), fill(2, false, points)] }, 1);
        fleet.update({ fills: [fill(1, true, points), fill(2, true, [])] }, 2);
        return [...fleet.fills.values()].map((one) => [one.from_ts, one.final]);"""
    )
    assert left == [[1, True]]


def test_what_is_gone_is_not_shown_and_a_snapshot_has_all_there_is() -> None:
    known = fleet(
        """const named = (id) => ({ ...entity(1, 0), id });
        fleet.replace({ entities: [named("a"), named("b"), named("c")] }, 0);
        fleet.update({ gone: ["a"] }, 1);
        const before = [...fleet.movers.keys()];
        fleet.replace({ entities: [named("c"), named("d")] }, 2);
        return [before, [...fleet.movers.keys()]];"""
    )
    assert known == [["b", "c"], ["c", "d"]]


def test_what_is_frozen_does_not_move_with_the_live_fleet() -> None:
    before, after = fleet(
        """fleet.replace({ entities: [{ ...entity(1, 0), track: [] }] }, 0);
        const frozen = fleet.frozen(5);
        const before = frozen.movers.get("a").shownY(6);
        fleet.update({ updates: [entity(2, 3)] }, 7);
        return [[before, 1], [frozen.movers.get("a").shownY(99_999), frozen.movers.get("a").entity.ts]];"""
    )
    assert before == after


def test_a_forecast_is_said_in_words() -> None:
    said = run(
        """words.sentence({ id: "bus 7", lat: 0, lon: 0, east_mps: 5, north_mps: 5, stale: false,
            horizons: [{ h_s: 60, lat: 0.01, lon: 0, cov_m2: [100, 0, 100] }] }, "km/h")""",
        "panels/words.js",
    )
    assert said == (
        "Entity bus 7. It is moving north-east at 25 km/h. In 1 minute: 1,113 m to the north, 90 % region 21 m around."
    )


def test_a_speed_is_told_in_the_unit_that_is_set() -> None:
    units = '["km/h", "mph", "knots", "m/s"]'
    assert run(f"{units}.map((unit) => words.speed(2.5, unit))", "panels/words.js") == [
        *("9 km/h", "5.6 mph", "4.9 knots", "2.5 m/s"),
    ]
    assert run(
        f"[words.speed(null, 'mph'), {units}.join() === Object.keys(words.SPEEDS).join()]", "panels/words.js"
    ) == [
        *("–", True),
    ]


def test_the_next_ping_is_told_from_now_on_and_one_that_did_not_come_is_late() -> None:
    said = run("[words.expected(33, 12_000), words.expected(33, 54_000), words.expected(null, 1)]", "panels/words.js")
    assert said == ["in 21 s", "21 s late", "–"]


def minute(number: int, n: int, mean_m: float, damped_m: float | None) -> dict[str, Any]:
    return {"ts": number * 60_000, "n": n, "mean_m": mean_m, "damped_m": damped_m}


def test_the_chart_joins_minutes_until_a_bin_has_enough_cases() -> None:
    """One far-off forecast at the beginning, and one at the end, once made all others a flat line at the bottom."""
    minutes = [minute(0, 1, 9_000.0, None), *(minute(m, 12, 500.0, 1_000.0) for m in range(1, 25))]
    said = run(f"chart.bins({json.dumps([*minutes, minute(25, 1, 7_000.0, 90_000.0)])})", "panels/chart.js")
    assert len(said) == 8
    assert all(one["n"] >= 30 for one in said)
    assert max(one["mean_m"] for one in said) < 1_000
    assert max(one["damped_m"] for one in said) < 4_000
    assert (said[0]["from"], said[-1]["to"]) == (0, 26 * 60_000), "all minutes are in it"


def test_both_curves_of_the_chart_are_of_the_same_cases() -> None:
    """Once the forecasts' curve was of all cases, and damped velocity's of those alone that it had an error for."""
    few = [minute(0, 28, 10.0, None), minute(1, 2, 40.0, 900.0)]
    some = [minute(2, 14, 10.0, None), minute(3, 16, 30.0, 100.0), minute(4, 1, 47.0, 900.0)]
    first, second = run(f"chart.bins({json.dumps([*few, *some])})", "panels/chart.js")
    assert (first["mean_m"], first["damped_m"]) == (12.0, None), "two cases are no mean of damped velocity"
    assert (second["n"], second["mean_m"]) == (17, 31.0), "the 14 have no error of damped velocity"
    assert second["damped_m"] == pytest.approx((16 * 100.0 + 900.0) / 17)


def test_half_a_day_of_minutes_is_drawn_as_few_enough_bins() -> None:
    minutes = [minute(m, 50, 10.0, 20.0) for m in range(720)]
    assert len(run(f"chart.bins({json.dumps(minutes)})", "panels/chart.js")) == 60


def test_a_map_whose_first_picture_is_on_its_way_is_connecting_and_not_away() -> None:
    """A large fleet's first snapshot takes seconds, and the page once said "Not connected" meanwhile."""
    said = run(
        """(() => {
            const parts = {};
            const part = () => ({ dataset: {}, addEventListener() {}, hidden: true });
            globalThis.document = { body: { dataset: {} }, getElementById: (id) => (parts[id] ??= part()) };
            globalThis.setInterval = () => 0;
            let at = 0;
            performance.now = () => at;
            const seen = new notices.Notices({});
            const told = (kind, laterMs) => {
                seen.connection({ kind, retryAt: null });
                at += laterMs;
                seen.connection({ kind, retryAt: null });
                const names = ["away", "connecting", "denied", "empty"];
                const shown = names.filter((name) => !parts[`notice-${name}`].hidden);
                return [parts.status.textContent, parts.notice.hidden, ...shown];
            };
            return [told("connecting", 100), told("connecting", 9_000), told("away", 0), told("live", 0)];
        })()""",
        "panels/notices.js",
    )
    assert said == [
        ["connecting", True],
        ["connecting", False, "connecting"],
        ["not connected", False, "away"],
        ["live", True],
    ]


def test_a_server_that_answers_again_is_connecting_until_its_first_event() -> None:
    kinds = run(
        """(() => {
            const sources = [];
            globalThis.EventSource = class {
                constructor() { this.heard = {}; sources.push(this); }
                addEventListener(name, hear) { this.heard[name] = hear; }
                close() {}
            };
            globalThis.setTimeout = () => 0;
            const kinds = [];
            const hear = { state: ({ kind }) => kinds.push(kind), snapshot() {}, delta() {}, fleet() {} };
            const told = new link.Link(hear);
            told.open("box", null);
            sources[0].heard.error();
            told.retry();
            sources[1].heard.open?.();
            sources[1].heard.snapshot({ data: "{}" });
            told.open("another", null);
            sources[1].heard.open?.();
            sources[2].heard.open?.();
            return kinds;
        })()""",
        "state/link.js",
    )
    assert kinds == ["away", "connecting", "live"], "and another box is no new connection"


def test_a_way_has_the_name_of_its_tile_and_octant_wherever_in_them_it_lies() -> None:
    """Ways of an atlas begin in tiles of zoom 19 (`stream.atlas.showing.ways`)."""
    side, lat, lon = 360 / 2**19, 30.27, -97.74
    within = (lon / 360 + 0.5) * 2**19 % 1
    begin = lon - (within - 0.5) * side  # the middle of a tile
    east, farther = [lat, begin, lat, begin + side], [lat, begin + 0.4 * side, lat + 0.1 * side, begin + 3 * side]
    north, beside = [lat, begin, lat + side, begin], [lat, begin + side, lat, begin + 2 * side]
    names = run(f"{json.dumps([east, farther, north, beside])}.map(streets.nameOf)", "drawing/streets.js")
    assert names[0] == names[1]
    assert len(set(names)) == 3
    x, y, octant = (int(part) for part in names[0].split(","))
    assert x == int((begin / 360 + 0.5) * 2**19)
    assert y == int((0.5 - math.asinh(math.tan(math.radians(lat))) / (2 * math.pi)) * 2**19)
    assert (octant, names[2].rsplit(",")[-1]) == (2, "0")


def test_streets_draw_themselves_from_the_most_travelled_one_outwards() -> None:
    """0 -> 1 -> 2 is one street and 7 -> 8 another, which is travelled more than the end of the first."""
    ways = [[0, 0, 0, 1, 9], [0, 7, 0, 8, 8], [0, 1, 0, 2, 1]]
    said = run(f"streets.inDrawingOrder({json.dumps(ways)})", "drawing/streets.js")
    assert said == [ways[0], ways[2], ways[1]]


def test_with_many_entities_in_view_only_the_one_under_the_pointer_has_a_region() -> None:
    said = run(
        """(() => {
            const drawn = [];
            const context = new Proxy({}, { get: (_, name) => () => drawn.push(name), set: () => true });
            const view = { left: 0, top: 0, world: 1e6, width: 800, height: 600 };
            const entity = { horizons: [{ lat: 30, lon: 10, cov_m2: [100, 0, 100] }] };
            return [false, true].map((wide) => {
                drawn.length = 0;
                forecasts.drawForecastLightly(context, view, entity, 0, 0, {}, wide);
                return [drawn.includes("ellipse"), drawn.includes("lineTo")];
            });
        })()""",
        "drawing/forecasts.js",
    )
    assert said == [[False, True], [True, True]]


def test_the_more_passed_the_brighter_is_a_street_and_its_head_points_ahead() -> None:
    said = run("streets.streetFeatures([[30, 10, 30, 10.01, 50], [30, 11, 30.01, 11, 2]], 50)", "drawing/streets.js")
    bright = [one["properties"]["bright"] for one in said if one["properties"]["kind"] == "way"]
    assert bright[0] == 1.0
    assert bright[1] == pytest.approx(math.log1p(2) / math.log1p(50))
    to_east, to_north = (one["geometry"]["coordinates"] for one in said if one["properties"]["kind"] == "head")
    assert to_east[1] == pytest.approx([10.005, 30]), "in the middle of its way"
    assert max(to_east[0][0], to_east[2][0]) < 10.005
    assert max(to_north[0][1], to_north[2][1]) < 30.005
