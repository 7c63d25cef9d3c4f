"""Outcomes that are counted while pings come: they are those of whole tracks, however the pings come."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from atlas_worlds import same
from hypothesis import given, settings
from hypothesis import strategies as st

from model.atlas import growth, outcomes, sums
from model.atlas.cells import LEVELS
from model.atlas.days import DAY_MS, Day, by_day
from model.atlas.growth import Growth
from model.atlas.outcomes import NEVER
from model.atlas.sums import Sums
from model.kinematics.features import FIX

START_MS = 19_700 * DAY_MS - 1_800_000  # half an hour before midnight
NAMES = ["a", "b", "c"]
# Pings: of whom, how long after its last one, whether it begins a track, and where.
STEP_S = st.sampled_from([1, 5, 20, 30, 59, 60, 61, 120, 299, 300, 590, 600, 601, 899, 900, 901, 3_000])
PING = st.tuples(
    st.integers(0, len(NAMES) - 1), STEP_S, st.booleans(), st.integers(-3_000, 3_000), st.integers(-3_000, 3_000)
)


class Pings:
    """Pings of some entities, in the order in which they come."""

    def __init__(self, drawn: list[tuple[int, int, bool, int, int]]) -> None:
        self.who = np.array([one[0] for one in drawn], np.int64)
        self.fixes, self.begins = np.zeros(len(drawn), FIX), np.zeros(len(drawn), np.bool_)
        now_ms = dict.fromkeys(range(len(NAMES)), START_MS)
        for at, (who, step_s, begins, north, east) in enumerate(drawn):
            now_ms[who] += 1_000 * step_s
            self.fixes[at] = now_ms[who], 300_000_000 + 10 * north, -977_000_000 + 10 * east, 65_535, 65_535
            self.begins[at] = (begins and step_s > 600) or who not in self.who[:at]
        self.ids = sums.entity_ids(NAMES)[self.who]

    def grown(self, cuts: list[int], *, stored: bool = False) -> dict[int, Day]:
        """Counts them in portions; if `stored`, over a restart after each portion."""
        found, now = {}, Growth()
        for low, high in zip([0, *cuts], [*cuts, len(self.who)], strict=True):
            part = slice(low, high)
            for day, one in now.add(self.ids[part], self.fixes[part], self.begins[part]):
                found[day] = found.get(day, Day.none()).plus(Day.loads(one.dumps()) if stored else one)
            now = Growth.loads(now.dumps()) if stored else now
        return found

    def of_whole_tracks(self) -> dict[int, Sums]:
        order = np.argsort(self.who, kind="stable")
        fixes, who, ids = self.fixes[order], self.who[order], self.ids[order]
        starts = np.flatnonzero(self.begins[order])
        found = outcomes.of_tracks(fixes, starts)
        counts = sums.counted(who[found.row], found.key, fixes["ts_ms"][found.row])
        row, horizon = np.nonzero(found.known_ms < NEVER)
        ts_ms = fixes["ts_ms"][found.row[row]]
        return {day: Sums.of_outcomes(found, counts, ids[found.row], row[at], horizon[at]) for day, at in by_day(ts_ms)}


def added_up(pieces: Iterable[tuple[int, Day]]) -> dict[int, Day]:
    found: dict[int, Day] = {}
    for day, one in pieces:
        found[day] = found.get(day, Day.none()).plus(one)
    return found


@settings(max_examples=200, deadline=None)
@given(st.lists(PING, max_size=60), st.data())
def test_in_any_portions_and_over_restarts_outcomes_are_those_of_whole_tracks(drawn: Any, data: Any) -> None:
    pings = Pings(drawn)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(drawn)), max_size=8)))
    found, whole = pings.grown(cuts, stored=data.draw(st.booleans())), pings.of_whole_tracks()
    for day, one in found.items():
        assert same(one.sums, whole.pop(day, Sums.none()))
        here = pings.fixes["ts_ms"] // DAY_MS == day
        assert one.pings == here.sum()
        assert one.ids.tolist() == np.unique(pings.ids[here]).tolist()
        if one.pings:
            times = pings.fixes["ts_ms"][here]
            assert (one.from_ms, one.to_ms) == (times.min(), times.max())
    assert not any(len(one) for one in whole.values())


def random_pings(many: int, seed: int = 3) -> Pings:
    rng = np.random.default_rng(seed)
    draw = lambda low, high: rng.integers(low, high, many).tolist()  # noqa: E731
    steps = rng.choice([20, 30, 60, 61, 300], many).tolist()
    return Pings(list(zip(draw(0, 3), steps, [False] * many, draw(-300, 300), draw(-300, 300), strict=True)))


def test_what_many_pings_at_once_make_due_comes_in_small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    pings = random_pings(500)
    whole = added_up(Growth().add(pings.ids, pings.fixes, pings.begins))
    monkeypatch.setattr(growth, "_SLICE", 20)
    pieces = list(Growth().add(pings.ids, pings.fixes, pings.begins))
    assert max(len(one.sums) for _, one in pieces) <= 20 * LEVELS < max(len(one.sums) for one in whole.values())
    found = added_up(pieces)
    assert all(same(one.sums, whole[day].sums) for day, one in found.items())
    assert found.keys() == whole.keys()


def test_what_nothing_can_become_of_is_not_kept() -> None:
    pings = random_pings(2_000)
    now = Growth()
    now.add(pings.ids, pings.fixes, pings.begins)
    kept = len(now.dumps()) // growth.WAITING.itemsize
    in_the_last_quarter = sum(
        int((pings.fixes["ts_ms"][pings.who == who] > pings.fixes["ts_ms"][pings.who == who].max() - 900_000).sum())
        for who in range(len(NAMES))
    )
    assert kept == in_the_last_quarter


def test_a_track_that_goes_back_from_a_false_time_is_counted_and_does_not_grow_what_is_kept() -> None:
    pings = random_pings(200)
    false = pings.fixes.copy()
    false["ts_ms"][:100] += 10 * DAY_MS
    begins = pings.begins.copy()
    for who in range(len(NAMES)):
        begins[100 + int(np.flatnonzero(pings.who[100:] == who)[0])] = True
    whole, parts = Growth(), Growth()
    found = added_up(whole.add(pings.ids, false, begins))
    cuts = [slice(at, at + 7) for at in range(0, 200, 7)]
    later = added_up(piece for at in cuts for piece in parts.add(pings.ids[at], false[at], begins[at]))
    assert sorted(found) == sorted(later)
    assert all(same(one.sums, later[day].sums) for day, one in found.items())
    assert whole.dumps() == parts.dumps()
    assert np.frombuffer(whole.dumps(), growth.WAITING)["fix"]["ts_ms"].max() < START_MS + DAY_MS


def test_bytes_that_are_no_day_are_refused() -> None:
    raw = Day.of_pings(sums.entity_ids(NAMES), np.arange(3)).dumps()
    for broken in (b"", raw[:-1], raw[:4] + b"\0" + raw[5:], b"day"):
        with pytest.raises(ValueError, match="no day"):
            Day.loads(broken)
