"""Days: they add up in any order, each chooses for itself, they fade, and an entity can be taken out of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest

from model.atlas import passages, questions
from model.atlas.days import DAY_MS, FADED, Day, contents, days_of, factors
from model.atlas.passages import OLDEST, Passages, draws, entity_ids
from model.atlas.questions import QUESTION, Questions
from model.atlas.ways import PASSAGE

FIRST = 19_700


def some_passages(ids: Any, ts_ms: Any, bucket: Any = 16) -> Any:
    rows = np.zeros(len(ts_ms), PASSAGE)
    rows["bucket"], rows["id"], rows["ts_ms"], rows["known"] = bucket, ids, ts_ms, 1
    rows["draw"] = draws(rows["id"], rows["ts_ms"])
    return rows


def some_questions(ids: Any, ts_ms: Any) -> Any:
    rows = np.zeros(len(ts_ms), QUESTION)
    rows["id"], rows["known"], rows["size"] = ids, 1, 2
    rows["fixes"]["ts_ms"][:, 1] = ts_ms
    rows["draw"] = draws(rows["id"], rows["fixes"]["ts_ms"][:, 1])
    return rows


def days(many: int = 9_000, seed: int = 1) -> dict[int, Day]:
    """Three days, of some buckets and some vehicles."""
    rng = np.random.default_rng(seed)
    ids = entity_ids([f"v{n}" for n in range(40)])[rng.integers(0, 40, many)]
    ts_ms = FIRST * DAY_MS + np.sort(rng.integers(0, 3 * DAY_MS, many))
    asked = rng.random(many) < 0.3
    found = (
        Passages(some_passages(ids, ts_ms, rng.integers(0, 12, many))),
        Questions(some_questions(ids[asked], ts_ms[asked])),
    )
    return dict(days_of(ids, ts_ms, *found))


def parts_of(day: Day, seed: int) -> list[Day]:
    """The same in parts, some of which know pings alone, and one twice."""
    part = np.random.default_rng(seed).integers(0, 5, len(day.passages))
    of = np.random.default_rng(seed).integers(0, 5, len(day.questions))
    parts = [
        Day.of_known(Passages.of(day.passages.rows[part == n]), Questions.of(day.questions.rows[of == n]))
        for n in range(5)
    ]
    return [*parts, parts[0], Day(Passages.none(), Questions.none(), day.ids, day.pings, day.from_ms, day.to_ms)]


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """So few are kept that each limit tells."""
    monkeypatch.setattr(passages, "MOST_VEHICLES", 5)
    monkeypatch.setattr(passages, "MOST_OF_ONE", 2)
    monkeypatch.setattr(questions, "MOST_OF_ONE", 15)


@pytest.mark.usefixtures("few")
def test_days_add_up_in_any_order_and_are_the_same_as_bytes() -> None:
    for day in days().values():
        assert (len(day.passages), len(day.questions), len(day.ids)) == (12 * 5 * 2, questions.MOST, 40)
        assert Day.loads(day.dumps()).dumps() == day.dumps()
        for seed in range(5):
            parts = [Day.loads(part.dumps()) for part in parts_of(day, seed)]
            np.random.default_rng(seed).shuffle(parts)
            assert Day.total(parts).dumps() == day.dumps(), f"seed {seed}"


def test_each_day_chooses_for_itself_however_many_days_come_at_once() -> None:
    """What was found at once was chosen at once: of three days, as much was left as of one."""
    at_once = days()
    together = Passages(np.concatenate([day.passages.rows for day in at_once.values()]))
    asked = Questions(np.concatenate([day.questions.rows for day in at_once.values()]))
    again = dict(days_of(np.empty(0, np.uint64), np.empty(0, np.int64), together, asked))
    assert sorted(again) == [FIRST, FIRST + 1, FIRST + 2]
    for number, day in at_once.items():
        assert again[number].passages.rows.tobytes() == day.passages.rows.tobytes()
        assert again[number].questions.rows.tobytes() == day.questions.rows.tobytes()
        assert len(day.questions) == questions.MOST
    assert len(Passages.of(together.rows)) < len(together)


def test_no_vehicle_asks_more_than_a_few_of_the_questions_however_many_pings_it_sends() -> None:
    ids = np.append(np.full(5_000, 7, np.uint64), np.arange(100, 600, dtype=np.uint64))
    kept = Questions.of(some_questions(ids, np.arange(len(ids)))).rows["id"]
    assert len(kept) == questions.MOST
    assert (kept == 7).sum() == questions.MOST_OF_ONE < questions.MOST / 10


def test_what_an_entity_did_is_taken_out_of_a_day() -> None:
    gone = entity_ids(["v7", "v8", "nobody"])
    for day in days().values():
        without = day.without(gone)
        for one, other in ((without.passages, day.passages), (without.questions, day.questions)):
            assert not np.isin(one.rows["id"], gone).any()
            assert len(one) == (~np.isin(other.rows["id"], gone)).sum() < len(other)
        assert without.ids.tolist() == [one for one in day.ids.tolist() if one not in gone.tolist()]
        assert without.pings == day.pings


def test_bytes_that_are_no_day_are_refused() -> None:
    raw = next(iter(days().values())).dumps()
    for broken in (b"", raw[:-1], raw[:4] + b"\0" + raw[5:], b"day"):
        with pytest.raises(ValueError, match="no day"):
            Day.loads(broken)


# -- age


def of_fleet(vehicles: Iterable[int]) -> Day:
    ids = np.array(sorted(vehicles), np.uint64)
    return Day.of_pings(ids, np.zeros(len(ids), np.int64))


def test_a_day_fades_by_the_days_on_which_the_fleet_was_seen_after_it() -> None:
    fleet = {FIRST + number: of_fleet(range(5)) for number in (0, 1, 2, 50)}
    assert factors(fleet, 3, 1.0) == {FIRST + 50: 1.0, FIRST + 2: 2.0, FIRST + 1: 4.0, FIRST: 8.0}
    assert list(factors(fleet, 3, 2.0 / FADED)) == [FIRST + 50, FIRST + 2, FIRST + 1]
    with_false_times = {**fleet, FIRST + 60: of_fleet([1]), FIRST + 61: of_fleet([1, 2])}
    assert factors(with_false_times, 3, 1.0) == {FIRST + 61: 1.0, FIRST + 60: 1.0, **factors(fleet, 3, 1.0)}


def test_days_contain_whose_pings_they_are_and_from_when() -> None:
    few, more = Day.of_pings(np.array([1, 2], np.uint64), np.array([5, 3])), of_fleet([2, 3])
    assert contents([few, Day.none()]) == {"entities": 2, "pings": 2, "from_ms": 3, "to_ms": 5}
    assert contents([few, more])["entities"] == 3


def ago(factor: float, *, vehicles: int, first: int, seed: int) -> tuple[Passages, float]:
    """A day on which vehicles passed one place ten times each."""
    ids = np.repeat(np.arange(first, first + vehicles, dtype=np.uint64), 10)
    ts_ms = np.random.default_rng(seed).permutation(1_000_000)[: len(ids)]
    return Passages.of(some_passages(ids, ts_ms)), factor


def test_older_days_give_way_to_newer_ones() -> None:
    """Of as many vehicles, those of a day that counts an eighth have about an eighth of the places that others have."""
    new, old = ago(1.0, vehicles=500, first=1, seed=0), ago(8.0, vehicles=500, first=1_001, seed=1)
    kept = Passages.of_days([new, old]).rows
    assert len(np.unique(kept["id"])) == passages.MOST_VEHICLES
    assert 0 < len(np.unique(kept["id"][kept["id"] > 1_000])) < 20
    assert len(Passages.of_days([(new[0], 1.0), (old[0], 1.0)]).rows) == len(kept)
    newer_of_one = Passages.of_days([ago(1.0, vehicles=1, first=7, seed=2), ago(OLDEST, vehicles=1, first=7, seed=3)])
    assert len(newer_of_one) == passages.MOST_OF_ONE


def test_a_vehicle_itself_is_remembered_by_its_newer_passages() -> None:
    ids, times = np.repeat(np.arange(50, dtype=np.uint64), 20), np.tile(np.arange(20), 50)
    old, new = (Passages.of(some_passages(ids, (FIRST + day) * DAY_MS + times)) for day in (0, 1))
    kept = Passages.of_days([(new, 1.0), (old, float(OLDEST))]).rows
    assert len(kept) == 50 * passages.MOST_OF_ONE
    assert (kept["ts_ms"] >= (FIRST + 1) * DAY_MS).mean() > 0.9


@pytest.mark.parametrize("factor", [1.0, 3.0, OLDEST])
def test_where_nobody_else_passed_an_old_day_is_whole(factor: float) -> None:
    """Draws that are larger by a factor were cut at the largest number: then most passages of an old day were alike,
    and of each vehicle only one was left."""
    old, _ = ago(factor, vehicles=20, first=1, seed=1)
    kept = Passages.of_days([(old, factor)]).rows
    assert len(kept) == len(old) == 20 * passages.MOST_OF_ONE
    assert np.argsort(kept["draw"], kind="stable").tolist() == np.argsort(old.rows["draw"], kind="stable").tolist()
