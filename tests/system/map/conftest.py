"""One Chromium and one `pathcast map` of the shared stack for all tests of a session."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import map_browser
import pytest
from map_browser import Opened
from map_scene import MapServer
from playwright.sync_api import Browser
from shared_stack import Stack


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with map_browser.running() as found:
        yield found


@pytest.fixture(scope="session")
def map_server(browser: Browser, stack: Stack) -> Iterator[MapServer]:
    """It asks for the browser first: without one, nothing starts."""
    with MapServer(stack.folder, stack.kafka, stack.prefix) as server:
        yield server


class Scene(NamedTuple):
    server: MapServer
    kafka: str
    prefix: str
    folder: Path


@pytest.fixture(scope="module")
def scene(map_server: MapServer, stack: Stack) -> Iterator[Scene]:
    """Buses that move as long as the tests of a file run."""
    with stack.moving():
        yield Scene(map_server, stack.kafka, stack.prefix, stack.folder)


@pytest.fixture
def opened(browser: Browser, scene: Scene) -> Iterator[Opened]:
    """A page of the map, in its dark theme, which draws buses."""
    with Opened(browser, scene.server.base, color_scheme="dark") as found:
        yield found
