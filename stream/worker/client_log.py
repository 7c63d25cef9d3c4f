"""Replaces hundreds of log lines of aiokafka's clients by one line of ours.

When brokers go away, each client logs errors about each of them, several times a second, long before it is clear
whether Kafka is away or only another broker becomes the leader. So these lines are held for HOLD_S, one of each kind:

    Kafka is found to be away    they are dropped, and so are later ones: `stream.worker.monitor.monitor` has logged it
    they still come              the first is logged, with the time at which it came
    they have ceased             the first is logged as INFO: the client has tried again, with success

A line of our own about a retriable error is dropped while Kafka is away, and passes at once before and after.
Everything else passes at any time: lines below WARNING, and tracebacks of errors that are not a KafkaError.
"""

from __future__ import annotations

import asyncio
import copy
import logging
import threading
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from aiokafka.errors import KafkaError

from stream.worker.monitor.auth_monitor import CLIENT
from stream.worker.monitor.broker_monitor import AWAY_S

HOLD_S: Final = AWAY_S + 5.0  # longer than it takes to find that Kafka is away
CALM_S: Final = 5.0  # after so long without a line of its kind, a complaint has ceased: clients retry after some 100 ms
LOOK_S: Final = 1.0
RELEASED: Final = "released_by_client_lines"  # an attribute of records that were held


class Complaint(NamedTuple):
    """The lines of one kind that came without a pause of CALM_S between them."""

    first: logging.LogRecord
    since_s: float
    latest_s: float

    def has_ceased(self, now_s: float) -> bool:
        return now_s - self.latest_s > CALM_S

    def is_ripe(self, now_s: float) -> bool:
        """Returns whether it was held so long that, if Kafka were away, we would know by now."""
        return now_s - (self.latest_s if self.has_ceased(now_s) else self.since_s) >= HOLD_S


class ClientLogFilter(logging.Filter):
    """Filters the root logger's handlers while `run` runs. Clients log on threads of their own."""

    def __init__(self, is_away: Callable[[], bool], clock: Callable[[], float] = time.monotonic) -> None:
        """`is_away` returns whether it was logged that Kafka is away; `clock` returns seconds."""
        super().__init__()
        self._is_away = is_away
        self._clock = clock
        self._waiting: dict[tuple[str, str], Complaint] = {}  # by kind
        self._lock = threading.Lock()
        self._handlers: list[logging.Handler] = []

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING or hasattr(record, RELEASED):
            return True
        if not _is_of_client(record):
            return not (_tells_of_retry(record) and self._is_away())
        if not self._is_away():
            self._hold(record, self._clock())
        return False

    def _hold(self, record: logging.LogRecord, now_s: float) -> None:
        kind = record.name, str(record.msg)
        with self._lock:
            before = self._waiting.get(kind)
            if before is None or before.has_ceased(now_s):
                self._waiting[kind] = Complaint(record, now_s, now_s)
            else:
                self._waiting[kind] = before._replace(latest_s=now_s)

    def settle(self) -> None:
        """Drops the held lines if Kafka is away; otherwise logs those that were held for long enough."""
        now_s = self._clock()
        if self._is_away():
            self._take(lambda complaint: True)
            return
        for complaint in self._take(lambda complaint: complaint.is_ripe(now_s)):
            self._log(complaint, ceased=complaint.has_ceased(now_s))

    def _take(self, which: Callable[[Complaint], bool]) -> list[Complaint]:
        with self._lock:
            kinds = [kind for kind, complaint in self._waiting.items() if which(complaint)]
            return [self._waiting.pop(kind) for kind in kinds]

    def _log(self, complaint: Complaint, *, ceased: bool = False) -> None:
        record = copy.copy(complaint.first)  # other handlers may have kept the record itself
        setattr(record, RELEASED, True)
        if ceased:
            record.levelno, record.levelname = logging.INFO, logging.getLevelName(logging.INFO)
        for handler in self._handlers:
            handler.handle(record)

    async def run(self) -> None:
        """Filters until it is cancelled. It then logs the held lines, because they may show what ended the worker."""
        self._handlers = list(logging.getLogger().handlers)
        for handler in self._handlers:
            handler.filters.insert(0, self)  # before filters that count lines: a held line is not logged yet
        try:
            while True:
                await asyncio.sleep(LOOK_S)
                self.settle()
        finally:
            for handler in self._handlers:
                handler.removeFilter(self)
            for complaint in self._take(lambda complaint: True):
                self._log(complaint)


def _is_of_client(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    return record.name.partition(".")[0] == CLIENT and isinstance(error, KafkaError | None)


def _tells_of_retry(record: logging.LogRecord) -> bool:
    arguments = record.args if isinstance(record.args, tuple) else ()
    return any(isinstance(argument, KafkaError) and argument.retriable for argument in arguments)
