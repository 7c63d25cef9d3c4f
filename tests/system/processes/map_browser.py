"""Debian's Chromium for the tests of the map's page, and what a page said and asked for. Tests import this; it tests
nothing itself."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, Final, cast
from urllib.parse import urlsplit

from missing_servers import skip_unless_required
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, sync_playwright
from playwright.sync_api import Error as NavigationError

PATIENCE_MS: Final = 120_000  # a bound on waiting, not a claim about speed
# Software instead of a graphics card, which test machines lack; and no sandbox, which containers forbid.
OPTIONS: Final = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--enable-unsafe-swiftshader"]
DRIVER: Final = "[.WebGL"  # Chromium's own words on how fast its software draws
WIDE: Final = {"width": 1280, "height": 800}
NARROW: Final = {"width": 360, "height": 740}


class Elsewhere:
    """An object of Playwright that lives in another thread: all that is asked of it, and of the objects that it gives,
    is done there. Playwright's event loop never ends, so that no other could run in its thread."""

    def __init__(self, thread: Executor, real: Any) -> None:
        self._thread = thread
        self._real = real

    def __getattr__(self, name: str) -> Any:
        return self._brought(self._thread.submit(getattr, self._real, name).result())

    def __call__(self, *arguments: Any, **more: Any) -> Any:
        return self._brought(self._thread.submit(self._real, *arguments, **more).result())

    def _brought(self, value: Any) -> Any:
        lives_there = callable(value) or type(value).__module__.startswith("playwright.")
        return Elsewhere(self._thread, value) if lives_there else value


@contextmanager
def running() -> Iterator[Browser]:
    """A headless Chromium. Skips the test where there is none, or fails it where servers are demanded."""
    program = shutil.which("chromium")
    if program is None:
        skip_unless_required("needs Chromium: apt install chromium")
    with ThreadPoolExecutor(1, "playwright") as thread:
        playwright = Elsewhere(thread, sync_playwright()).start()
        try:
            browser = cast(Browser, playwright.chromium.launch(executable_path=program, args=OPTIONS))
            yield browser
            browser.close()
        finally:
            playwright.stop()


class Opened:
    """A page of the map in a context of its own."""

    def __init__(self, browser: Browser, base: str, *, wait: bool = True, path: str = "/", **context: Any) -> None:
        """Opens it; with `wait`, until it draws an entity. `context` is Playwright's, such as `color_scheme`."""
        self.base = base
        self.context = browser.new_context(**{"viewport": WIDE, **context})
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE_MS)
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", self._request)
        self.page.goto(base + path)
        self.until("window.pathcast !== undefined")
        if wait:
            self.until("pathcast.state().drawn.length > 0")

    def __enter__(self) -> Opened:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(Exception):  # a browser that has died says so elsewhere
            self.context.close()

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not message.text.startswith(DRIVER):
            self.said.append(f"{message.type}: {message.text}")

    def _request(self, request: Request) -> None:
        self.asked.append(request.url)

    def state(self) -> dict[str, Any]:
        """What is drawn: the page's own words."""
        found: dict[str, Any] = self.page.evaluate("pathcast.state()")
        return found

    def until(self, condition: str, argument: object = None) -> None:
        """Waits until the JavaScript expression is true; it may use `argument`. (Playwright's own `wait_for_function`
        evaluates text within the page, which the page's Content-Security-Policy forbids.)"""
        deadline = time.monotonic() + PATIENCE_MS / 1000
        while not self._holds(condition, argument):
            assert time.monotonic() < deadline, f"not in {PATIENCE_MS} ms: {condition}; {self.said}"
            self.page.wait_for_timeout(100)

    def _holds(self, condition: str, argument: object) -> bool:
        with suppress(NavigationError):  # the page is being loaded anew
            return bool(self.page.evaluate(f"(argument) => {condition}", argument))
        return False

    def choose(self, entity_id: str) -> None:
        """By the search, as people do."""
        self.page.fill("#search", entity_id)
        self.page.wait_for_selector("#found [role=option][data-index]")
        self.page.keyboard.press("Enter")
        self.until("pathcast.state().chosen === argument", entity_id)

    def pixel(self, lat: float, lon: float) -> tuple[float, float]:
        """Where a place is drawn, from the upper left corner of the map."""
        x, y = self.page.evaluate(
            """async ([lat, lon]) => {
                const page = document.querySelector("script[type=module]").src;
                const { mercator } = await import(new URL("drawing/geometry.js", page));
                const { left, top, viewOf } = await import(new URL("drawing/layer.js", page));
                const { clientWidth: width, clientHeight: height } = document.querySelector("#map");
                const { zoom, center: [centerLat, lng] } = pathcast.state();
                const map = { getCenter: () => ({ lng, lat: centerLat }), getZoom: () => zoom };
                const view = viewOf(map, { width, height });
                const [x, y] = mercator(lat, lon);
                return [left(view, x), top(view, y)];
            }""",
            [lat, lon],
        )
        return float(x), float(y)

    def other_hosts(self) -> list[str]:
        """Requests that went anywhere but to the map's server."""
        ours = urlsplit(self.base).netloc
        return [url for url in self.asked if urlsplit(url).scheme in ("http", "https") and urlsplit(url).netloc != ours]

    def colour_at(self, layer: str, x: float, y: float, around: int = 3) -> list[int]:
        """The largest red, green, blue and opacity within so many pixels of a place, on a canvas of the page's own."""
        found: list[int] = self.page.evaluate(
            """([layer, x, y, around]) => {
                const canvas = document.querySelector(`canvas.${layer}`);
                const ratio = canvas.width / canvas.clientWidth;
                const side = 2 * around * ratio;
                const { data } = canvas.getContext("2d")
                    .getImageData((x - around) * ratio, (y - around) * ratio, side, side);
                const most = [0, 0, 0, 0];
                data.forEach((value, i) => { most[i % 4] = Math.max(most[i % 4], value); });
                return most;
            }""",
            [layer, x, y, around],
        )
        return found
