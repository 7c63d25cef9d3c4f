"""Thousands of made-up entities that drive about, as forecasts in their topic: how many a browser can draw. Tests
import this; it tests nothing itself."""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import bus_feed
from forecast_rig import forecast_of

from stream.wire import Topics, dumps
from stream.wire.messages import Anchor, Forecast, Horizon, NextStep, Src

M_PER_DEG: Final = 111_320.0
AHEAD_S: Final = (60.0, 300.0, 900.0)
MIDDLE: Final = (30.27, -97.74)
SPREAD_DEG: Final = 0.06


@dataclass
class Driver:
    entity_id: str
    lat: float
    lon: float
    turn: float
    speed_mps: float
    ts: int

    def drive(self, ts: int, rng: random.Random) -> Forecast:
        """Goes on to this time, and is forecast to go straight on."""
        dt_s = (ts - self.ts) / 1000
        if rng.random() < 0.1:
            self.turn += rng.choice((-1, 1)) * math.pi / 2
        self.ts = ts
        self.lat, self.lon = self._after(dt_s)
        ahead = [Horizon(h_s, *self._after(h_s), _spread(h_s)) for h_s in AHEAD_S]
        here = Anchor(ts, self.lat, self.lon)
        return forecast_of(self.entity_id, here, self._next(2.0), ahead, src=Src("made-up", 0, ts))

    def _step_m(self, dt_s: float) -> tuple[float, float]:
        return self.speed_mps * dt_s * math.sin(self.turn), self.speed_mps * dt_s * math.cos(self.turn)

    def _after(self, dt_s: float) -> tuple[float, float]:
        east_m, north_m = self._step_m(dt_s)
        return self.lat + north_m / M_PER_DEG, self.lon + east_m / M_PER_DEG / math.cos(math.radians(self.lat))

    def _next(self, dt_s: float) -> NextStep:
        east_m, north_m = self._step_m(dt_s)
        lat, lon = self._after(dt_s)
        return NextStep(
            dt_s=dt_s, d_east_m=east_m, d_north_m=north_m, d_lat=lat - self.lat, d_lon=lon - self.lon,
            cov_m2=_spread(dt_s),
        )  # fmt: skip


def _spread(h_s: float) -> tuple[float, float, float]:
    sigma_m = 5.0 + h_s
    return sigma_m**2, 0.0, sigma_m**2


@contextmanager
def driving(kafka: str, topics: Topics, count: int, every_s: float) -> Iterator[threading.Thread]:
    """So many entities, each of which is forecast anew every so many seconds, as long as this lasts."""
    stop = threading.Event()
    feeder = threading.Thread(target=bus_feed.send, args=(kafka, topics.forecasts, _records(count, every_s, stop)))
    feeder.start()
    try:
        yield feeder
    finally:
        stop.set()
        feeder.join()


def _records(count: int, every_s: float, stop: threading.Event) -> Iterator[bus_feed.Raw]:
    rng = random.Random(1)
    now_ms = int(time.time() * 1000)
    drivers = [
        Driver(
            f"car-{number}", rng.gauss(MIDDLE[0], SPREAD_DEG), rng.gauss(MIDDLE[1], SPREAD_DEG),
            rng.choice((0, 1, 2, 3)) * math.pi / 2 + rng.gauss(0, 0.05), rng.uniform(3, 15), now_ms,
        )
        for number in range(count)
    ]  # fmt: skip
    due, begun = 0, time.monotonic()
    while not stop.is_set():
        wanted = int((time.monotonic() - begun) / every_s * count) + count  # all of them at once, at first
        while due < wanted and not stop.is_set():
            driver = drivers[due % count]
            forecast = driver.drive(max(driver.ts + 1, int(time.time() * 1000)), rng)
            yield driver.entity_id.encode(), dumps(forecast), ()
            due += 1
        stop.wait(0.02)
