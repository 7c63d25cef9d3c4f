"""A fleet, weights of which some are better than what serves, and one round of a refresh beside them. Tests import
this; as a program it makes one round, which a test may kill."""

from __future__ import annotations

import logging
import os
import sys
import time
from pathlib import Path

import numpy as np
import torch
from bus_feed import create_topics
from kafka import KafkaProducer

from model.config import ModelConfig
from model.network.checkpoint import save_pretrained
from model.network.network import build
from model.parameters.reading import from_pretrained
from stream.config import failpoints
from stream.registry import Registry
from stream.registry.decisions import Retention
from stream.wire import Ping, Topics, dumps
from train.fit.trainer import Tick
from train.refresh import reference_tracks, statement, training
from train.refresh.decision import DecisionRules
from train.refresh.live import service
from train.refresh.live.champion import LiveRefresh
from train.refresh.live.rounds import RoundEnd
from train.refresh.run import RefreshOptions, RefreshWatch
from train.refresh.statement import Statement

TINY = ModelConfig(name="tiny", d=16, heads=2, window=16)
CARS, PINGS, EVERY_S = 20, 120, 30
PARTITIONS = 3
# The regions of weights that hardly trained are not what is asked about here.
LENIENT = DecisionRules(
    holds_50=(0.0, 1.0), holds_90=(0.0, 1.0), horizon_share=9.0, stratum_share=9.0, golden_share=9.0
)


class Rig:
    """Where everything of a test lies."""

    def __init__(self, kafka: str, prefix: str, folder: Path) -> None:
        self.kafka, self.prefix, self.folder = kafka, prefix, folder
        self.topics = Topics.of(prefix)
        self.registry = Registry.opened(str(folder / "registry"))

    def live(self, challenger: Path | None = None, *, steps: int | None = None, **other: object) -> LiveRefresh:
        options = RefreshOptions(
            Path(),
            str(self.folder / "init"),
            steps=steps,
            challenger=None if challenger is None else str(challenger),
            towns=0,
            places=200,
            rows=4,
            late_ms=600_000,
            rules=LENIENT,
        )
        given = {"lead_s": 1.0, "keep": Retention(newest=3, days=30.0), **other}
        return LiveRefresh(
            self.registry, self.kafka, self.folder / "rounds", options, self.topics, **given  # type: ignore[arg-type]
        )  # fmt: skip

    def once(self, live: LiveRefresh, watch: RefreshWatch | None = None) -> RoundEnd:
        small_golden_sets()
        return service.run_once(live, service.Patience(), watch or RefreshWatch())


def small_golden_sets() -> None:
    reference_tracks.GOLDEN_ENTITIES, reference_tracks.MOST_ANCHORS = 2, 100  # type: ignore[misc]


def make(kafka: str, prefix: str, folder: Path) -> Rig:
    """Makes topics, an hour of cars that ends now, and `init`, whose forecasts are far off."""
    rig = Rig(kafka, prefix, folder)
    create_topics(kafka, rig.topics, partitions=PARTITIONS)
    feed(rig)
    weights(folder / "init", noise=2.0, seed=1)
    return rig


def feed(rig: Rig, old_ms: int = 0) -> None:
    """Sends the cars' pings, each with its own time as that of its record, `old_ms` ago."""
    end_ms = time.time_ns() // 1_000_000 - old_ms
    producer = KafkaProducer(bootstrap_servers=rig.kafka)
    rng = np.random.default_rng(0)
    for car in range(CARS):
        north = 48.0 + np.cumsum(rng.normal(0.002, 0.0005, PINGS))
        for number in range(PINGS):
            ts = end_ms - (PINGS - number) * EVERY_S * 1000
            ping = Ping(entity_id=f"car-{car:02}", ts=ts, lat=float(north[number]), lon=11.0)
            key, partition = ping.entity_id.encode(), car % PARTITIONS
            producer.send(rig.topics.pings, key=key, value=dumps(ping), partition=partition, timestamp_ms=ts)
    producer.flush()
    producer.close()


def weights(folder: Path, *, noise: float, seed: int) -> Path:
    """Makes weights with a statement. The less noise, the nearer: without, they are the physics."""
    network = build(TINY, 0)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        last = network.forecast.last.weight
        last += noise * torch.randn(last.shape, generator=generator)
    save_pretrained(network, folder, "a card")
    version = from_pretrained(folder).fingerprint().hex()
    statement.write_statement(Statement(version, version, "made by a test", seed, 0, "0", ()), folder)
    return folder


def main(kafka: str, prefix: str, folder: str, challenger: str, kill_at_step: str) -> None:
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(message)s")
    logging.getLogger("train").setLevel(logging.INFO)
    failpoints.arm(os.environ.get(failpoints.VARIABLE, ""))
    training.CHECKPOINT_EVERY = 5  # type: ignore[misc]

    def tick(tick: Tick) -> None:
        if str(tick.step) == kill_at_step:
            os.kill(os.getpid(), 9)

    rig = Rig(kafka, prefix, Path(folder))
    live = rig.live(Path(challenger)) if challenger else rig.live(steps=20)
    rig.once(live, RefreshWatch(say=lambda line: print(line, file=sys.stderr), tick=tick))


if __name__ == "__main__":
    main(*sys.argv[1:])
