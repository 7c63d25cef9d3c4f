"""Geofences from GeoJSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from stream.services.arrivals.geojson import geofences_of

RING = [[-97.75, 30.26], [-97.74, 30.26], [-97.74, 30.27], [-97.75, 30.26]]


def written(folder: Path, *features: dict[str, Any]) -> Path:
    file = folder / "fences.geojson"
    file.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return file


def feature(geometry: dict[str, Any], **properties: Any) -> dict[str, Any]:
    return {"type": "Feature", "properties": properties, "geometry": geometry}


def test_polygons_and_points_with_a_radius_become_geofences(tmp_path: Path) -> None:
    high = [[*corner, 150.0] for corner in RING]  # with heights, as GPS tools write them
    file = written(
        tmp_path,
        feature({"type": "Polygon", "coordinates": [RING]}, geofence_id="yard"),
        feature({"type": "MultiPolygon", "coordinates": [[RING], [high]]}, name="two yards", entity_id="12"),
        feature({"type": "Point", "coordinates": [-97.7, 30.2]}, id=7, radius_m=250),
    )
    yard, first, second, point = geofences_of(file)
    assert yard.polygon is not None
    assert yard.polygon[0] == tuple(map(tuple, RING))
    assert (first.geofence_id, second.geofence_id, second.entity_id) == ("two yards", "two yards/2", "12")
    assert second.polygon == yard.polygon
    assert point.circle is not None
    assert (point.geofence_id, point.circle.lat, point.circle.radius_m) == ("7", 30.2, 250.0)


@pytest.mark.parametrize(
    ("feature_", "said"),
    [
        (feature({"type": "LineString", "coordinates": RING}, id="a"), "feature 1: expected a Polygon"),
        (feature({"type": "Point", "coordinates": [-97.7, 30.2]}, id="a"), "radius_m"),
        (feature({"type": "Polygon", "coordinates": [RING]}), "none of the properties"),
        (feature({"type": "Polygon", "coordinates": [RING[:2]]}, id="a"), "length >= 3"),
        (feature({"type": "Polygon", "coordinates": [[[30.26, -97.75]] * 4]}, id="a"), "-90"),
        ({"type": "Feature"}, "none of the properties"),
        (7, "feature 1"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, feature_: Any, said: str) -> None:
    with pytest.raises(ValueError, match=r"fences\.geojson") as caught:
        geofences_of(written(tmp_path, feature_))
    assert said in str(caught.value)


def test_an_id_is_there_once(tmp_path: Path) -> None:
    one = feature({"type": "Polygon", "coordinates": [RING]}, id="a")
    with pytest.raises(ValueError, match="two geofences"):
        geofences_of(written(tmp_path, one, one))


def test_another_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "not.json"
    file.write_text("nothing")
    with pytest.raises(ValueError, match="no JSON"):
        geofences_of(file)
    file.write_text('{"type": "Topology"}')
    with pytest.raises(ValueError, match="FeatureCollection"):
        geofences_of(file)
