"""Outlines the region that holds an entity with a given chance, and cuts lines at the 180th meridian.

GeoJSON (RFC 7946, section 3.1.9) wants what lies across that meridian in two parts. Coordinates are lists of
[longitude, latitude] in degrees.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from stream.wire.positions import EARTH_RADIUS_M, MIN_VARIANCE_M2, Cov, radius2, turn

Point = list[float]  # longitude, latitude
Ring = list[Point]  # closed, counter-clockwise

CORNERS: Final = 36  # of an outline; a polygon of 36 corners has 99.5 % of its ellipse's area
DECIMALS: Final = 7  # 1 cm, as positions are published
_METRES: Final = math.radians(1.0) * EARTH_RADIUS_M  # of a degree of latitude


def outline(lat: float, lon: float, cov_m2: Cov, at_lat: float, share: float = 0.9) -> list[Ring]:
    """Returns the outline of the ellipse around a place that holds `share` of what happens: one ring, or two where it
    lies across the 180th meridian.

    `cov_m2` is (east, east with north, north) in m², in the frame of a forecast whose anchor is at latitude `at_lat`
    (`stream.wire.positions.offset_en_m`). Raises ValueError for a share that is not between 0 and 1.
    """
    if not 0.0 < share < 1.0:
        raise ValueError(f"a region of {share!r} should be a share between 0 and 1, such as 0.9")
    ee, nn = max(cov_m2[0], MIN_VARIANCE_M2), max(cov_m2[2], MIN_VARIANCE_M2)
    # The Cholesky factor: [[a, 0], [b, c]] of the covariance.
    a = math.sqrt(ee)
    b = cov_m2[1] / a
    c = math.sqrt(max(nn - b * b, MIN_VARIANCE_M2))
    reach = math.sqrt(radius2(share))
    metres_lon = _METRES * max(math.cos(math.radians(at_lat)), 1e-6)
    ring = []
    for corner in range(CORNERS):
        angle = 2 * math.pi * corner / CORNERS
        x, y = reach * math.cos(angle), reach * math.sin(angle)
        d_lon = max(-179.0, min(179.0, a * x / metres_lon))  # wider than the world is no outline any more
        ring.append([lon + d_lon, max(-90.0, min(90.0, lat + (b * x + c * y) / _METRES))])
    parts = [_clip(ring, shift) for shift in (0.0, 360.0, -360.0)]
    return [_close_ring(part) for part in parts if len(part) >= 3]


def cut(line: Sequence[tuple[float, ...]]) -> list[list[list[float]]]:
    """Returns a line, of (longitude, latitude, ...) each, as one part or more, none of which lies across the 180th
    meridian. What follows longitude and latitude, such as a time, is interpolated where it is cut."""
    parts: list[list[list[float]]] = [[list(line[0])]] if line else []
    for here, there in pairwise(line):
        d_lon = turn(there[0] - here[0])
        if abs(there[0] - here[0] - d_lon) > 1e-9:  # the short way lies across
            edge = math.copysign(180.0, d_lon or here[0])
            share = 0.0 if not d_lon else (edge - here[0]) / d_lon
            between = [one + share * (other - one) for one, other in zip(here[1:], there[1:], strict=True)]
            parts[-1].append([edge, *between])
            parts.append([[-edge, *between]])
        parts[-1].append(list(there))
    return parts


def round_degrees(number: float) -> float:
    return round(number, DECIMALS)


def _clip(ring: Ring, shift: float) -> Ring:
    """Returns the part of a ring, moved by `shift` degrees, that lies between both sides of the 180th meridian."""
    moved = [[lon + shift, lat] for lon, lat in ring]
    for edge, sign in ((180.0, 1.0), (-180.0, -1.0)):  # Sutherland and Hodgman 1974
        kept: Ring = []
        for before, point in zip([*moved[-1:], *moved[:-1]], moved, strict=True):
            inside, was_inside = sign * (edge - point[0]) >= 0, sign * (edge - before[0]) >= 0
            if inside != was_inside:
                share = (edge - before[0]) / (point[0] - before[0])
                kept.append([edge, before[1] + share * (point[1] - before[1])])
            if inside:
                kept.append(point)
        moved = kept
    return moved


def _close_ring(ring: Ring) -> Ring:
    points = [[round_degrees(lon), round_degrees(lat)] for lon, lat in ring]
    return [*points, points[0]]
