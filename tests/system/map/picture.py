"""Makes the picture and the short recording of the map that the pages show, of the demo's buses:

    python tests/system/map/picture.py stream/map/pictures

It runs the demo with its map, and Debian's Chromium. Unlike the demo's own, the atlas that is drawn as streets has all
hours before the replay, and not two. Tests do not run this.
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Final

# The helper modules of the system tests.
sys.path.extend(str(Path(__file__).parents[1] / room) for room in ("servers", "processes"))

from map_browser import Opened, running
from PIL import Image
from playwright.sync_api import Page

DEMO: Final = "from stream.demo import atlas; atlas.MOST_MS = 86_400_000; from stream.commands.main import main; main()"
SECONDS, SPEEDUP = 240, 20
BEFORE_S: Final = 75.0  # until forecasts have come true, at this pace
LARGE: Final = {"width": 1280, "height": 800}
FRAMES, FRAME_MS = 60, 150
SHOWN: Final = (800, 500)  # pixels of the recording
STARTED_S: Final = 300.0


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-c", DEMO, "demo", f"--seconds={SECONDS}", f"--speedup={SPEEDUP}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as demo:
        try:
            assert demo.stdout is not None
            base = address(demo.stdout)
            with running() as browser, Opened(browser, base, color_scheme="dark", viewport=LARGE) as opened:
                time.sleep(BEFORE_S)
                take(opened, folder)
        finally:
            demo.terminate()


def address(lines: IO[str]) -> str:
    """Of the map, as the demo says it."""
    deadline = time.monotonic() + STARTED_S
    for line in lines:
        if (found := re.search(r"http://[\d.]+:\d+", line)) is not None:
            return found[0]
        assert time.monotonic() < deadline, "the demo says no address"
    raise RuntimeError("the demo ended without a map")


def take(opened: Opened, folder: Path) -> None:
    """The picture of the bus whose way of late is the longest, and then a recording that follows it."""
    opened.choose(farthest(opened))
    opened.page.wait_for_selector("#entity-errors table")
    opened.page.keyboard.press("f")
    opened.page.wait_for_timeout(4_000)
    save_picture(opened.page.screenshot(), folder / "map.png")
    save_recording(list(frames(opened.page)), folder / "map.webp")


def farthest(opened: Opened) -> str:
    """It is in view, moves, and has been on its way for long."""
    drawn = [one for one in opened.state()["drawn"] if not one["stale"]]
    return str(max(drawn, key=lambda one: one["track"])["id"])


def save_picture(raw: bytes, path: Path) -> None:
    """With 256 colours, which a dark map has no need of more than."""
    Image.open(io.BytesIO(raw)).convert("RGB").quantize(256).save(path, optimize=True)
    print(f"{path}: {path.stat().st_size / 1000:.0f} KB")


def frames(page: Page) -> list[Image.Image]:
    found = []
    due = time.monotonic()
    for _ in range(FRAMES):
        raw = page.screenshot(type="jpeg", quality=90)
        found.append(Image.open(io.BytesIO(raw)).convert("RGB").resize(SHOWN, Image.Resampling.LANCZOS))
        due += FRAME_MS / 1000
        page.wait_for_timeout(max(1.0, 1000 * (due - time.monotonic())))
    return found


def save_recording(pictures: list[Image.Image], path: Path) -> None:
    first, *others = pictures
    first.save(path, save_all=True, append_images=others, duration=FRAME_MS, loop=0, quality=55, method=4)
    print(f"{path}: {path.stat().st_size / 1000:.0f} KB, {len(pictures)} frames")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
