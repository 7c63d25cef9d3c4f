"""What a worker's log holds of its Kafka clients' complaints, while Kafka is there and while it is away."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import suppress

import pytest
from aiokafka.errors import KafkaConnectionError, TopicAuthorizationFailedError

from stream.worker import client_log
from stream.worker.client_log import CALM_S, HOLD_S, ClientLogFilter

UNREACHABLE = "Unable connect to node with id %s"


class Shown(logging.Handler):
    """What people would see."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.levelname} {record.getMessage()}")


class Log:
    """A root handler under the filter, Kafka, and a clock."""

    def __init__(self, shown: Shown) -> None:
        self.shown = shown
        self.away = False
        self.now_s = 0.0
        self.filter = ClientLogFilter(lambda: self.away, lambda: self.now_s)
        self.client = logging.getLogger("aiokafka.client")

    def after(self, seconds: float) -> list[str]:
        """All lines that are to be seen then."""
        self.now_s += seconds
        self.filter.settle()
        return self.shown.lines


@pytest.fixture
def root() -> Iterator[Shown]:
    shown = Shown()
    logging.getLogger().addHandler(shown)
    yield shown
    logging.getLogger().removeHandler(shown)


@pytest.fixture
async def log(root: Shown) -> object:
    made = Log(root)
    task = asyncio.create_task(made.filter.run())
    await asyncio.sleep(0)
    yield made
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_complaints_that_come_before_kafka_is_known_to_be_away_are_never_shown(log: Log) -> None:
    for broker in (1, 2, 3):
        log.client.error(UNREACHABLE, broker)
    assert log.after(HOLD_S - 1) == []
    log.away = True
    for broker in (1, 2, 3):
        log.client.error(UNREACHABLE, broker)
    assert log.after(1) == []
    log.away = False
    assert log.after(10 * HOLD_S) == []


async def test_a_complaint_that_goes_on_is_shown_once_and_late_where_kafka_stays(log: Log) -> None:
    for broker in range(7):
        log.client.error(UNREACHABLE, broker)
        assert log.after(2) == []
    log.client.error(UNREACHABLE, 7)
    assert log.after(2) == ["ERROR Unable connect to node with id 0"]


async def test_a_complaint_that_has_ceased_is_no_error(log: Log) -> None:
    """A group's coordinator is not there yet when the first worker of a new cluster starts."""
    for _ in range(3):
        log.client.error("Group Coordinator Request failed: %s", "not available")
    assert log.after(HOLD_S - 0.1) == []
    assert log.after(0.1) == ["INFO Group Coordinator Request failed: not available"]
    log.client.error(UNREACHABLE, 4)
    assert log.after(HOLD_S)[1:] == ["INFO Unable connect to node with id 4"]


async def test_complaints_before_a_calm_make_those_after_it_no_older(log: Log) -> None:
    """At the start of a worker its group has no coordinator yet; ten seconds later the brokers die."""
    log.client.error("Group Coordinator Request failed: %s", "not available")
    log.after(CALM_S + 5)
    for _ in range(5):
        log.client.error("Group Coordinator Request failed: %s", "refused")
        assert log.after(2) == []
    log.away = True
    assert log.after(2) == []


async def test_everything_else_is_shown_at_once_also_while_kafka_is_away(
    log: Log, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, log.client.name)
    for away in (False, True):
        log.away = away
        log.shown.lines.clear()
        logging.getLogger("stream.delivery.delivery").warning("ours")
        logging.getLogger("faust.app").error("Faust's")
        logging.getLogger("aiokafkaesque").error("a stranger's")
        try:
            raise ZeroDivisionError
        except ZeroDivisionError:
            log.client.exception("a bug of the client")
        log.client.info("joined the group")
        assert log.shown.lines == [
            "WARNING ours",
            "ERROR Faust's",
            "ERROR a stranger's",
            "ERROR a bug of the client",
            "INFO joined the group",
        ]


async def test_a_traceback_of_an_unreachable_broker_is_a_complaint_as_others_are(log: Log) -> None:
    try:
        raise KafkaConnectionError("refused")
    except KafkaConnectionError:
        log.client.exception("Unexpected error in sender routine")
    log.away = True
    assert log.after(HOLD_S) == []


async def test_our_own_line_about_a_retry_is_dropped_only_while_kafka_is_away(log: Log) -> None:
    ours, said = logging.getLogger("stream.delivery.guarantees"), "a transaction failed (%s): asking what became of it"
    ours.warning(said, KafkaConnectionError("refused"))
    log.away = True
    ours.warning(said, KafkaConnectionError("refused"))
    ours.warning(said, TopicAuthorizationFailedError("pings"))
    log.away = False
    ours.warning(said, KafkaConnectionError("refused again"))
    told = [line.split("Error: ")[1].split(")")[0] for line in log.shown.lines]
    assert told == ["refused", "pings", "refused again"]


async def test_what_waits_when_the_worker_ends_is_shown_then(root: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_log, "LOOK_S", 0.001)
    log = Log(root)
    task = asyncio.create_task(log.filter.run())
    await asyncio.sleep(0)
    log.client.error(UNREACHABLE, 7)
    await asyncio.sleep(0.01)
    assert root.lines == []
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert root.lines == ["ERROR Unable connect to node with id 7"]
    log.client.error(UNREACHABLE, 8)
    assert root.lines[1:] == ["ERROR Unable connect to node with id 8"], "nobody filters any more"
