"""What faults do to the members beside the workers, and to what they read and write."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec
from kafka_log import NO_TIME, NewRecord
from members_beside import STRANGER
from simulated_members import group_of

from stream.kafka.partitioner import partition_of
from stream.wire import Ping, VersionRecord, dumps, loads_forecast

if TYPE_CHECKING:
    from plans import Event
    from stage import Stage

ANEW_S: Final = 2.5
YEARS_MS: Final = 3 * 365 * 86_400_000
NEVER_REACHED: Final = 1 << 40
DEEP: Final = b'{"other": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
FALSE: Final = "ghost"  # a vehicle whose clock is years ahead


def _later(stage: Stage, event: Event, what: Callable[[], object]) -> None:
    stage.world.loop.call_later(event.for_s, what, context=stage.world.network.outside)


def slow_at(stage: Stage, event: Event) -> None:
    stage.members.make_slow(event.point, event.for_s)


def output_refused(stage: Stage, event: Event) -> None:
    """The brokers fail to append to what members write (UNKNOWN_SERVER_ERROR, which clients do not try again)."""
    topics, refused = stage.settings.topics, stage.kafka.protocol.refused_topics
    refused.update((topics.scores, topics.latest))
    _later(stage, event, refused.clear)


def input_away(stage: Stage, event: Event) -> None:
    topics = stage.settings.topics
    partition = (topics.gapfills if event.share < 0.3 else topics.forecasts), event.which % stage.plan.partitions
    if partition[0] in stage.kafka.cluster.topics:
        stage.kafka.take_leader(partition)
        _later(stage, event, partial(_give_leader, stage, partition))


def _give_leader(stage: Stage, partition: tuple[str, int]) -> None:
    if partition[0] in stage.kafka.cluster.topics:
        stage.kafka.give_leader(partition)


def answers_cut(stage: Stage, event: Event) -> None:
    """A replica leads the forecasts that lacks the last of them."""
    partition = stage.settings.topics.forecasts, event.which % stage.plan.partitions
    if partition[0] in stage.kafka.cluster.topics:
        stage.members.note_answer_cut()
        stage.kafka.elect_unclean(partition, 1 + int(event.share * 6))


def answers_anew(stage: Stage, event: Event) -> None:
    """The forecasts topic is deleted, and made anew."""
    topic = stage.settings.topics.forecasts
    if topic in stage.kafka.cluster.topics:
        stage.members.note_answer_cut()
        stage.kafka.cluster.delete_topic(topic)
        stage.kafka.protocol.wake()
        again = partial(stage.kafka.create_topic, topic, stage.plan.partitions)
        stage.world.loop.call_later(ANEW_S + event.for_s / 4, again, context=stage.world.network.outside)


def stranger(stage: Stage, event: Event) -> None:
    """Somebody else writes into the forecasts: what is nested too deeply, is no forecast, or has numbers that no worker
    writes."""
    partition = stage.settings.topics.forecasts, event.which % stage.plan.partitions
    if partition[0] not in stage.kafka.cluster.topics:
        return
    raw = (DEEP, b"\xff", _impossible(stage, partition))[int(event.share * 3) % 3]
    stage.kafka.feed(
        partition, NewRecord(STRANGER.encode(), raw, timestamp_ms=int(stage.world.wall_s() * 1000)), aborted=False
    )


def _impossible(stage: Stage, partition: tuple[str, int]) -> bytes:
    """Returns a forecast of numbers that no worker writes, made of the last one that there is."""
    for batch in reversed(stage.kafka.protocol.log(partition).batches):
        for record in reversed(batch.records):
            try:
                found = loads_forecast(record.value or b"")
            except (msgspec.DecodeError, RecursionError):
                continue
            anchor = msgspec.structs.replace(found.anchor, lat=1e308)
            src = msgspec.structs.replace(found.src, partition=stage.plan.partitions)
            return msgspec.json.encode(
                msgspec.structs.replace(found, entity_id=STRANGER, forecast_id="none", anchor=anchor, src=src)
            )
    return b"{}"


def id_unanswered(stage: Stage, event: Event) -> None:
    """A coordinator never answers whoever asks for one transactional id, of a member that has to ask."""
    kinds = [kind for kind in ("latest", "arrivals") if kind in stage.kinds_of_members]
    kind = kinds[event.which % len(kinds)]
    topic, number = stage.settings.topics.forecasts, event.which % stage.plan.partitions
    stage.kafka.protocol.unanswered_ids.add(f"{group_of(kind, stage.settings)}|{topic}|{number}")
    for place in stage.places:
        if place.name.startswith(kind):
            stage.kill(place)


def _evict(stage: Stage, event: Event, part: bytes) -> None:
    group = group_of("atlas", stage.settings).encode()
    keys = [key for key in sorted(stage.redis.server.data.values) if group in key and part in key.rpartition(b"}")[2]]
    if keys:
        stage.world.note(f"evict {keys[int(event.share * len(keys))]!r}")
        stage.redis.server.evict([keys[int(event.share * len(keys))]])


def days_evicted(stage: Stage, event: Event) -> None:
    """Redis evicts what was counted of a day of one partition."""
    _evict(stage, event, b"day:")


def growth_evicted(stage: Stage, event: Event) -> None:
    _evict(stage, event, b"growth")


def ping_of_years(stage: Stage, event: Event) -> None:
    """A vehicle sends whose clock is years ahead, by a sender that stamps nothing."""
    ts_ms = int(stage.world.wall_s() * 1000) + YEARS_MS + event.which * 86_400_000
    key = FALSE.encode()
    raw = dumps(Ping(entity_id=FALSE, ts=ts_ms, lat=10.0, lon=10.0))
    number = partition_of(key, stage.plan.partitions)
    stage.kafka.feed((stage.settings.topics.pings, number), NewRecord(key, raw, timestamp_ms=NO_TIME), aborted=False)


def left_announced(stage: Stage, event: Event) -> None:
    """A maker of atlases dies between the announcement of a version and its confirmation."""
    topics = stage.settings.topics
    ends = dict.fromkeys(range(stage.plan.partitions), NEVER_REACHED)
    record = VersionRecord(
        version=f"{event.which:016x}",
        state="announced",
        first=ends,
        topic=topics.pings,
        includes={},
        contains={},
        issued_ts=int(stage.world.wall_s() * 1000),
    )
    stage.kafka.feed((topics.models, 0), NewRecord(record.key, dumps(record), timestamp_ms=NO_TIME), aborted=False)
    for place in stage.places:
        if place.name.startswith("atlas"):
            stage.kill(place)


def archive_forgets(stage: Stage, event: Event) -> None:
    stage.members.forget(f"bus{event.which % stage.plan.entities}")


def landing_unanswered(stage: Stage, event: Event) -> None:
    if stage.archive is not None:
        stage.archive.unanswered += 1


ACTS_BESIDE: Final[Mapping[str, Callable[[Stage, Event], None]]] = {
    "slow_at": slow_at, "output_refused": output_refused, "input_away": input_away, "answers_cut": answers_cut,
    "answers_anew": answers_anew, "stranger": stranger, "id_unanswered": id_unanswered, "days_evicted": days_evicted,
    "growth_evicted": growth_evicted, "ping_of_years": ping_of_years, "archive_forgets": archive_forgets,
    "left_announced": left_announced,
    "landing_unanswered": landing_unanswered,
}  # fmt: skip
