"""One fleet, one `pathcast map` and one Chromium for the tests of a file.

None is left for other files: while Playwright runs, its event loop does, and no other can be started in this process.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import map_browser
import pytest
import redis_server
from map_scene import MapServer, live_fleet
from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with map_browser.running() as found:
        yield found


class Scene(NamedTuple):
    server: MapServer
    kafka: str
    prefix: str
    folder: Path


@pytest.fixture(scope="module")
def scene(browser: Browser, kafka: str, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Buses that are forecast as long as the tests run. It asks for the browser first: without one, nothing starts."""
    folder, prefix = tmp_path_factory.mktemp("map"), f"map{time.monotonic_ns()}"
    with (
        redis_server.running(lambda line: None) as redis_url,
        live_fleet(kafka, redis_url, prefix, weights, folder),
        MapServer(folder, kafka, prefix) as server,
    ):
        yield Scene(server, kafka, prefix, folder)
