"""Reads geofences from a GeoJSON file (RFC 7946): polygons, and points with a radius."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import msgspec

from stream.wire.arrivals import Geofence

NAMES: Final = ("geofence_id", "id", "name")  # of a feature's properties, the first that is there


def geofences_of(path: Path) -> list[Geofence]:
    """Returns the features of a file: a Polygon, each Polygon of a MultiPolygon (`name/2` is the second), or a Point
    with the property `radius_m`. The property `entity_id` says whose geofence it is.

    Raises ValueError, which says which feature is wrong, OSError.
    """
    try:
        found = msgspec.json.decode(path.read_bytes())
    except msgspec.DecodeError as error:
        raise ValueError(f"{path}: no JSON: {error}") from error
    kind = found.get("type") if isinstance(found, dict) else None
    features = found.get("features") if kind == "FeatureCollection" else [found] if kind == "Feature" else None
    if not isinstance(features, list):
        raise ValueError(f"{path}: expected a GeoJSON FeatureCollection or Feature, got {kind!r}")
    fences: list[Geofence] = []
    for number, feature in enumerate(features, start=1):
        try:
            fences += _of(feature)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"{path}: feature {number}: {error!s:.200}") from error
    ids = [(fence.entity_id, fence.geofence_id) for fence in fences]
    if twice := next((one for one in ids if ids.count(one) > 1), None):
        raise ValueError(f"{path}: two geofences have the id {twice[1]!r}")
    return fences


def _of(feature: dict[str, Any]) -> list[Geofence]:
    properties, geometry = feature.get("properties") or {}, feature.get("geometry") or {}
    name = next((properties[one] for one in NAMES if one in properties), feature.get("id"))
    if name is None:
        raise ValueError(f"it has none of the properties {', '.join(NAMES)}, and no id")
    whose = {"kind": "geofence", "entity_id": properties.get("entity_id")}
    shapes = _shapes(geometry.get("type"), geometry.get("coordinates"), properties)
    names = [str(name), *(f"{name}/{number}" for number in range(2, len(shapes) + 1))]
    both = zip(names, shapes, strict=True)
    return [msgspec.convert({**whose, "geofence_id": id_, **shape}, type=Geofence) for id_, shape in both]


def _shapes(kind: Any, places: Any, properties: dict[str, Any]) -> list[dict[str, Any]]:
    if kind == "Point":
        if "radius_m" not in properties:
            raise ValueError("a point needs the property radius_m")
        return [{"circle": {"lon": places[0], "lat": places[1], "radius_m": properties["radius_m"]}}]
    if kind == "Polygon":
        return [{"polygon": _rings(places)}]
    if kind == "MultiPolygon":
        return [{"polygon": _rings(one)} for one in places]
    raise ValueError(f"expected a Polygon, a MultiPolygon or a Point with radius_m, got {kind!r}")


def _rings(places: Any) -> list[list[tuple[float, float]]]:
    """Returns rings without heights, which a geofence has not."""
    return [[(corner[0], corner[1]) for corner in ring] for ring in places]
