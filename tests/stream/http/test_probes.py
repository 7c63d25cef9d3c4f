"""What a process says of its readiness to Prometheus is what it says to an orchestrator."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
from prometheus_client.metrics_core import Metric

from stream.http.probes import ProbePages


class Pages(ProbePages):
    def __init__(self, why: Sequence[str]) -> None:
        self._why = why
        super().__init__()

    def reasons(self) -> Sequence[str]:
        return self._why

    def collect(self) -> Iterator[Metric]:
        yield from ()


@pytest.mark.parametrize(
    ("why", "status", "line"), [((), 200, "pathcast_ready 1.0"), (("Kafka",), 503, "pathcast_ready 0.0")]
)
async def test_readiness_is_a_metric_and_a_probe(why: Sequence[str], status: int, line: str) -> None:
    pages = Pages(why).pages()
    assert line in (await pages["/metrics"].answer()).body.decode().splitlines()
    assert (await pages["/readyz"].answer()).status == status
