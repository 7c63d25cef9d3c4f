"""Announces versions of weights in a world, by the product's own code, and lets the topic of versions suffer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final

import networks
from aiokafka.errors import KafkaError
from kafka_log import NewRecord
from plans import Event
from stage import Stage

from stream.versions.announcing import Announcer, NotAnnounced
from stream.wire import ALL, WEIGHTS_KEY, WeightsRecord, dumps

SAMPLE_S: Final = 0.3
LEAD_S: Final = 1.0
MOST_S: Final = 60.0
ANEW_S: Final = 1.0
EXCUSED: Final = (NotAnnounced, KafkaError, OSError, TimeoutError)  # what the makers of versions are told


def announce(stage: Stage, event: Event) -> None:
    """A maker of weights announces them."""
    host = stage.world.host(f"maker.{len(stage.world.hosts)}")
    version = networks.list_versions()[event.which % networks.NETWORKS]
    stage.world.note(f"announce {version} {host}")
    task = stage.world.start(host, _announce(stage, version), "announce")
    task.add_done_callback(lambda done: _note(stage, version, done), context=stage.world.network.outside)


async def _announce(stage: Stage, version: str) -> WeightsRecord:
    settings = stage.settings
    async with (
        asyncio.timeout(MOST_S),
        Announcer.open(settings.bootstrap, settings.topics, lead_s=LEAD_S, sample_s=SAMPLE_S) as announcer,
    ):
        return await announcer.announce_weights(version, "tiny", role="all", reason="the world says so")


def _note(stage: Stage, version: str, done: asyncio.Task[WeightsRecord]) -> None:
    error = None if done.cancelled() else done.exception()
    stage.world.note(f"announced {version} {error!r}")
    if error is not None:
        stage.has_failed_makers = True
        if stage.is_healed:
            start_again(stage)
    is_away = isinstance(error, ValueError) and "no topic" in str(error)  # of pings, which is made anew
    if error is not None and not is_away and not isinstance(error, EXCUSED):
        stage.note_broken(f"announcer: it ended with {error!r}")


def start_again(stage: Stage) -> None:
    """Lets whoever keeps the makers start one again, if one died or failed: what it left announced, the next announcer
    ends. Nobody else does (`deploy/runbook.md`), and workers have waited for it and gone on."""
    dead = [one for one in stage.world.hosts if one.name.startswith("maker.") and one.is_dead]
    if dead or stage.has_failed_makers:
        stage.has_failed_makers = False
        stage.world.start(stage.world.host("maker again"), _settle(stage), "settle")


async def _settle(stage: Stage) -> None:
    settings = stage.settings
    while True:
        try:
            async with asyncio.timeout(MOST_S), Announcer.open(settings.bootstrap, settings.topics):
                return
        except (*EXCUSED, ValueError):  # ValueError: there is no topic of pings yet
            await asyncio.sleep(ANEW_S)


def weights_absent(stage: Stage, event: Event) -> None:
    """The file of a version cannot be read."""
    version = networks.list_versions()[event.which % networks.NETWORKS]
    networks.absent.add(version)
    _later(stage, event, partial(networks.absent.discard, version))


def models_away(stage: Stage, event: Event) -> None:
    """Nobody leads the topic of versions."""
    partition = (stage.settings.topics.models, 0)
    if partition[0] in stage.kafka.cluster.topics:
        stage.kafka.take_leader(partition)
        _later(stage, event, lambda: stage.kafka.give_leader(partition))


def models_anew(stage: Stage, event: Event) -> None:
    """The topic of versions is deleted, and made anew."""
    models = stage.settings.topics.models
    if models in stage.kafka.cluster.topics:
        stage.versions.former.note()
        stage.kafka.cluster.delete_topic(models)
        again = partial(stage.kafka.create_topic, models, 1)
        stage.world.loop.call_later(ANEW_S + event.for_s, again, context=stage.world.network.outside)


def models_junk(stage: Stage, event: Event) -> None:
    """A stranger writes into the topic of versions."""
    never = dict.fromkeys(range(stage.plan.partitions), 2**63 - 1)
    record = WeightsRecord(
        kind="weights",
        serial=900,
        version=networks.list_versions()[0],
        name="tiny",
        role="all",
        state="serving",
        parts=ALL,
        first=never,
        ramp=dict.fromkeys(never, 5),
        topic=stage.settings.topics.pings,
        reason="nobody knows",
        issued_ts=0,
    )
    choices = (
        NewRecord(WEIGHTS_KEY.encode() + b"9" * 5_000, b"{}"),
        NewRecord(record.key, dumps(record)),
        NewRecord(b"atlas:" + b"0" * 16, b"\xff"),
    )
    stage.kafka.feed((stage.settings.topics.models, 0), choices[event.which % len(choices)], aborted=False)


def _later(stage: Stage, event: Event, what: Callable[[], object]) -> None:
    def happen() -> None:
        if not stage.is_healed:
            what()

    stage.world.loop.call_later(event.for_s, happen, context=stage.world.network.outside)


ACTS: Final[dict[str, Callable[[Stage, Event], None]]] = {
    "announce": announce, "weights_absent": weights_absent, "models_away": models_away, "models_anew": models_anew,
    "models_junk": models_junk,
}  # fmt: skip
