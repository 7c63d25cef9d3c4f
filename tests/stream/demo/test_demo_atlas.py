"""The demo's atlas is made of what was before the replay, and the model alone is asked the same pings."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from model.api import Atlas
from stream.adapters.recorded import recording
from stream.demo import atlas
from stream.demo.board import Board
from stream.demo.run import SAMPLE, DemoOptions, choose
from stream.wire import Forecast, dumps
from stream.wire.scoring import TARGETS

HOUR_MS = 3_600_000
MINUTE_MS = 60_000


@pytest.mark.parametrize(
    ("hours", "span_h", "history_h"),
    [
        (4, 2, 2),
        (4, 0.2, 2),
        (4, 20, 1),  # of what is left, at least an hour is history
        (3.5, 2, 1.5),
        (1.2, 0.1, 1.1),
        (1.2, 2, 0),
        (0.5, 0.1, 0),
    ],
)
def test_there_is_history_where_the_recording_is_long_enough(hours: float, span_h: float, history_h: float) -> None:
    times_ms = list(range(0, int(hours * HOUR_MS) + 1, MINUTE_MS))
    assert atlas.after_history(times_ms, int(span_h * HOUR_MS)) == history_h * 60


def test_the_history_of_the_sample_is_before_every_ping_that_is_replayed() -> None:
    rows, before, _ = choose(DemoOptions(60.0, None, None, 120.0, "small"))
    assert len(before) > 1000 < len(rows)
    first_ms = min(row.ts_ms or 0 for row in rows)
    assert first_ms - atlas.MOST_MS <= min(row.ts_ms or 0 for row in before)
    assert max(row.ts_ms or 0 for row in before) < first_ms
    whole = sorted(recording(SAMPLE).rows(), key=lambda row: row.ts_ms or 0)
    assert [*before, *rows] == whole[-len(before) - len(rows) :], "nothing is left out between them, or after"


def test_pings_of_the_very_time_at_which_the_replay_begins_are_no_history() -> None:
    rows = choose(DemoOptions(60.0, None, None, 120.0, "small"))[1]
    same = [row._replace(ts_ms=(rows[20].ts_ms or 0)) if 10 < place < 30 else row for place, row in enumerate(rows)]
    assert list(atlas.history(same, 25)) == same[:11]


def test_the_bundled_history_is_the_fleets_day_and_then_the_hours_before_the_replay(
    tmp_path: Path, weights: str
) -> None:
    before = choose(DemoOptions(60.0, None, None, 120.0, "small"))[1]
    day = list(recording(atlas.DAY).rows())
    assert max(row.ts_ms or 0 for row in day) < min(row.ts_ms or 0 for row in before)
    contains = atlas.of_history(before, tmp_path, weights, bundled=True).write().contains
    assert contains["from_ms"] == day[0].ts_ms
    assert contains["to_ms"] == before[-1].ts_ms
    assert contains["pings"] > len(day)
    assert contains["min_entities"] == 1
    assert [one["after_s"] for one in contains["report"]["horizons"]] == [60, 300, 900], "the model has examined it"
    own = atlas.of_history(before, tmp_path, weights, bundled=False).write().contains
    assert (own["from_ms"], own["min_entities"]) == (before[0].ts_ms, 3), "nothing is added to tracks of somebody's own"


def test_a_grown_version_is_what_all_its_pings_make_at_once(tmp_path: Path, weights: str) -> None:
    rows, before, _ = choose(DemoOptions(60.0, None, None, 120.0, "small"))
    grown = atlas.of_history(before, tmp_path, weights, bundled=False)
    first = grown.write().version
    grown.add(rows[:400])
    grown.add(rows[400:900])
    found = grown.write()
    assert found.version != first
    assert found.version == atlas.of_history([*before, *rows[:900]], tmp_path, weights, bundled=False).write().version
    assert {path.stem for path in tmp_path.iterdir()} == {first, found.version}


def test_the_model_alone_is_scored_on_the_same_pairs(tmp_path: Path, weights: str) -> None:
    rows, before, _ = choose(DemoOptions(20.0, 12, None, 120.0, weights))
    rows = rows[:300]
    board = Board()
    board.atlas = atlas.of_history(before, tmp_path, weights, bundled=False).write()
    assert Atlas.load(tmp_path / f"{board.atlas.version}.atlas").version == board.atlas.version
    for row in rows:
        board.note_sent(row, 0.0)
    answered = atlas.alone(weights, rows, lambda: None)
    for one in answered:
        board.forecast(dumps(one), 0.0)
    assert "model_without_atlas" not in board.summary(broker="", store="")["error_m"]["next"], "nobody has asked yet"
    board.compare(answered)
    summary = board.summary(broker="", store="")
    assert summary["atlas"]["pings"] == len(before)
    assert summary["atlas"]["to_ms"] < (rows[0].ts_ms or 0)
    for name in TARGETS:
        error_m = summary["error_m"][name]
        assert error_m["model_without_atlas"] == error_m["model"], "the same forecasts, so far"
    moved = [one for one in answered if one.entity_id != answered[0].entity_id]
    board.compare([*moved, *(wrong(one) for one in answered if one.entity_id == answered[0].entity_id)])
    assert board.without_atlas()["next"] != board.summary(broker="", store="")["error_m"]["next"]["model"]
    board.compare(moved)
    assert board.without_atlas() == {}, "as long as one is missing, means are not of the same pairs"


def wrong(forecast: Forecast) -> Forecast:
    step = forecast.next
    return msgspec.structs.replace(forecast, next=msgspec.structs.replace(step, d_lat=step.d_lat + 0.01))
