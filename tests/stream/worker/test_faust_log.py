"""What a worker writes when its clients repeat themselves."""

from __future__ import annotations

import logging

from stream.worker.cli import Seldom


def line(name: str, created: float, text: str = "Unable connect to node with id %s") -> logging.LogRecord:
    record = logging.LogRecord(name, logging.ERROR, "", 0, text, (1,), None)
    record.created = created
    return record


def test_a_client_says_the_same_once_in_a_while_and_another_thing_at_once() -> None:
    seldom = Seldom(30.0)
    assert seldom.filter(line("aiokafka", 0.0))
    assert not seldom.filter(line("aiokafka", 29.9))
    assert seldom.filter(line("aiokafka", 29.9, "another thing %s"))
    assert seldom.filter(line("aiokafka", 30.1))


def test_our_own_lines_always_pass() -> None:
    seldom = Seldom(30.0)
    assert all(seldom.filter(line("stream.delivery.delivery", now)) for now in (0.0, 0.1, 0.2))
