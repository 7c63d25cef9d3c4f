"""What a feed says it sent is what it sent, also after a Ctrl-C while a record is on its way."""

from __future__ import annotations

import signal

import pytest

from stream.adapters.files import RecordedRow
from stream.commands.feed import Interrupt, _summary
from stream.commands.feeder import FeedCounts

ROW = RecordedRow(b"e", b"{}", 0)


def press() -> None:
    signal.raise_signal(signal.SIGINT)


def test_it_waits_until_the_record_is_counted() -> None:
    counted: list[RecordedRow] = []

    def send(row: RecordedRow) -> None:
        press()  # the producer has it
        counted.append(row)

    with pytest.raises(KeyboardInterrupt), Interrupt() as interrupt:
        interrupt.after(send)(ROW)
    assert counted == [ROW]


def test_pressed_twice_it_waits_for_nothing() -> None:
    counted: list[RecordedRow] = []

    def stuck(row: RecordedRow) -> None:
        press()
        press()
        counted.append(row)

    with pytest.raises(KeyboardInterrupt), Interrupt() as interrupt:
        interrupt.after(stuck)(ROW)
    assert not counted


def test_between_records_it_comes_at_once_and_behind_the_feed_as_before() -> None:
    before = signal.getsignal(signal.SIGINT)
    with Interrupt() as interrupt:
        interrupt.after(lambda row: None)(ROW)
        with pytest.raises(KeyboardInterrupt):
            press()
    assert signal.getsignal(signal.SIGINT) is before


def test_the_summary_of_one_record_is_singular(capsys: pytest.CaptureFixture[str]) -> None:
    _summary(FeedCounts(sent=1, odd=1, oversized=1), "pings", 1.0, json=False)
    sent, odd, oversized = capsys.readouterr().out.splitlines()
    assert sent == "1 record to pings in 1.0 s (1/s)"
    assert odd.startswith("1 of them has no entity id")
    assert oversized.startswith("1 more was larger")
