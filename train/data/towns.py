"""Invents towns: their streets, and what the vehicles of a fleet share in them. Each is a function of random numbers.

Lengths are metres in the street frame, whose axes the streets follow.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.random import Generator

from model.kinematics.geo import F64

FIRST_MS: Final = 1_500_000_000_000
FLEET_CADENCE_S: Final = (5.0, 180.0)
PLACES: Final = 40  # that a fleet drives to, the first ones more often
LINES: Final = 8  # of a fleet's buses
AVENUE: Final = 5  # every so many streets one is an avenue: most ways turn there


class Kind(NamedTuple):
    """Typical values of a kind of thing; each thing draws its own wait, reach and speed around these."""

    share: float  # share of all entities
    wait_s: float  # wait between two trips
    mps: float
    near_m: float = 200.0  # the shortest trip
    far_m: float | None = None  # the longest trip; None: across the town
    stays: bool = True  # stays within its town
    roams: bool = True  # drives anywhere, so it may use a fast road


# The values of taxis reproduce four averages of those of San Francisco: how far they get in 1 and 15 minutes (0.35 and
# 3.2 km), how fast the fastest are, and how long they keep a direction. The other kinds are not based on measurements.
TAXI: Final = "taxi"
OUTSIDE: Final = 0.04  # share of its trips: in large towns a few in a hundred go to the airport
BUS: Final = "bus"  # goes back and forth on a line
KINDS: Final = {
    TAXI: Kind(0.35, wait_s=150.0, mps=9.5, near_m=800.0),
    "courier": Kind(0.1, wait_s=180.0, mps=7.0, far_m=2_500.0),
    BUS: Kind(0.25, wait_s=60.0, mps=7.0, roams=False),
    "traveller": Kind(0.2, wait_s=300.0, mps=16.0, near_m=4_000.0, far_m=80_000.0, stays=False),
    "walker": Kind(0.1, wait_s=1_200.0, mps=1.3, far_m=1_500.0, roams=False),
}


class Town(NamedTuple):
    """A disc with streets in two directions."""

    lat_deg: float
    lon_deg: float
    radius_m: float
    block_m: float
    turn_rad: float  # angle between the streets and east and north
    fast: float  # share of the longer trips that take a fast road
    outside: F64  # a destination of taxis outside the town, such as an airport (street frame, m)
    fleet: Fleet | None = None  # None: its vehicles have nothing in common but the directions of the streets


class Fleet(NamedTuple):
    """The places, lines and habits that the vehicles of a fleet share."""

    places: F64  # [PLACES, 2] on crossings (street frame, m)
    lines: list[list[F64]]  # corners of bus lines, each on a street with the next
    cadence_s: float
    first_ms: int  # the begin of its first day
    shares: dict[str, float]  # of its kinds of vehicle
    habit: float  # share of the trips that take the way that all take between these places
    seed: int  # of these ways, and of how fast its streets are


def new_town(rng: Generator) -> Town:
    radius_m = log_uniform(rng, 2_000, 15_000)
    return Town(
        lat_deg=rng.uniform(-55, 60),
        lon_deg=rng.uniform(-179, 179),
        radius_m=radius_m,
        block_m=log_uniform(rng, 80, 250),
        turn_rad=rng.uniform(0, np.pi / 2),
        fast=rng.random() ** 0.5,
        outside=along(rng.uniform(0, 2 * np.pi), radius_m + log_uniform(rng, 3_000, 20_000)),
    )


def new_fleet(rng: Generator, town: Town) -> Fleet:
    places = np.array([crossing(town, somewhere(rng, town, town.radius_m)) for _ in range(PLACES)])
    lines = []
    for _ in range(LINES):
        stops = bus_line(rng, somewhere(rng, town, town.radius_m / 2))
        lines.append(_on_streets(rng, [crossing(town, stop) for stop in stops]))
    of_buses = rng.choice([0.0, 0.5, 1.0])  # some fleets have one kind of vehicle
    shares = {name: (1 - of_buses) * each.share / (1 - KINDS[BUS].share) for name, each in KINDS.items()}
    first_ms = FIRST_MS + int(rng.integers(0, 3)) * 86_400_000  # few, so that all towns grow old together
    shares[BUS] = float(of_buses)
    habit, seed = rng.uniform(0.2, 1.0), int(rng.integers(0, 2**31))
    return Fleet(places, lines, log_uniform(rng, *FLEET_CADENCE_S), first_ms, shares, habit, seed)


def crossing(town: Town, point: F64) -> F64:
    """Returns the crossing of avenues that is nearest."""
    return np.array([avenue(town, along) for along in point])


def _on_streets(rng: Generator, stops: list[F64]) -> list[F64]:
    """Returns the stops with a corner between each two, so that the way follows the streets."""
    line = [stops[0]]
    for stop in stops[1:]:
        corner = line[-1].copy()
        axis = int(rng.integers(0, 2))
        corner[axis] = stop[axis]
        line += [point for point in (corner, stop) if not np.array_equal(point, line[-1])]
    return line


def bus_line(rng: Generator, start: F64) -> list[F64]:
    """Returns the stops of a bus, from one end to the other: the way winds, but mostly keeps its direction."""
    angle, step_m = rng.uniform(0, 2 * np.pi), log_uniform(rng, 1_000.0, 6_000.0)
    line = [start]
    for _ in range(int(rng.integers(3, 9))):
        angle += 0.5 * rng.standard_normal()
        line.append(line[-1] + along(angle, step_m * rng.uniform(0.5, 1.5)))
    return line


def usual_pace(fleet: Fleet, axis: int, street: float) -> float:
    """Returns how fast all are on this street, beside what they are elsewhere."""
    return near_1(np.random.default_rng([fleet.seed, axis, round(abs(street))]), 0.4)


def avenue(town: Town, along: float) -> float:
    """Returns the avenue that is nearest to this coordinate."""
    side_m = AVENUE * town.block_m
    return round(along / side_m) * side_m


def somewhere(rng: Generator, town: Town, within_m: float) -> F64:
    """Returns a point of the disc, denser towards its middle, as towns are."""
    angle, radius = rng.uniform(0, 2 * np.pi), within_m * rng.random() ** 0.8
    return along(angle, radius)


def along(angle: float, metres: float) -> F64:
    return metres * np.array([np.cos(angle), np.sin(angle)])


def near_1(rng: Generator, spread: float) -> float:
    return float(np.exp(spread * rng.standard_normal()))


def log_uniform(rng: Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))
