"""What is published of forecasts and of gap fills, on numbers worked by hand."""

from __future__ import annotations

import json

import msgspec
import numpy as np
import pytest

from model.api import Fill, Forecasts
from stream.config.settings import Settings
from stream.engine.answers import M_PER_DEG, Answered, Writer
from stream.engine.branches import write_branches
from stream.engine.rendering import gap_fill
from stream.kafka.records.record_columns import Records
from stream.tracks.fix import FIX, Fix
from stream.tracks.track import Gap
from stream.wire import CACHES, NO_TIME_MS, ModelRef, Record, loads_gapfill

START, END = Fix(0, 0, 1_799_990_000, 0, 0), Fix(40_000, 20_000, -1_799_990_000, 0, 0)  # across the date line
GAP = Gap(START, END, b"", b"", (10_000, 30_000), "silence")
RECORD = Record("pings", 0, 7, 50_000, b"bus-1", b"{}")


def published(lat: list[float], lon: list[float], cov_m2: list[tuple[float, float, float]]) -> bytes:
    fill = Fill(np.array(lat), np.array(lon), np.array(cov_m2).reshape(-1, 3), "model")
    gap = GAP._replace(times_ms=GAP.times_ms[: len(lat)])
    return gap_fill(RECORD, "bus-1", gap, "final", fill, ModelRef("tiny", "1"), Settings().topics).value or b""


def test_points_are_rounded_to_what_they_can_mean() -> None:
    raw = published([0.001000049, -0.00000001], [179.99950004, -179.9995], [(4.00004, -0.00001, 9.0), (1e-9, 0.0, 1.0)])
    first, second = loads_gapfill(raw).points
    assert (first.ts, first.lat, first.lon, first.cov_m2) == (10_000, 0.001, 179.9995, (4.0, 0.0, 9.0))
    assert (second.ts, second.lat, second.lon, second.cov_m2) == (30_000, 0.0, -179.9995, (0.0, 0.0, 1.0))
    assert b"-0.0," not in raw


def test_the_length_is_that_of_the_path_through_the_points() -> None:
    fill = loads_gapfill(published([0.001, 0.001], [180.0, -179.9995], [(1.0, 0.0, 1.0)] * 2))
    legs = [(0.001, 0.001), (0.0, 0.0005), (0.001, 0.0005)]  # degrees north and east
    assert fill.length_m == pytest.approx(M_PER_DEG * sum(np.hypot(*leg) for leg in legs), abs=0.006)


def test_the_largest_spread_is_in_whatever_direction_it_is() -> None:
    covs = [(4.0, 0.0, 9.0), (10.0, 9.0, 10.0), (1.0, 0.0, 1.0)]
    fill = loads_gapfill(published([0.001, 0.001], [180.0, 180.0], covs[:2]))
    assert fill.max_sigma_m == pytest.approx(np.sqrt(19.0), abs=0.006)


def test_a_fill_without_points_is_the_straight_line() -> None:
    fill = loads_gapfill(published([], [], []))
    assert (fill.points, fill.max_sigma_m) == ((), 0.0)
    assert fill.length_m == pytest.approx(M_PER_DEG * np.hypot(0.002, 0.002), abs=0.006)


def test_what_is_published_is_one_json_object() -> None:
    assert msgspec.json.decode(published([0.001], [180.0], [(1.0, 0.0, 1.0)]))["reason"] == "silence"


HORIZONS_S = (60.0, 300.0)
# Numbers that need rounding, each in its own way; the anchor and the next position are on both sides of the date line.
SAID = Forecasts(
    next_dt_s=np.array([30.0004]),
    next_en_m=np.array([[12.345, -0.004]]),
    next_lat=np.array([52.00000006]),
    next_lon=np.array([-179.9999]),
    next_cov_m2=np.array([[4.00004, -0.00001, 9.0]]),
    lat=np.array([[52.1, 52.2]]),
    lon=np.array([[179.9, -179.8]]),
    cov_m2=np.array([[[1.0, 2.0, 3.0], [4.0, 5.0, 6.00005]]]),
    fallback=np.array([False]),
    next_early_s=np.array([1.0]),
    next_late_s=np.array([90.0016]),
    atlas_pings=np.array([0]),
    branch_share=np.zeros((1, 3)),
    branch_lat=np.full((1, 3, 2), np.nan),
    branch_lon=np.full((1, 3, 2), np.nan),
)
INTEGERS = [name for name in Forecasts._fields if name not in ("fallback", "atlas_pings") and "branch" not in name]


def written(said: Forecasts, record: Record = RECORD) -> bytes:
    """The forecast for one ping that was fetched at 60,000 ms, begun 2.5 ms later, and answered 1.25 ms after that."""
    anchor = np.array([(40_000, 52_0000000, 1_799_999_000, 0, 0)], FIX)
    rows, ones = np.zeros(1, np.int64), np.ones(1, np.int64)
    cache = np.full(1, CACHES.index("hit"), np.int8)
    asked = Answered(rows, anchor, 9 * ones, 1_000 * ones, rows > 0, cache, rows, said)
    writer = Writer(HORIZONS_S, Settings().topics)
    (page,) = writer.write(Records.of([record]), [asked], [ModelRef("tiny", "1")], (60_000.0, 60_002.5, 60_003.75))
    ((_, value, _),) = page.read()
    assert value is not None
    return value


def test_each_number_of_a_forecast_is_rounded_and_in_its_place() -> None:
    found = msgspec.json.decode(written(SAID))
    assert found["anchor"] == {"ts": 40_000, "lat": 52.0, "lon": 179.9999}
    assert found["next"] == {
        **{"dt_s": 30.0, "d_east_m": 12.34, "d_north_m": 0.0, "d_lat": 1e-7, "d_lon": 0.0002},
        **{"cov_m2": [4.0, 0.0, 9.0], "dt_early_s": 1.0, "dt_late_s": 90.002},
    }
    assert found["horizons"] == [
        {"h_s": 60.0, "lat": 52.1, "lon": 179.9, "cov_m2": [1.0, 2.0, 3.0]},
        {"h_s": 300.0, "lat": 52.2, "lon": -179.8, "cov_m2": [4.0, 5.0, 6.0]},
    ]
    assert found["window"] == {"n": 9, "from_ts": 1_000, "to_ts": 40_000}
    assert found["latency_ms"] == {"ingest": 10_000.0, "queue": 2.5, "infer": 1.25}
    assert found["src"] == {"topic": "pings", "partition": 0, "offset": 7}
    assert (found["status"], found["cache"]) == ("ok", "hit")


def test_a_wait_that_the_clocks_make_negative_or_unknown_is_zero() -> None:
    for ts_ms in (61_000, NO_TIME_MS):
        assert msgspec.json.decode(written(SAID, RECORD._replace(timestamp_ms=ts_ms)))["latency_ms"]["ingest"] == 0.0


@pytest.mark.parametrize("name", INTEGERS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e18])
def test_a_number_that_no_integer_holds_is_refused(name: str, value: float) -> None:
    one = getattr(SAID, name).copy()
    one.flat[-1] = value
    with pytest.raises(ValueError, match="not finite, or too large"):
        written(SAID._replace(**{name: one}))


NAN = np.nan
LATS = [[52.00000006, 52.5], [51.9, 51.0], [NAN, NAN]]
LONS = [[179.99999996, -179.5], [180.0, -0.0], [NAN, NAN]]
# Of six forecasts: none, two branches, three, two of which less is known, one way with a share alone, two branches.
PARTED = SAID._make(np.repeat(column, 6, axis=0) for column in SAID)._replace(
    branch_share=np.array([[0, 0, 0], [0.666, 0.25, 0], [0.5, 0.3, 0.2], [0.7, 0.3, 0], [1, 0, 0], [0.8, 0.2, 0]]),
    branch_lat=np.array([np.full((3, 2), NAN), LATS, [*LATS[:2], LATS[0]], np.array(LATS) * [1, NAN], LATS, LATS]),
    branch_lon=np.array([np.full((3, 2), NAN), LONS, [*LONS[:2], LONS[0]], np.array(LONS) * [1, NAN], LONS, LONS]),
)


def place(h_s: float, lat: float, lon: float) -> dict[str, float]:
    return {"h_s": h_s, "lat": lat, "lon": lon}


def test_branches_are_written_where_passages_part_and_as_far_as_they_are_known() -> None:
    first = [place(60.0, 52.0000001, 180.0), place(300.0, 52.5, -179.5)]
    second = [place(60.0, 51.9, 180.0), place(300.0, 51.0, 0.0)]
    texts = [text.decode() for text in write_branches(HORIZONS_S, PARTED).each() if text is not None]
    assert [bool(text) for text in texts] == [False, True, True, True, False, True]
    assert all(text.startswith(',"branches":[') for text in texts if text)
    found = [json.loads("{" + text[1:] + "}")["branches"] for text in texts if text]
    shares = [[branch["share"] for branch in one] for one in found]
    assert shares == [[0.67, 0.25], [0.5, 0.3, 0.2], [0.7, 0.3], [0.8, 0.2]]
    places = [[branch["positions"] for branch in one] for one in found]
    assert places == [[first, second], [first, second, first], [first[:1], second[:1]], [first, second]]
    both = PARTED._make(column[[1, 5]] for column in PARTED)
    assert [text for text in write_branches(HORIZONS_S, both).each() if text] == [texts[1].encode(), texts[5].encode()]
    alone = write_branches(HORIZONS_S, SAID)
    assert alone.each() == [b""]
