"""Simulates vehicles and walkers in invented towns, and writes them as a track file. No real place is copied.

Free data contains buses, ships and a few cars: things that mostly continue. It lacks what taxis, couriers and people
do: trips within a town with waits between them, so that the displacement stops growing. A model that has never seen
this takes every vehicle for a bus and overshoots at a quarter of an hour; one that has seen nothing else takes every
bus for a taxi. So the simulation contains both, and things in between: only the motion so far distinguishes them. The
tracks are for training only, never for evaluation.

A town of a fleet has what an atlas learns from: its vehicles share streets, places that they go to, and lines, and all
drive on the same days.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.random import Generator
from numpy.typing import NDArray

from model.kinematics.geo import F64, move_deg
from train.data.towns import (
    BUS,
    FIRST_MS,
    KINDS,
    LINES,
    OUTSIDE,
    PLACES,
    TAXI,
    Town,
    along,
    avenue,
    bus_line,
    crossing,
    log_uniform,
    near_1,
    new_fleet,
    new_town,
    somewhere,
    usual_pace,
)

ENTITIES_PER_TOWN: Final = 8
FLEET: Final = 16  # a town with so many vehicles or more is one fleet's
MOST_PINGS: Final = 3_000  # of one entity: fast receivers are cut short in time, or they would fill the file
HOURS: Final = (4.0, 14.0)
CADENCE_S: Final = (2.0, 120.0)
OPEN_ROAD: Final = 6.0  # distance between two crossings outside towns, in blocks of the town
FAST_FROM_M: Final = 2_000.0  # shorter trips use no fast road
FAST_MPS: Final = (13.0, 32.0)
FAST_PIECE_M: Final = 600.0  # between two changes of speed on a fast road
TERMINUS_WAITS: Final = 8.0  # factor of a bus's wait at the ends of its line
FLEET_HOURS: Final = (8.0, 40.0)


class Leg(NamedTuple):
    """A movement along one street, or a wait: its duration in seconds, and its end (street frame, m)."""

    seconds: float
    x: float
    y: float


def write_towns(
    path: Path,
    *,
    entities: int = 600,
    seed: int = 0,
    per_town: int = ENTITIES_PER_TOWN,
    progress: Callable[[float], None] = lambda share: None,
) -> int:
    """Writes `entities` things as Parquet (zstd), a function of the seed; returns the number of pings. With FLEET or
    more in a town, they are a fleet.
    """
    rng = np.random.default_rng([0x70776E, seed])
    columns: dict[str, list[NDArray[Any]]] = {"t": [], "lat": [], "lon": []}
    names: list[NDArray[Any]] = []
    for number in range(entities):
        if number % per_town == 0:
            town = new_town(rng)
            if per_town >= FLEET:
                town = town._replace(fleet=new_fleet(rng, town))
        shares = {name: each.share for name, each in KINDS.items()} if town.fleet is None else town.fleet.shares
        kind = str(rng.choice(list(shares), p=list(shares.values())))
        ts_ms, lat, lon = _track(rng, town, kind)
        for name, column in zip(columns, (ts_ms, lat, lon), strict=True):
            columns[name].append(column)
        names.append(np.full(len(ts_ms), f"{kind}-{seed}-{number}"))
        progress((number + 1) / entities)
    table = pa.table({"entity_id": np.concatenate(names)} | {k: np.concatenate(v) for k, v in columns.items()})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, compression="zstd")
    return len(table)


def _track(rng: Generator, town: Town, kind: str) -> tuple[NDArray[np.int64], F64, F64]:
    """Returns one receiver's times (ms), latitudes and longitudes."""
    fleet = town.fleet
    cadence_s = log_uniform(rng, *CADENCE_S) if fleet is None else fleet.cadence_s * near_1(rng, 0.1)
    until_s = min(rng.uniform(*(HOURS if fleet is None else FLEET_HOURS)) * 3600, MOST_PINGS * cadence_s)
    line: list[F64] = []
    if fleet is None:
        start = somewhere(rng, town, town.radius_m)
    elif kind == BUS:
        line = fleet.lines[int(rng.integers(0, LINES))]
        start = line[0]
    else:
        start = fleet.places[int(rng.integers(0, PLACES))]
    legs = _legs(rng, town, kind, start, line)
    at_s, x, y = [0.0], [start[0]], [start[1]]
    while at_s[-1] < until_s:
        leg = next(legs)
        at_s.append(at_s[-1] + max(leg.seconds, 0.1))
        x.append(leg.x)
        y.append(leg.y)
    seconds = _receiver_s(rng, cadence_s, until_s)
    en = np.stack([np.interp(seconds, at_s, x), np.interp(seconds, at_s, y)], axis=-1)
    cos, sin = np.cos(town.turn_rad), np.sin(town.turn_rad)
    en = en @ np.array([[cos, sin], [-sin, cos]]) + _noise_m(rng, seconds)
    lat, lon = move_deg(np.full(len(en), town.lat_deg), np.full(len(en), town.lon_deg), en)
    first_ms = FIRST_MS + int(rng.integers(0, 28 * 86_400)) * 1000
    if fleet is not None:
        first_ms = fleet.first_ms + int(rng.integers(0, 7_200)) * 1000
    return first_ms + np.rint(1000 * seconds).astype(np.int64), lat, lon


def _receiver_s(rng: Generator, cadence_s: float, until_s: float) -> F64:
    """Returns the times of its reports: nearly regular, with lost reports and a few silences."""
    jitter = rng.choice([0.0, 0.02, 0.2])
    dt_s = cadence_s * (1 + jitter * rng.standard_normal(int(until_s / cadence_s) + 1)).clip(0.2, 3.0)
    dt_s *= np.where(rng.random(len(dt_s)) < 0.03, rng.integers(2, 5, len(dt_s)), 1)
    dt_s += np.where(rng.random(len(dt_s)) < 0.002, rng.uniform(60, 900, len(dt_s)), 0.0)
    seconds = np.cumsum(dt_s)
    return np.asarray(seconds[seconds < until_s])


def _noise_m(rng: Generator, seconds: F64) -> F64:
    """Returns a receiver's error, which drifts over about a minute."""
    sigma_m = log_uniform(rng, 2.0, 15.0)
    keep = np.exp(-np.diff(seconds, prepend=seconds[:1] - 60.0) / 60.0)
    fresh = rng.standard_normal((len(seconds), 2)) * (sigma_m * np.sqrt(1 - keep**2))[:, None]
    out = np.zeros((len(seconds), 2))
    for i in range(1, len(out)):
        out[i] = keep[i] * out[i - 1] + fresh[i]
    return out


def _legs(rng: Generator, town: Town, kind: str, start: F64, line: list[F64]) -> Iterator[Leg]:
    """Yields movements and waits, without end. A bus goes along the line from its first point, `start`; an empty one
    stands for a line of its own.
    """
    typical = KINDS[kind]
    wait_s = typical.wait_s * near_1(rng, 0.7)
    mps = typical.mps * near_1(rng, 0.25)
    far_m = max((typical.far_m or town.radius_m) * near_1(rng, 0.5), 2 * typical.near_m)
    if not line:
        line = bus_line(rng, start) if kind == BUS else [start]
    here = start
    for trip in count(1):
        rest = 1.0
        if kind == BUS:
            stop = trip % (2 * len(line) - 2)
            goal = line[min(stop, 2 * len(line) - 2 - stop)]
            rest = TERMINUS_WAITS if stop % (len(line) - 1) == 0 else 1.0
        else:
            metres = log_uniform(rng, typical.near_m, far_m)
            goal = here + along(rng.uniform(0, 2 * np.pi), metres)
            goal = _pull_back(rng, town, goal) if typical.stays else goal
            if town.fleet is not None:
                often = int(PLACES * rng.random() ** 2)
                goal = town.fleet.places[often] if rng.random() < 0.6 else crossing(town, goal)
            if kind == TAXI and rng.random() < OUTSIDE:
                goal = town.outside
        yield from _trip(rng, town, here, goal, mps * near_1(rng, 0.25), kind)
        here = goal
        if rng.random() < 0.75:
            yield Leg(rng.exponential(wait_s * rest), *here)


def _trip(rng: Generator, town: Town, here: F64, goal: F64, mps: float, kind: str) -> Iterator[Leg]:
    """Yields a trip along the streets; or along streets to a fast road, along that, and along streets to the goal."""
    way = goal - here
    if KINDS[kind].roams and np.hypot(*way) > FAST_FROM_M and rng.random() < town.fast:
        onto, off = here + rng.uniform(0.05, 0.3) * way, goal - rng.uniform(0.05, 0.3) * way
        yield from _streets(rng, town, here, onto, mps, kind)
        yield from _fast_road(rng, onto, off, max(mps, log_uniform(rng, *FAST_MPS)))
        here = off
    yield from _streets(rng, town, here, goal, mps, kind)


def _fast_road(rng: Generator, here: F64, goal: F64, mps: float) -> Iterator[Leg]:
    """Yields a curve in any direction, without crossings; with slow traffic now and then."""
    way = goal - here
    pieces = max(2, round(float(np.hypot(*way)) / FAST_PIECE_M))
    aside = 0.15 * rng.standard_normal() * np.array([-way[1], way[0]])
    slow, last = 1.0, here
    for share in np.linspace(0, 1, pieces + 1)[1:]:
        at = here + share * way + np.sin(np.pi * share) * aside
        if rng.random() < 0.15:
            slow = rng.choice([1.0, 1.0, rng.uniform(0.2, 0.8)])
        yield Leg(float(np.hypot(*(at - last))) / (slow * mps * near_1(rng, 0.1)), *at)
        last = at


def _streets(rng: Generator, town: Town, here: F64, goal: F64, mps: float, kind: str) -> Iterator[Leg]:
    """Yields block after block, each at its own speed, with traffic lights, or the stops of a bus."""
    at = here.copy()
    block_m = town.block_m if KINDS[kind].stays else OPEN_ROAD * town.block_m
    way, usual = rng, 1.0
    if town.fleet is not None and rng.random() < town.fleet.habit:
        ends = np.rint(np.abs(np.concatenate([here, goal]))).astype(np.int64)
        way = np.random.default_rng([town.fleet.seed, *ends])
    for axis, end in _corners(way, here, goal):
        if town.fleet is not None and end != goal[axis]:
            end = avenue(town, end)
        if town.fleet is not None:
            usual = usual_pace(town.fleet, axis, at[1 - axis])
        blocks = max(1, round(abs(end - at[axis]) / block_m))
        for corner in np.linspace(at[axis], end, blocks + 1)[1:]:
            length = abs(corner - at[axis])
            at[axis] = corner
            pace = mps * usual * near_1(rng, 0.3 if town.fleet is None else 0.15)
            yield Leg(length / max(pace, 0.3), *at)
            if kind == BUS and rng.random() < 0.4:
                yield Leg(rng.uniform(8, 40), *at)
            elif kind != "walker" and rng.random() < 0.2:
                yield Leg(rng.exponential(18.0), *at)


def _corners(rng: Generator, here: F64, goal: F64) -> Iterator[tuple[int, float]]:
    """Yields the parts of a way from here to the goal: the axis that is followed, and where the part ends."""
    turns = int(rng.integers(1, 4))
    shares = [np.sort(rng.random(turns)) for _ in range(2)]
    first = int(rng.integers(0, 2))
    for i in range(turns):
        for axis in (first, 1 - first):
            share = 1.0 if i == turns - 1 else shares[axis][i]
            yield axis, float(here[axis] + share * (goal[axis] - here[axis]))


def _pull_back(rng: Generator, town: Town, goal: F64) -> F64:
    """Returns the goal, or, if it lies outside the town, a point nearer to its middle."""
    length = float(np.hypot(*goal))
    return goal if length <= town.radius_m else goal * (town.radius_m / length) * rng.random()
