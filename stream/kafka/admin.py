"""Creates and describes topics, with kafka-python."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import (
    IncompatibleBrokerVersion,
    InvalidPartitionsError,
    InvalidReplicationFactorError,
    KafkaError,
    NoError,
    PolicyViolationError,
    TopicAlreadyExistsError,
    TopicAuthorizationFailedError,
    for_code,
)

from stream.config.security import (
    HIDDEN,
    PLAIN_KAFKA,
    KafkaSecurity,
    Protocol,
    check_access,
    in_words,
    kafka_refusal,
    unknown_host,
)
from stream.wire import MAX_DEAD_LETTER_BYTES, Topics

log = logging.getLogger(__name__)

CONNECT_S = 8.0  # a broker that has not answered by then counts as unreachable
MAX_BATCH: Final = "max.message.bytes"  # a setting of a topic
LATEST_SEGMENT_MS: Final = 3_600_000  # the segment that is written to is not compacted; Kafka's own is a week
BROKER_DEFAULT: Final = -1  # in CreateTopics since Kafka 2.4: the number that the broker is configured with
# A broker's errors for numbers of partitions or replicas that it cannot create, or must not.
_NUMBERS: Final = (InvalidPartitionsError, InvalidReplicationFactorError, PolicyViolationError)


class TopicInfo(NamedTuple):
    """Holds what the broker reports of one topic. `partitions` is None if the topic does not exist."""

    name: str
    partitions: int | None
    replication: int | None


@contextmanager
def connect(bootstrap: str, security: KafkaSecurity = PLAIN_KAFKA, *, timeout_s: float = CONNECT_S) -> Iterator[Any]:
    """Yields a KafkaAdminClient. Raises ConnectionError, in one line, if no broker answers within `timeout_s`; Refused
    if a broker answers and denies access, then or later."""
    check_access(bootstrap, security)
    try:
        client = KafkaAdminClient(bootstrap_servers=bootstrap.split(","), **security.arguments(), **timeouts(timeout_s))
    except (KafkaError, OSError, ValueError) as error:
        raise kafka_refusal(bootstrap, security, error) or unreachable(bootstrap, error) from error
    try:
        yield client
    except KafkaError as error:
        if (refusal := kafka_refusal(bootstrap, security, error)) is not None:
            raise refusal from error
        raise
    finally:
        client.close()


def timeouts(timeout_s: float) -> dict[str, int]:
    """Returns the settings with which a kafka-python client gives up on an absent broker after `timeout_s`."""
    return {
        "bootstrap_timeout_ms": int(timeout_s * 1000),
        "request_timeout_ms": int(max(timeout_s, 5.0) * 1000),
    }


def unreachable(bootstrap: str, error: Exception) -> ConnectionError:
    """Returns the error as one line that names the address and the likely cause."""
    if (host := unknown_host(bootstrap)) is not None:
        return ConnectionError(
            f"unknown host {host} in {bootstrap}: is --bootstrap (PATHCAST_BOOTSTRAP) right, and does this machine "
            "know the brokers by that name?"
        )
    return ConnectionError(
        f"no Kafka broker answers at {bootstrap} ({in_words(error)}): is it up, are --bootstrap "
        "(PATHCAST_BOOTSTRAP) and --kafka-security right?"
    )


def wait_until_up(bootstrap: str, *, timeout_s: float) -> bool:
    """Returns whether a broker answers a metadata request before `timeout_s` are over."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            with connect(bootstrap, timeout_s=min(2.0, timeout_s)) as client:
                client.list_topics()
                return True
        except (KafkaError, OSError):
            time.sleep(0.1)
    return False


def describe(client: Any, names: Iterable[str]) -> list[TopicInfo]:
    """Returns what the broker reports of these topics, in the given order."""
    wanted = list(names)
    present = set(client.list_topics())
    details = {topic["name"]: topic for topic in client.describe_topics([n for n in wanted if n in present] or None)}
    infos = []
    for name in wanted:
        parts = details[name]["partitions"] if name in present else None
        replication = len(parts[0]["replica_nodes"]) if parts else None
        infos.append(TopicInfo(name, None if parts is None else len(parts), replication))
    return infos


def is_hidden(client: Any, topic: str) -> bool:
    """Returns whether we have no right to know of the topic: no list has it then, as if there were none."""
    (found,) = client.describe_topics([topic])
    return bool(found["error_code"] == TopicAuthorizationFailedError.errno)


def partitions_of(client: Any, topic: str) -> int:
    """Returns the topic's number of partitions. Raises ValueError, which says what to do, if there is no such topic."""
    (info,) = describe(client, [topic])
    if info.partitions is None:
        hidden = client.config["security_protocol"] != Protocol.PLAINTEXT
        where = ",".join(client.config["bootstrap_servers"])
        raise ValueError(
            f"there is no topic {topic} at {where}: is --prefix right? If it is, start a worker, or run pathcast dev "
            f"topics --create{HIDDEN * hidden}"
        )
    return info.partitions


def largest_batches(client: Any, names: Iterable[str]) -> dict[str, int]:
    """Returns the most bytes of a batch that the broker accepts, by topic. Topics that do not exist are left out, and
    those whose settings we may not read (the right DescribeConfigs)."""
    return setting_of(client, names, MAX_BATCH)


def setting_of(client: Any, names: Iterable[str], setting: str) -> dict[str, int]:
    """Returns a setting that is a number, by topic; without those that `largest_batches` leaves out."""
    asked = [ConfigResource(ConfigResourceType.TOPIC, name, {setting: None}) for name in names]
    found = client.describe_configs(asked, config_filter="all").get("topic", {})
    return {name: int(settings[setting]["value"]) for name, settings in found.items() if setting in settings}


def create(
    client: Any,
    topics: Topics,
    *,
    partitions: int | None = None,
    replication: int | None = None,
    retention_ms: int | None = None,
) -> list[TopicInfo]:
    """Creates those of our topics that are absent, and waits until each partition has a leader.

    None leaves a number to the broker's configuration. Returns the topics that this call created. Raises ValueError if
    the broker cannot create so many partitions or replicas, KafkaError if it refuses for another reason.
    """
    numbers = partitions, replication, retention_ms
    ours = [name for name in absent(client, topics) if _create(client, topics, name, *numbers)]
    return describe(client, ours) if ours else []


def create_models(client: Any, topics: Topics, *, replication: int | None = None) -> list[TopicInfo]:
    """Creates the topic of versions, if it is absent: compacted, with one partition. Returns and raises as `create`."""
    name = topics.models
    ours = absent(client, [name]) and _create(client, topics, name, 1, replication)
    return describe(client, [name]) if ours else []


def create_scores(
    client: Any,
    topics: Topics,
    *,
    partitions: int | None = None,
    replication: int | None = None,
    retention_ms: int | None = None,
) -> list[TopicInfo]:
    """Creates the topic of scores, if it is absent. Returns and raises as `create`."""
    name = topics.scores
    ours = absent(client, [name]) and _create(client, topics, name, partitions, replication, retention_ms)
    return describe(client, [name]) if ours else []


def create_other(
    client: Any, topics: Topics, name: str, *, partitions: int | None = None, replication: int | None = None
) -> list[TopicInfo]:
    """Creates one more topic, if it is absent. Returns and raises as `create`."""
    ours = absent(client, [name]) and _create(client, topics, name, partitions, replication)
    return describe(client, [name]) if ours else []


def create_all(
    client: Any,
    topics: Topics,
    *,
    partitions: int | None = None,
    replication: int | None = None,
    retention_ms: int | None = None,
) -> list[TopicInfo]:
    """Creates those of all our topics that are absent, those of services, too. Returns and raises as `create`.

    What is made of forecasts or pings gets as many partitions as these have, whatever `partitions` says; compacted
    topics get no retention.
    """
    numbers = {"partitions": partitions, "replication": replication, "retention_ms": retention_ms}
    made = create(client, topics, **numbers)
    made += create_scores(client, topics, **numbers)
    like = partitions_of(client, topics.forecasts)
    for name in (topics.latest, topics.arrivals):
        made += create_other(client, topics, name, partitions=like, replication=replication)
    like = partitions_of(client, topics.pings)
    made += create_other(client, topics, topics.trips, partitions=like, replication=replication)
    made += create_other(client, topics, topics.destinations, partitions=1, replication=replication)
    return made + create_models(client, topics, replication=replication)


def check_partitions(client: Any, topic: str, partitions: int) -> None:
    """Raises ValueError if the topic has not as many partitions as what it is made of."""
    found = partitions_of(client, topic)
    if found != partitions:
        raise ValueError(
            f"{topic} has {found} partitions, and what it is made of has {partitions}: delete it, or add some"
        )


def absent(client: Any, names: Iterable[str]) -> list[str]:
    """Returns those of the names that are no topics of the broker."""
    return [info.name for info in describe(client, names) if info.partitions is None]


def _create(
    client: Any,
    topics: Topics,
    name: str,
    partitions: int | None,
    replication: int | None,
    retention_ms: int | None = None,
) -> bool:
    """Creates one topic. Returns False if another process was faster, which is as good."""
    options: dict[str, Any] = {
        "num_partitions": partitions or BROKER_DEFAULT,
        "replication_factor": replication or BROKER_DEFAULT,
        "configs": _configs(topics, name, retention_ms),
    }
    try:
        (created,) = client.create_topics({name: options}, raise_errors=False)["topics"]
    except IncompatibleBrokerVersion:
        if partitions and replication:
            raise
        log.warning("this broker is older than Kafka 2.4 and applies no defaults: %s gets 1 where none was given", name)
        return _create(client, topics, name, partitions or 1, replication or 1, retention_ms)
    error, why = for_code(created["error_code"]), created["error_message"]
    if error is TopicAlreadyExistsError:
        return False
    if error in _NUMBERS:
        raise ValueError(f"the broker does not create {name} ({why}): are --partitions and --replication right for it?")
    if error is not NoError:
        raise error(f"{name} is absent, and the broker does not create it: {why}")
    client.wait_for_topics([name])
    return True


def _configs(topics: Topics, name: str, retention_ms: int | None) -> dict[str, str]:
    """Returns the settings of a new topic. What is compacted is kept until something newer takes its place."""
    if name in (topics.models, topics.destinations):
        return {"cleanup.policy": "compact"}
    if name in (topics.latest, topics.trips):
        return {"cleanup.policy": "compact", "segment.ms": str(LATEST_SEGMENT_MS)}
    kept = {} if retention_ms is None else {"retention.ms": str(retention_ms)}
    if name == topics.dead_letters:
        # It must accept the largest record of the pings topic with its context headers: a refusal would stop a worker.
        return {MAX_BATCH: str(MAX_DEAD_LETTER_BYTES), **kept}
    return kept
