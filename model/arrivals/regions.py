"""The chance that a position lies in an area: a bivariate Student's t with 4 degrees of freedom over a polygon.

A covariance C, as forecasts have it, stands for the scale matrix C / 1.878. In coordinates in which the scale is the
unit matrix and the mean the origin, the t is round, and a disc of radius r around the origin holds

    G(r) = 1 - (1 + r²/4)⁻²

of it (Kotz & Nadarajah 2004, section 1.2). By Green's theorem the chance of any area is then the integral of
G(r) dθ / 2π along its outline, whether or not the origin is inside. Along a straight edge at the signed distance d from
the origin, from s₀ to s₁ along the edge as seen from the foot of the perpendicular, that is exactly I(s₁) - I(s₀), with

    I(s) = (d/q) (1 + 2/q²) arctan(s/q) + (2/q²) s d / (q² + s²),    q² = 4 + d²

so that a polygon needs no quadrature. A circle is taken as the regular polygon of CORNERS corners and the same area.

Shapes: H positions, V corners of a ring.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from model.kinematics.answer_bounds import SCALE_OF_COV
from model.kinematics.geo import F64

MIN_VARIANCE_M2: Final = 1e-4  # one centimetre, as wherever a covariance is read
# Its outline is nowhere farther than 0.03 % of the radius from the circle.
CORNERS: Final = 128
_ANGLE: Final = 2 * np.pi * np.arange(CORNERS) / CORNERS
_SAME_AREA: Final = np.sqrt(_ANGLE[1] / np.sin(_ANGLE[1]))
_UNIT_CIRCLE: Final = _SAME_AREA * np.stack([np.cos(_ANGLE), np.sin(_ANGLE)], axis=-1)


def polygon_chance(rings_m: Sequence[F64], mean_m: F64, cov_m2: F64) -> F64:
    """Returns the chances [H] that positions lie inside a polygon.

    Args:
        rings_m: the outline [V, 2], then holes, in metres east and north of any place; which way round they go does not
            matter, and the first corner need not be repeated. The rings must not cross themselves or each other.
        mean_m: [H, 2], in metres east and north of the same place.
        cov_m2: [H, 3] ee, en, nn; deviations of less than a centimetre count as one.
    """
    outline, *holes = rings_m
    chance = _ring_chance(outline, mean_m, cov_m2)
    for hole in holes:
        chance = chance - _ring_chance(hole, mean_m, cov_m2)
    return np.asarray(np.clip(chance, 0.0, 1.0))


def circle_chance(centre_m: F64, radius_m: float, mean_m: F64, cov_m2: F64) -> F64:
    """Returns the chances [H] that positions lie within `radius_m` of a place [2]; for the others see
    `polygon_chance`."""
    return polygon_chance([centre_m + radius_m * _UNIT_CIRCLE], mean_m, cov_m2)


def in_polygon(rings_m: Sequence[F64], place_m: F64) -> bool:
    """Returns whether a place [2] is in a polygon: inside an odd number of its rings."""
    return sum(_in_ring(ring, place_m) for ring in rings_m) % 2 == 1


def _in_ring(ring_m: F64, place_m: F64) -> bool:
    begin, end = ring_m - place_m, np.roll(ring_m, -1, axis=0) - place_m
    crosses = (begin[:, 1] > 0) != (end[:, 1] > 0)
    rise = np.where(crosses, end[:, 1] - begin[:, 1], 1.0)
    east = begin[:, 0] - begin[:, 1] * (end[:, 0] - begin[:, 0]) / rise
    return bool((crosses & (east > 0)).sum() % 2)


def _ring_chance(ring_m: F64, mean_m: F64, cov_m2: F64) -> F64:
    corner = _whiten(ring_m, mean_m, cov_m2)  # [H, V, 2]
    edge = np.roll(corner, -1, axis=1) - corner
    length = np.hypot(edge[..., 0], edge[..., 1])
    along = edge / np.where(length > 0, length, 1.0)[..., None]
    d = corner[..., 0] * along[..., 1] - corner[..., 1] * along[..., 0]
    s0 = (corner * along).sum(-1)
    q2 = 4.0 + d * d
    q = np.sqrt(q2)

    def integral(s: F64) -> F64:
        return np.asarray(d / q * (1 + 2 / q2) * np.arctan(s / q) + 2 / q2 * s * d / (q2 + s * s))

    return np.asarray(np.abs((integral(s0 + length) - integral(s0)).sum(-1)) / (2 * np.pi))


def _whiten(ring_m: F64, mean_m: F64, cov_m2: F64) -> F64:
    """Returns the corners [H, V, 2] in coordinates in which the scale matrix is the unit matrix."""
    ee, nn = (np.maximum(cov_m2[:, which], MIN_VARIANCE_M2) * SCALE_OF_COV for which in (0, 2))
    most = np.sqrt(ee * nn) * (1 - 1e-9)
    en = np.clip(cov_m2[:, 1] * SCALE_OF_COV, -most, most)
    east = np.sqrt(ee)
    slope = en / east
    north = np.sqrt(nn - slope * slope)
    off = ring_m - mean_m[:, None]
    z0 = off[..., 0] / east[:, None]
    z1 = (off[..., 1] - slope[:, None] * z0) / north[:, None]
    return np.stack([z0, z1], axis=-1)
