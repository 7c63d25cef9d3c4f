"""A model of Apache Kafka: one `Cluster`, each of whose methods is one request that a broker answers at once.

It keeps Kafka's promises and no more, knows the time by the clock that it is given, and never chooses by itself: what
the real one may do either way, the world calls. A request raises aiokafka's exception of the code that the real broker
answers to the versions of requests that aiokafka 0.14 sends (`kafka_errors` has codes that aiokafka lacks). A partition
is `(topic, number)`. Times are seconds of the clock; timestamps are ms.

    topics        create_topic, delete_topic, metadata
    records       produce, fetch, list_offsets, offset_for_leader_epoch, delete_records
    groups        join_group and sync_group (both return a `Pending`), heartbeat, leave_group, offset_commit,
                  offset_fetch
    transactions  init_producer_id, add_partitions, add_offsets, txn_offset_commit, end_txn

    faults        elect, elect_unclean, stop_leader, retain, compact, cut_power
                  refuse_groups and refuse_transactions: coordinators that are away, elsewhere or loading;
                  move_group_coordinator: another broker leads the groups, and knows what was written
                  hold_markers, pending_markers, complete_markers: ends that are decided and not written yet
    time          tick: what is due happens; next_deadline: when something will be

What the clock makes due (sessions, rebalances) happens before each request of its group, too. Transactions that are
too old end only in `tick`, as the real coordinator looks for them only now and then.

What is not modelled: quotas, rights, brokers that do not have the partition, the expiry of producers, transactional ids
and offsets (days), incremental fetch sessions, the newer protocol of groups (KIP-848).
"""

from __future__ import annotations

from collections.abc import Mapping

from aiokafka.errors import (
    BrokerResponseError,
)
from kafka_brokers import NO_PRODUCER, PartitionMetadata, TopicMetadata
from kafka_compaction import compact
from kafka_coordinators import Coordinators
from kafka_offsets import Committed, Partition
from kafka_transactions import ProducerId, Target

__all__ = ["NO_PRODUCER", "Cluster", "Committed", "PartitionMetadata", "ProducerId", "TopicMetadata"]


class Cluster(Coordinators):
    """Kafka. `new_id` makes the ids of topics and members; the real ones are random."""

    # -- faults

    def elect(self, partition: Partition) -> None:
        """Another replica that has all records leads, with the next leader epoch."""
        log = self._exists(partition)
        self._leaderless.discard(partition)
        log.lead(log.leader_epoch + 1)
        self._complete_if_at_once()

    def elect_unclean(self, partition: Partition, end: int) -> None:
        """A replica leads that lacks the records from `end` on. Other records come at the same offsets later."""
        log = self._exists(partition)
        log.cut(end)
        self.elect(partition)

    def cut_power(self, ends: Mapping[Partition, int]) -> None:
        """All brokers start again, and some logs lack what no disk had yet."""
        for topic, found in self.topics.items():
            for number, log in enumerate(found.logs):
                self.elect_unclean((topic, number), ends.get((topic, number), log.end))
        self.move_group_coordinator()

    def stop_leader(self, partition: Partition) -> None:
        """Leaves a partition without a leader until `elect`."""
        self._exists(partition)
        self._leaderless.add(partition)

    def retain(self, partition: Partition, start: int) -> None:
        """Deletes the records below `start`, as retention does."""
        log = self._exists(partition)
        log.retain(min(start, log.end))

    def compact(self, partition: Partition, until: int | None = None) -> None:
        """Cleans a compacted log below `until`, at most up to the last stable offset and without its newest batch."""
        if self.topics[partition[0]].compacted:
            compact(self._exists(partition), until, self._now_ms())

    def refuse_groups(self, error: type[BrokerResponseError] | None) -> None:
        """Lets the coordinator of groups answer with this error (NotCoordinatorForGroupError,
        GroupLoadInProgressError, GroupCoordinatorNotAvailableError), until it is None."""
        self._groups_refuse = error

    def refuse_transactions(self, error: type[BrokerResponseError] | None) -> None:
        """Lets the coordinator of transactions answer with this error, until it is None."""
        self._transactions_refuse = error

    def move_group_coordinator(self) -> None:
        """Another broker leads the groups. It knows what was written: the last stable generations and all offsets; what
        waits for an answer gets NotCoordinatorForGroupError. Sessions begin anew."""
        for group in self.groups.values():
            group.reload(self._clock())

    def hold_markers(self, hold: bool = True) -> None:
        """Lets the ends of transactions wait for `complete_markers`, or writes them at once again."""
        self.transactions.markers_at_once = not hold
        self._complete_if_at_once()

    def pending_markers(self) -> list[tuple[str, Target]]:
        return self.transactions.pending_markers()

    def complete_markers(self, transactional_id: str | None = None, target: Target | None = None) -> None:
        """Writes markers whose transaction's end is decided: all, those of one id, or one."""
        self.transactions.complete(transactional_id, target)

    # -- time

    def tick(self) -> None:
        """Does what is due: sessions and rebalances end, old transactions are aborted."""
        now = self._clock()
        if self._groups_refuse is None:
            for group in self.groups.values():
                group.expire(now)
        if self._transactions_refuse is None:
            self.transactions.sweep(now)
            self._complete_if_at_once()

    def next_deadline(self) -> float | None:
        """Returns when `tick` has something to do."""
        times = [group.next_deadline() for group in self.groups.values()]
        times.append(self.transactions.next_deadline())
        return min((one for one in times if one is not None), default=None)
