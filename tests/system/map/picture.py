"""Makes the picture and the short recording of the map that the pages show, of the demo's buses:

    python tests/system/map/picture.py stream/api/map/pictures

It runs the demo as anybody can, but at 20 times the buses' pace, with its map, and Debian's Chromium. Tests do not run
this.
"""

from __future__ import annotations

import io
import itertools
import math
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

# The helper modules of the system tests.
sys.path.extend(str(Path(__file__).parents[1] / room) for room in ("servers", "processes"))

from map_browser import Opened, running
from PIL import Image
from playwright.sync_api import Page

DEMO: Final = "from stream.commands.main import main; main()"
SECONDS, SPEEDUP = 360, 20
CITY: Final = "/#map=12.2/30.285/-97.735"
TRUE: Final = 100  # forecasts of 15 minutes that have come true before the picture is taken
LARGE: Final = {"width": 1280, "height": 800}
PARTING_S: Final = 60.0
FAR_DEG, LEAST_DEG, REACH_DEG = 0.015, 0.012, 0.035  # some 1.5 km, 1.2, and 3.5
SMALLEST: Final = 0.2  # share of a branch that is worth a look
FRAME_MS, DRAWING_MS, FOLLOWING_MS = 150, 5_000, 7_000
SHOWN: Final = (800, 500)  # pixels of the recording
STARTED_S: Final = 300.0
COME_TRUE: Final = "pathcast.state().fleet?.errors.some((row) => row.h_s === 900 && row.n >= argument)"


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-c", DEMO, "demo", f"--seconds={SECONDS}", f"--speedup={SPEEDUP}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as demo:
        try:
            assert demo.stdout is not None
            base = address(demo.stdout)
            look: dict[str, Any] = {"color_scheme": "dark", "viewport": LARGE}
            with running() as browser:
                with Opened(browser, base, path=CITY, **look) as opened:
                    opened.until(COME_TRUE, TRUE)
                    take_picture(opened, folder)
                with Opened(browser, base, path=CITY, **look) as opened:
                    take_recording(opened, folder)
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


def take_picture(opened: Opened, folder: Path) -> None:
    opened.choose(some_bus(opened, PARTING_S))
    opened.page.wait_for_selector("#entity-errors table")
    opened.page.keyboard.press("f")
    opened.until("pathcast.state().streets_drawn > 0 && pathcast.state().streets_drawn === pathcast.state().streets")
    opened.page.wait_for_timeout(3_000)
    save_picture(opened.page.screenshot(), folder / "map.png")


def take_recording(opened: Opened, folder: Path) -> None:
    """The streets draw themselves, and then the map follows a bus."""
    opened.until("pathcast.state().streets_drawn > 0")
    found = frames(opened.page, DRAWING_MS)
    opened.choose(some_bus(opened, 0.0))
    opened.page.keyboard.press("f")
    found += frames(opened.page, FOLLOWING_MS)
    save_recording(found, folder / "map.webp")


def some_bus(opened: Opened, patience_s: float) -> str:
    """One in the middle of the map of which passages part by far, if there is one within so many seconds; else the one
    whose way of late is the longest."""
    deadline = time.monotonic() + patience_s
    while True:
        drawn = opened.state()["drawn"]
        here = [one for one in drawn if not one["stale"] and 150 < one["x"] < 800 and 120 < one["y"] < 560]
        best = max(here, key=lambda one: (apart_deg(one["branches"]), one["track"]), default=None)
        if best is not None and (apart_deg(best["branches"]) > FAR_DEG or time.monotonic() > deadline):
            return str(best["id"])
        opened.page.wait_for_timeout(500)


def apart_deg(branches: list[dict[str, Any]]) -> float:
    """How far the ends of branches that are worth a look are apart; 0 of who goes nowhere, or beyond the picture."""
    ends = [one["positions"][-1] for one in branches if one["share"] >= SMALLEST]
    reach = [math.dist(branches[0]["positions"][0][1:], one[1:]) for one in ends]
    if len(ends) < 2 or not LEAST_DEG < min(reach) <= max(reach) < REACH_DEG:
        return 0.0
    return max((math.dist(a[1:], b[1:]) for a, b in itertools.combinations(ends, 2)), default=0.0)


def save_picture(raw: bytes, path: Path) -> None:
    """With 256 colours, which a dark map has no need of more than."""
    Image.open(io.BytesIO(raw)).convert("RGB").quantize(256).save(path, optimize=True)
    print(f"{path}: {path.stat().st_size / 1000:.0f} KB")


class Frame(NamedTuple):
    picture: Image.Image
    ms: int  # until the next one, as it was


def frames(page: Page, lasting_ms: int) -> list[Frame]:
    found, begun = [], time.monotonic()
    before = begun
    while before - begun < lasting_ms / 1000:
        raw = page.screenshot(type="jpeg", quality=90)
        page.wait_for_timeout(max(1.0, FRAME_MS - 1000 * (time.monotonic() - before)))
        now = time.monotonic()
        picture = Image.open(io.BytesIO(raw)).convert("RGB").resize(SHOWN, Image.Resampling.LANCZOS)
        found.append(Frame(picture, round(1000 * (now - before))))
        before = now
    return found


def save_recording(found: list[Frame], path: Path) -> None:
    first, *others = [one.picture for one in found]
    lasting = [one.ms for one in found]
    first.save(path, save_all=True, append_images=others, duration=lasting, loop=0, quality=55, method=4)
    print(f"{path}: {path.stat().st_size / 1000:.0f} KB, {len(found)} frames, {sum(lasting) / 1000:.1f} s")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
