"""A Prometheus for each file of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import prometheus_server
import pytest
from missing_servers import skip_unless_required


@pytest.fixture(scope="module")
def prometheus() -> Iterator[prometheus_server.Prometheus]:
    try:
        with prometheus_server.running() as found:
            yield found
    except prometheus_server.Unavailable as reason:
        skip_unless_required(reason)
