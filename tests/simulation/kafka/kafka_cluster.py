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

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from aiokafka.errors import (
    BrokerResponseError,
    ConcurrentTransactions,
    IllegalGenerationError,
    InvalidPartitionsError,
    InvalidSessionTimeoutError,
    InvalidTimestampError,
    InvalidTopicError,
    MessageSizeTooLargeError,
    NotEnoughReplicasError,
    NotLeaderForPartitionError,
    OffsetMetadataTooLargeError,
    OffsetOutOfRangeError,
    PolicyViolationError,
    TopicAlreadyExistsError,
    UnknownMemberIdError,
    UnknownTopicOrPartitionError,
)
from kafka_compaction import compact
from kafka_errors import FencedLeaderEpoch, InvalidRecord, UnknownLeaderEpoch
from kafka_groups import Group, Joined, Protocols
from kafka_log import LATEST, READ_UNCOMMITTED, Fetched, NewRecord, PartitionLog
from kafka_offsets import Committed, Offsets, Partition
from kafka_pending import Pending
from kafka_transactions import ProducerId, Target, Transactions

MOST_BATCH_BYTES = 1_048_588  # max.message.bytes
MOST_METADATA_CHARS = 4_096  # offset.metadata.max.bytes
MOST_AHEAD_MS = 3_600_000  # message.timestamp.after.max.ms
SESSIONS_S = (6.0, 1_800.0)  # group.min.session.timeout.ms, group.max.session.timeout.ms
NO_PRODUCER = ProducerId(-1, -1)


class Topic(NamedTuple):
    id: str  # 32 hexadecimal digits, as `uuid.UUID.hex`
    logs: list[PartitionLog]
    compacted: bool


class PartitionMetadata(NamedTuple):
    leader: int  # the only broker, 0; -1: none leads
    leader_epoch: int


class TopicMetadata(NamedTuple):
    id: str
    partitions: list[PartitionMetadata]


class Cluster:
    """The brokers. `new_id` makes the ids of topics and members; the real ones are random."""

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        new_id: Callable[[], str] | None = None,
        initial_rebalance_delay_s: float = 0.0,
    ) -> None:
        self._clock = clock
        self._count = 0
        self._new_id = new_id or self._count_up
        self._delay_s = initial_rebalance_delay_s
        self.topics: dict[str, Topic] = {}
        self.groups: dict[str, Group] = {}
        self.offsets: dict[str, Offsets] = {}
        self.transactions = Transactions(self._write_marker)
        self._leaderless: set[Partition] = set()
        self._groups_refuse: type[BrokerResponseError] | None = None
        self._transactions_refuse: type[BrokerResponseError] | None = None

    # -- topics

    def create_topic(self, name: str, partitions: int, compacted: bool = False) -> str:
        """Returns the topic's id. Raises TopicAlreadyExistsError, InvalidTopicError, InvalidPartitionsError."""
        if name in self.topics:
            raise TopicAlreadyExistsError(name)
        if not name or len(name) > 249:
            raise InvalidTopicError(name)
        if partitions < 1:
            raise InvalidPartitionsError(str(partitions))
        topic_id = uuid.uuid5(uuid.NAMESPACE_OID, f"topic-{self._new_id()}").hex
        self.topics[name] = Topic(topic_id, [PartitionLog() for _ in range(partitions)], compacted)
        return topic_id

    def add_partitions_to_topic(self, name: str, partitions: int) -> None:
        """Gives a topic more partitions. Raises UnknownTopicOrPartitionError, InvalidPartitionsError."""
        logs = self._topic(name).logs
        if partitions <= len(logs):
            raise InvalidPartitionsError(f"{name} has {len(logs)}")
        logs += [PartitionLog() for _ in range(partitions - len(logs))]

    def delete_topic(self, name: str) -> None:
        """Deletes the topic and what groups have committed of it."""
        self._topic(name)
        del self.topics[name]
        self._leaderless = {one for one in self._leaderless if one[0] != name}
        for offsets in self.offsets.values():
            offsets.forget_topic(name)

    def metadata(self, topic: str) -> TopicMetadata:
        found = self._topic(topic)
        return TopicMetadata(
            found.id,
            [
                PartitionMetadata(-1 if (topic, number) in self._leaderless else 0, log.leader_epoch)
                for number, log in enumerate(found.logs)
            ],
        )

    # -- records

    def produce(
        self,
        partition: Partition,
        records: Sequence[NewRecord],
        producer: ProducerId = NO_PRODUCER,
        sequence: int = -1,
        transactional_id: str | None = None,
    ) -> int:
        """Appends a batch with acks from all replicas, in a transaction if there is a transactional id. Returns its
        base offset."""
        log = self._log(partition)
        if not records:
            raise InvalidRecord("a batch has no records")
        if sum(len(one.key or b"") + len(one.value or b"") for one in records) > MOST_BATCH_BYTES:
            raise MessageSizeTooLargeError
        if max(one.timestamp_ms for one in records) > self._now_ms() + MOST_AHEAD_MS:
            raise InvalidTimestampError
        if self.topics[partition[0]].compacted and any(one.key is None for one in records):
            raise InvalidRecord("a record of a compacted topic has no key")
        if transactional_id is not None and not self._has_open(log, producer):
            self._verify(transactional_id, producer, partition)
        return log.append(records, *producer, sequence, transactional_id is not None)

    def fetch(
        self,
        partition: Partition,
        offset: int,
        isolation: str = READ_UNCOMMITTED,
        most: int = 500,
        leader_epoch: int = -1,
    ) -> Fetched:
        """Returns at most `most` records from `offset` on. Raises OffsetOutOfRangeError, FencedLeaderEpoch,
        UnknownLeaderEpoch."""
        return self._log(partition, leader_epoch).read(offset, isolation, most)

    def list_offsets(
        self,
        partition: Partition,
        timestamp_ms: int = LATEST,
        isolation: str = READ_UNCOMMITTED,
        leader_epoch: int = -1,
    ) -> tuple[int, int]:
        """Returns (timestamp, offset) of EARLIEST, LATEST or the first record that is not older; -1 for none."""
        return self._log(partition, leader_epoch).find_time(timestamp_ms, isolation)

    def offset_for_leader_epoch(self, partition: Partition, asked: int, leader_epoch: int = -1) -> tuple[int, int]:
        """Returns the last epoch that is at most `asked`, and where its records end; (-1, -1): unknown (KIP-320)."""
        return self._log(partition, leader_epoch).epoch_end(asked)

    def delete_records(self, partition: Partition, before: int) -> int:
        """Deletes the records below an offset; -1: all. Returns where the log starts then."""
        log = self._log(partition)
        if self.topics[partition[0]].compacted:
            raise PolicyViolationError
        before = log.end if before == -1 else before
        if not 0 <= before <= log.end:
            raise OffsetOutOfRangeError(str(before))
        log.retain(before)
        return log.start

    # -- groups

    def join_group(
        self,
        group: str,
        member_id: str,
        protocols: Protocols,
        *,
        client_id: str = "client",
        instance_id: str | None = None,
        session_s: float = 10.0,
        rebalance_s: float = 60.0,
    ) -> Pending[Joined]:
        """Joins. The answer comes when the rebalance has got all members, or its time is over."""
        self._ask_groups()
        if not SESSIONS_S[0] <= session_s <= SESSIONS_S[1]:
            raise InvalidSessionTimeoutError
        found = self.groups.get(group)
        if found is None:
            if member_id:
                raise UnknownMemberIdError
            found = self.groups[group] = Group(self._member_id, self._delay_s)
        return found.join(self._clock(), member_id, client_id, instance_id, protocols, session_s, rebalance_s)

    def sync_group(
        self,
        group: str,
        generation: int,
        member_id: str,
        assignments: Mapping[str, bytes] | None = None,
        *,
        instance_id: str | None = None,
    ) -> Pending[bytes]:
        """Gives the leader's assignments, by member id, or waits for those of the leader."""
        return self._group(group).sync(self._clock(), generation, member_id, instance_id, assignments or {})

    def heartbeat(self, group: str, generation: int, member_id: str, *, instance_id: str | None = None) -> None:
        """Returns if the member is one of the current generation. aiokafka sends no instance id with it."""
        self._group(group).heartbeat(self._clock(), generation, member_id, instance_id)

    def leave_group(self, group: str, member_id: str, *, instance_id: str | None = None) -> None:
        self._group(group).leave(self._clock(), member_id, instance_id)

    def offset_commit(
        self,
        group: str,
        generation: int,
        member_id: str,
        offsets: Mapping[Partition, Committed],
        *,
        instance_id: str | None = None,
    ) -> None:
        """Commits all, or raises. Who is no member of a group commits with generation -1 and an empty id."""
        self._ask_groups()
        found = self.groups.get(group)
        if found is not None:
            found.check_commit(self._clock(), generation, member_id, instance_id, False)
        elif generation >= 0:
            raise IllegalGenerationError
        self._check_offsets(offsets)
        self._offsets(group).commit(offsets)

    def offset_fetch(
        self, group: str, partitions: Iterable[Partition], require_stable: bool = False
    ) -> dict[Partition, Committed]:
        """Returns what the group has committed, without partitions of which it has nothing."""
        self._ask_groups()
        return self._offsets(group).fetch(partitions, require_stable)

    # -- transactions

    def init_producer_id(self, transactional_id: str | None = None, timeout_s: float = 60.0) -> ProducerId:
        if transactional_id is not None:
            self._ask_transactions()
        return self.transactions.init_producer_id(self._clock(), transactional_id, timeout_s)

    def add_partitions(self, transactional_id: str, producer: ProducerId, partitions: Iterable[Partition]) -> None:
        self._ask_transactions()
        wanted = list(partitions)
        for one in wanted:
            self._exists(one)
        self.transactions.add(self._clock(), transactional_id, producer, wanted)

    def add_offsets(self, transactional_id: str, producer: ProducerId, group: str) -> None:
        self._ask_transactions()
        self.transactions.add(self._clock(), transactional_id, producer, [group])

    def txn_offset_commit(
        self,
        group: str,
        transactional_id: str,
        producer: ProducerId,
        offsets: Mapping[Partition, Committed],
        *,
        generation: int = -1,
        member_id: str = "",
    ) -> None:
        """Commits offsets when the transaction does. aiokafka sends neither generation nor member id, so that no
        rebalance fences it: only `init_producer_id` of another producer does."""
        self._ask_groups()
        self._verify(transactional_id, producer, group)
        found = self.groups.get(group)
        if found is not None:
            found.check_commit(self._clock(), generation, member_id, None, True)
        elif generation >= 0:
            raise IllegalGenerationError
        self._check_offsets(offsets)
        self._offsets(group).commit_pending(producer.producer_id, offsets)

    def end_txn(self, transactional_id: str, producer: ProducerId, commit: bool) -> None:
        self._ask_transactions()
        self.transactions.end(transactional_id, producer, commit)

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

    # -- within

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)

    def _count_up(self) -> str:
        self._count += 1
        return f"{self._count:06d}"

    def _member_id(self, client_id: str) -> str:
        return f"{client_id}-{self._new_id()}"

    def _topic(self, name: str) -> Topic:
        if name not in self.topics:
            raise UnknownTopicOrPartitionError(name)
        return self.topics[name]

    def _exists(self, partition: Partition) -> PartitionLog:
        topic, number = partition
        found = self.topics.get(topic)
        if found is None or not 0 <= number < len(found.logs):
            raise UnknownTopicOrPartitionError(f"{topic}-{number}")
        return found.logs[number]

    def _log(self, partition: Partition, leader_epoch: int = -1) -> PartitionLog:
        """Returns the log if a leader answers for it, and the client knows the leader's epoch or none."""
        log = self._exists(partition)
        if partition in self._leaderless:
            raise NotLeaderForPartitionError(f"{partition}")
        if leader_epoch != -1 and leader_epoch != log.leader_epoch:
            raise (FencedLeaderEpoch if leader_epoch < log.leader_epoch else UnknownLeaderEpoch)(f"{log.leader_epoch}")
        return log

    def _has_open(self, log: PartitionLog, producer: ProducerId) -> bool:
        return producer.producer_id in log.open and log.producers.epoch_of(producer.producer_id) == producer.epoch

    def _verify(self, transactional_id: str, producer: ProducerId, target: Target) -> None:
        if self._transactions_refuse is not None:
            raise NotEnoughReplicasError("the coordinator of transactions cannot be asked")
        try:
            self.transactions.verify(transactional_id, producer, target)
        except ConcurrentTransactions as error:
            raise NotEnoughReplicasError("the last transaction is not complete") from error

    def _write_marker(self, target: Target, producer_id: int, epoch: int, commit: bool) -> bool:
        if isinstance(target, str):
            self._offsets(target).end_transaction(producer_id, commit)
            return True
        if target in self._leaderless:
            return False
        found = self.topics.get(target[0])
        if found is not None and target[1] < len(found.logs):  # else deleted: nobody needs a marker
            found.logs[target[1]].mark(producer_id, epoch, commit, self._now_ms())
        return True

    def _complete_if_at_once(self) -> None:
        if self.transactions.markers_at_once:
            self.transactions.complete()

    def _ask_groups(self) -> None:
        if self._groups_refuse is not None:
            raise self._groups_refuse

    def _ask_transactions(self) -> None:
        if self._transactions_refuse is not None:
            raise self._transactions_refuse

    def _group(self, name: str) -> Group:
        self._ask_groups()
        if name not in self.groups:
            raise UnknownMemberIdError
        return self.groups[name]

    def _offsets(self, group: str) -> Offsets:
        found = self.offsets.get(group)
        if found is None:
            found = self.offsets[group] = Offsets()
        return found

    def _check_offsets(self, offsets: Mapping[Partition, Committed]) -> None:
        for partition, one in offsets.items():
            self._exists(partition)
            if len(one.metadata) > MOST_METADATA_CHARS:
                raise OffsetMetadataTooLargeError
