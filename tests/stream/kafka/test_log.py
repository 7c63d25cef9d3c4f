"""Where a member goes on in a log, by what it has stored and what brokers say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.kafka.log import History, Log, Seen, Start, start_of

KNOWN = History("this", 3)
NOW = 5  # the epoch of the present leader


def test_what_is_known_of_a_log_is_read_as_it_was_written_and_earlier_releases_wrote_nothing() -> None:
    seen = Seen(41, History("5f0e", 2))
    assert seen.text == "read=41;topic_id=5f0e;leader_epoch=2"
    assert Seen.of(seen.text) == seen
    assert Seen.of("") == Seen.of("moved by hand") == Seen() == Seen.of(Seen().text)
    assert len(Seen(2**62, History("0" * 32, 2**31)).text) < 100


@pytest.mark.parametrize(
    ("history", "log", "offset", "is_cut", "is_guess"),
    [
        (KNOWN, Log(0, 900, "this", kept=900), 700, False, False),  # nothing happened
        (KNOWN, Log(0, 900, "this", kept=700), 700, False, False),  # another leader has what was read, and more
        (KNOWN, Log(0, 900, "this", kept=650), 650, True, False),  # it lacked 50 records, and has got 250 others
        (KNOWN, Log(0, 650, "this", kept=650), 650, True, False),  # and none yet
        (KNOWN, Log(660, 900, "this", kept=650), 660, True, False),  # retention has come further than the cut
        (KNOWN, Log(5, 900, "other", kept=900), 5, True, False),  # the topic was made anew, and has grown past us
        (KNOWN, Log(0, 900, "this"), 700, False, False),  # a broker without epochs: its log is long enough
        (KNOWN, Log(5, 650, "this"), 5, True, True),  # or it is not, and nobody knows where it was cut
        (History(), Log(0, 900, "this"), 700, False, False),  # stored by an earlier release
        (History(), Log(5, 650, "this"), 5, True, True),
        (KNOWN, Log(750, 900, "this", kept=900), 750, False, False),  # retention
    ],
)
def test_it_goes_on_where_the_records_end_that_were_read_and_are_there(
    history: History, log: Log, offset: int, is_cut: bool, is_guess: bool
) -> None:
    start = start_of(700, Seen(-1 if history == History() else 700, history), log._replace(leader_epoch=NOW))
    assert (start.offset, start.is_cut, start.is_guess) == (offset, is_cut, is_guess)
    assert start.lost == max(0, log.begin - 700)
    assert bool(start.why) == (is_cut or start.lost > 0)
    assert start.seen == Seen(min(700, offset) if is_cut else 700, History(log.topic_id, NOW))


def test_markers_behind_the_last_record_may_be_of_a_newer_leader() -> None:
    """It began to lead between the last record and the end of its transaction: no record is missing."""
    start = start_of(702, Seen(700, KNOWN), Log(0, 702, "this", kept=700, leader_epoch=4))
    assert (start.offset, start.is_cut, start.why) == (700, False, "")


def test_records_that_are_read_once_more_may_have_been_cut_as_well() -> None:
    """The stored offset is before those that the owner before us has read, and its answers include these."""
    start = start_of(600, Seen(700, KNOWN), Log(0, 900, "this", kept=650))
    assert (start.offset, start.kept, start.is_cut) == (600, 650, True)


def test_of_a_log_of_which_nothing_is_stored_no_record_was_read() -> None:
    log = Log(5, 900, "this", leader_epoch=NOW)
    assert start_of(None, Seen(), log) == Start(5, Seen(5, History("this", NOW)), log, 5)


def test_brokers_that_do_not_tell_who_leads_leave_it_to_the_records() -> None:
    assert start_of(700, Seen(700, KNOWN), Log(0, 900, "this", kept=700)).seen == Seen(700, KNOWN)
    cut = start_of(700, Seen(700, KNOWN), Log(0, 900, "this", kept=650, kept_epoch=2))
    assert cut.seen == Seen(650, History("this", 2))


@given(st.integers(0, 1000), st.integers(0, 1000), st.integers(0, 500), st.integers(0, 500), st.booleans())
def test_nothing_that_is_new_is_skipped(stored: int, read: int, begin: int, length: int, tells: bool) -> None:
    log = Log(begin, begin + length, "this", min(begin + length, read - 7) if tells else None)
    start = start_of(stored, Seen(read, KNOWN), log)
    assert begin <= start.offset <= max(begin, min(stored, log.end))
    assert log.kept is None or start.offset <= max(begin, log.kept)


def test_records_that_were_read_before_change_nothing_of_what_is_known() -> None:
    """They are of an earlier leader: by its epoch the records behind them would seem to be gone."""
    seen = Seen(700, KNOWN)
    assert seen.after(650, 1) == seen
    assert seen.after(701, 4) == Seen(701, History("this", 4))
    assert seen.after(701, -1) == Seen(701, KNOWN)
