"""Sends the requests of the model's `Cluster` to a real broker, one by one, and answers as the model does.

It needs a cluster of one broker. Each `client` has a connection of its own, as a broker answers the requests of one
connection in turn, and a join waits.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from aiokafka import TopicPartition
from aiokafka.conn import create_conn
from aiokafka.consumer.fetcher import PartitionRecords
from aiokafka.errors import MemberIdRequired, NoError
from aiokafka.protocol.admin import CreateTopicsRequest, DeleteRecordsRequest, DeleteTopicsRequest
from aiokafka.protocol.commit import OffsetCommitRequest, OffsetFetchRequest
from aiokafka.protocol.coordination import FindCoordinatorRequest
from aiokafka.protocol.fetch import FetchRequest_v11
from aiokafka.protocol.group import HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest, SyncGroupRequest
from aiokafka.protocol.offset import OffsetRequest
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.protocol.transaction import (
    AddOffsetsToTxnRequest,
    AddPartitionsToTxnRequest,
    EndTxnRequest,
    InitProducerIdRequest,
    TxnOffsetCommitRequest,
)
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from kafka_cluster import NO_PRODUCER
from kafka_errors import error_of
from kafka_groups import Joined
from kafka_log import LATEST, READ_COMMITTED, READ_UNCOMMITTED, Fetched, LogRecord, NewRecord
from kafka_offsets import Committed, Partition
from kafka_transactions import ProducerId

from stream.kafka.log_facts import _EpochEndStruct

PATIENCE_S = 20.0  # for what a broker does soon: it makes topics, loads coordinators, ends transactions
_ISOLATION = {READ_UNCOMMITTED: 0, READ_COMMITTED: 1}


class _Struct:
    """A request whose version and fields are given."""

    def __init__(self, struct: Any) -> None:
        self._struct = struct

    def prepare(self, versions: Any) -> Any:
        return self._struct


def raise_for(code: int) -> None:
    if code != NoError.errno:
        raise error_of(code)


class Wire:
    """The broker. Methods have the names and arguments of `Cluster`, and its answers."""

    def __init__(self, bootstrap: str) -> None:
        self._host, port = bootstrap.rsplit(":", 1)
        self._port = int(port)
        self._connections: dict[str, Any] = {}

    async def close(self) -> None:
        for connection in self._connections.values():
            connection.close()

    async def _send(self, request: Any, client: str = "") -> Any:
        if client not in self._connections:
            self._connections[client] = await create_conn(self._host, self._port, request_timeout_ms=60_000)
        return await self._connections[client].send(request)

    # -- topics

    async def create_topic(self, name: str, partitions: int, compacted: bool = False) -> None:
        settings = [("cleanup.policy", "compact")] if compacted else []
        answer = await self._send(CreateTopicsRequest([(name, partitions, 1, [], settings)], 10_000, False))
        raise_for(answer.topic_errors[0][1])
        await self._until_topic(name, there=True)

    async def delete_topic(self, name: str) -> None:
        answer = await self._send(DeleteTopicsRequest([name], 10_000))
        raise_for(answer.topic_error_codes[0][1])
        await self._until_topic(name, there=False)

    async def _until_topic(self, name: str, there: bool) -> None:
        """Waits until the broker has heard of it, and its coordinators have."""
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            answer = await self._send(OffsetRequest(-1, 0, [(name, [(0, LATEST)])]))
            if (answer.topics[0][1][0][1] == NoError.errno) == there:
                await asyncio.sleep(0.0 if there else 0.5)
                return
            await asyncio.sleep(0.02)
        raise TimeoutError(name)

    async def find_coordinators(self, group: str, transactional_id: str) -> None:
        """Waits until the coordinators of both have been made and loaded."""
        for kind, key in ((0, group), (1, transactional_id)):
            end = time.monotonic() + PATIENCE_S
            while (await self._send(FindCoordinatorRequest(key, kind))).error_code:
                assert time.monotonic() < end, key
                await asyncio.sleep(0.05)

    # -- records

    async def produce(
        self,
        partition: Partition,
        records: Sequence[NewRecord],
        producer: ProducerId = NO_PRODUCER,
        sequence: int = -1,
        transactional_id: str | None = None,
    ) -> int:
        builder = DefaultRecordBatchBuilder(2, 0, transactional_id is not None, *producer, sequence, 1 << 20)
        for at, one in enumerate(records):
            builder.append(at, one.timestamp_ms, one.key, one.value, list(one.headers))
        topic, number = partition
        request = ProduceRequest(transactional_id, -1, 10_000, [(topic, [(number, bytes(builder.build()))])])
        answer = (await self._send(request)).topics[0][1][0]
        raise_for(answer[1])
        return int(answer[2])

    async def fetch(
        self,
        partition: Partition,
        offset: int,
        isolation: str = READ_UNCOMMITTED,
        most: int = 500,
        leader_epoch: int = -1,
    ) -> Fetched:
        topic, number = partition
        wanted = [(topic, [(number, leader_epoch, offset, -1, 1 << 20)])]
        struct = FetchRequest_v11(-1, 0, 0, 1 << 20, _ISOLATION[isolation], 0, -1, wanted, [], "")
        answer = (await self._send(_Struct(struct))).topics[0][1][0]
        _, code, high, stable, start, aborted, _, raw = answer
        raise_for(code)
        memory = MemoryRecords(raw)
        reader = PartitionRecords(
            TopicPartition(*partition), memory, aborted, offset, None, None, True, _ISOLATION[isolation]
        )
        found: list[LogRecord] = []
        while len(found) < most and (one := next(reader, None)) is not None:
            found.append(LogRecord(one.offset, one.timestamp, one.key, one.value, one.headers, -1))
        return Fetched(found, reader.next_fetch_offset, high, stable, start, -1)

    async def list_offsets(
        self, partition: Partition, timestamp_ms: int = LATEST, isolation: str = READ_UNCOMMITTED
    ) -> tuple[int, int]:
        topic, number = partition
        answer = await self._send(OffsetRequest(-1, _ISOLATION[isolation], [(topic, [(number, timestamp_ms)])]))
        _, code, timestamp, offset, *_ = answer.topics[0][1][0]
        raise_for(code)
        return timestamp, offset

    async def offset_for_leader_epoch(
        self, partition: Partition, asked: int, leader_epoch: int = -1
    ) -> tuple[int, int]:
        topic, number = partition
        answer = await self._send(_Struct(_EpochEndStruct([(topic, [(number, leader_epoch, asked)])])))
        code, _, epoch, end = answer.topics[0][1][0]
        raise_for(code)
        return epoch, end

    async def delete_records(self, partition: Partition, before: int) -> int:
        topic, number = partition
        answer = await self._send(DeleteRecordsRequest([(topic, [(number, before)])], 10_000))
        _, start, code, *_ = answer.topics[0][1][0]
        raise_for(code)
        return int(start)

    # -- groups

    async def join_group(
        self,
        group: str,
        member_id: str,
        protocols: Sequence[tuple[str, bytes]],
        *,
        client_id: str = "client",
        instance_id: str | None = None,
        session_s: float = 10.0,
        rebalance_s: float = 60.0,
    ) -> Joined:
        times = int(session_s * 1000), int(rebalance_s * 1000)
        request = JoinGroupRequest(group, *times, member_id, instance_id, "consumer", list(protocols))
        answer = await self._send(request, client_id)
        if answer.error_code == MemberIdRequired.errno:
            error = MemberIdRequired(answer.member_id)
            error.member_id = answer.member_id
            raise error
        raise_for(answer.error_code)
        members = tuple((member, instance, bytes(data)) for member, instance, data in answer.members)
        return Joined(answer.generation_id, answer.group_protocol, answer.leader_id, answer.member_id, members)

    async def sync_group(
        self,
        group: str,
        generation: int,
        member_id: str,
        assignments: Mapping[str, bytes] | None = None,
        *,
        instance_id: str | None = None,
        client_id: str = "client",
    ) -> bytes:
        shares = list((assignments or {}).items())
        answer = await self._send(SyncGroupRequest(group, generation, member_id, instance_id, shares), client_id)
        raise_for(answer.error_code)
        return bytes(answer.member_assignment)

    async def heartbeat(self, group: str, generation: int, member_id: str) -> None:
        raise_for((await self._send(HeartbeatRequest(group, generation, member_id))).error_code)

    async def leave_group(self, group: str, member_id: str) -> None:
        raise_for((await self._send(LeaveGroupRequest(group, member_id))).error_code)

    async def offset_commit(
        self, group: str, generation: int, member_id: str, offsets: Mapping[Partition, Committed]
    ) -> None:
        answer = await self._send(OffsetCommitRequest(group, generation, member_id, -1, _by_topic(offsets)))
        for _, partitions in answer.topics:
            for _, code in partitions:
                raise_for(code)

    async def offset_fetch(self, group: str, partitions: Iterable[Partition]) -> dict[Partition, Committed]:
        wanted = [(topic, [number]) for topic, number in partitions]
        answer = await self._send(OffsetFetchRequest(group, wanted))
        raise_for(answer.error_code)
        found: dict[Partition, Committed] = {}
        for topic, some in answer.topics:
            for number, offset, metadata, code in some:
                raise_for(code)
                if offset >= 0:
                    found[topic, number] = Committed(offset, metadata)
        return found

    # -- transactions

    async def init_producer_id(self, transactional_id: str | None = None, timeout_s: float = 60.0) -> ProducerId:
        answer = await self._send(InitProducerIdRequest(transactional_id, int(timeout_s * 1000)))
        raise_for(answer.error_code)
        return ProducerId(answer.producer_id, answer.producer_epoch)

    async def add_partitions(
        self, transactional_id: str, producer: ProducerId, partitions: Iterable[Partition]
    ) -> None:
        wanted = [(topic, [number]) for topic, number in partitions]
        answer = await self._send(AddPartitionsToTxnRequest(transactional_id, *producer, wanted))
        for _, some in answer.errors:
            for _, code in some:
                raise_for(code)

    async def add_offsets(self, transactional_id: str, producer: ProducerId, group: str) -> None:
        raise_for((await self._send(AddOffsetsToTxnRequest(transactional_id, *producer, group))).error_code)

    async def txn_offset_commit(
        self, group: str, transactional_id: str, producer: ProducerId, offsets: Mapping[Partition, Committed]
    ) -> None:
        request = TxnOffsetCommitRequest(transactional_id, group, *producer, _by_topic(offsets))
        for _, some in (await self._send(request)).errors:
            for _, code in some:
                raise_for(code)

    async def end_txn(self, transactional_id: str, producer: ProducerId, commit: bool) -> None:
        raise_for((await self._send(EndTxnRequest(transactional_id, *producer, commit))).error_code)


def _by_topic(offsets: Mapping[Partition, Committed]) -> list[tuple[str, list[tuple[int, int, str]]]]:
    return [(topic, [(number, one.offset, one.metadata)]) for (topic, number), one in offsets.items()]
