"""Pings into a topic while brokers may die. Knows a pace; knows nothing of workers."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Sequence
from typing import Final

from bus_feed import Raw
from kafka import KafkaProducer

PATIENCE_S: Final = 120  # for brokers that are away


class Feed(threading.Thread):
    """Publishes records, at a pace, until all are acknowledged."""

    def __init__(self, bootstrap: str, topic: str, records: Iterable[Raw], per_s: float) -> None:
        super().__init__(name="feed", daemon=True)
        self.sent = 0
        self.failed: list[Exception] = []
        self._brokers, self._topic, self._records, self._per_s = bootstrap, topic, records, per_s

    def run(self) -> None:
        try:
            self._run()
        except Exception as error:
            self.failed.append(error)

    def _run(self) -> None:
        # Idempotent, with acks of all in-sync replicas: kafka-python's default. A broker that dies costs no record.
        producer = KafkaProducer(bootstrap_servers=self._brokers, linger_ms=10, max_block_ms=PATIENCE_S * 1000)
        began = time.monotonic()
        for key, value, headers in self._records:
            sent = producer.send(self._topic, key=key, value=value, headers=list(headers))
            sent.add_errback(self.failed.append)
            self.sent += 1
            if self.sent % 50 == 0:
                time.sleep(max(0.0, began + self.sent / self._per_s - time.monotonic()))
        producer.flush(timeout=PATIENCE_S)
        producer.close()


def split(records: Iterable[Raw]) -> tuple[Sequence[Raw], Sequence[Raw]]:
    """Returns the first and the second half."""
    whole = list(records)
    return whole[: len(whole) // 2], whole[len(whole) // 2 :]
