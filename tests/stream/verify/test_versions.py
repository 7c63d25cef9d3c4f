"""Which version a forecast had to ask: what a worker says that heard the same, or one before it if it is late."""

from __future__ import annotations

import pytest
from atlas_world import TOPIC, Entry, entry, ledger, name, withdrawn
from hypothesis import given
from hypothesis import strategies as st

from stream.verify.versions import Announced, ForecastAtlas

OLD, NEW = entry(1, "serving", {0: 100, 1: 50}), entry(2, "serving", {0: 200, 1: 150})


def announced(*log: Entry) -> Announced:
    found = Announced(TOPIC)
    for one in log:
        found.add(*one)
    return found


@pytest.mark.parametrize(
    ("number", "offset", "due"),
    [(0, 99, None), (0, 100, 1), (0, 199, 1), (0, 200, 2), (1, 149, 1), (1, 150, 2), (2, 10**6, None)],
)
@pytest.mark.parametrize("late", [False, True])
def test_a_forecast_may_name_the_version_that_is_due_and_if_it_is_late_one_before_it(
    number: int, offset: int, due: int | None, late: bool
) -> None:
    found = announced(OLD, NEW)
    for version in (None, 1, 2, 3):
        if version == due:
            right = True
        elif not late or version == 3:
            right = False
        else:
            right = version is None or (version == 1 and due == 2)
        named = ForecastAtlas(None if version is None else name(version), late)
        assert (found.wrong(number, offset, named) is None) == right, version


def test_what_is_announced_and_never_serves_or_belongs_to_another_topic_answers_nothing() -> None:
    others = entry(1, "announced", {0: 0}), entry(2, "serving", {0: 0}, "another"), entry(3, "serving", {0: 5})
    found = announced(*others, withdrawn(1), (b"weights:small", b"{}"), (b"atlas:", None), (None, b"{"))
    assert found.due(0, 4) == (None,)
    assert found.due(0, 5) == (name(3),)
    for version in (1, 2):
        why = found.wrong(0, 5, ForecastAtlas(name(version), late=True))
        assert why is not None
        assert "does not serve" in why


@pytest.mark.parametrize("gone", [None, b"{", entry(1, "serving", {0: 0}, "another")[1]])
def test_who_answered_before_a_version_retired_and_who_is_behind_are_both_right(gone: bytes | None) -> None:
    found = announced(OLD, NEW, (withdrawn(1)[0], gone))
    for named in (ForecastAtlas(name(1), late=False), ForecastAtlas(None, late=False)):
        assert found.wrong(0, 150, named) is None
        assert found.wrong(0, 250, named) is not None
    third = entry(3, "serving", {0: 300, 1: 0})
    found = announced(OLD, NEW, third, withdrawn(2))
    assert list(found.due(0, 250)) == [name(2), name(1)], "with a version before it, no ping has none"
    assert list(found.due(0, 300)) == [name(3)]
    assert announced(OLD, (name(1).encode(), None)).due(0, 150) == (name(1),), "it has another key"
    assert announced(OLD, withdrawn(1), OLD).due(0, 150) == (name(1),), "it serves again"


states = st.sampled_from(["announced", "serving"])
entries = st.builds(
    lambda number, state, first: entry(number, state, {0: first}), st.integers(1, 5), states, st.integers(0, 30)
)


@given(st.lists(entries, max_size=12), st.integers(0, 40))
def test_it_is_what_a_worker_s_ledger_says_where_nothing_retires(log: list[Entry], offset: int) -> None:
    assert announced(*log).due(0, offset) == (ledger(*log).version_at(0, offset),)


@given(st.lists(st.integers(1, 4), unique=True), st.data())
def test_whatever_retires_when_what_a_worker_says_is_right(retired: list[int], data: st.DataObject) -> None:
    """It has heard of all versions that may answer its ping, and of some that retired."""
    log = [entry(number, "serving", {0: 10 * number}) for number in range(1, 5)]
    for number in retired:
        begins = log.index(entry(number, "serving", {0: 10 * number}))
        log.insert(data.draw(st.integers(begins + 1, len(log))), withdrawn(number))
    offset = data.draw(st.integers(0, 50))
    begun = [place for place, (_, value) in enumerate(log) if value is not None][: offset // 10]
    heard = data.draw(st.integers(begun[-1] + 1 if begun else 0, len(log)))
    said = ForecastAtlas(ledger(*log[:heard]).version_at(0, offset), late=False)
    assert announced(*log).wrong(0, offset, said) is None
