"""Fills the gaps of a track that was sent, with the worker's own engine, and brings a track into the form of a stored
one. Nothing of it is kept.

An engine has a network of its own, as it numbers its entities itself; so it has a thread of its own, too, and a long
track keeps no forecast waiting.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple

from model.api import Predictor
from stream.api.messages import FilledGap, FilledPoint, FilledTrack, LeftOut, Point
from stream.config.settings import UNLIMITED, Settings
from stream.engine.engine import Engine
from stream.engine.entities.stored_entity import Stored
from stream.http.problems import Refusal
from stream.store.base import MemoryStore, Partition
from stream.tracks.fix import pack
from stream.tracks.track import Policy, Track, observe
from stream.wire import (
    E7,
    GapFill,
    ModelRef,
    Outgoing,
    Ping,
    Record,
    Reject,
    Topics,
    context_of,
    dumps,
    loads_gapfill,
    ping_rules,
)
from stream.wire.ping_rules import event_time_ms

MOST_WAITING: Final = 8  # tracks; each may take 0.2 s
ANSWER_S: Final = 10.0
ENTITY: Final = "track"
TOPICS: Final = Topics.of()
PARTITION: Final[Partition] = (TOPICS.pings, 0)
NOT_A_TIME: Final = "bad_timestamp"


class SortedTrack(NamedTuple):
    """The points of a track that are pings, in the order of their times, and their places in the request."""

    pings: list[tuple[int, Ping]]
    left_out: list[LeftOut]


def sort_points(points: Sequence[Point], now_ms: int) -> SortedTrack:
    """Returns the points as pings. A point that is no ping, and one whose time another has, is left out."""
    pings: dict[int, tuple[int, Ping]] = {}
    left_out = []
    for index, point in enumerate(points):
        ping = _ping(point, now_ms)
        if isinstance(ping, Reject):
            left_out.append(LeftOut(index=index, code=ping.code, message=ping.message))
        elif ping.ts in pings:
            left_out.append(LeftOut(index=index, code="duplicate", message=f"point {pings[ping.ts][0]} has its time"))
        else:
            pings[ping.ts] = index, ping
    return SortedTrack([pings[ts] for ts in sorted(pings)], left_out)


def _ping(point: Point, now_ms: int) -> Ping | Reject:
    ts_ms = event_time_ms(point.ts)
    if ts_ms is None:
        return Reject(NOT_A_TIME, "ts is neither milliseconds since 1970 nor an RFC 3339 time")
    ping = Ping(
        entity_id=ENTITY,
        ts=ts_ms,
        lat=point.lat,
        lon=point.lon,
        speed_mps=point.speed_mps,
        heading_deg=point.heading_deg,
    )
    return ping_rules.check_ping(ping, now_ms)


def to_stored(points: Sequence[Point], window_fixes: int, now_ms: int) -> Stored:
    """Returns a track in the form of a stored one, without a state. Raises Refusal if no point is of use."""
    track: Track | None = None
    policy = Policy(window_fixes=window_fixes)
    sorted_track = sort_points(points, now_ms)
    for offset, (_, ping) in enumerate(sorted_track.pings):
        track, _ = observe(track, pack(ping), offset, policy, now_ms)
    if track is None:
        raise _nothing(sorted_track.left_out)
    return Stored(track, b"")


def _nothing(left_out: Sequence[LeftOut]) -> Refusal:
    why = left_out[0]
    return Refusal(
        "unusable_track",
        f"none of its points is a ping: point {why.index} is {why.code}: {why.message}",
        came=f"{len(left_out)} points",
        expected="at least one point that is a ping",
    )


class Tracks:
    """Fills tracks, one after the other."""

    def __init__(self, network: Predictor) -> None:
        self._network = network
        settings = Settings(horizons_s=(60.0,), max_stored_entities=UNLIMITED)
        # The clock stands still, as in a replay: the latencies that it would measure are not told.
        self._engine = Engine(network, MemoryStore(), settings, clock_ms=lambda: 0.0)
        self._thread = ThreadPoolExecutor(1, "tracks")
        self.waiting = 0

    async def fill(self, points: Sequence[Point]) -> FilledTrack:
        """Returns the track with its gaps filled. Raises Refusal."""
        if self.waiting >= MOST_WAITING:
            raise Refusal("busy", f"{MOST_WAITING} tracks wait already", headers={"Retry-After": "2"})
        self.waiting += 1
        try:
            async with asyncio.timeout(ANSWER_S):
                loop = asyncio.get_running_loop()
                return await loop.run_in_executor(self._thread, self._fill, points, int(time.time() * 1000))
        except TimeoutError:
            raise Refusal("not_ready", f"no answer within {ANSWER_S:g} s", headers={"Retry-After": "5"}) from None
        finally:
            self.waiting -= 1

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    # -- on its thread

    def _fill(self, points: Sequence[Point], now_ms: int) -> FilledTrack:
        sorted_track = sort_points(points, now_ms)
        if not sorted_track.pings:
            raise _nothing(sorted_track.left_out)
        records = [
            Record(*PARTITION, offset, now_ms, ENTITY.encode(), dumps(ping))
            for offset, (_, ping) in enumerate(sorted_track.pings)
        ]
        try:
            answers = list(asyncio.run(self._engine.process(records, started_ms=0.0, fetched_ms=0.0)))
        finally:
            self._engine.drop(PARTITION)
        return _fill_track(sorted_track, answers, ModelRef(self._network.name, self._network.version))


def _fill_track(sorted_track: SortedTrack, answers: Sequence[Outgoing], model: ModelRef) -> FilledTrack:
    """Returns what the engine's answers make of a track."""
    fills: dict[str, GapFill] = {}
    accepted, left_out = [], list(sorted_track.left_out)
    for one in answers:
        index, ping = sorted_track.pings[one.src.offset]
        if one.topic == TOPICS.gapfills and one.value is not None:
            fill = loads_gapfill(one.value)
            fills[fill.gap_id] = fill
        elif one.topic == TOPICS.dead_letters:
            context = context_of(one.headers)
            left_out.append(LeftOut(index=index, code=context["code"], message=context["message"]))
        else:
            accepted.append(FilledPoint(ts=ping.ts, lat=_degrees(ping.lat), lon=_degrees(ping.lon), filled=False))
    kept = [fill for fill in fills.values() if fill.status != "retracted"]
    made = [
        FilledPoint(ts=point.ts, lat=point.lat, lon=point.lon, filled=True, cov_m2=point.cov_m2)
        for fill in kept
        for point in fill.points
    ]
    return FilledTrack(
        points=sorted([*accepted, *made], key=lambda point: point.ts),
        gaps=[_gap(fill) for fill in sorted(kept, key=lambda fill: fill.start.ts)],
        left_out=sorted(left_out, key=lambda one: one.index),
        model=model,
    )


def _gap(fill: GapFill) -> FilledGap:
    return FilledGap(
        start_ts=fill.start.ts,
        end_ts=fill.end.ts,
        points=len(fill.points),
        length_m=fill.length_m,
        max_sigma_m=fill.max_sigma_m,
        method=fill.method,
        final=fill.status == "final",
    )


def _degrees(deg: float) -> float:
    return round(deg * E7) / E7
