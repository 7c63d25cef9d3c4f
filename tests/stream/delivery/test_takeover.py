"""Where a new owner starts, for every order that the three offsets can stand in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.delivery.ownership.takeover_plan import REBUILD_RECORDS, Plan, history_after, plan
from stream.kafka.log import CommittedOffset, History, Log, find_cut

LOG = Log(100, 1_000_000)
OFFSETS = st.one_of(st.none(), st.integers(0, 400_000))
KNOWN = History("this", leader_epoch=4)


def marked(offset: int | None, history: History = KNOWN) -> CommittedOffset | None:
    return None if offset is None else CommittedOffset(offset, 7, history)


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
    todo = plan(checkpoint, marked(committed), LOG)
    assert (todo.start, todo.stop, todo.anew) == (start, stop, anew)


def test_a_rebuild_reaches_back_as_far_as_the_verifier_and_the_readme_say() -> None:
    """64,000 records fill the windows of 64 pings of 300 entities three times: not all of them send equally often."""
    assert plan(None, marked(500_000), LOG).start == 500_000 - 64_000


@pytest.mark.parametrize("is_older", [True, False])
@pytest.mark.parametrize("cut", [-1, 450])
def test_an_older_copy_of_the_store_starts_anew_where_the_log_was_ever_cut(cut: int, is_older: bool) -> None:
    """Its states may include records that were cut off since. A world of the simulation found it (seed 10260)."""
    todo = plan(500, marked(700, History("this", leader_epoch=4, cut=cut)), LOG, is_older=is_older)
    assert todo[:3] == ((100, 700, True) if is_older and cut >= 0 else (500, 700, False))


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
    assert plan(checkpoint, marked(committed), LOG, evicted=3)[:3] == (start, committed, anew)


def test_only_what_is_out_of_the_ordinary_is_explained() -> None:
    assert plan(500, marked(700), LOG).why == ""
    assert "moved back" in plan(900, marked(700), LOG).why
    assert "no checkpoint" in plan(None, marked(700), LOG).why
    assert "3 stored states are gone" in plan(500, marked(700), LOG, evicted=3).why


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
    log = Log(begin, begin + length)
    todo = plan(checkpoint, marked(committed), log, evicted=evicted)
    assert log.begin <= todo.start <= todo.stop <= log.end
    # Output goes on exactly where the group's consumer does: at the committed offset, or at the first record if that
    # is not in the log.
    inside = committed is not None and log.begin <= committed <= log.end
    assert todo.stop == (committed if inside else log.begin)
    if checkpoint is not None and not todo.anew:
        assert checkpoint <= max(todo.stop, log.begin), "states have seen records that are still to be answered"
    assert isinstance(todo, Plan)


@pytest.mark.parametrize(
    ("history", "log", "cut"),
    [
        (KNOWN, Log(0, 900, "this", kept=900), None),  # nothing happened
        (KNOWN, Log(0, 900, "this", kept=700), None),  # another leader has what we were given, and more
        (KNOWN, Log(0, 900, "this", kept=650), 650),  # the new leader lacked 50 records, and has got 250 others
        (KNOWN, Log(0, 650, "this", kept=650), 650),  # and none yet
        (KNOWN, Log(660, 900, "this", kept=650), 660),  # retention has come further than the cut
        (KNOWN, Log(0, 900, "other", kept=900), 0),  # the topic was made anew, and has grown past us
        (KNOWN, Log(0, 0, "other", kept=0), 0),  # or is empty
        (KNOWN, Log(0, 900, "this"), None),  # a broker that knows no epochs: its log is long enough
        (KNOWN, Log(0, 650, "this"), 0),  # or it is not, and nobody knows where it was cut
        (History(), Log(0, 900, "this"), None),  # committed by an earlier version, which told nothing of its log
        (History(), Log(0, 650, "this"), 0),
        (KNOWN, Log(0, 900, "", kept=900), None),  # a broker without ids
    ],
)
def test_a_log_was_cut(history: History, log: Log, cut: int | None) -> None:
    assert find_cut(700, history, log) == cut


@pytest.mark.parametrize("checkpoint", [None, 600, 650, 700, 900])
def test_a_log_that_was_cut_is_answered_from_the_cut_on_and_no_stored_state_is_used(checkpoint: int | None) -> None:
    """A checkpoint is written in parts: below its offset there may be states of records behind it."""
    log = Log(0, 900, "this", kept=650, kept_epoch=3)
    todo = plan(checkpoint, marked(700), log)
    assert (todo.stop, todo.anew, todo.cut) == (650, True, True)
    assert "650" in todo.why
    assert "700" in todo.why
    assert history_after(todo, marked(700), log) == History("this", leader_epoch=3, cut=650)


def test_nothing_committed_for_a_checkpoint_may_be_a_topic_made_anew_and_is_told_as_such() -> None:
    """Brokers delete the offsets of a group together with their topic."""
    assert plan(900, None, Log(0, 300, "other")).cut
    assert plan(200, None, Log(0, 300, "other")).cut
    assert not plan(0, None, Log(0, 300, "other")).cut, "there is nothing to go back from"
    assert history_after(plan(200, None, LOG), None, LOG).cut == 100


def test_of_two_cuts_the_lower_one_is_kept() -> None:
    log = Log(0, 900, "this", kept=650, kept_epoch=3)
    for before, after in ((300, 300), (680, 650), (-1, 650)):
        mark = CommittedOffset(700, 7, KNOWN._replace(cut=before))
        assert history_after(plan(None, mark, log), mark, log).cut == after


def test_what_retention_took_unanswered_is_counted_and_stays_counted() -> None:
    todo = plan(50, marked(60), LOG)
    assert (todo.stop, todo.lost, todo.cut) == (100, 40, False)
    assert "60 to 100" in todo.why
    assert history_after(todo, CommittedOffset(60, 7, KNOWN._replace(lost=2)), LOG).lost == 42


HISTORIES = st.builds(History, st.sampled_from(["", "this", "other"]), st.integers(-1, 5))
LOGS = st.builds(
    lambda begin, length, topic, kept: Log(begin, begin + length, topic, None if kept is None else min(kept, length)),
    st.integers(0, 100),
    st.integers(0, 300),
    st.sampled_from(["", "this"]),
    st.one_of(st.none(), st.integers(0, 300)),
)


@given(checkpoint=OFFSETS, offset=st.integers(0, 400), history=HISTORIES, log=LOGS)
def test_a_takeover_goes_back_only_where_the_log_was_cut_and_ahead_only_where_retention_took_records(
    checkpoint: int | None, offset: int, history: History, log: Log
) -> None:
    mark = CommittedOffset(offset, 7, history)
    todo = plan(checkpoint, mark, log)
    assert log.begin <= todo.start <= todo.stop <= log.end
    assert todo.cut == (find_cut(offset, history, log) is not None)
    assert todo.lost == (0 if todo.cut else max(0, log.begin - offset))
    if not todo.cut:
        assert todo.stop == offset + todo.lost
    # Committed like this, the same log is no other one, and nothing is told twice.
    again = CommittedOffset(todo.stop, 7, history_after(todo, mark, log))
    next_ = plan(None, again, log._replace(kept=None if log.kept is None else max(log.kept, todo.stop)))
    assert (next_.stop, next_.cut, next_.lost) == (todo.stop, False, 0)


@given(
    offset=st.integers(0),
    epoch=st.integers(0),
    history=st.builds(History, st.sampled_from(["", "5f0e"]), *[st.integers(-1)] * 3),
)
def test_a_commit_tells_all_that_it_was_given(offset: int, epoch: int, history: History) -> None:
    history = history._replace(lost=max(0, history.lost))
    mark = CommittedOffset(offset, epoch, history)
    assert CommittedOffset.of(offset, mark.metadata) == mark


@pytest.mark.parametrize(
    "metadata", ["", "epoch=", "epoch=x", "somebody's", ";;=;", "leader_epoch=-7;cut=none", "epoch=-1"]
)
def test_metadata_that_is_not_ours_tells_nothing(metadata: str) -> None:
    assert CommittedOffset.of(5, metadata) == CommittedOffset(5)


def test_metadata_of_the_version_before_and_of_the_next_one_is_read() -> None:
    assert CommittedOffset.of(5, "epoch=3") == CommittedOffset(5, 3)
    assert CommittedOffset.of(5, "epoch=3;leader_epoch=2;color=red") == CommittedOffset(5, 3, History(leader_epoch=2))
