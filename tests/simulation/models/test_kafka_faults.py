"""What the world does to the model of Kafka, and no test can do to a single real broker: elections, power cuts, markers
that come late, coordinators that move, and compaction. Expectations are those of Kafka's KIPs and sources."""

from __future__ import annotations

import pytest
from aiokafka.errors import (
    ConcurrentTransactions,
    MemberIdRequired,
    NotCoordinatorForGroupError,
    NotLeaderForPartitionError,
    OffsetOutOfRangeError,
    OutOfOrderSequenceNumber,
    UnknownMemberIdError,
)
from kafka_assignors import assign_range, assign_round_robin
from kafka_cluster import Cluster, Committed, ProducerId
from kafka_errors import FencedLeaderEpoch, UnknownLeaderEpoch, UnstableOffsetCommit, as_client_sees
from kafka_log import LATEST, READ_COMMITTED, NewRecord
from kafka_members import Joined
from kafka_pending import Pending

P, Q, GROUP, TID = ("t", 0), ("t", 1), "group", "tid"
RANGE = [("range", b"all")]
DAY_S = 86_400.0


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cluster(clock: Clock) -> Cluster:
    made = Cluster(clock)
    made.create_topic("t", 2)
    return made


def some(*values: str, key: bytes | None = None) -> list[NewRecord]:
    return [NewRecord(key or one.encode(), one.encode()) for one in values]


def values(cluster: Cluster, isolation: str = READ_COMMITTED, offset: int = 0) -> dict[int, str]:
    return {one.offset: (one.value or b"").decode() for one in cluster.fetch(P, offset, isolation).records}


def begin(cluster: Cluster, *values: str) -> ProducerId:
    """Begins a transaction in P and with the group's offsets."""
    producer = cluster.init_producer_id(TID)
    cluster.add_partitions(TID, producer, [P, Q])
    cluster.add_offsets(TID, producer, GROUP)
    cluster.produce(P, some(*values), producer, 0, TID)
    cluster.txn_offset_commit(GROUP, TID, producer, {Q: Committed(7)})
    return producer


def test_an_unclean_leader_has_other_records_at_the_same_offsets(cluster: Cluster) -> None:
    producer = cluster.init_producer_id()
    for at, one in enumerate("abcd"):
        cluster.produce(P, some(one), producer, at)
    cluster.elect_unclean(P, 2)
    assert cluster.list_offsets(P, LATEST)[1] == 2
    with pytest.raises(OffsetOutOfRangeError):
        cluster.fetch(P, 4)
    with pytest.raises(OutOfOrderSequenceNumber):  # it is told that its third batch is gone
        cluster.produce(P, some("e"), producer, 4)
    assert cluster.produce(P, some("x"), producer, 2) == 2
    assert values(cluster) == {0: "a", 1: "b", 2: "x"}
    assert [one.leader_epoch for one in cluster.fetch(P, 0).records] == [0, 0, 1]


def test_leader_epochs_tell_where_a_log_was_cut(cluster: Cluster) -> None:
    cluster.produce(P, some(*"abcd"))
    cluster.elect(P)
    for one in "efgh":
        cluster.produce(P, some(one))
    assert cluster.offset_for_leader_epoch(P, 0) == (0, 4)
    cluster.elect_unclean(P, 6)
    cluster.produce(P, some(*"xyz"))
    assert cluster.offset_for_leader_epoch(P, 1) == (1, 6)
    assert cluster.offset_for_leader_epoch(P, 2) == (2, 9)
    assert cluster.offset_for_leader_epoch(P, 3) == (-1, -1)
    cluster.elect(P)
    cluster.elect(P)  # the fourth epoch has no record: it is as if it had never been
    assert cluster.offset_for_leader_epoch(P, 3) == (2, 9)
    with pytest.raises(FencedLeaderEpoch):
        cluster.fetch(P, 0, leader_epoch=3)
    with pytest.raises(UnknownLeaderEpoch):
        cluster.fetch(P, 0, leader_epoch=5)
    cluster.retain(P, 5)
    assert cluster.offset_for_leader_epoch(P, 0) == (0, 5)


def test_a_cut_of_a_marker_opens_the_transaction_again(cluster: Cluster) -> None:
    producer = begin(cluster, "a", "b")
    cluster.end_txn(TID, producer, False)
    cluster.produce(P, some("c"))
    assert values(cluster) == {3: "c"}
    cluster.elect_unclean(P, 2)
    assert cluster.fetch(P, 0).last_stable_offset == 0
    cluster.add_partitions(TID, producer, [P])
    cluster.end_txn(TID, producer, True)  # the next end of the same producer ends it
    assert values(cluster) == {0: "a", 1: "b"}


def test_a_cut_takes_whole_batches(cluster: Cluster) -> None:
    cluster.produce(P, some("a"))
    cluster.produce(P, some(*"bcd"))
    cluster.elect_unclean(P, 3)
    assert cluster.list_offsets(P, LATEST)[1] == 1


def test_until_markers_are_written_nothing_is_stable(cluster: Cluster) -> None:
    cluster.hold_markers()
    producer = begin(cluster, "a")
    cluster.end_txn(TID, producer, True)
    assert cluster.pending_markers() == [(TID, P), (TID, Q), (TID, GROUP)]
    assert values(cluster) == {}
    assert cluster.offset_fetch(GROUP, [Q]) == {}
    with pytest.raises(UnstableOffsetCommit):
        cluster.offset_fetch(GROUP, [Q], require_stable=True)
    for refused in (cluster.init_producer_id, lambda tid: cluster.add_partitions(tid, producer, [P])):
        with pytest.raises(ConcurrentTransactions):
            refused(TID)
    cluster.complete_markers(TID, P)
    assert values(cluster) == {0: "a"}
    assert cluster.offset_fetch(GROUP, [Q]) == {}
    cluster.complete_markers()
    assert cluster.offset_fetch(GROUP, [Q], require_stable=True) == {Q: Committed(7)}
    assert cluster.init_producer_id(TID).epoch == producer.epoch + 1


def test_a_marker_waits_for_a_leader(cluster: Cluster) -> None:
    producer = begin(cluster, "a")
    cluster.stop_leader(P)
    cluster.end_txn(TID, producer, True)
    with pytest.raises(NotLeaderForPartitionError):
        cluster.fetch(P, 0)
    assert cluster.metadata("t").partitions[0].leader == -1
    with pytest.raises(ConcurrentTransactions):
        cluster.init_producer_id(TID)
    cluster.elect(P)
    assert values(cluster) == {0: "a"}
    assert cluster.pending_markers() == []


def test_an_old_transaction_is_aborted_between_its_timeout_and_a_sweep_later(cluster: Cluster, clock: Clock) -> None:
    cluster.tick()
    producer = cluster.init_producer_id(TID, 15.0)
    cluster.add_partitions(TID, producer, [P])
    clock.now += 14.0
    cluster.tick()
    assert cluster.transactions.state_of(TID) == "Ongoing"
    assert cluster.next_deadline() == 1_020.0
    clock.now += 6.0
    cluster.tick()
    assert cluster.transactions.state_of(TID) == "CompleteAbort"


@pytest.fixture
def compacted(cluster: Cluster) -> Cluster:
    cluster.delete_topic("t")
    cluster.create_topic("t", 2, compacted=True)
    return cluster


def test_compaction_keeps_the_newest_of_each_key_and_all_offsets(compacted: Cluster) -> None:
    for one in ("a1", "b1", "a2", "c1", "b2"):
        compacted.produce(P, [NewRecord(one[:1].encode(), one.encode())])
    compacted.compact(P)
    assert values(compacted) == {1: "b1", 2: "a2", 3: "c1", 4: "b2"}  # the newest batch is not looked at
    assert compacted.fetch(P, 0).next_offset == 5
    compacted.compact(P, until=3)
    compacted.produce(P, some("d"))
    compacted.compact(P)
    assert values(compacted) == {2: "a2", 3: "c1", 4: "b2", 5: "d"}


def test_compaction_leaves_what_is_not_stable(compacted: Cluster) -> None:
    compacted.produce(P, some("old", key=b"k"))
    producer = begin(compacted, "open")
    compacted.produce(P, some("new", "newer", key=b"k"))
    compacted.produce(P, some("last"))
    compacted.compact(P)
    assert list(values(compacted, "read_uncommitted").values()) == ["old", "open", "new", "newer", "last"]
    compacted.end_txn(TID, producer, False)
    compacted.compact(P)
    assert list(values(compacted, "read_uncommitted").values()) == ["newer", "last"]


def test_a_tombstone_goes_a_day_after_it_was_cleaned_first(compacted: Cluster, clock: Clock) -> None:
    compacted.produce(P, some("a", key=b"k"))
    compacted.produce(P, [NewRecord(b"k", None)])
    compacted.produce(P, some("b"))
    for later, left in ((0.0, {1: "", 2: "b"}), (DAY_S - 1, {1: "", 2: "b"}), (1.0, {2: "b"})):
        clock.now += later
        compacted.compact(P)
        assert values(compacted) == left


def enter(cluster: Cluster, **options: float) -> tuple[str, Pending[Joined]]:
    with pytest.raises(MemberIdRequired) as error:
        cluster.join_group(GROUP, "", RANGE, **options)
    member = error.value.member_id
    return member, cluster.join_group(GROUP, member, RANGE, **options)


def test_a_coordinator_that_moves_knows_the_last_stable_generation(cluster: Cluster, clock: Clock) -> None:
    member, joined = enter(cluster)
    generation = joined.result().generation
    cluster.sync_group(GROUP, generation, member, {member: b"mine"})
    second, waits = enter(cluster)
    clock.now += 9.0
    cluster.move_group_coordinator()
    assert isinstance(waits.error, NotCoordinatorForGroupError)
    clock.now += 9.0  # sessions begin anew
    cluster.heartbeat(GROUP, generation, member)
    assert cluster.sync_group(GROUP, generation, member).result() == b"mine"
    with pytest.raises(UnknownMemberIdError):
        cluster.join_group(GROUP, second, RANGE)
    cluster.offset_commit(GROUP, generation, member, {P: Committed(1)})
    cluster.refuse_groups(NotCoordinatorForGroupError)
    with pytest.raises(NotCoordinatorForGroupError):
        cluster.offset_fetch(GROUP, [P])
    cluster.refuse_groups(None)
    assert cluster.offset_fetch(GROUP, [P]) == {P: Committed(1)}


def test_an_answer_calls_whoever_waits_for_it(cluster: Cluster, clock: Clock) -> None:
    member, joined = enter(cluster, rebalance_s=5.0)
    cluster.sync_group(GROUP, joined.result().generation, member, {})
    second, waits = enter(cluster, rebalance_s=5.0)
    arrived: list[int] = []
    waits.then(lambda one: arrived.append(one.result().generation))
    assert (arrived, cluster.next_deadline()) == ([], clock.now + 5.0)
    clock.now += 5.0
    cluster.tick()  # the first has not joined again
    assert (arrived, waits.result().leader) == ([2], second)


def test_the_first_rebalance_waits_for_more_members(clock: Clock) -> None:
    cluster = Cluster(clock, initial_rebalance_delay_s=3.0)
    _, first = enter(cluster)
    clock.now += 2.0
    _, second = enter(cluster)
    clock.now += 1.0
    cluster.tick()
    assert not first.done  # somebody came: another delay
    clock.now += 3.0
    cluster.tick()
    assert (first.result().generation, second.result().generation, len(first.result().members)) == (1, 1, 2)


def test_a_power_cut_loses_tails_and_raises_leader_epochs(cluster: Cluster) -> None:
    cluster.produce(P, some("a"))
    cluster.produce(P, some("b"))
    cluster.produce(Q, some("c"))
    cluster.cut_power({P: 1})
    assert values(cluster) == {0: "a"}
    assert cluster.list_offsets(Q)[1] == 1
    assert [one.leader_epoch for one in cluster.metadata("t").partitions] == [1, 1]


def test_aiokafka_sees_an_unknown_error_where_it_lacks_the_code() -> None:
    assert type(as_client_sees(FencedLeaderEpoch())).__name__ == "UnknownError"
    assert isinstance(as_client_sees(UnknownMemberIdError()), UnknownMemberIdError)


def test_assignors_share_as_kafkas_do() -> None:
    members, sizes = {"b": ["t", "u"], "a": ["t"]}, {"t": 3, "u": 1}
    assert assign_range(members, sizes) == {"a": [("t", 0), ("t", 1)], "b": [("t", 2), ("u", 0)]}
    assert assign_round_robin(members, sizes) == {"a": [("t", 0), ("t", 2)], "b": [("t", 1), ("u", 0)]}
