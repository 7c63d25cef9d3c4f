"""Asks the brokers about topics, their settings, what we may do with them, and groups. It joins no group, opens no
transaction and writes nothing.

What a user may do is in the brokers' answers about topics and groups themselves (KIP-430), so nothing has to be tried.
Of transactional ids they say only whether we may describe them. No broker is asked who coordinates a group or a
transaction, as one that never had any would create its topic for them: each broker is asked about the group itself, and
those that do not coordinate it say so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Literal

import aiokafka
from aiokafka.errors import KafkaError as BrokerError
from kafka import TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import KafkaError, for_code
from kafka.protocol.admin import DescribeTransactionsRequest
from kafka.protocol.consumer import OffsetSpec

from stream.config.security import KafkaSecurity
from stream.kafka import admin
from stream.kafka.entity_places import EntityPlaces
from stream.kafka.reading import INPUT_ISOLATION, reader

State = Literal["there", "absent", "hidden"]  # hidden: we may not know
SETTINGS: Final = ("cleanup.policy", "retention.ms", "max.message.bytes", "min.insync.replicas")
OFFSETS_RETENTION: Final = "offsets.retention.minutes"
NEWEST: Final = 500  # records of a partition whose keys are looked at, some 100 KB
MOST_PARTITIONS: Final = 64
_NOTHING: Final[Mapping[str, Any]] = {}
_ABSENT: Final = "UnknownTopicOrPartitionError"


@dataclass(frozen=True)
class Topic:
    state: State = "there"
    partitions: int = 0
    copies: int = 0  # of the partition that has fewest
    leaderless: tuple[int, ...] = ()
    behind: tuple[int, ...] = ()  # partitions with copies that are not in sync
    may: frozenset[str] | None = None  # operations, such as READ; None: the brokers do not say
    settings: Mapping[str, str] | None = None  # None: we may not read them
    begins: Mapping[int, int] = field(default_factory=dict)  # by partition, if it was asked for
    ends: Mapping[int, int] = field(default_factory=dict)
    newest_ms: int | None = None  # the largest timestamp of a record


@dataclass(frozen=True)
class Group:
    state: str = "absent"  # as the coordinator calls it, in capitals; or absent, or hidden
    members: int = 0
    may: frozenset[str] | None = None
    committed: Mapping[int, int] | None = None  # of the topic that it reads, by partition; None: we may not know


@dataclass(frozen=True)
class Kafka:
    brokers: int = 1
    version: tuple[int, ...] = ()  # what its requests show; empty: unknown
    user: str = ""
    topics: Mapping[str, Topic] = field(default_factory=dict)
    groups: Mapping[str, Group] = field(default_factory=dict)
    transactions: Mapping[str, State] = field(default_factory=dict)  # "there": we may describe that id
    offsets_retention_min: int | None = None  # None: we may not know
    places: EntityPlaces | None = None  # of the newest pings, by their keys; None: they could not be read


@dataclass(frozen=True)
class Wanted:
    """What is asked about."""

    pings: str
    topics: Sequence[str]
    groups: Mapping[str, str]  # and the topic that each reads
    transactions: Sequence[str] = ()


def facts(bootstrap: str, security: KafkaSecurity, wanted: Wanted, timeout_s: float) -> Kafka:
    """Raises Refused if a broker denies access, ConnectionError if none answers, both in one line."""
    with admin.connect(bootstrap, security, timeout_s=timeout_s) as client:
        described = {one["name"]: one for one in client.describe_topics(list(wanted.topics))}
        settings = _settings(client, wanted.topics)
        topics = {name: _topic(described.get(name), settings.get(name)) for name in wanted.topics}
        for name in {wanted.pings, *wanted.groups.values()} & topics.keys():
            if topics[name].state == "there":
                topics[name] = _bounds(client, name, topics[name], newest=name == wanted.pings)
        # not describe_cluster: kafka-python raises KeyError at the answer of Kafka before 3.7 and of embedded brokers
        brokers = [one.node_id for one in client._manager.cluster.brokers()]
        return Kafka(
            brokers=len(brokers),
            version=tuple(client._manager.broker_version or ()),
            user=security.user or "",
            topics=topics,
            groups={
                name: _group(client, brokers, name, topic, topics.get(topic)) for name, topic in wanted.groups.items()
            },
            transactions={name: _transaction(client, brokers, name) for name in wanted.transactions},
            offsets_retention_min=_offsets_retention(client, brokers[0]),
            places=_places(bootstrap, security, wanted.pings, topics[wanted.pings], timeout_s / 2),
        )


def _places(bootstrap: str, security: KafkaSecurity, pings: str, topic: Topic, within_s: float) -> EntityPlaces | None:
    """Reads the keys of the newest records. What does not come in this time is left out."""
    found = EntityPlaces(topic.partitions)
    spans = {
        aiokafka.TopicPartition(pings, number): (max(topic.begins.get(number, 0), end - NEWEST), end)
        for number, end in sorted(topic.ends.items())[:MOST_PARTITIONS]
    }
    left = {tp: end for tp, (begin, end) in spans.items() if begin < end}

    async def read() -> None:
        servers = bootstrap.split(",")
        async with asyncio.timeout(within_s), reader(servers, security.arguments(), INPUT_ISOLATION) as consumer:
            consumer.assign(list(left))
            for tp in left:
                consumer.seek(tp, spans[tp][0])
            while left:
                for tp, records in (await consumer.getmany(timeout_ms=500)).items():
                    for key in records.keys.each():
                        if key is not None:
                            found.add(key.decode(errors="replace"), tp.partition)
                for tp in [tp for tp, end in left.items() if await consumer.position(tp) >= end]:
                    del left[tp]
                    consumer.pause(tp)

    try:
        if left:
            asyncio.run(read())
    except TimeoutError:
        pass
    except (KafkaError, BrokerError, OSError):
        return None
    return found


def _ask(ask: Callable[[], Any], otherwise: Any) -> Any:
    """Returns what a question gives; `otherwise` if we may not ask it, or the brokers are too old for it."""
    try:
        return ask()
    except KafkaError as error:
        if "Authorization" in type(error).__name__ or "Version" in type(error).__name__:
            return otherwise
        raise


def _topic(said: Mapping[str, Any] | None, settings: Mapping[str, str] | None) -> Topic:
    error = "" if said is None or not said["error_code"] else for_code(said["error_code"]).__name__
    if said is None or error == _ABSENT:
        return Topic("absent")
    if "Authorization" in error:
        return Topic("hidden")
    parts = said["partitions"]
    return Topic(
        partitions=len(parts),
        copies=min((len(part["replica_nodes"]) for part in parts), default=0),
        leaderless=tuple(sorted(part["partition_index"] for part in parts if part["leader_id"] < 0)),
        behind=tuple(
            sorted(part["partition_index"] for part in parts if len(part["isr_nodes"]) < len(part["replica_nodes"]))
        ),
        may=_operations(said),
        settings=settings,
    )


def _operations(said: Mapping[str, Any]) -> frozenset[str] | None:
    found = said.get("authorized_operations")
    return None if found is None else frozenset(found)


def _settings(client: Any, names: Iterable[str]) -> dict[str, Mapping[str, str]]:
    """Returns the settings of the topics whose settings we may read."""
    asked = [ConfigResource(ConfigResourceType.TOPIC, name, dict.fromkeys(SETTINGS)) for name in names]
    found: dict[str, Any] = _ask(lambda: client.describe_configs(asked, config_filter="all"), _NOTHING).get("topic", {})
    return {name: {key: one["value"] for key, one in settings.items()} for name, settings in found.items() if settings}


def _offsets_retention(client: Any, broker: int) -> int | None:
    asked = [ConfigResource(ConfigResourceType.BROKER, str(broker), {OFFSETS_RETENTION: None})]
    found = _ask(lambda: client.describe_configs(asked, config_filter="all"), _NOTHING).get("broker", {})
    settings: Mapping[str, Any] = next(iter(found.values()), _NOTHING)
    value = settings.get(OFFSETS_RETENTION, {}).get("value")
    return int(value) if value else None


def _bounds(client: Any, name: str, topic: Topic, *, newest: bool) -> Topic:
    places = [TopicPartition(name, number) for number in range(topic.partitions) if number not in topic.leaderless]

    def offsets(spec: OffsetSpec) -> dict[int, Any]:
        found = _ask(lambda: client.list_partition_offsets(dict.fromkeys(places, spec)), _NOTHING)
        return {place.partition: one for place, one in found.items()}

    begins, ends = offsets(OffsetSpec.EARLIEST), offsets(OffsetSpec.LATEST)
    times = [one.timestamp for one in offsets(OffsetSpec.MAX_TIMESTAMP).values()] if newest else []
    return Topic(
        **{
            **vars(topic),
            "begins": {number: one.offset for number, one in begins.items()},
            "ends": {number: one.offset for number, one in ends.items()},
            "newest_ms": max((ms for ms in times if ms >= 0), default=None),
        }
    )


def _group(client: Any, brokers: Sequence[int], name: str, reads: str, topic: Topic | None) -> Group:
    for broker in brokers:
        asked = partial(client.describe_groups, [name], group_coordinator_id=broker)
        said = _ask(asked, _NOTHING).get(name)
        error = "Authorization" if said is None else str(said["error"] or "")
        if "Authorization" in error:
            return Group("hidden")
        if said is not None and "Coordinator" not in error:
            return _parse_group(client, said, name, reads, topic)
    return Group()  # these brokers never had a group


def _parse_group(client: Any, said: Mapping[str, Any], name: str, reads: str, topic: Topic | None) -> Group:
    """Returns a group of which its coordinator has said this."""
    places = [TopicPartition(reads, number) for number in range(topic.partitions if topic else 0)]
    committed = _ask(lambda: client.list_group_offsets({name: places}), None) if places else {}
    offsets = None if committed is None else committed.get(name, {})
    return Group(
        str(said["group_state"] or "dead").upper(),
        len(said["members"]),
        _operations(said),
        None if offsets is None else {place.partition: one.offset for place, one in offsets.items() if one.offset >= 0},
    )


def _transaction(client: Any, brokers: Sequence[int], name: str) -> State:
    """Returns whether we may describe a transactional id; "absent" where no broker says."""
    for broker in brokers:
        asked = partial(client._manager.send, DescribeTransactionsRequest(transactional_ids=[name]), node_id=broker)
        response = _ask(partial(client._manager.run, asked), None)
        for one in response.transaction_states if response is not None else ():
            error = for_code(one.error_code).__name__ if one.error_code else ""
            if "Authorization" in error:
                return "hidden"
            if "Coordinator" not in error:
                return "there"
    return "absent"
