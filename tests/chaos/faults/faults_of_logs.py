"""The input topic itself may change: its log gets shorter, it is made anew, or it gets more partitions. Nothing of
another partition may be lost, and all that is in the log afterwards must be answered."""

from __future__ import annotations

import time

import chaos_topics as topics
from chaos_feed import split
from chaos_kafka import Cluster
from chaos_rig import PARTITIONS, Rig
from faults import fault, fault_that_may
from kafka.errors import KafkaError

SHORTENED = "the log was shortened to"
MADE_ANEW = "was the topic made anew?"
ORPHANS = "answers were published to records that the log has no more"
LEADER, FOLLOWER = 1, 2
SAY_S = 60.0  # until a worker has said what it learns from Kafka's metadata
UNCLEAN = {"unclean.leader.election.enable": "true", "min.insync.replicas": "1"}


@fault_that_may("orphaned", because=ORPHANS)
def log_truncated(rig: Rig) -> None:
    """kill -9 of all brokers, and half of one partition's log is gone on each of them, as after a power cut."""
    cluster, pings = rig.servers.cluster, rig.topics.pings
    first, second = split(rig.fleet())
    partition = rig.rng.randrange(PARTITIONS)
    rig.start(2)
    rig.feed(first, over_s=8)
    rig.consumed()
    before = topics.ends(cluster, pings)
    cluster.kill_all()
    topics.cut_logs(cluster, pings, partition)
    cluster.heal()
    _assert_some_are_lost(rig, before, partition)
    rig.feed(second, over_s=8)
    rig.consumed()
    _assert_cuts(rig, 1)


@fault_that_may("orphaned", because=ORPHANS)
def leader_elected_uncleanly(rig: Rig) -> None:
    """Of two replicas of the input one is away while pings come; then the other dies, and the one that has missed them
    leads. It comes back, and gives up what only it had."""
    cluster, pings = rig.servers.cluster, rig.topics.pings
    replicas = {number: [LEADER, FOLLOWER] for number in range(PARTITIONS)}
    topics.make_anew(cluster, pings, assignments=replicas, configs=UNCLEAN)
    first, second = split(rig.fleet())
    third, rest = split(first)
    rig.start(2)
    rig.feed(third, over_s=8)
    rig.consumed()
    cluster.kill(FOLLOWER)
    rig.feed(rest, over_s=8)
    rig.consumed()
    before = topics.ends(cluster, pings)
    cluster.kill(LEADER)
    cluster.start(FOLLOWER)
    _until_led_by(cluster, pings, FOLLOWER)
    rig.say(f"broker {FOLLOWER} leads, uncleanly")
    for partition in range(PARTITIONS):
        _assert_some_are_lost(rig, before, partition)
    rig.feed(second, over_s=8)
    rig.fed()
    cluster.heal()
    rig.consumed()
    _assert_cuts(rig, sum(end > 0 for end in before.values()))


@fault_that_may("orphaned", because=ORPHANS)
def topic_made_anew(rig: Rig) -> None:
    """The input topic is deleted and made anew while two workers wait for pings of it."""
    first, second = split(rig.fleet())
    rig.start(2)
    rig.feed(first, over_s=8)
    rig.consumed()
    _make_anew(rig)
    rig.feed(second, over_s=8)
    rig.consumed()
    _assert_cuts(rig, PARTITIONS)


@fault
def partitions_added(rig: Rig) -> None:
    """The input topic gets two partitions more while pings come: entities that move begin anew there."""
    first, second = split(rig.fleet())
    rig.start(2)
    rig.feed(first, over_s=16)
    rig.reach(0.2)
    topics.add_partitions(rig.servers.cluster, rig.topics.pings, PARTITIONS + 2)
    rig.fed()
    rig.feed(second, over_s=8)
    rig.consumed(range(PARTITIONS + 2))
    assert all(topics.ends(rig.servers.cluster, rig.topics.pings).values()), "a partition without pings shows nothing"
    deadline, said = time.monotonic() + SAY_S, 0
    while said < len(rig.workers) and time.monotonic() < deadline:  # who has none of the new ones may learn of it later
        time.sleep(0.3)
        said = sum("keys hash to other partitions now" in log for log in rig.logs())
    assert said == len(rig.workers), f"{said} workers of {len(rig.workers)} said that the partitions are more"


def _assert_some_are_lost(rig: Rig, before: dict[int, int], partition: int) -> None:
    """Note what is gone of a partition, now that its brokers are back."""
    now = topics.ends(rig.servers.cluster, rig.topics.pings)[partition]
    assert now < before[partition], f"partition {partition} still has all {now} records"
    rig.gone += before[partition] - now
    rig.say(f"partition {partition} ends at {now}, not at {before[partition]}")


def _make_anew(rig: Rig) -> None:
    before = topics.ends(rig.servers.cluster, rig.topics.pings)
    rig.gone += sum(before.values())
    topics.make_anew(rig.servers.cluster, rig.topics.pings, num_partitions=PARTITIONS, replication_factor=3)
    rig.say("topic made anew")


def _assert_cuts(rig: Rig, count: int) -> None:
    """The verifier must find them, and the workers have said each once: a rebalance may come in between."""
    rig.expected["log_shortened"] = count
    said = sum(log.count(SHORTENED) + log.count(MADE_ANEW) for log in rig.logs())
    assert said >= count, f"{said} lines say that a log was shortened, of {count} partitions"
    rig.notes.append(f"{count} partitions cut")


def _until_led_by(cluster: Cluster, topic: str, broker: int) -> None:
    deadline = time.monotonic() + topics.PATIENCE_S
    while not _is_led_by(cluster, topic, broker):
        assert time.monotonic() < deadline, f"broker {broker} does not lead {topic}"
        time.sleep(0.2)


def _is_led_by(cluster: Cluster, topic: str, broker: int) -> bool:
    try:
        return all(cluster.leader_of(topic, number) == broker for number in range(PARTITIONS))
    except (KafkaError, OSError):  # brokers that have just been started or killed do not answer
        return False
