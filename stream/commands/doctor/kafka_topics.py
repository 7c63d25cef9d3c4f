"""What follows from facts about topics. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from stream.commands.doctor.finding import Finding, ok, problem, unknown, warning
from stream.commands.doctor.kafka_facts import Kafka, Topic
from stream.config.wording import counted
from stream.kafka.entity_places import EntityPlaces
from stream.kafka.partitioner import ADVICE
from stream.wire import MAX_DEAD_LETTER_BYTES, Topics

HOUR_MS: Final = 3_600_000
SHORT_MS: Final = 24 * HOUR_MS  # a retention of pings below a day does not last a night
CREATE: Final = "pathcast dev topics --create makes it, and so does a worker that starts; is --prefix right?"
RIGHTS: Final = "deploy/SECURITY.md has the rights of each user"
CONFIGS: Final = "kafka-configs.sh --alter --entity-type topics --entity-name {} --add-config {}"


class Role(NamedTuple):
    """What a worker does with a topic."""

    right: str  # that a worker needs
    policy: str  # of cleanup


def roles(topics: Topics, *, versions: bool) -> dict[str, Role]:
    """Returns the topics that a worker needs; `versions` says whether it asks atlases or a registry."""
    found = {topics.pings: Role("READ", "delete")}
    found |= dict.fromkeys((topics.forecasts, topics.gapfills, topics.dead_letters), Role("WRITE", "delete"))
    return {**found, topics.models: Role("READ", "compact")} if versions else found


def check_topics(facts: Kafka, topics: Topics, *, versions: bool) -> list[Finding]:
    """Returns a finding or more for each topic that a worker needs."""
    found: list[Finding] = []
    for name, role in roles(topics, versions=versions).items():
        topic = facts.topics.get(name, Topic("absent"))
        found += list(_of_one(name, topic, role, facts, topics)) or [ok(f"topic {name}", _summary(topic))]
    return found


def check_places(places: EntityPlaces | None, pings: str) -> list[Finding]:
    """Returns what the keys of the newest pings say: an entity in two partitions is two, with half a track each."""
    check = f"keys of {pings}"
    if places is None:
        return [unknown(check, "they cannot be read, so it is unknown whether all senders partition alike", RIGHTS)]
    if not places.seen:
        return []
    found = []
    if split := places.split_in_words():
        found.append(problem(check, split, f"{ADVICE}; it is so, too, after the topic got more partitions"))
    if elsewhere := places.elsewhere_in_words():
        found.append(warning(check, elsewhere, ADVICE))
    return found or [ok(check, f"{counted(places.seen, 'entity', 'entities')}, each where murmur2 puts it")]


def _of_one(name: str, topic: Topic, role: Role, facts: Kafka, topics: Topics) -> Iterator[Finding]:
    check = f"topic {name}"
    if topic.state == "absent":
        yield problem(check, "it does not exist", CREATE)
        return
    if topic.state == "hidden":
        needs = f"give user {facts.user or '(none)'} {role.right.title()} on Topic {name}"
        yield problem(check, "we may not know whether it exists", f"{needs}: {RIGHTS}")
        return
    yield from _partitions(check, topic, name, facts, topics)
    yield from _copies(check, topic, name, facts)
    yield from _rights(check, topic, name, role, facts)
    if topic.settings is None:
        yield unknown(check, "its settings cannot be read", "give the user DescribeConfigs on it to have them checked")
    else:
        yield from _settings(check, topic.settings, name, role, facts, topics)


def _partitions(check: str, topic: Topic, name: str, facts: Kafka, topics: Topics) -> Iterator[Finding]:
    pings = facts.topics.get(topics.pings)
    if name == topics.models and topic.partitions != 1:
        yield problem(
            check, f"{topic.partitions} partitions: its records would have no order", "delete it, and create it anew"
        )
    elif name == topics.pings and topic.partitions == 1:
        yield warning(check, "one partition, which is work for one worker", "begin with more, before you go live")
    elif name != topics.models and pings and pings.partitions and topic.partitions != pings.partitions:
        yield warning(
            check,
            f"{topic.partitions} partitions, and {topics.pings} has {pings.partitions}",
            "give both as many (kafka-topics.sh --alter --partitions): subscribers find an entity under one number",
        )
    if topic.leaderless:
        yield problem(check, f"no leader for partitions {_list(topic.leaderless)}", "look for brokers that are away")


def _copies(check: str, topic: Topic, name: str, facts: Kafka) -> Iterator[Finding]:
    if topic.behind:
        yield warning(
            check, f"copies not in sync for partitions {_list(topic.behind)}", "look for a broker that is away or slow"
        )
    if topic.copies == 1 and facts.brokers > 1:
        yield warning(
            check, f"one copy, on {facts.brokers} brokers: its records are away with one of them", "give it three"
        )
    least = int((topic.settings or {}).get("min.insync.replicas", "1"))
    if least > topic.copies:
        yield problem(
            check,
            f"min.insync.replicas is {least}, and it has copies: {topic.copies}. Nothing can be written",
            CONFIGS.format(name, f"min.insync.replicas={max(1, topic.copies - 1)}"),
        )
    elif least == topic.copies > 1:
        yield warning(
            check,
            f"min.insync.replicas is {least}, as many as it has copies: one broker away stops all writing",
            CONFIGS.format(name, f"min.insync.replicas={least - 1}"),
        )


def _rights(check: str, topic: Topic, name: str, role: Role, facts: Kafka) -> Iterator[Finding]:
    if topic.may is None:
        yield unknown(check, f"whether we may {role.right.lower()} it: these brokers do not say")
    elif role.right not in topic.may:
        may = ", ".join(sorted(topic.may)).lower() or "nothing"
        yield problem(
            check,
            f"a worker may not {role.right.lower()} it as user {facts.user or '(none)'}: it may {may}",
            f"give the user {role.right.title()} on Topic {name}: {RIGHTS}",
        )


def _settings(
    check: str, settings: Mapping[str, str], name: str, role: Role, facts: Kafka, topics: Topics
) -> Iterator[Finding]:
    policy = settings.get("cleanup.policy", role.policy)
    if policy != role.policy:
        lost = "announcements are deleted" if role.policy == "compact" else "only each entity's last record is kept"
        yield problem(
            check, f"cleanup.policy is {policy}: {lost}", CONFIGS.format(name, f"cleanup.policy={role.policy}")
        )
    kept_ms = int(settings.get("retention.ms", "-1"))
    if name == topics.pings and 0 <= kept_ms < SHORT_MS:
        yield warning(
            check,
            f"retention.ms is {kept_ms:,} ({kept_ms / HOUR_MS:.1f} h): older pings are deleted, answered or not",
            CONFIGS.format(name, f"retention.ms={7 * 24 * HOUR_MS}"),
        )
    if name != topics.dead_letters:
        return
    largest = int(settings.get("max.message.bytes", str(MAX_DEAD_LETTER_BYTES)))
    if largest < MAX_DEAD_LETTER_BYTES:
        yield problem(
            check,
            f"max.message.bytes is {largest:,}: a worker stops at a dead letter that is larger",
            CONFIGS.format(name, f"max.message.bytes={MAX_DEAD_LETTER_BYTES}"),
        )
    if facts.offsets_retention_min is not None and not 0 <= kept_ms <= facts.offsets_retention_min * 60_000:
        yield warning(
            check,
            "it keeps letters for longer than the brokers keep offsets (offsets.retention.minutes "
            f"{facts.offsets_retention_min}), which say what pathcast dlq has put back",
            CONFIGS.format(name, f"retention.ms={facts.offsets_retention_min * 60_000}"),
        )


def _summary(topic: Topic) -> str:
    settings = ", ".join(f"{key} {value}" for key, value in sorted((topic.settings or {}).items()))
    return f"{counted(topic.partitions, 'partition')}, copies: {topic.copies}" + (f", {settings}" if settings else "")


def _list(numbers: Sequence[int]) -> str:
    shown = ", ".join(map(str, numbers[:5]))
    return shown + (f" and {len(numbers) - 5} more" if len(numbers) > 5 else "")
