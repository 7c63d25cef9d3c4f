"""The passages that the map's server tells of an entity: of which version they are, and that nobody waits for them."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from map_rig import T0, Served, fleet_of, forecast, publish, served

from model.atlas.believing import UNFITTED
from model.atlas.buckets import around
from model.atlas.passages import Passages
from model.atlas.published import Published
from model.atlas.version import dumps
from model.atlas.ways import IN_M, IN_S, ON_M, ON_S, PASSAGE, SPEED_MPS
from model.kinematics.geo import M_PER_DEG, to_e7
from stream.api.map.sources import streets as loaded
from stream.api.map.sources.streets import KEPT, Streets
from stream.atlas.showing.reading import read
from stream.versions.files import path_of

LAT, LON, MPS = 30.0, -97.0, 5.0
PATIENCE_S = 15.0


def write(folder: Path, east_mps: float) -> str:
    """Writes a version of one passage, which came from the south and goes east from (LAT, LON). Returns its name."""
    rows = np.zeros(1, PASSAGE)
    rows["lat_e7"], rows["lon_e7"], rows["known"] = to_e7(LAT), to_e7(LON), len(ON_S)
    rows["in_m"][..., 1] = -MPS * np.array(IN_S) / IN_M
    rows["velocity"][..., 1] = MPS / SPEED_MPS
    rows["on"][..., 0] = east_mps * np.array(ON_S) / ON_M
    rows["bucket"] = around(rows["lat_e7"], rows["lon_e7"], rows["in_m"][:, 0] * -IN_M)[:, 0]
    file = folder / "unnamed"
    file.write_bytes(dumps(Published.of(Passages(rows), np.zeros(1, np.uint16)), UNFITTED, {}))
    version = read(file).version
    file.rename(path_of(folder, version))
    return version


def come(shown: Served, entity_id: str, atlas: str | None) -> None:
    """Has an entity come from the south to (LAT, LON), with forecasts that name this version."""
    for seconds in range(600, -1, -30):
        ts, lat = T0 - 1000 * seconds, LAT - MPS * seconds / M_PER_DEG
        publish(shown.fleet, forecast(entity_id, ts, lat, LON, atlas=atlas))


def east_mps(way: list[list[float]]) -> float:
    """How fast a passage went on."""
    seconds, _, lon = way[-1]
    return (lon - LON) * M_PER_DEG * float(np.cos(np.radians(LAT))) / seconds


async def test_passages_are_of_the_version_that_the_forecast_names_or_of_the_newest(tmp_path: Path) -> None:
    """Of three versions that were loaded, the first one is kept no more; and there are none where the forecast rests on
    none."""
    streets: Any = Streets(None, None)
    speeds = (4.0, 6.0, 8.0)
    versions = [write(tmp_path, mps) for mps in speeds]
    for version in versions:
        await streets._load(version, tmp_path)
    first, second, third = versions
    assert KEPT == 2
    async with served(fleet_of(), tmp_path, streets=streets) as shown:
        for atlas, version, mps in ((first, third, 8.0), (second, second, 6.0), (third, third, 8.0)):
            come(shown, atlas, atlas)
            status, said = await shown.get(f"/map/entities/{atlas}/passages")
            assert (status, said["version"]) == (200, version)
            ((weight, way),) = said["passages"]
            assert weight == pytest.approx(1.0, abs=0.01)
            assert east_mps(way) == pytest.approx(mps, abs=0.05)
        come(shown, "a", None)
        assert await shown.get("/map/entities/a/passages") == (200, {"version": None, "passages": []})
        assert (await shown.get("/map/entities/b/passages"))[1]["type"] == "urn:pathcast:problem:unknown_entity"


async def test_without_an_atlas_there_are_none(tmp_path: Path) -> None:
    async with served(fleet_of(), tmp_path) as shown:
        come(shown, "a", "f" * 16)
        assert await shown.get("/map/entities/a/passages") == (200, {"version": None, "passages": []})


async def test_others_are_answered_while_passages_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An atlas is mapped from its file: a comparison may wait for the disk."""
    has_begun, may_end, compare = threading.Event(), threading.Event(), loaded.compare

    def slowly(*asked: Any) -> Any:
        has_begun.set()
        assert may_end.wait(PATIENCE_S), "nobody else was answered meanwhile"
        return compare(*asked)

    monkeypatch.setattr(loaded, "compare", slowly)
    streets: Any = Streets(None, None)
    version = write(tmp_path, 4.0)
    await streets._load(version, tmp_path)
    async with served(fleet_of(), tmp_path, streets=streets) as shown, asyncio.timeout(2 * PATIENCE_S):
        come(shown, "a", version)
        waiting = asyncio.create_task(shown.get("/map/entities/a/passages"))
        assert await asyncio.to_thread(has_begun.wait, PATIENCE_S)
        assert (await shown.get("/healthz"))[0] == 200
        may_end.set()
        status, said = await waiting
    assert (status, len(said["passages"])) == (200, 1)
