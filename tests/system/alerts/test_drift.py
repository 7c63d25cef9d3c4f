"""Forecasts that become worse for good are told by a real Prometheus, which reads a real scorer."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from pathlib import Path

import bus_feed
from forecast_rig import forecast_of
from pathcast_process import COMMAND, environment
from prometheus_server import Prometheus
from worker_process import Worker

from stream.up.embedded import free_port
from stream.wire import Anchor, Forecast, Horizon, ModelRef, NextStep, Topics, dumps
from stream.wire.ids import forecast_id

VEHICLES, STEP_S, SPEED_MPS = 40, 15, 10.0
# Pings of each vehicle. The scorer learns what is usual from 1,920 scores; 1,000 forecasts wait until their time comes.
BEFORE, AFTER, ENOUGH = 100, 80, 2_500
M_PER_DEG = 111_195.0
T0 = 1_700_000_000_000


def forecasts(rng: random.Random, steps: range, noise_m: float) -> Iterator[bus_feed.Raw]:
    """Vehicles that go north, which receivers of this error see, and which are forecast to go on."""
    for step in steps:
        for number in range(VEHICLES):
            entity, ts = f"e{number}", T0 + 1_000 * (step * STEP_S) + number
            lat = 30 + (step * STEP_S * SPEED_MPS + rng.gauss(0, noise_m)) / M_PER_DEG
            lon = number / 10 + rng.gauss(0, noise_m) / M_PER_DEG
            yield entity.encode(), dumps(_forecast(entity, ts, lat, lon)), ()


def _forecast(entity: str, ts: int, lat: float, lon: float) -> Forecast:
    north_m = STEP_S * SPEED_MPS
    cov = (400.0, 0.0, 400.0)
    step = NextStep(dt_s=STEP_S, d_east_m=0.0, d_north_m=north_m, d_lat=north_m / M_PER_DEG, d_lon=0.0, cov_m2=cov)
    ahead = [Horizon(60.0, lat + 4 * step.d_lat, lon, cov)]
    more = {"forecast_id": forecast_id(entity, ts, "v1"), "model": ModelRef("made-up", "v1")}
    return forecast_of(entity, Anchor(ts, lat, lon), step, ahead, **more)


def test_a_fleet_that_changes_for_good_is_told(
    apache_kafka: str, topic_prefix: str, tmp_path: Path, prometheus: Prometheus
) -> None:
    topics, rng = Topics.of(topic_prefix), random.Random(5)
    bus_feed.create_topics(apache_kafka, topics, partitions=1)
    port = free_port()
    options = ("beside", "scores", "--bootstrap", apache_kafka, "--prefix", topic_prefix, "--longest", "1m")
    command = (*options, "--metrics", str(port))
    with Worker(tmp_path / "log", program=COMMAND, command=command, environment=environment()) as scorer:
        scorer.wait_for("is ours", 180)
        instance = prometheus.watch("scores", f"http://127.0.0.1:{port}")
        one = {"instance": instance, "measured": "error", "severity": "ticket"}
        bus_feed.send(apache_kafka, topics.forecasts, forecasts(rng, range(BEFORE), noise_m=5.0))
        scored = 'sum(pathcast_scores_scored_total{horizon="next"})'
        prometheus.wait("what is usual is known", lambda: bool(prometheus.query(f"{scored} > {ENOUGH}")))
        assert not prometheus.is_firing("PathcastScoresDrift")
        bus_feed.send(apache_kafka, topics.forecasts, forecasts(rng, range(BEFORE, BEFORE + AFTER), noise_m=40.0))
        prometheus.wait_until_fires("PathcastScoresDrift", **one)
        prometheus.wait_until_over("PathcastScoresDrift", **one)  # it tells a change, not a state
        (error,) = prometheus.query('sum(pathcast_scores_error_metres_total{horizon="next"})')
        assert math.isfinite(float(error["value"][1]))
        assert scorer.stop() == 0, scorer.log()
