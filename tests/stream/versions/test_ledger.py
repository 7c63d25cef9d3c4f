"""Which version answers which ping: worked by hand, and whatever announcer, pings and workers do in turn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from atlas_world import World, entry, ledger, name, run_at_random, withdrawn
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.versions.ledger import KNOWN_AHEAD, MIN_MARGIN, first_offsets
from stream.wire import loads_version


def test_a_record_has_the_fields_that_the_topic_promises() -> None:
    key, raw = entry(7, "serving", {0: 12, 10: 3})
    assert key == b"atlas:0000000000000007"
    assert raw == (
        b'{"kind":"atlas","version":"0000000000000007","state":"serving","from":{"0":12,"10":3},'
        b'"topic":"pathcast.pings.v1","includes":{},"contains":{},"issued_ts":7}'
    )
    assert loads_version(raw).first == {0: 12, 10: 3}


def test_the_last_announced_of_those_that_begin_by_then_answers() -> None:
    found = ledger(
        entry(1, "serving", {0: 100, 1: 0}), entry(2, "serving", {0: 50}), entry(3, "serving", {0: 80, 1: 60})
    )
    at = {offset: found.version_at(0, offset) for offset in (49, 50, 79, 80, 100, 10**12)}
    assert at == {49: None, 50: name(2), 79: name(2), 80: name(3), 100: name(3), 10**12: name(3)}, "1 is never asked"
    assert [found.version_at(1, offset) for offset in (0, 59, 60)] == [name(1), name(1), name(3)]
    assert found.version_at(2, 5) is None, "no version names this partition"


def test_many_offsets_are_answered_as_each_alone() -> None:
    found = ledger(entry(1, "serving", {0: 5}), entry(2, "serving", {0: 9}), entry(3, "announced", {0: 12}))
    answering, offsets = found.answering(0), np.arange(20)
    names = [None if i < 0 else answering.versions[i] for i in answering.at(offsets).tolist()]
    assert names == [found.version_at(0, offset) for offset in offsets.tolist()]


def test_what_is_announced_answers_nothing_and_leaves_open_what_it_may() -> None:
    announced = entry(2, "announced", {0: 20, 1: 30})
    found = ledger(entry(1, "serving", {0: 5}), announced)
    assert (found.version_at(0, 25), found.first_undecided(0), found.first_undecided(2)) == (name(1), 20, None)
    found.add(*entry(2, "serving", {0: 20, 1: 30}))
    assert (found.version_at(0, 25), found.first_undecided(0)) == (name(2), None)
    found = ledger(announced, withdrawn(2))
    assert (found.version_at(0, 25), found.first_undecided(0)) == (None, None)


def test_records_that_are_of_no_version_change_nothing() -> None:
    _, raw = entry(2, "serving", {0: 5})
    others = [(b"weights:small", raw), (None, raw), (b"\xff", b""), (b"atlas:x", raw), (withdrawn(3)[0], raw)]
    assert ledger(entry(1, "serving", {0: 5}), *others).serving == ledger(entry(1, "serving", {0: 5})).serving


KEY, RAW = entry(2, "serving", {0: 5})
NO_RECORDS = {
    "empty": b"{}",
    "not text": b"\xff",
    "negative offset": RAW.replace(b":5}", b":-5}"),
    "offset beyond int64": RAW.replace(b":5}", b":%d}" % 2**63),
    "offset beyond all": RAW.replace(b":5}", b":%d}" % 10**30),
    "nested deeply": RAW.replace(b'"contains":{}', b'"contains":{"a":' + b"[" * 10**5 + b"]" * 10**5 + b"}"),
    "beyond floats": RAW.replace(b":5}", b":1e400}"),
    "no number": RAW.replace(b":5}", b":NaN}"),
    "too many partitions": entry(2, "serving", dict.fromkeys(range(5_000), 5))[1],
    "too long": RAW.replace(b'"contains":{}', b'"contains":{"a":"' + b"x" * 10**6 + b'"}'),
    "a path": RAW.replace(name(2).encode(), b"../../../etc/pwd"),
    "another version": entry(1, "serving", {0: 5})[1],
    "another topic": entry(2, "serving", {0: 5}, topic="other.pings.v1")[1],
    "null": None,
}


@pytest.mark.parametrize("value", NO_RECORDS.values(), ids=NO_RECORDS.keys())
def test_what_is_no_record_of_its_version_withdraws_it_as_a_compacted_log_says(value: bytes | None) -> None:
    found = ledger(entry(1, "serving", {0: 3}), (KEY, RAW), (KEY, value))
    assert (found.version_at(0, 5), found.get(name(2))) == (name(1), None)


def test_the_largest_offset_that_a_log_can_have_is_one() -> None:
    assert ledger(entry(1, "serving", {0: 2**63 - 1})).version_at(0, 2**63 - 1) == name(1)


def test_what_serves_is_gathered_once_for_all_that_ask_until_a_record_comes() -> None:
    found = ledger(entry(1, "serving", {0: 5}), entry(2, "announced", {0: 9}))
    serving, announced = found.serving, found.announced
    assert (found.serving is serving, found.announced is announced) == (True, True)
    found.add(*entry(2, "serving", {0: 9}))
    assert ([one.version for one in found.serving], list(found.announced)) == ([name(1), name(2)], [])


def test_a_version_retires_when_others_answer_all_that_is_left() -> None:
    log = [entry(1, "serving", {0: 5, 1: 5}), entry(2, "serving", {0: 10, 1: 20}), entry(3, "serving", {0: 30, 1: 40})]
    assert ledger(*log).list_superseded({0: 0, 1: 0}) == []
    assert ledger(*log).list_superseded({0: 10, 1: 19}) == [], "1 answers offset 19 of partition 1"
    assert ledger(*log).list_superseded({0: 10, 1: 20}) == [name(1)]
    assert ledger(*log).list_superseded({0: 100, 1: 100}) == [name(1), name(2)], "the last one serves on"


def test_the_first_offset_is_what_the_lead_brings_ahead() -> None:
    assert first_offsets({0: 100, 1: 7}, {0: 600.2, 1: 3.0}) == {0: 701, 1: 7 + MIN_MARGIN}


# -- whatever comes in between ----------------------------------------------------------------------------------------


actions = st.lists(
    st.tuples(
        st.sampled_from(["ping", "ping", "announce", "announce", "work", "work", "work", "die"]), st.integers(0, 40)
    ),
    max_size=120,
)


@settings(max_examples=200, deadline=None)
@given(actions)
def test_whoever_follows_the_rule_answers_as_the_whole_log_says(todo: list[tuple[str, int]]) -> None:
    world = World()
    world.run(todo)
    assert world.agrees()


def shows(**broken: Any) -> bool:
    """Whether one of these worlds, with this broken, answers otherwise than its log says."""
    return any(not run_at_random(World(**broken), seed).agrees() for seed in range(400))


def test_the_same_worlds_show_each_way_to_break_the_rule() -> None:
    assert not shows()
    assert shows(sure=lambda end: 10**9), "a worker that looks once"
    assert shows(sure=lambda end: end + MIN_MARGIN), "one that trusts a look for as long as the first step says"
    assert shows(confirms=False), "an announcer without its second step"
    assert shows(heeds=False), "a worker that does not wait for what is announced"


def test_the_worlds_are_worth_looking_at() -> None:
    """Versions serve in them, some are withdrawn, and pings are answered by several."""
    worlds = [run_at_random(World(), seed) for seed in range(50)]
    assert sum(len(ledger(*world.models).serving) for world in worlds) > 100
    assert sum(value is None for world in worlds for _, value in world.models) > 50
    assert len({one for world in worlds for given_ in world.answers.values() for one in given_}) > 5


@settings(max_examples=50, deadline=None)
@given(actions, st.data())
def test_a_compacted_log_says_the_same(todo: list[tuple[str, int]], data: st.DataObject) -> None:
    world = World()
    world.run(todo)
    log = list(world.models)
    for _ in range(3 if log else 0):  # damaged records, after those of their keys
        place = data.draw(st.integers(0, len(log) - 1))
        log.insert(data.draw(st.integers(place + 1, len(log))), (log[place][0], b"{"))
    last = {key: place for place, (key, _) in enumerate(log)}
    kept = [one for place, one in enumerate(log) if last[one[0]] == place or data.draw(st.booleans())]
    whole, compacted = ledger(*log), ledger(*kept)
    for number in (0, 1):
        offsets = np.arange(world.ends[number] + 50)
        assert [whole.version_at(number, at) for at in offsets] == [compacted.version_at(number, at) for at in offsets]


def test_a_look_is_good_for_less_than_what_lies_ahead() -> None:
    assert 0 < KNOWN_AHEAD < MIN_MARGIN
