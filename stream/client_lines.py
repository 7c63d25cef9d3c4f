"""One line of ours instead of hundreds of Kafka's clients. Knows log records; knows no broker.

When brokers go away, each client complains about each of them, several times a second, long before it is clear whether
Kafka is away or one broker makes way for another. So complaints wait for HOLD_S, one of each kind:

    Kafka is found to be away    they are dropped, and so are those that follow: `stream.watch` has said it in one line
    they still come              the first is logged, with the time at which it came
    they have ceased             it is logged as INFO: the client has tried again, and that was all that it took

Tracebacks, lines below WARNING and the lines of everything else pass at once.
"""

from __future__ import annotations

import asyncio
import copy
import logging
import threading
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from stream.broker_watch import AWAY_S

CLIENTS: Final = ("aiokafka", "kafka")  # the loggers, and all below them
HOLD_S: Final = AWAY_S + 5.0  # longer than it takes to find that Kafka is away
CALM_S: Final = 5.0  # without another one of its kind: clients try again after some 100 ms (`retry_backoff_ms`)
LOOK_S: Final = 1.0
RELEASED: Final = "released_by_client_lines"  # an attribute of records that have waited


class Complaint(NamedTuple):
    first: logging.LogRecord
    since_s: float
    latest_s: float


class ClientLines(logging.Filter):
    """A filter of the root logger's handlers, while `run` runs. Clients log on threads of their own."""

    def __init__(self, is_away: Callable[[], bool], clock: Callable[[], float] = time.monotonic) -> None:
        """`is_away` tells whether the log says that Kafka is away; `clock` gives seconds."""
        super().__init__()
        self._is_away = is_away
        self._clock = clock
        self._waiting: dict[tuple[str, str], Complaint] = {}  # by kind
        self._lock = threading.Lock()
        self._handlers: list[logging.Handler] = []

    def filter(self, record: logging.LogRecord) -> bool:
        if not _is_complaint(record) or hasattr(record, RELEASED):
            return True
        if not self._is_away():
            kind, now_s = (record.name, str(record.msg)), self._clock()
            with self._lock:
                before = self._waiting.get(kind)
                self._waiting[kind] = (
                    Complaint(record, now_s, now_s) if before is None else before._replace(latest_s=now_s)
                )
        return False

    def settle(self) -> None:
        """Drop what waits if Kafka is away; else log what has waited for long enough."""
        now_s = self._clock()
        if self._is_away():
            self._taken(now_s)
            return
        for complaint in self._taken(now_s - HOLD_S):
            self._log(complaint, ceased=now_s - complaint.latest_s > CALM_S)

    def _taken(self, until_s: float) -> list[Complaint]:
        with self._lock:
            ripe = [kind for kind, complaint in self._waiting.items() if complaint.since_s <= until_s]
            return [self._waiting.pop(kind) for kind in ripe]

    def _log(self, complaint: Complaint, *, ceased: bool = False) -> None:
        record = copy.copy(complaint.first)  # others may hold the record itself
        setattr(record, RELEASED, True)
        if ceased:
            record.levelno, record.levelname = logging.INFO, logging.getLevelName(logging.INFO)
        for handler in self._handlers:
            handler.handle(record)

    async def run(self) -> None:
        """Filter until cancelled. What waits then is logged: it may tell what ended the worker."""
        self._handlers = list(logging.getLogger().handlers)
        for handler in self._handlers:
            handler.filters.insert(0, self)  # before those that count lines: what waits has not been said yet
        try:
            while True:
                await asyncio.sleep(LOOK_S)
                self.settle()
        finally:
            for handler in self._handlers:
                handler.removeFilter(self)
            for complaint in self._taken(float("inf")):
                self._log(complaint)


def _is_complaint(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.WARNING and not record.exc_info and record.name.partition(".")[0] in CLIENTS
