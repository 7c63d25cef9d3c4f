"""Compares two atlases: which buckets came and went, and from where things now go to another place.

A bucket is a map cell, and the octant in which things pass it.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from model.atlas.published import Published
from model.kinematics.geo import haversine_m
from stream.atlas.showing.flows import DIGITS, arrows, heading_deg

LEAST: Final = 3  # passages in both, for a middle that has moved


class Buckets(NamedTuple):
    """Counts the buckets that differ."""

    gained: int
    lost: int
    kept: int


class Change(NamedTuple):
    """Where the middle of where things were later is another one."""

    lat: float  # of the middle of where they pass now
    lon: float
    heading_deg: int | None
    moved_m: float
    n: tuple[int, int]  # passages before and after


def buckets(one: Published, other: Published) -> Buckets:
    """Returns how many buckets the other has and the one has not, the reverse, and how many both have."""
    kept = len(np.intersect1d(one.bucket, other.bucket, assume_unique=True))
    return Buckets(len(other.bucket) - kept, len(one.bucket) - kept, kept)


def changes(one: Published, other: Published, horizon_s: float, most: int) -> list[Change]:
    """Returns the buckets of both where the middle of where things were horizon_s later has moved farthest; this first.

    Raises ValueError for a horizon that an atlas does not have.
    """
    before, after = (arrows(each, horizon_s, LEAST) for each in (one, other))
    both, was, now = np.intersect1d(before.bucket, after.bucket, assume_unique=True, return_indices=True)
    moved_m = haversine_m(before.to_lat[was], before.to_lon[was], after.to_lat[now], after.to_lon[now])
    return [
        Change(
            round(float(after.lat[now[at]]), DIGITS),
            round(float(after.lon[now[at]]), DIGITS),
            heading_deg(both[at]),
            round(float(moved_m[at]), 1),
            (int(before.n[was[at]]), int(after.n[now[at]])),
        )
        for at in np.argsort(-moved_m, kind="stable")[:most]
    ]
