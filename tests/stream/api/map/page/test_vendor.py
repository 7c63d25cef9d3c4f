"""What the page takes from others is what its README says, to the byte; and what is ours names no other host."""

from __future__ import annotations

import hashlib
import json
import re
from itertools import accumulate, pairwise
from pathlib import Path

import stream

PAGE = Path(stream.__file__).parent / "api" / "map" / "page"
VENDOR = PAGE / "vendor"
NAMESPACE = "http://www.w3.org/2000/svg"


def test_each_vendored_file_has_the_hash_of_the_readme() -> None:
    said = set(re.findall(r"`([0-9a-f]{64})`", (VENDOR / "README.md").read_text()))
    files = [
        one for one in VENDOR.iterdir() if one.suffix in (".js", ".mjs", ".css", ".json") and one.name != "coast.mjs"
    ]
    assert len(files) == 5
    assert {hashlib.sha256(one.read_bytes()).hexdigest() for one in files} == said


def test_no_coast_or_border_is_a_line_around_the_globe() -> None:
    """Rings that cross 180 degrees once went on at -180, so that an empty map had lines from side to side."""
    coast = json.loads((VENDOR / "coast.json").read_text())
    rings = [ring for polygon in [*coast["land"], *coast["lakes"]] for ring in polygon]
    degrees = [
        [place * coast["degrees_per_unit"] for place in accumulate(steps[0::2])]
        for steps in [*rings, *coast["borders"]]
    ]
    assert len(degrees) > 1_900
    jumps = [number for number, lons in enumerate(degrees) if any(abs(a - b) > 180 for a, b in pairwise(lons))]
    assert jumps == []
    assert max(map(max, degrees)) > 180, "they go on beyond it"
    for ring in rings:
        assert (sum(ring[2::2]), sum(ring[3::2])) == (0, 0), "a ring ends where it begins"


def test_our_own_files_name_no_other_host() -> None:
    ours = [
        one for one in PAGE.rglob("*") if one.suffix in (".js", ".html", ".css", ".svg") and VENDOR not in one.parents
    ]
    assert len(ours) > 20
    for one in ours:
        found = re.findall(r"(?:https?:)?//[\w.-]+\.\w+[^\s\"')]*", one.read_text().replace(NAMESPACE, ""))
        assert found == [], one
