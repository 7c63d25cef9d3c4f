"""What is found while pings come does not depend on how they come: passages, questions, and what still waits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from model.atlas import growth, questions
from model.atlas.believing import HORIZONS_S
from model.atlas.days import DAY_MS
from model.atlas.growth import ANEW, KEEP_MS, LOST_MS, Findings, Growth
from model.atlas.passages import Passages, entity_ids
from model.atlas.questions import WINDOW, WINDOW_MS, Questions
from model.atlas.ways import MAX_APART_MS, ON_S
from model.kinematics.features import FIX
from model.kinematics.geo import displacement_m

START_MS = 19_700 * DAY_MS - 1_800_000  # half an hour before midnight
NAMES = ["a", "b", "c"]
# Pings: of whom, how long after its last one, how it begins a track, and where.
STEP_S = st.sampled_from([1, 5, 20, 30, 60, 61, 299, 300, 301, 590, 900, 1_080, 3_000, 90_000, 518_399, 518_400])
PING = st.tuples(
    st.integers(0, len(NAMES) - 1),
    STEP_S,
    st.sampled_from([0, 0, 0, 1, ANEW]),
    st.integers(-3_000, 3_000),
    st.integers(-3_000, 3_000),
)


@pytest.fixture(autouse=True)
def many_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(questions, "OF_PINGS", 2)


class Pings:
    """Pings of some entities, in the order in which they come."""

    def __init__(self, drawn: list[tuple[int, int, int, int, int]]) -> None:
        who = np.array([one[0] for one in drawn], np.int64)
        self.ids, self.fixes = entity_ids(NAMES)[who], np.zeros(len(drawn), FIX)
        self.begins = np.zeros(len(drawn), np.uint8)
        now_ms = dict.fromkeys(range(len(NAMES)), START_MS)
        for at, (one, step_s, begins, north_m, east_m) in enumerate(drawn):
            now_ms[one] += 1_000 * step_s
            self.fixes[at] = now_ms[one], 300_000_000 + 90 * north_m, -977_000_000 + 104 * east_m, 65_535, 65_535
            self.begins[at] = ANEW if one not in who[:at] else begins

    def __len__(self) -> int:
        return len(self.ids)

    def of(self, part: slice) -> tuple[Any, Any, Any]:
        """Those of one entity one after the other, as a follower returns them."""
        order = np.argsort(self.ids[part], kind="stable")
        return self.ids[part][order], self.fixes[part][order], self.begins[part][order]

    def grown(self, cuts: list[int], *, stored: bool = False) -> tuple[Findings, Growth]:
        """Takes them in portions; if `stored`, over a restart after each portion."""
        now, found = Growth(), list[Findings]()
        for low, high in zip([0, *cuts], [*cuts, len(self)], strict=True):
            found.append(now.add(*self.of(slice(low, high))))
            now = Growth.loads(now.dumps()) if stored else now
        passages, asked = [one.passages.rows for one in found], [one.questions.rows for one in found]
        return Findings(Passages(np.concatenate(passages)), Questions(np.concatenate(asked))), now


def random_pings(many: int, seed: int = 3) -> Pings:
    rng = np.random.default_rng(seed)
    steps, places = rng.choice([20, 30, 60, 61, 250], many).tolist(), rng.integers(-3_000, 3_000, (2, many)).tolist()
    return Pings(list(zip(rng.integers(0, 3, many).tolist(), steps, [0] * many, *places, strict=True)))


def as_bytes(found: Findings) -> list[list[bytes]]:
    return [sorted(row.tobytes() for row in part.rows) for part in (found.passages, found.questions)]


@settings(max_examples=100, deadline=None)
@given(st.lists(PING, max_size=60), st.data())
def test_in_any_portions_and_over_restarts_the_same_is_found(drawn: Any, data: Any) -> None:
    pings = Pings(drawn)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(drawn)), max_size=8)))
    whole, at_once = pings.grown([])
    found, in_parts = pings.grown(cuts, stored=data.draw(st.booleans()))
    assert as_bytes(found) == as_bytes(whole)
    assert in_parts.dumps() == at_once.dumps()


@pytest.mark.parametrize("stored", [False, True])
def test_ping_by_ping_the_same_is_found_with_all_windows(stored: bool) -> None:
    pings = random_pings(300)
    whole, _ = pings.grown([])
    found, _ = pings.grown(list(range(1, len(pings))), stored=stored)
    assert as_bytes(found) == as_bytes(whole)
    assert min(len(whole.passages), len(whole.questions)) > 60


def test_a_question_has_the_pings_up_to_it_and_where_the_thing_went() -> None:
    pings = random_pings(600)
    found, _ = pings.grown([])
    for at, window in enumerate(found.questions.windows):
        own = pings.fixes[pings.ids == found.questions.rows["id"][at]]
        (here,) = np.flatnonzero(own["ts_ms"] == found.questions.last["ts_ms"][at])
        begin = np.searchsorted(own["ts_ms"], own["ts_ms"][here] - WINDOW_MS)
        assert window.tobytes() == own[max(begin, here + 1 - WINDOW) : here + 1].tobytes()
        for horizon, seconds in enumerate(HORIZONS_S):
            after_ms = own["ts_ms"] - own["ts_ms"][here] - 1000 * seconds
            near = (np.abs(after_ms) <= questions.NEAR * 1000 * seconds).any()
            assert found.questions.rows["near"][at, horizon] == near
            happened = found.questions.happened_m[at, horizon]
            assert happened == pytest.approx(went_m(own, int(here), round(1000 * seconds)), abs=2, nan_ok=True)
    assert {len(window) for window in found.questions.windows} >= set(range(2, 8))


def went_m(own: NDArray[Any], here: int, after_ms: int) -> NDArray[np.float64]:
    """Where a thing that is seen every few minutes at most is after so many ms, by a loop; NaN where nobody knows."""
    at_ms = own["ts_ms"][here] + after_ms
    later = int(np.searchsorted(own["ts_ms"], at_ms))
    if later == len(own):
        return np.full(2, np.nan)
    a, b = (own[row : row + 1] for row in (later - 1, later))
    share = (at_ms - a["ts_ms"]) / (b["ts_ms"] - a["ts_ms"])
    lat, lon = (a[name] + (b[name] - a[name]) * share for name in ("lat_e7", "lon_e7"))
    return np.asarray(displacement_m(own["lat_e7"][here : here + 1], own["lon_e7"][here : here + 1], lat, lon)[0])


def test_what_nothing_can_come_of_is_not_kept() -> None:
    pings = random_pings(2_000)
    _, now = pings.grown([])
    ts_ms = [pings.fixes["ts_ms"][pings.ids == one] for one in np.unique(pings.ids)]
    assert len(now.dumps()) // growth.WAITING.itemsize == sum(int((ms >= ms[-1] - KEEP_MS).sum()) for ms in ts_ms)


def ended(silence_ms: int, begins: int, *, forgotten: bool = False) -> int:
    """How many passages of an hour's drive are known when the next ping comes after a silence."""
    drive, now = np.zeros(120, FIX), Growth()
    drive["ts_ms"], drive["lat_e7"] = START_MS + 30_000 * np.arange(120), 300_000_000 + 21_600 * np.arange(120)
    ids = np.full(120, 7, np.uint64)
    found = [now.add(ids, drive, np.arange(120) == 0)]
    if forgotten:
        now.forget(ids[:1])
    later = drive[-1:].copy()
    later["ts_ms"] += silence_ms
    found.append(now.add(ids[:1], later, np.array([begins], np.uint8)))
    assert not len(np.intersect1d(found[0].passages.rows["ts_ms"], found[1].passages.rows["ts_ms"]))
    return sum(len(one.passages) for one in found)


def test_the_end_of_a_track_is_known_when_the_next_begins_unless_that_is_days_later() -> None:
    """What waits is forgotten when an entity was silent for a week: whether that was before the next ping came, or when
    it came, must not be seen in what is known. So it is not known after a silence that is a little shorter, either."""
    whole = ended(MAX_APART_MS + 1, 0)
    assert whole == ended(3_700_000, 1) == ended(LOST_MS - 1, 1)
    short = ended(LOST_MS, 1)
    assert 0 < short < whole
    assert short == ended(LOST_MS, 1, forgotten=True)
    assert short == ended(3_700_000, ANEW) == ended(3_700_000, ANEW, forgotten=True)
    assert whole - short <= 1 + ON_S[-1] / 30


def test_a_track_that_goes_back_from_a_false_time_is_another_one_and_does_not_grow_what_is_kept() -> None:
    pings = random_pings(300)
    pings.fixes["ts_ms"][:150] += 10 * DAY_MS
    for one in np.unique(pings.ids):
        pings.begins[150 + int(np.flatnonzero(pings.ids[150:] == one)[0])] = 1
    whole, at_once = pings.grown([])
    found, in_parts = pings.grown(list(range(7, 300, 7)), stored=True)
    assert as_bytes(found) == as_bytes(whole)
    assert in_parts.dumps() == at_once.dumps()
    assert np.frombuffer(at_once.dumps(), growth.WAITING)["fix"]["ts_ms"].max() < START_MS + DAY_MS


def test_passages_that_are_not_over_are_known_as_far_as_they_went() -> None:
    """Of five minutes nothing is over yet. What is known then is how the passages begin that are known later; asking
    for it changes nothing."""
    drive = [(n % 3, 20, 0, 20 * n, 5 * n) for n in range(3 * 100)]
    pings, growth_ = Pings(drive), Growth()
    early = growth_.add(*pings.of(slice(0, 45)))
    assert not len(early.passages)
    so_far = growth_.known_so_far()
    assert len(so_far.passages) > 10
    later = growth_.add(*pings.of(slice(45, None)))
    rows = {int(row["draw"]): row for row in later.passages.rows}
    assert all(int(row["draw"]) in rows for row in so_far.passages.rows)
    for row in so_far.passages.rows:
        known, whole = int(row["known"]), rows[int(row["draw"])]
        assert 0 < known < int(whole["known"])
        assert (row["on"][:known] == whole["on"][:known]).all()
        assert not row["on"][known:].any()
        assert row["in_m"].tolist() == whole["in_m"].tolist()
    for row in so_far.questions.rows:
        assert ON_S[-1] > HORIZONS_S[int(row["known"]) - 1]
    assert not len(Growth().known_so_far().passages)
