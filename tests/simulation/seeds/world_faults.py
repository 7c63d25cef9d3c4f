"""What the faults of a plan do to a world. Each ends by itself, or when the world is healed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final

import announcers
import atlas_faults
import forgetting
import refresh_faults
from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    GroupLoadInProgressError,
    KafkaError,
    NotCoordinatorForGroupError,
)
from member_faults import ACTS_BESIDE
from network import Weather
from plans import Event
from stage import Place, Stage

from stream.store.redis_store import KEY_PARTITION

ANEW_S: Final = 2.5
STORM: Final = Weather(delay_s=0.02, slow_share=0.2, slow_s=0.5, loss_share=0.02)


def _place(stage: Stage, event: Event) -> Place:
    return stage.places[event.which % len(stage.places)]


def _partition(stage: Stage, event: Event) -> tuple[str, int]:
    return stage.settings.topics.pings, event.which % stage.plan.partitions


def _later(stage: Stage, event: Event, what: Callable[[], object]) -> None:
    def happen() -> None:
        if not stage.is_healed:
            what()

    stage.world.loop.call_later(event.for_s, happen, context=stage.world.network.outside)


def feed(stage: Stage, event: Event) -> None:
    stage.feed(event.which, event.odd)


def feed_aborted(stage: Stage, event: Event) -> None:
    stage.feed(event.which, "", aborted=True)


# -- workers


def kill(stage: Stage, event: Event) -> None:
    stage.kill(_place(stage, event))


def kill_at(stage: Stage, event: Event) -> None:
    stage.arm("kill", event.point, event.times, event.for_s)


def pause_at(stage: Stage, event: Event) -> None:
    stage.arm("pause", event.point, event.times, event.for_s)


def cut_at(stage: Stage, event: Event) -> None:
    stage.arm("cut", event.point, event.times, event.for_s)


def roll_at(stage: Stage, event: Event) -> None:
    stage.arm("roll", event.point, event.times, event.for_s)


def pause(stage: Stage, event: Event) -> None:
    place = _place(stage, event)
    if place.host is not None:
        stage.pause(place.host, event.for_s)


def stop(stage: Stage, event: Event) -> None:
    """A worker is told to stop, and is started again later."""
    place = _place(stage, event)
    if place.worker is None or place.host is None or place.host.is_dead:
        return
    stage.note_interleaving("stop", place.host)
    place.is_wanted = False
    place.worker.stopping.set()

    def want() -> None:
        place.is_wanted = True

    _later(stage, event, want)


# -- networks


def _cut(stage: Stage, event: Event, server: str) -> None:
    host = _place(stage, event).host
    if host is not None:
        stage.note_interleaving(f"cut_{server}", host, event.for_s)
        stage.world.network.cut(host, server)
        _later(stage, event, lambda: stage.world.network.join(host, server))


def cut_kafka(stage: Stage, event: Event) -> None:
    _cut(stage, event, "kafka")


def cut_redis(stage: Stage, event: Event) -> None:
    _cut(stage, event, "redis")


def storm(stage: Stage, event: Event) -> None:
    """Everything takes long, and some of it is lost."""
    network = stage.world.network
    network.weather = STORM

    def calm() -> None:
        network.weather = Weather()

    _later(stage, event, calm)


def break_connections(stage: Stage, event: Event) -> None:
    stage.kafka.wire.break_all()


# -- brokers


def elect(stage: Stage, event: Event) -> None:
    if stage.settings.topics.pings in stage.kafka.cluster.topics:
        stage.kafka.elect(_partition(stage, event))


def elect_unclean(stage: Stage, event: Event) -> None:
    if stage.settings.topics.pings in stage.kafka.cluster.topics:
        stage.members.note_cut(_partition(stage, event)[1])
        stage.kafka.elect_unclean(_partition(stage, event), 1 + int(event.share * 6 * event.times))


def fence(stage: Stage, event: Event) -> None:
    """An operator removes the members of the group, or fences the producer of a partition."""
    group, (topic, number) = stage.settings.group, _partition(stage, event)
    if stage.plan.exactly_once:
        stage.kafka.fence_producer(f"{group}|{topic}|{number}")
    else:
        with suppress(KafkaError):  # without a coordinator the command fails, as an operator's does
            stage.kafka.remove_members(group)


def no_leader(stage: Stage, event: Event) -> None:
    partition = _partition(stage, event)
    if partition[0] not in stage.kafka.cluster.topics:
        return
    stage.kafka.take_leader(partition)
    _later(stage, event, lambda: stage.kafka.give_leader(partition))


def coordinator_away(stage: Stage, event: Event) -> None:
    errors = GroupCoordinatorNotAvailableError, NotCoordinatorForGroupError, GroupLoadInProgressError
    stage.kafka.take_coordinators(errors[event.which % len(errors)])
    _later(stage, event, stage.kafka.give_coordinators)


def late_markers(stage: Stage, event: Event) -> None:
    """Transactions that end are marked so late for some time."""
    stage.kafka.delay_markers(True)
    _later(stage, event, lambda: stage.kafka.delay_markers(False))


def retain(stage: Stage, event: Event) -> None:
    if stage.settings.topics.pings in stage.kafka.cluster.topics:
        stage.kafka.retain(_partition(stage, event), event.share, stage.settings.group)


def topic_anew(stage: Stage, event: Event) -> None:
    """The pings topic is deleted, and made anew after the time that this takes at least."""
    pings = stage.settings.topics.pings
    if pings in stage.kafka.cluster.topics:
        for number in range(stage.plan.partitions):
            stage.members.note_cut(number)
        stage.kafka.delete(pings)
        again = partial(stage.kafka.create_topic, pings, stage.plan.partitions)
        stage.world.loop.call_later(ANEW_S + event.for_s / 4, again, context=stage.world.network.outside)


# -- Redis


def redis_lost(stage: Stage, event: Event) -> None:
    stage.redis.lose_all()


def redis_older(stage: Stage, event: Event) -> None:
    """Redis takes a snapshot now, and goes back to it later."""
    snapshot = stage.redis.snapshot()
    _later(stage, event, lambda: stage.redis.restore(snapshot))


def redis_evicts(stage: Stage, event: Event) -> None:
    stage.redis.evict(event.share)


def redis_refuses(stage: Stage, event: Event) -> None:
    stage.redis.refuse(True, event.which)
    _later(stage, event, lambda: stage.redis.refuse(False, event.which))


def refuse_partition(stage: Stage, event: Event) -> None:
    """Redis refuses all that is about one partition, as a cluster does whose node for its keys is away."""
    topic, number = _partition(stage, event)
    prefix = KEY_PARTITION.format(group=stage.settings.group, topic=topic, number=number)
    stage.redis.server.refused_prefix = prefix.encode()
    _later(stage, event, partial(setattr, stage.redis.server, "refused_prefix", b""))


def forget_command(stage: Stage, event: Event) -> None:
    """Somebody gives `pathcast forget` for an entity."""
    forgetting.start(stage, event.which % stage.plan.entities)


def redis_restarts(stage: Stage, event: Event) -> None:
    """Redis goes down and comes back with all of its data, and without its cached scripts."""
    stage.redis.go_away(True)
    _later(stage, event, lambda: stage.redis.go_away(False))


ACTS: Final[dict[str, Callable[[Stage, Event], None]]] = {
    "ping": feed, "aborted": feed_aborted, "kill": kill, "kill_at": kill_at, "cut_at": cut_at, "roll_at": roll_at,
    "pause": pause,
    "pause_at": pause_at, "stop": stop,
    "cut_kafka": cut_kafka, "cut_redis": cut_redis, "storm": storm, "break": break_connections, "elect": elect,
    "elect_unclean": elect_unclean, "no_leader": no_leader, "coordinator_away": coordinator_away,
    "late_markers": late_markers, "retain": retain, "topic_anew": topic_anew, "redis_lost": redis_lost,
    "redis_older": redis_older, "redis_evicts": redis_evicts, "redis_refuses": redis_refuses,
    "redis_restarts": redis_restarts, "fence": fence, "refuse_partition": refuse_partition,
    "forget_command": forget_command, **announcers.ACTS, **ACTS_BESIDE, **atlas_faults.ACTS, **refresh_faults.ACTS,
}  # fmt: skip
