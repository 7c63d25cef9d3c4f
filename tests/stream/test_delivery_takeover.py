"""Where a new owner starts, for every order that the three offsets can stand in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.source import Bounds
from stream.takeover import REBUILD_RECORDS, Plan, plan

LOG = Bounds(100, 1_000_000)
OFFSETS = st.one_of(st.none(), st.integers(0, 400_000))


@pytest.mark.parametrize(
    ("checkpoint", "committed", "start", "stop", "anew"),
    [
        (500, 700, 500, 700, False),  # the ordinary crash: what was committed after the checkpoint is replayed
        (700, 700, 700, 700, False),  # a clean handover: nothing to replay
        (None, None, 100, 100, False),  # a group that never ran
        (None, 700, 100, 700, False),  # Redis lost everything: back to the log's start
        (None, 500_000, 500_000 - REBUILD_RECORDS, 500_000, False),  # or as far as a rebuild goes
        (50, 700, 100, 700, False),  # retention has deleted a part of what should be replayed
        (50, 60, 100, 100, False),  # or all of it, and unread records, too
        (900, 700, 100, 700, True),  # somebody moved the committed offset back
        (900, None, 100, 100, True),  # or it expired
        (900, 2_000_000, 100, 100, True),  # or the topic was made again, and is shorter
    ],
)
def test_a_takeover_starts_at(checkpoint: int | None, committed: int | None, start: int, stop: int, anew: bool) -> None:
    todo = plan(checkpoint, committed, LOG)
    assert (todo.start, todo.stop, todo.anew) == (start, stop, anew)


@pytest.mark.parametrize(
    ("checkpoint", "committed", "start", "anew"),
    [
        (500, 700, 100, False),
        (499_000, 500_000, 500_000 - REBUILD_RECORDS, False),
        (400_000, 500_000, 400_000, False),  # the checkpoint is further back than a rebuild goes
        (50, 700, 100, False),
        (None, 700, 100, False),
        (900, 700, 100, True),  # all states are forgotten, and so it does not matter which were lost
    ],
)
def test_where_states_were_lost_the_replay_begins_as_without_a_checkpoint(
    checkpoint: int | None, committed: int, start: int, anew: bool
) -> None:
    assert plan(checkpoint, committed, LOG, evicted=3)[:3] == (start, committed, anew)


def test_only_what_is_out_of_the_ordinary_is_explained() -> None:
    assert plan(500, 700, LOG).why == ""
    assert "moved back" in plan(900, 700, LOG).why
    assert "no checkpoint" in plan(None, 700, LOG).why
    assert "3 stored states are gone" in plan(500, 700, LOG, evicted=3).why


@given(
    checkpoint=OFFSETS,
    committed=OFFSETS,
    begin=st.integers(0, 1000),
    length=st.integers(0, 300_000),
    evicted=st.integers(0, 1),
)
def test_no_plan_skips_an_uncommitted_record_or_reads_what_is_not_there(
    checkpoint: int | None, committed: int | None, begin: int, length: int, evicted: int
) -> None:
    log = Bounds(begin, begin + length)
    todo = plan(checkpoint, committed, log, evicted=evicted)
    assert log.begin <= todo.start <= todo.stop <= log.end
    # Output goes on exactly where the group's consumer does: at the committed offset, or at the first record if that
    # is not in the log.
    inside = committed is not None and log.begin <= committed <= log.end
    assert todo.stop == (committed if inside else log.begin)
    if checkpoint is not None and not todo.anew:
        assert checkpoint <= max(todo.stop, log.begin), "states have seen records that are still to be answered"
    assert isinstance(todo, Plan)
