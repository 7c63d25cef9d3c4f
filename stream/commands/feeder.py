"""Publishes recorded rows to the pings topic, each when it is due. It does not validate them: a row that is not a ping
is sent as it is, and the worker's dead letter gives the reason."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from kafka import KafkaProducer
from kafka.errors import KafkaError, MessageSizeTooLargeError

from stream.adapters.files import RecordedRow
from stream.config.security import PLAIN_KAFKA, KafkaSecurity, Refused, kafka_refusal
from stream.kafka import admin
from stream.wire import MAX_TS_MS, MIN_TS_MS

FLUSH_EVERY = 10_000  # the most records in flight: a slow broker slows the reading, and memory does not grow
DELIVERY_S = 30.0  # a record that the broker has not acknowledged by then has failed
NAP_S = 0.2  # the longest sleep between two calls of `stop`


@dataclass
class FeedCounts:
    """The counts of what was sent so far."""

    sent: int = 0
    odd: int = 0  # of these, records without an entity id or a time: the worker will reject them
    oversized: int = 0  # records that are larger than Kafka accepts, and were not sent
    last_ts_ms: int | None = None


def pace(rows: Iterable[RecordedRow], speedup: float) -> Iterator[tuple[float, RecordedRow]]:
    """Yields each row with the seconds after the start at which it is due: event time / `speedup`, 0 = at once.

    A row without a time, or with an earlier time than the previous row, is due with the previous row, so the order does
    not change. The same holds for a time that is not valid for a ping, as of a receiver without a fix: all rows after
    one of 1970 would be due decades later.
    """
    due_s, origin_ms = 0.0, None
    for row in rows:
        if row.ts_ms is not None and MIN_TS_MS <= row.ts_ms <= MAX_TS_MS and speedup > 0:
            origin_ms = row.ts_ms if origin_ms is None else origin_ms
            due_s = max(due_s, (row.ts_ms - origin_ms) / 1000 / speedup)
        yield due_s, row


class Publisher:
    """Sends rows to one topic. As soon as the broker has not accepted one, raises the error that `refusal` returns for
    it, or ConnectionError, in one line."""

    def __init__(self, producer: Any, topic: str, refusal: Callable[[Exception], Refused | None]) -> None:
        self.fed = FeedCounts()
        self._producer = producer
        self._topic = topic
        self._refusal = refusal
        self._failure: Exception | None = None

    def send(self, row: RecordedRow) -> None:
        try:
            future = self._producer.send(self._topic, key=row.key, value=row.value)
        except MessageSizeTooLargeError:
            self.fed.oversized += 1
            return
        except KafkaError as error:
            raise self._explain(error) from error
        future.add_errback(self._remember)
        self.fed.sent += 1
        self.fed.odd += row.key is None or row.ts_ms is None
        self.fed.last_ts_ms = row.ts_ms if row.ts_ms is not None else self.fed.last_ts_ms
        if self.fed.sent % FLUSH_EVERY == 0:
            self.flush()
        elif self._failure is not None:
            raise self._explain(self._failure)

    def flush(self) -> None:
        """Waits until the broker has all records."""
        try:
            self._producer.flush(timeout=DELIVERY_S)
        except KafkaError as error:
            raise self._explain(error) from error
        if self._failure is not None:
            raise self._explain(self._failure)

    def _remember(self, error: Exception) -> None:
        self._failure = error

    def _explain(self, error: Exception) -> Exception:
        return self._refusal(error) or ConnectionError(
            f"the broker stopped taking records after {self.fed.sent:,}: {error or repr(error)}"
        )


@contextmanager
def publisher(
    bootstrap: str, topic: str, security: KafkaSecurity = PLAIN_KAFKA, *, linger_ms: int = 5
) -> Iterator[Publisher]:
    """Yields a Publisher to an existing topic. Raises ConnectionError if no broker answers, Refused if one denies
    access, ValueError if there is no such topic."""
    with admin.connected(bootstrap, security) as client:
        admin.partitions_of(client, topic)
    try:
        producer = KafkaProducer(
            bootstrap_servers=bootstrap.split(","),
            **security.arguments(),
            bootstrap_timeout_ms=int(admin.CONNECT_S * 1000),
            max_block_ms=int(DELIVERY_S * 1000),
            delivery_timeout_ms=int(DELIVERY_S * 1000),
            request_timeout_ms=int(DELIVERY_S * 1000) // 2,
            linger_ms=linger_ms,
            batch_size=128 * 1024,
        )
    except KafkaError as error:
        raise admin.unreachable(bootstrap, error) from error
    try:
        yield Publisher(producer, topic, lambda error: kafka_refusal(bootstrap, security, error))
    finally:
        producer.close(timeout=2.0)


def replay(
    due: Iterable[tuple[float, RecordedRow]], send: Callable[[RecordedRow], None], *, stop: Callable[[], bool]
) -> None:
    """Sends each row at its time after now, never earlier, until the end or until `stop` returns true."""
    began = time.monotonic()
    for due_s, row in due:
        while (left := began + due_s - time.monotonic()) > 0 and not stop():
            time.sleep(min(left, NAP_S))
        if stop():
            return
        send(row)
