"""Which ways of an atlas a page gets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.atlas.believing import UNFITTED
from model.atlas.passages import Passages
from model.atlas.published import Published
from model.atlas.version import dumps
from model.atlas.ways import ON_M, PASSAGE
from stream.api.live.newest import Box
from stream.api.map.sources.streets import Streets
from stream.atlas.showing.ways import Ways
from stream.versions.files import path_of

VERSION = "a" * 16


def ways(*places: tuple[float, float, float]) -> Ways:
    """Ways to the north-east, each from latitude and longitude, and how often it was travelled."""
    lat, lon, n = (np.array(column) for column in zip(*places, strict=True))
    return Ways(lat, lon, lat + 0.01, lon + 0.01, n)


def shown(*places: tuple[float, float, float]) -> Streets:
    found = Streets(None, None)
    found.ways, found.version = ways(*places), VERSION
    return found


def test_the_most_travelled_in_the_box_come_first() -> None:
    found = shown((30.0, -97.0, 5.0), (30.1, -97.1, 50.0), (30.2, -97.2, 20.0), (60.0, -97.0, 900.0))
    said = found.flows(Box(-98.0, 29.0, -96.0, 31.0), 2)
    assert said == {
        "version": VERSION,
        "flows": [(30.1, -97.1, 30.11, -97.09, 50.0), (30.2, -97.2, 30.21, -97.19, 20.0)],
        "max_count": 50.0,
    }
    assert len(found.flows(None, 100)["flows"]) == 4


def test_a_box_may_go_over_the_date_line() -> None:
    found = shown((0.0, 179.5, 1.0), (0.0, -179.5, 2.0), (0.0, 0.0, 3.0))
    assert [one[1] for one in found.flows(Box(179.0, -1.0, -179.0, 1.0), 10)["flows"]] == [-179.5, 179.5]


async def test_a_version_is_drawn_of_its_passages(tmp_path: Path) -> None:
    """One went east at 10 m/s for a minute, and then nobody knows."""
    rows = np.zeros(1, PASSAGE)
    rows["lat_e7"], rows["lon_e7"], rows["known"] = 300_000_000, -970_000_000, 4
    rows["on"][:, :4, 0] = np.array([150, 300, 450, 600]) / ON_M
    passages = Published.of(Passages(rows), np.zeros(1, np.uint16))
    path_of(tmp_path, VERSION).write_bytes(dumps(passages, UNFITTED, {}))
    found: Any = Streets(None, None)
    await found._load(VERSION, tmp_path)
    drawn = found.flows(None, 10)
    assert drawn["version"] == VERSION
    assert sorted(one[1] for one in drawn["flows"])[0] == -97.0
    assert [one[4] for one in drawn["flows"]] == [1.0] * 4


async def test_a_file_that_is_no_atlas_leaves_what_is_drawn(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    found: Any = shown((30.0, -97.0, 5.0))
    path_of(tmp_path, "b" * 16).write_bytes(b"no atlas")
    await found._load("b" * 16, tmp_path)
    await found._load("c" * 16, tmp_path)
    assert found.version == VERSION
    assert found.is_there
    assert "cannot be drawn" in caplog.text


def test_none_is_none() -> None:
    assert Streets(None, None).flows(None, 5) == {"version": None, "flows": [], "max_count": 0}
