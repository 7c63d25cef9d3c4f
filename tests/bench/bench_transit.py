"""Measures what a national feed and its vehicles cost a member of `beside transit`, in one process without a broker.

a synthetic zip (not counted) -> read -> pings of all vehicles under way, folded in the order of their times -> each
second of the stream, the records of all partitions -> a snapshot, and a fleet made of it
"""

from __future__ import annotations

import itertools
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
from bench_rig import Show, Stopwatch
from numpy.typing import NDArray

from stream.bench.harness.report import UNKNOWN, Cell, Report, Table
from stream.services.transit.feeds import read_feed
from stream.services.transit.fleet import Feed, Fleet
from stream.services.transit.snapshot import dump, load, restore, seal
from stream.services.transit.unit import TransitUnit
from stream.transit.predicting import Predictor
from stream.wire import Ping, Topics

TOPICS: Final = Topics.of("bench")
NOON_S: Final = 1_773_144_000  # 10 March 2026, 12:00 UTC, which is the agency's zone
STOPS: Final = 30  # of a trip
HOP_M: Final = 400.0
TRIP_S: Final = 3_600
DAY_S: Final = (18_000, 82_800)  # trips begin from 5:00 to 23:00: so 200,000 trips are 11,000 vehicles at once
PARTITIONS: Final = 12
M_PER_DEG: Final = 111_195.0
WARM_S: Final = 120  # of the stream, before CPU is measured


@dataclass(frozen=True)
class Options:
    """The options of the benchmark."""

    trips: int = 200_000
    patterns: int = 4_000  # of stops, one after the other
    vehicles: int = 10_000
    every_s: int = 20  # between two pings of a vehicle
    seconds: int = 180  # of the stream, that are measured
    seed: int = 1


def run(options: Options, show: Show) -> Report:
    """Makes the zip, reads it, and plays vehicles."""
    watches = {name: Stopwatch() for name in ("read", "fold", "publish", "dump", "restore")}
    before_mib = _memory_mib("VmRSS")
    with tempfile.TemporaryDirectory(prefix="pathcast-bench-") as folder:
        file = Path(folder) / "national.zip"
        show("writing the feed")
        begins_T = _write(file, options)
        size_mb = file.stat().st_size / 1e6
        show("reading the feed")
        feed = watches["read"].timed(partial(read_feed, file))
    read_mib = _memory_mib("VmRSS") - before_mib
    fleet = Fleet(feed)
    fleet.caught_up = True
    units = [TransitUnit(TOPICS, number, fleet, 30.0, {}) for number in range(PARTITIONS)]
    pings = records = sent_bytes = 0
    for second, some in _seconds(options, begins_T):
        if second == WARM_S:
            for name in ("fold", "publish"):
                watches[name] = Stopwatch()
            pings = records = sent_bytes = 0
        show(f"second {second} of {WARM_S + options.seconds}: {fleet.trips if second % 60 == 0 else ''}")
        watches["fold"].timed(partial(_fold, fleet, some))
        made = watches["publish"].timed(lambda: [one for unit in units for one in unit.take_outgoing(None)])
        pings, records = pings + len(some), records + len(made)
        sent_bytes += sum(len(one.value or b"") for one in made)
    raw = watches["dump"].timed(lambda: seal(dump(fleet, TOPICS.pings, "", 0)))
    peak_mib = _memory_mib("VmHWM")
    other = Fleet(Feed(feed.hash, Predictor(feed.predictor.schedule)))
    watches["restore"].timed(lambda: restore(other, load(raw, TOPICS.pings), {}, with_trips=True))
    seconds = options.seconds
    rows: list[tuple[str, Cell, Cell]] = [
        ("zip, MB", size_mb, UNKNOWN),
        ("reading it, s", watches["read"].wall_s, watches["read"].cpu_s),
        ("memory of the feed, MiB", read_mib, UNKNOWN),
        ("peak memory of all this, MiB", peak_mib, UNKNOWN),
        ("trips under way", fleet.trips, UNKNOWN),
        ("pings per second of the stream", pings / seconds, UNKNOWN),
        ("records per second of the stream", records / seconds, UNKNOWN),
        ("bytes of a record", sent_bytes / max(records, 1), UNKNOWN),
        ("folding, s per second of the stream", watches["fold"].wall_s / seconds, watches["fold"].cpu_s / seconds),
        ("publishing, s per second", watches["publish"].wall_s / seconds, watches["publish"].cpu_s / seconds),
        ("snapshot, MB", len(raw) / 1e6, UNKNOWN),
        ("making it, s", watches["dump"].wall_s, watches["dump"].cpu_s),
        ("a fleet of it, s", watches["restore"].wall_s, watches["restore"].cpu_s),
    ]
    table = Table("trips of a national feed", ("what", "how much, by wall", "by CPU"), rows)
    note = (
        f"{options.trips:,} trips of {STOPS} stops on {options.patterns:,} patterns, {options.vehicles:,} vehicles, a "
        f"ping each {options.every_s} s, {PARTITIONS} partitions of one member, {seconds} s of the stream after "
        f"{WARM_S} s; without a broker"
    )
    return Report("transit", [table], {what: both for what, *both in rows}, [note])


def _fold(fleet: Fleet, some: list[Ping]) -> None:
    for ping in some:
        fleet.fold(int(ping.entity_id) % PARTITIONS, ping, -1)


def _write(file: Path, options: Options) -> NDArray[np.int64]:
    """Writes the zip. Returns when each trip begins, in seconds of the day; trip t is of pattern t % patterns."""
    begins_T = np.sort(np.random.default_rng(options.seed).integers(*DAY_S, options.trips))
    clock = [f"{s // 3600:02d}:{s // 60 % 60:02d}:{s % 60:02d}" for s in range(DAY_S[1] + TRIP_S + 1)]
    lat, lon = _stop_places(options)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as feed:
        feed.writestr("agency.txt", "agency_id,agency_name,agency_url,agency_timezone\nA,A,http://a.example,UTC\n")
        feed.writestr("calendar_dates.txt", "service_id,date,exception_type\nall,20260310,1\n")
        stops = (f"p{p}s{n},Stop {p} {n},{lat[p, n]:.6f},{lon[p, n]:.6f}" for p, n in np.ndindex(lat.shape))
        feed.writestr("stops.txt", "stop_id,stop_name,stop_lat,stop_lon\n" + "\n".join(stops))
        points = (f"p{p},{n},{lat[p, n]:.6f},{lon[p, n]:.6f}" for p, n in np.ndindex(lat.shape))
        feed.writestr("shapes.txt", "shape_id,shape_pt_sequence,shape_pt_lat,shape_pt_lon\n" + "\n".join(points))
        trips = (f"r{t % options.patterns},all,{t},p{t % options.patterns}" for t in range(options.trips))
        feed.writestr("trips.txt", "route_id,service_id,trip_id,shape_id\n" + "\n".join(trips))
        hop_s = TRIP_S // (STOPS - 1)
        with feed.open("stop_times.txt", "w", force_zip64=True) as written:
            written.write(b"trip_id,arrival_time,departure_time,stop_id,stop_sequence\n")
            for trip, begin in enumerate(begins_T.tolist()):
                at = [clock[begin + n * hop_s] for n in range(STOPS)]
                pattern = trip % options.patterns
                lines = [f"{trip},{at[n]},{at[n]},p{pattern}s{n},{n + 1}\n" for n in range(STOPS)]
                written.write("".join(lines).encode())
    return begins_T


def _stop_places(options: Options) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns latitudes and longitudes [patterns, STOPS]: ways that bend a little, all over a country."""
    rng = np.random.default_rng(options.seed + 1)
    heading = rng.uniform(0, 2 * np.pi, (options.patterns, 1)) + rng.normal(0, 0.3, (options.patterns, STOPS)).cumsum(1)
    lat = rng.uniform(45, 50, (options.patterns, 1)) + (HOP_M * np.cos(heading) / M_PER_DEG).cumsum(1)
    lon = rng.uniform(0, 10, (options.patterns, 1)) + (HOP_M * np.sin(heading) / M_PER_DEG / 0.7).cumsum(1)
    return lat, lon


def _seconds(options: Options, begins_T: NDArray[np.int64]) -> Iterator[tuple[int, list[Ping]]]:
    """Yields the pings of each second, from noon on, of the vehicles that are under way by then."""
    rng = np.random.default_rng(options.seed + 2)
    lat, lon = _stop_places(options)
    under_way = np.flatnonzero((begins_T < 43_200) & (begins_T > 43_200 - TRIP_S + 900))
    chosen = rng.permutation(under_way)[: options.vehicles]
    slower = rng.normal(1.1, 0.1, len(chosen))
    for second in itertools.count():
        if second == WARM_S + options.seconds:
            return
        due = np.flatnonzero(np.arange(len(chosen)) % options.every_s == second % options.every_s)
        along = np.clip((43_200 + second - begins_T[chosen[due]]) / TRIP_S / slower[due], 0, 0.999) * (STOPS - 1)
        stop, share = along.astype(int), along % 1
        pattern = chosen[due] % options.patterns
        at_lat = lat[pattern, stop] * (1 - share) + lat[pattern, stop + 1] * share + rng.normal(0, 1e-4, len(due))
        at_lon = lon[pattern, stop] * (1 - share) + lon[pattern, stop + 1] * share + rng.normal(0, 1e-4, len(due))
        yield (
            second,
            [
                Ping(entity_id=str(one), ts=1000 * (NOON_S + second), lat=a, lon=o, trip_id=str(trip), speed_mps=6.0)
                for one, trip, a, o in zip(
                    due.tolist(), chosen[due].tolist(), at_lat.tolist(), at_lon.tolist(), strict=True
                )
            ],
        )


def _memory_mib(name: str) -> float:
    """Returns what is resident of this process, or was at most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{name}:"))
