"""The brokers' topics, and the requests about them and their records."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from aiokafka.errors import (
    BrokerResponseError,
    ConcurrentTransactions,
    InvalidPartitionsError,
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
from kafka_errors import FencedLeaderEpoch, InvalidRecord, UnknownLeaderEpoch
from kafka_groups import Group
from kafka_log import LATEST, READ_UNCOMMITTED, Fetched, NewRecord, PartitionLog
from kafka_offsets import Committed, Offsets, Partition
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


class Brokers:
    """The brokers, and what all requests need of them."""

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

    def _check_topics(self, offsets: Mapping[Partition, Committed]) -> None:
        """Any broker answers so of a topic that is gone, before the coordinator hears of the commit."""
        for partition in offsets:
            self._exists(partition)

    def _check_metadata(self, offsets: Mapping[Partition, Committed]) -> None:
        for one in offsets.values():
            if len(one.metadata) > MOST_METADATA_CHARS:
                raise OffsetMetadataTooLargeError
