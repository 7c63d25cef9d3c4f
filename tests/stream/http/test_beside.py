"""Pages are served while the process that they are about does something else."""

from __future__ import annotations

import socket
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence

import pytest
from prometheus_client.metrics_core import Metric

from stream.config.http_access import LOOPBACK, Address
from stream.http.beside import serving_beside
from stream.http.probes import ProbePages


class Pages(ProbePages):
    def reasons(self) -> Sequence[str]:
        return ()

    def collect(self) -> Iterator[Metric]:
        yield from ()


def test_pages_answer_while_their_process_blocks_and_end_with_the_block() -> None:
    threads = threading.active_count()
    with serving_beside(Address(LOOPBACK, 0), None, Pages().pages()) as door:
        assert door is not None
        time.sleep(0.1)  # what blocks an event loop
        with urllib.request.urlopen(f"http://{door}/healthz", timeout=30) as answer:
            assert answer.status == 200
    with pytest.raises(OSError, match="refused"):
        socket.create_connection((door.host, door.port), timeout=30)
    assert threading.active_count() == threads


def test_a_port_that_is_taken_is_told_to_who_asked() -> None:
    with socket.create_server((LOOPBACK, 0)) as taken:
        port = taken.getsockname()[1]
        door = Address(LOOPBACK, port)
        told = pytest.raises(OSError, match=f"cannot serve metrics at {LOOPBACK}:{port}")
        with told, serving_beside(door, None, Pages().pages()):
            pass


def test_without_an_address_nothing_is_served() -> None:
    threads = threading.active_count()
    with serving_beside(None, None, Pages().pages()) as door:
        assert door is None
        assert threading.active_count() == threads
