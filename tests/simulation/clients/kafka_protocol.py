"""Translates what aiokafka's clients send into requests of the model of Kafka, and its answers back.

Batches of records stay bytes on their way, as in a real log: the broker writes only the base offset and the leader
epoch into them, which lie outside of the checksum.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import google_crc32c
from aiokafka.errors import BrokerResponseError, MemberIdRequired, UnknownError
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from kafka_cluster import Cluster
from kafka_log import READ_COMMITTED, READ_UNCOMMITTED, Batch, NewRecord, PartitionLog
from kafka_offsets import Committed
from kafka_transactions import ProducerId
from virtual_loop import VirtualLoop

from stream.kafka.log import Partition

NODE: Final = 0
VERSIONS: Final = {
    0: (0, 7), 1: (0, 11), 2: (0, 3), 3: (0, 10), 8: (0, 3), 9: (0, 3), 10: (0, 1), 11: (0, 5), 12: (0, 1), 13: (0, 1),
    14: (0, 3), 22: (0, 0), 23: (0, 2), 24: (0, 0), 25: (0, 0), 26: (0, 0), 28: (0, 0),
}  # fmt: skip
ISOLATIONS: Final = (READ_UNCOMMITTED, READ_COMMITTED)
FEW_RECORDS: Final = 100_000
_BASE: Final = struct.Struct(">q")
_EPOCH: Final = struct.Struct(">i")
_HEAD: Final = struct.Struct(">qiibIhiqqqhii")
_CONTROL_KEY: Final = struct.Struct(">hh")
_CONTROL_VALUE: Final = struct.Struct(">hi")
_TRANSACTIONAL_BIT: Final = 0x10
_CONTROL_BIT: Final = 0x20
Give = Callable[[Any], None]


class KafkaProtocol:
    """The brokers, as clients see them: one node."""

    def __init__(self, loop: VirtualLoop, wall_s: Callable[[], float]) -> None:
        self._loop = loop
        self._wall_s = wall_s
        self.cluster = Cluster(wall_s)
        self._raw: dict[Batch, bytes] = {}
        self.read_to: dict[Partition, int] = {}  # up to where records of each partition were ever given to a reader
        self._fetches: list[Callable[[], bool]] = []  # that wait for records; each returns whether it has been answered
        self.unanswered_ids: set[str] = set()  # transactional ids for which no producer is given
        self.refused_topics: set[str] = set()  # to which nothing can be appended
        self._handlers: dict[int, Callable[[Any], Any]] = {
            0: self._produce, 2: self._list_offsets, 3: self._metadata, 8: self._commit, 9: self._fetch_offsets,
            10: self._find_coordinator, 12: self._heartbeat, 13: self._leave, 22: self._init_producer,
            23: self._epoch_end, 24: self._add_partitions, 25: self._add_offsets, 26: self._end,
            28: self._commit_in_transaction,
        }  # fmt: skip

    def log(self, partition: Partition) -> PartitionLog:
        """Returns a log, whether somebody leads it or not."""
        return self.cluster.topics[partition[0]].logs[partition[1]]

    def handle(self, sent: Any, give: Give) -> None:
        """Works on a request. `give` gets the answer, at once or when there is one."""
        if sent.API_KEY == 22 and sent.transactional_id in self.unanswered_ids:
            return
        if sent.API_KEY == 1:
            self._fetch(sent, give)
        elif sent.API_KEY == 11:
            self._join(sent, give)
        elif sent.API_KEY == 14:
            self._sync(sent, give)
        else:
            give(self._handlers[sent.API_KEY](sent))
            if sent.API_KEY in (0, 26):
                self.wake()

    def wake(self) -> None:
        """Answers the fetches for which there is something now."""
        if self._fetches:
            self._fetches = [fetch for fetch in self._fetches if not fetch()]

    # -- records

    def _produce(self, sent: Any) -> Any:
        answers = []
        for topic, partitions in sent.topics:
            parts = []
            for number, messages in partitions:
                code, base = self._append((topic, number), bytes(messages), sent.transactional_id)
                parts.append((number, code, base, -1, 0))
            answers.append((topic, parts))
        return sent.RESPONSE_TYPE(answers, 0)

    def _append(self, partition: Partition, raw: bytes, transactional_id: str | None) -> tuple[int, int]:
        if partition[0] in self.refused_topics:
            return UnknownError.errno, -1
        head = _HEAD.unpack_from(raw)
        attributes, producer_id, epoch, sequence = head[5], head[9], head[10], head[11]
        batch = MemoryRecords(raw).next_batch()
        # aiokafka's compiled builder stamps records without a time by the machine's own clock.
        now_ms = int(self._wall_s() * 1000)
        new = [NewRecord(one.key, one.value, tuple(one.headers), min(one.timestamp or 0, now_ms)) for one in batch]
        try:
            named = transactional_id if attributes & _TRANSACTIONAL_BIT else None
            base = self.cluster.produce(partition, new, ProducerId(producer_id, epoch), sequence, named)
        except BrokerResponseError as error:
            return error.errno, -1
        last = self.log(partition).batches[-1]
        if last.base == base and last not in self._raw:
            self._raw[last] = _BASE.pack(base) + raw[8:12] + _EPOCH.pack(last.leader_epoch) + raw[16:]
        return 0, base

    def _bytes_of(self, batch: Batch) -> bytes:
        found = self._raw.get(batch)
        if found is None:
            found = self._raw[batch] = encode(batch)
        return found

    def _fetch(self, sent: Any, give: Give) -> None:
        answer = self._read(sent)
        if answer is not None or not sent.max_wait_time:
            give(self._read(sent, anyhow=True) if answer is None else answer)
            return
        is_answered = False

        def look() -> bool:
            nonlocal is_answered
            if not is_answered and (found := self._read(sent)) is not None:
                is_answered = True
                timer.cancel()
                give(found)
            return is_answered

        def end() -> None:
            nonlocal is_answered
            if not is_answered:
                is_answered = True
                give(self._read(sent, anyhow=True))

        timer = self._loop.call_later(sent.max_wait_time / 1000, end)
        self._fetches.append(look)

    def _read(self, sent: Any, *, anyhow: bool = False) -> Any:
        """Returns the answer to a fetch; None if there is nothing to say yet."""
        found, is_worth = [], anyhow
        isolation = ISOLATIONS[sent.isolation_level]
        for topic, partitions in sent.topics:
            parts = []
            for number, _, offset, _, most in partitions:
                part = self._read_one((topic, number), offset, isolation, most)
                is_worth = is_worth or part[1] != 0 or bool(part[-1])
                parts.append(part)
            found.append((topic, parts))
        return sent.RESPONSE_TYPE(0, 0, 0, found) if is_worth else None

    def _read_one(self, partition: Partition, offset: int, isolation: str, most: int) -> tuple[Any, ...]:
        number = partition[1]
        try:
            log = self.cluster._log(partition)
            log.read(offset, isolation, 0)
        except BrokerResponseError as error:
            return number, error.errno, -1, -1, -1, None, -1, b""
        stable = log.last_stable_offset
        until = stable if isolation == READ_COMMITTED else log.end
        raw, size = [], 0
        for batch in log._from(offset):
            if batch.base >= until or (raw and size >= most):
                break
            self.read_to[partition] = max(self.read_to.get(partition, 0), batch.last + 1)
            raw.append(self._bytes_of(batch))
            size += len(raw[-1])
        listed = _aborted(log, offset, until) if isolation == READ_COMMITTED else None
        return number, 0, log.end, stable, log.start, listed, -1, b"".join(raw)

    def _list_offsets(self, sent: Any) -> Any:
        answers = []
        isolation = ISOLATIONS[getattr(sent, "isolation_level", 0)]
        for topic, partitions in sent.topics:
            parts = []
            for number, time_ms in partitions:
                try:
                    at_ms, offset = self.cluster._log((topic, number)).find_time(time_ms, isolation)
                    parts.append((number, 0, at_ms, offset))
                except BrokerResponseError as error:
                    parts.append((number, error.errno, -1, -1))
            answers.append((topic, parts))
        return sent.RESPONSE_TYPE(0, answers)

    def _epoch_end(self, sent: Any) -> Any:
        answers = []
        for topic, partitions in sent.topics:
            parts = []
            for number, _, asked in partitions:
                try:
                    epoch, end = self.cluster._log((topic, number)).epoch_end(asked)
                    parts.append((0, number, epoch, end))
                except BrokerResponseError as error:
                    parts.append((error.errno, number, -1, -1))
            answers.append((topic, parts))
        return sent.RESPONSE_TYPE(0, answers)

    # -- topics and coordinators

    def _metadata(self, sent: Any) -> Any:
        names = sent.topics
        if sent.API_VERSION == 10:
            return self._metadata_with_ids(sent)
        wanted = list(self.cluster.topics) if names is None else names
        topics = []
        for name in wanted:
            code, parts = self._partitions(name)
            topics.append(
                (code, name, False, [(error, number, leader, [NODE], [NODE], []) for error, number, leader, _ in parts])
            )
        return sent.RESPONSE_TYPE(0, [(NODE, "kafka", 9092, None)], "simulated", NODE, topics)

    def _metadata_with_ids(self, sent: Any) -> Any:
        topics = []
        for _, name, _ in sent.topics:
            code, parts = self._partitions(name)
            topic_id = uuid.UUID(hex=self.cluster.topics[name].id).bytes if code == 0 else bytes(16)
            listed = [(error, number, leader, epoch, [NODE], [NODE], [], {}) for error, number, leader, epoch in parts]
            topics.append((code, name, topic_id, False, listed, -1, {}))
        return sent.RESPONSE_TYPE(0, [(NODE, "kafka", 9092, None, {})], "simulated", NODE, topics, -1, {})

    def _partitions(self, topic: str) -> tuple[int, list[tuple[int, int, int, int]]]:
        """Returns an error code, and for each partition error, number, leader and leader epoch."""
        try:
            found = self.cluster.metadata(topic).partitions
        except BrokerResponseError as error:
            return int(error.errno), []
        return 0, [(0 if leader >= 0 else 5, number, leader, epoch) for number, (leader, epoch) in enumerate(found)]

    def _find_coordinator(self, sent: Any) -> Any:
        return sent.RESPONSE_TYPE(0, 0, None, NODE, "kafka", 9092)

    # -- groups

    def _join(self, sent: Any, give: Give) -> None:
        instance = getattr(sent, "group_instance_id", None) or None
        kind = sent.RESPONSE_TYPE

        def fail(code: int, member_id: str = "") -> None:
            give(kind(0, code, -1, "", "", member_id, []))

        protocols = [(name, bytes(metadata)) for name, metadata in sent.group_protocols]
        try:
            pending = self.cluster.join_group(
                sent.group,
                sent.member_id,
                protocols,
                session_s=sent.session_timeout / 1000,
                rebalance_s=sent.rebalance_timeout / 1000,
                instance_id=instance,
            )
        except MemberIdRequired as error:
            fail(79, error.member_id)  # type: ignore[attr-defined]
            return
        except BrokerResponseError as error:
            fail(error.errno)
            return

        def answer(ended: Any) -> None:
            if ended.error is not None:
                fail(ended.error.errno)
                return
            one = ended.value
            give(kind(0, 0, one.generation, one.protocol, one.leader, one.member_id, list(one.members)))

        pending.then(answer)

    def _sync(self, sent: Any, give: Give) -> None:
        kind = sent.RESPONSE_TYPE
        instance = getattr(sent, "group_instance_id", None) or None
        assignments = {member: bytes(data) for member, data in sent.group_assignment}
        try:
            pending = self.cluster.sync_group(
                sent.group, sent.generation_id, sent.member_id, assignments, instance_id=instance
            )
        except BrokerResponseError as error:
            give(kind(0, error.errno, b""))
            return
        pending.then(lambda one: give(kind(0, 0, one.value) if one.error is None else kind(0, one.error.errno, b"")))

    def _heartbeat(self, sent: Any) -> Any:
        return sent.RESPONSE_TYPE(
            0, self._code(lambda: self.cluster.heartbeat(sent.group, sent.generation_id, sent.member_id))
        )

    def _leave(self, sent: Any) -> Any:
        return sent.RESPONSE_TYPE(0, self._code(lambda: self.cluster.leave_group(sent.group, sent.member_id)))

    def _commit(self, sent: Any) -> Any:
        offsets = dict(_offsets(sent.topics))
        code = self._code(
            lambda: self.cluster.offset_commit(
                sent.consumer_group, sent.consumer_group_generation_id, sent.consumer_id, offsets
            )
        )
        answers = [(topic, [(number, code) for number, *_ in partitions]) for topic, partitions in sent.topics]
        return sent.RESPONSE_TYPE(0, answers)

    def _fetch_offsets(self, sent: Any) -> Any:
        wanted = [(topic, number) for topic, numbers in sent.topics for number in numbers]
        try:
            found = self.cluster.offset_fetch(sent.consumer_group, wanted)
        except BrokerResponseError as error:
            return sent.RESPONSE_TYPE(0, [], error.errno)
        answers = []
        for topic, numbers in sent.topics:
            parts = []
            for number in numbers:
                one = found.get((topic, number))
                parts.append((number, -1, "", 0) if one is None else (number, one.offset, one.metadata, 0))
            answers.append((topic, parts))
        return sent.RESPONSE_TYPE(0, answers, 0)

    # -- transactions

    def _init_producer(self, sent: Any) -> Any:
        try:
            producer = self.cluster.init_producer_id(sent.transactional_id, sent.transaction_timeout_ms / 1000)
        except BrokerResponseError as error:
            return sent.RESPONSE_TYPE(0, error.errno, -1, -1)
        return sent.RESPONSE_TYPE(0, 0, *producer)

    def _add_partitions(self, sent: Any) -> Any:
        partitions = [(topic, number) for topic, numbers in sent.topics for number in numbers]
        who = sent.transactional_id, ProducerId(sent.producer_id, sent.producer_epoch)
        code = self._code(lambda: self.cluster.add_partitions(*who, partitions))
        return sent.RESPONSE_TYPE(
            0, [(topic, [(number, code) for number in numbers]) for topic, numbers in sent.topics]
        )

    def _add_offsets(self, sent: Any) -> Any:
        who = sent.transactional_id, ProducerId(sent.producer_id, sent.producer_epoch)
        return sent.RESPONSE_TYPE(0, self._code(lambda: self.cluster.add_offsets(*who, sent.group_id)))

    def _commit_in_transaction(self, sent: Any) -> Any:
        offsets = dict(_offsets(sent.topics))
        who = sent.transactional_id, ProducerId(sent.producer_id, sent.producer_epoch)
        code = self._code(lambda: self.cluster.txn_offset_commit(sent.group_id, *who, offsets))
        answers = [(topic, [(number, code) for number, *_ in partitions]) for topic, partitions in sent.topics]
        return sent.RESPONSE_TYPE(0, answers)

    def _end(self, sent: Any) -> Any:
        who = sent.transactional_id, ProducerId(sent.producer_id, sent.producer_epoch)
        return sent.RESPONSE_TYPE(0, self._code(lambda: self.cluster.end_txn(*who, bool(sent.transaction_result))))

    def _code(self, work: Callable[[], Any]) -> int:
        try:
            work()
        except BrokerResponseError as error:
            return int(error.errno)
        return 0


def _offsets(topics: Sequence[Any]) -> Iterator[tuple[Partition, Committed]]:
    for topic, partitions in topics:
        for number, offset, metadata in partitions:
            yield (topic, number), Committed(offset, metadata or "")


def _aborted(log: PartitionLog, offset: int, until: int) -> list[tuple[int, int]]:
    """Returns producer and first offset of each aborted transaction that ends after `offset`."""
    found: list[tuple[int, int]] = []
    firsts: dict[int, int] = {}
    for batch in log.batches:
        if batch.base >= until:
            break
        if batch.aborted:
            firsts.setdefault(batch.producer_id, batch.base)
        elif batch.control is not None:
            first = firsts.pop(batch.producer_id, None)
            if first is not None and batch.base >= offset:
                found.append((batch.producer_id, first))
    return found


def encode(batch: Batch) -> bytes:
    """Returns the bytes of a batch, or of a marker."""
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=0,
        is_transactional=int(batch.transactional or batch.control is not None),
        producer_id=batch.producer_id,
        producer_epoch=batch.epoch,
        base_sequence=batch.first_sequence,
        batch_size=1 << 24,
    )
    if batch.control is not None:
        key = _CONTROL_KEY.pack(0, int(batch.control == "commit"))
        builder.append(0, timestamp=batch.max_timestamp_ms, key=key, value=_CONTROL_VALUE.pack(0, 0), headers=[])
    for at, one in enumerate(batch.records):
        builder.append(at, timestamp=one.timestamp_ms, key=one.key, value=one.value, headers=list(one.headers))
    raw = bytearray(builder.build())
    _BASE.pack_into(raw, 0, batch.base)
    _EPOCH.pack_into(raw, 12, batch.leader_epoch)
    if batch.control is not None:
        raw[22] |= _CONTROL_BIT
        struct.pack_into(">I", raw, 17, google_crc32c.value(bytes(raw[21:])))
    return bytes(raw)
