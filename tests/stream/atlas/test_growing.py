"""What a partition's records are counted with: portions, restarts and silences."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import pytest

from model.atlas import questions
from model.atlas.days import DAY_MS, Day
from model.atlas.passages import entity_ids
from stream.atlas import growing
from stream.atlas.follower import IDLE_MS, Follower, _watermarks
from stream.atlas.growing import NoGrowth, PartitionGrowth
from stream.kafka.records.record_columns import Records
from stream.wire import Ping, Record, dumps
from stream.wire.record import FORGET_HEADERS

START_MS = 1_700_005_000_000


def record(offset: int, entity: str, second: float, north_m: float = 0.0, *, sent_s: float | None = None) -> Record:
    ping = Ping(entity_id=entity, ts=START_MS + round(1000 * second), lat=30.0 + north_m / 111_195, lon=-97.7)
    sent_ms = START_MS + round(1000 * (second if sent_s is None else sent_s))
    return Record("pings", 0, offset, sent_ms, entity.encode(), dumps(ping))


def fleet(seed: int, many: int = 600) -> list[Record]:
    """Five vans on one street, with jumps, late pings, duplicates, silences of an hour and of ten days."""
    rng = random.Random(seed)
    now, made = 0.0, list[Record]()
    while len(made) < many:
        now += rng.choice([1, 5, 10]) if rng.random() < 0.995 else rng.choice([4_000, 10 * 86_400])
        late = rng.choice([0, 0, 0, 0, 20, 400, 90_000])
        far = rng.choice([0] * 20 + [200_000])
        van = rng.randrange(5)
        way = 2_000 * abs((now * (6 + van) / 2_000) % 2 - 1)
        made.append(record(len(made), f"van-{van}", now - late, way + far, sent_s=now))
        if rng.random() < 0.05:
            made.append(made[-1]._replace(offset=len(made)))
    return made


@pytest.fixture
def many_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(questions, "OF_PINGS", 2)


def counted(
    records: Sequence[Record], cuts: Sequence[int] = (), *, stored: bool = False
) -> tuple[dict[int, Day], PartitionGrowth]:
    growth, found = PartitionGrowth(), dict[int, Day]()
    for low, high in zip([0, *cuts], [*cuts, len(records)], strict=True):
        for grown in growth.add(Records.of(records[low:high])):
            found = {day: one.without(grown.forgotten) for day, one in found.items()}
            for day, one in grown.days:
                found[day] = found.get(day, Day.none()).plus(one)
        if stored:
            growth = PartitionGrowth.loads(growth.dumps())
    return found, growth


def as_bytes(days: dict[int, Day]) -> dict[int, bytes]:
    return {number: day.dumps() for number, day in days.items()}


def two_vans(begin: int, many: int, at_s: float = 0.0) -> list[Record]:
    """Records from `begin` on, of two vans that drive along a street."""
    return [record(begin + n, f"van-{n % 2}", at_s + 10 * n, 80.0 * n) for n in range(many)]


@pytest.mark.usefixtures("many_questions")
@pytest.mark.parametrize(
    ("cuts", "stored"),
    [([], False), ([200], False), ([200], True), ([199, 201], True), ([200, 201], True), (list(range(150, 260)), True)],
)
def test_an_entity_that_is_to_be_forgotten_never_was_before_that(cuts: list[int], stored: bool) -> None:
    """Of what it did before, nothing is known any more, not even what waited; what it does later is."""
    asks = Record("pings", 0, 200, START_MS + 2_000_000, b"van-0", None, FORGET_HEADERS)
    ways = [*two_vans(0, 200), asks, *two_vans(201, 400, 2_010.0), *two_vans(601, 40, 10_000.0)]
    never = [one._replace(value=b"") if one.key == b"van-0" and one.offset < 200 else one for one in ways]
    found, growth = counted(ways, cuts, stored=stored)
    due, _ = counted(never)
    for day, one in due.items():
        assert found[day].passages.rows.tobytes() == one.passages.rows.tobytes()
        assert found[day].questions.rows.tobytes() == one.questions.rows.tobytes()
        assert found[day].ids.tolist() == one.ids.tolist()
    assert sorted(found) == sorted(due)
    (mine,) = entity_ids(["van-0"])
    whole, later = counted(ways[:200] + ways[201:])[0], START_MS + 2_000_000
    for days, before in ((whole, True), (found, False)):
        own = Day.total(day.without(np.setdiff1d(day.ids, [mine])) for day in days.values())
        for times in (own.passages.rows["ts_ms"], own.questions.last["ts_ms"]):
            assert (times < later).any() == before
            assert (times > later).any()
    assert growth.records == 641
    assert not np.isin(mine, counted(ways[:201])[1]._growth._waiting["id"]), "it may never come again"


@pytest.mark.usefixtures("many_questions")
@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_portions_and_restarts_change_nothing(seed: int, stored: bool) -> None:
    records = fleet(seed)
    whole, growth = counted(records)
    cuts = sorted(random.Random(seed).sample(range(len(records)), 40)) if seed else list(range(1, len(records)))
    found, again = counted(records, cuts, stored=stored)
    assert as_bytes(found) == as_bytes(whole)
    assert (again.records, again.left_out) == (growth.records, growth.left_out)
    assert 0 < growth.left_out < growth.records
    assert len(whole) > 1
    assert min(sum(len(day.passages) for day in whole.values()), sum(len(day.questions) for day in whole.values())) > 20


@pytest.mark.usefixtures("many_questions")
@pytest.mark.parametrize("late_d", [0, 3])
@pytest.mark.parametrize("silent_d", [5, 8])
def test_whether_it_was_written_during_a_silence_does_not_show(silent_d: int, late_d: int) -> None:
    """Who writes forgets who was silent for a week, and what waits of them; who does not write may not know it either.
    An entity may send three days late what it did."""
    others = [record(0, "c", day * 86_400.0) for day in range(1, silent_d + 1)]
    at_s = silent_d * 86_400.0 + 3_000.0
    later = [record(0, "van-0", at_s + n - late_d * 86_400.0, sent_s=at_s + n) for n in range(3)]
    records = [one._replace(offset=offset) for offset, one in enumerate([*two_vans(0, 250), *others, *later])]
    whole, _ = counted(records)
    assert as_bytes(counted(records, [250 + silent_d], stored=True)[0]) == as_bytes(whole)
    assert as_bytes(counted(records, [249, 252], stored=True)[0]) == as_bytes(whole)
    if not late_d:
        recorded = [one._replace(timestamp_ms=-1) for one in records]
        assert as_bytes(counted(recorded)[0]) == as_bytes(whole)
    (van,) = entity_ids(["van-0"])
    known = sum(int((day.passages.rows["id"] == van).sum()) for day in whole.values())
    assert (known > 70) == (silent_d == 5), "of the last 18 minutes something is known"


def begins(follower: Follower, *records: Record) -> list[int]:
    return follower.fold(Records.of(records)).begins.tolist()


def test_an_entity_that_was_silent_for_long_is_forgotten_whether_or_not_others_came_between() -> None:
    """Its next ping may be of any time: of another one it would be too late."""
    day_s = 86_400.0
    clock = [record(0, "c", n * day_s / 2)._replace(value=b"no ping") for n in range(1, 14)]
    for silence_s, expected in ((IDLE_MS / 1000 - 60, []), (IDLE_MS / 1000 + 60, [2])):
        for between in ([], [record(1, "b", silence_s, sent_s=silence_s)]):
            one, old = Follower(), record(2, "a", -day_s, sent_s=silence_s)
            begins(one, record(0, "a", 0.0))
            begins(one, *clock)
            if between:
                begins(one, *between)
                assert one.forget().size == (0 if not expected else 1)
            assert begins(one, old) == expected
            together = Follower()
            assert begins(together, record(0, "a", 0.0), *clock, *between, old) == [
                2,
                *expected,
                *([2] if between else []),
            ]


def test_one_false_time_of_publication_makes_nobody_silent() -> None:
    one = Follower()
    assert begins(one, record(0, "a", 0.0)) == [2]
    begins(one, record(1, "b", 5.0, sent_s=2e9))
    assert not one.forget().size
    assert begins(one, record(2, "a", 10.0), record(3, "b", 15.0)) == [0, 0]


def test_portions_do_not_change_when_time_goes_on() -> None:
    rng = np.random.default_rng(0)
    published = np.cumsum(rng.integers(-1_000, 90_000, 300)) * rng.choice([1, 1, 1, 1, 40], 300)
    published[rng.integers(300, size=20)] = -1
    for cut in range(300):
        for begin in (-1, 5_000):
            whole = _watermarks(published, begin)
            head = _watermarks(published[:cut], begin)
            rest = _watermarks(published[cut:], int(head[-1]) if cut else begin)
            assert np.append(head, rest).tolist() == whole.tolist()


def test_of_an_entity_that_is_not_wanted_not_even_the_name_is_kept() -> None:
    one = Follower({"bus-7"})
    assert begins(one, record(0, "bus-7", 0.0), record(1, "a", 1.0), record(2, "bus-7", 5.0)) == [2]
    assert b"bus-7" not in one.dumps()
    assert begins(one, record(3, "bus-7", 6.0)) == []


def test_what_is_kept_does_not_grow_where_ids_are_used_once() -> None:
    growth, sizes = PartitionGrowth(), []
    for day in range(40):
        many = [record(day * 50 + n, f"{day}-{n}", day * 86_400.0 + n) for n in range(50)]
        list(growth.add(Records.of(many)))
        sizes.append(len(growth.dumps()))
    assert max(sizes[10:]) < 1.1 * sizes[10]


def test_bytes_of_another_program_or_damaged_ones_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    _, growth = counted(fleet(1, 50))
    raw = growth.dumps()
    for broken in (b"", raw[:30], raw[:-3], raw[:60] + bytes([raw[60] ^ 1]) + raw[61:], b"X" + raw):
        with pytest.raises(NoGrowth):
            PartitionGrowth.loads(broken)
    monkeypatch.setattr(growing, "_FORMS", bytes(16))
    with pytest.raises(NoGrowth, match="another version of this program"):
        PartitionGrowth.loads(raw)


@pytest.mark.parametrize("name", ["MEANING", "LAYOUT", "_RULES", "WAITING"])
def test_days_that_mean_something_else_are_not_added_to(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growing, name, "other")
    assert growing._forms() != growing._FORMS


def test_a_recording_has_no_times_of_publication_and_nobody_is_forgotten() -> None:
    far = [record(0, "a", 0.0), record(1, "a", 30 * DAY_MS / 1000)]
    one = Follower()
    one.fold(Records.of([each._replace(timestamp_ms=-1) for each in far]))
    assert not one.forget().size
