"""Sends records at a steady pace beside a test, until that ends. Tests import this; it tests nothing itself."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice

from bus_feed import Raw
from kafka import KafkaProducer

PAUSE_S = 0.2
JOIN_S = 60.0  # a bound on waiting


@contextmanager
def feeding(bootstrap: str, topic: str, records: Iterable[Raw], *, per_s: float) -> Iterator[None]:
    """Sends while the block runs; what was sent has arrived when it ends."""
    stopping = threading.Event()
    sending = threading.Thread(target=_send, args=(bootstrap, topic, iter(records), per_s, stopping), daemon=True)
    sending.start()
    try:
        yield
    finally:
        stopping.set()
        sending.join(JOIN_S)


def _send(bootstrap: str, topic: str, records: Iterator[Raw], per_s: float, stopping: threading.Event) -> None:
    producer = KafkaProducer(bootstrap_servers=bootstrap, linger_ms=20)
    while not stopping.wait(PAUSE_S):
        for key, value, headers in islice(records, int(per_s * PAUSE_S)):
            producer.send(topic, key=key, value=value, headers=list(headers))
        producer.flush()
    producer.close()
