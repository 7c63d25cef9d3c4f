"""What follows from facts about Kafka. No broker is asked here."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from stream.commands.doctor.finding import Finding, Level
from stream.commands.doctor.kafka_facts import Group, Kafka, Topic
from stream.commands.doctor.kafka_groups import check_brokers, check_groups, check_newest, check_transactions
from stream.commands.doctor.kafka_topics import SHORT_MS, check_places, check_topics
from stream.kafka.entity_places import EntityPlaces
from stream.wire import MAX_DEAD_LETTER_BYTES, Topics

OK, UNKNOWN, WARNING, PROBLEM = Level.OK, Level.UNKNOWN, Level.WARNING, Level.PROBLEM
TOPICS = Topics.of("fleet")
WEEK_MS = str(7 * 86_400_000)
SETTINGS = {"cleanup.policy": "delete", "retention.ms": WEEK_MS, "min.insync.replicas": "2"}
PINGS = Topic(
    "there", 8, 3, may=frozenset({"READ", "DESCRIBE"}), settings=SETTINGS, begins=dict.fromkeys(range(8), 10),
    ends=dict.fromkeys(range(8), 110),
)  # fmt: skip
OURS = replace(PINGS, may=frozenset({"WRITE", "DESCRIBE"}))
HEALTHY = Kafka(
    brokers=3,
    version=(4, 1),
    user="worker",
    topics={
        TOPICS.pings: PINGS,
        TOPICS.forecasts: OURS,
        TOPICS.gapfills: OURS,
        TOPICS.dead_letters: replace(OURS, settings={**SETTINGS, "max.message.bytes": str(MAX_DEAD_LETTER_BYTES)}),
        TOPICS.models: replace(PINGS, partitions=1, settings={**SETTINGS, "cleanup.policy": "compact"}),
    },
    groups={"fleet": Group("STABLE", 4, frozenset({"READ"}), dict.fromkeys(range(8), 100))},
    offsets_retention_min=10_080,
)
READS = {"fleet": TOPICS.pings, "fleet-scores": TOPICS.forecasts}


def of(topic: str, **changes: Any) -> Kafka:
    return replace(HEALTHY, topics={**HEALTHY.topics, topic: replace(HEALTHY.topics[topic], **changes)})


def odd(facts: Kafka, *, versions: bool = True) -> list[Finding]:
    found = [*check_topics(facts, TOPICS, versions=versions), *check_groups(facts, READS, "fleet")]
    return [one for one in found if one.level is not OK]


def test_a_healthy_set_has_one_ok_line_for_each_thing() -> None:
    found = [*check_brokers(HEALTHY, "kafka:9092"), *check_topics(HEALTHY, TOPICS, versions=True)]
    found += check_groups(HEALTHY, READS, "fleet")
    assert {one.level for one in found} == {OK}
    assert not any(one.advice for one in found)
    assert len({one.check for one in found}) == len(found) == 2 + 5 + 1
    assert found[-1] == Finding("group fleet", OK, "stable, 4 members, lag 80 records")


def test_one_member_and_one_record_are_singular() -> None:
    one = replace(
        HEALTHY, groups={"fleet": Group("STABLE", 1, frozenset({"READ"}), {0: 109, **dict.fromkeys(range(1, 8), 110)})}
    )
    assert check_groups(one, READS, "fleet")[-1].found == "stable, 1 member, lag 1 record"


def with_settings(topic: str, **settings: str) -> Kafka:
    return of(
        topic,
        settings={**(HEALTHY.topics[topic].settings or {}), **{k.replace("_", "."): v for k, v in settings.items()}},
    )


CASES = {
    "absent": (of(TOPICS.gapfills, state="absent"), PROBLEM, "does not exist", "topics --create"),
    "hidden": (of(TOPICS.pings, state="hidden"), PROBLEM, "may not know", "Read on Topic fleet.pings.v1"),
    "partitions": (of(TOPICS.forecasts, partitions=4), WARNING, "4 partitions, and fleet.pings.v1 has 8", "as many"),
    "models": (of(TOPICS.models, partitions=2), PROBLEM, "no order", "anew"),
    "leader": (of(TOPICS.pings, leaderless=(1, 7)), PROBLEM, "no leader for partitions 1, 7", "brokers"),
    "behind": (of(TOPICS.pings, behind=(3,)), WARNING, "not in sync for partitions 3", "broker"),
    "one copy": (of(TOPICS.pings, copies=1, settings={}), WARNING, "one copy, on 3 brokers", "three"),
    "insync": (with_settings(TOPICS.pings, min_insync_replicas="4"), PROBLEM, "Nothing can be written", "replicas=2"),
    "tight": (with_settings(TOPICS.pings, min_insync_replicas="3"), WARNING, "stops all writing", "replicas=2"),
    "read": (of(TOPICS.pings, may=frozenset({"WRITE"})), PROBLEM, "may not read it as user worker", "Read on Topic"),
    "write": (of(TOPICS.forecasts, may=frozenset()), PROBLEM, "it may nothing", "Write on Topic"),
    "unsaid": (of(TOPICS.pings, may=None), UNKNOWN, "do not say", ""),
    "settings": (of(TOPICS.pings, settings=None), UNKNOWN, "cannot be read", "DescribeConfigs"),
    "compacted": (with_settings(TOPICS.pings, cleanup_policy="compact"), PROBLEM, "last record", "policy=delete"),
    "deleted": (with_settings(TOPICS.models, cleanup_policy="delete"), PROBLEM, "are deleted", "policy=compact"),
    "short": (with_settings(TOPICS.pings, retention_ms=str(SHORT_MS - 1)), WARNING, "(24.0 h)", "retention.ms="),
    "small": (
        of(TOPICS.dead_letters, settings={**SETTINGS, "max.message.bytes": "1048588"}),
        *(PROBLEM, "1,048,588: a worker stops", f"max.message.bytes={MAX_DEAD_LETTER_BYTES}"),
    ),
    "marks": (with_settings(TOPICS.dead_letters, retention_ms="-1"), WARNING, "put back", "retention.ms=604800000"),
}


@pytest.mark.parametrize("case", CASES)
def test_each_fault_of_a_topic_is_found_with_what_to_do(case: str) -> None:
    facts, level, found, advice = CASES[case]
    (one,) = odd(facts)
    assert (one.level, found in one.found, advice in one.advice) == (level, True, True), one


def test_without_atlases_and_registry_the_models_topic_is_not_needed() -> None:
    assert odd(of(TOPICS.models, state="absent"), versions=False) == []


def group(**changes: Any) -> Kafka:
    return replace(HEALTHY, groups={"fleet": replace(HEALTHY.groups["fleet"], **changes)})


@pytest.mark.parametrize(
    ("facts", "level", "found"),
    [
        (group(state="hidden"), PROBLEM, "may not read it"),
        (group(may=frozenset({"DESCRIBE"})), PROBLEM, "may not join it as user worker"),
        (group(committed=dict.fromkeys(range(8), 5)), PROBLEM, "deleted 40 records"),
        (group(state="EMPTY", members=0), WARNING, "no members, and 80 records wait"),
        (group(members=9), WARNING, "9 members, and 8 partitions"),
        (group(state="PREPARING_REBALANCE"), WARNING, "dividing partitions"),
    ],
)
def test_each_fault_of_a_group_is_found(facts: Kafka, level: Level, found: str) -> None:
    (one,) = odd(facts)
    assert one.level is level
    assert found in one.found
    assert one.advice


def test_a_long_lag_is_told_and_a_group_that_never_was_is_not() -> None:
    far = replace(PINGS, ends=dict.fromkeys(range(8), 100_000))
    (one,) = odd(replace(HEALTHY, topics={**HEALTHY.topics, TOPICS.pings: far}))
    assert "799,200 records wait" in one.found
    assert odd(replace(HEALTHY, groups={})) == []


def test_old_brokers_transactions_and_clocks() -> None:
    levels = [check_brokers(replace(HEALTHY, version=of), "k")[-1].level for of in ((2, 3), (2, 6), (2, 8), ())]
    assert levels == [PROBLEM, WARNING, OK, OK]
    said = check_transactions(replace(HEALTHY, transactions={"fleet|x|0": "hidden", "fleet|x|1": "there"}))
    assert [one.level for one in said] == [PROBLEM, UNKNOWN]
    assert "Write on TransactionalId fleet|*" in said[0].advice
    assert check_newest(None, 0.0, "p") == []
    assert check_newest(10**12, 10**12 + 5_000.0, "p")[0].found == "the newest record of p is 5 s old"
    assert check_newest(10**12 + 3_600_000, 10**12, "p")[0].level is WARNING


def test_an_entity_in_two_partitions_is_a_problem_and_one_elsewhere_than_murmur2_a_warning() -> None:
    """Two senders had two partitioners, and one entity became two. Doctor said nothing of it."""
    places, check = EntityPlaces(2), f"keys of {TOPICS.pings}"
    assert check_places(places, TOPICS.pings) == [], "no pings yet"
    places.add("bus-1", 0)
    places.add("bus-2", 1)
    assert check_places(places, TOPICS.pings) == [Finding(check, OK, "2 entities, each where murmur2 puts it")]
    places.add("bus-1", 1)
    places.add("bus-3", 0)
    split, elsewhere = check_places(places, TOPICS.pings)
    assert (split.level, elsewhere.level) == (PROBLEM, WARNING)
    assert split.found == "1 entity lies in several partitions, each with a part of its pings (bus-1 in 0, 1)"
    assert elsewhere.found == "1 entity lies in another partition than murmur2 gives (bus-3 in 0 and not 1)"
    assert "partitioner=murmur2_random" in split.advice
    assert "partitioner=murmur2_random" in elsewhere.advice
    assert [one.level for one in check_places(None, TOPICS.pings)] == [UNKNOWN]
