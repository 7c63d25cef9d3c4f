"""Everything of a world that is Kafka: the model, the wire to it, and what clients find in the place of theirs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any, Final
from unittest import mock

import aiokafka.client
from aiokafka.errors import BrokerResponseError
from kafka_log import NewRecord
from kafka_offsets import Committed
from kafka_protocol import VERSIONS, KafkaProtocol
from kafka_transactions import ONGOING
from simulated_connection import Wire
from virtual_loop import Host
from world import World

from stream.kafka import admin
from stream.kafka.log import Partition
from stream.wire import Topics

MARKED_SHARE: Final = 0.1  # of the markers that are held back, those that are written at a tick
TICK_S: Final = 0.25  # how often the brokers look at sessions and the ages of transactions
LINGER_S: Final = (
    10.0  # until workers answer nothing any more that they had fetched before it was cut off: a session, and more
)


class KafkaSide:
    """The brokers of a world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.protocol = KafkaProtocol(world.loop, world.wall_s)
        self.cluster = self.protocol.cluster
        self.former_ends: dict[int, int] = {}  # of the partitions of a topic that was made anew, by number
        self.cut_off: dict[int, range] = {}  # offsets of which unclean elections took the records, by partition
        self.ends_at_cut: dict[tuple[str, int], int] = {}  # of all logs, LINGER_S after the last loss of records
        self.deleted_unread: dict[Partition, int] = {}  # how many records retention took that a group had not read
        self.wire = Wire(world.loop, world.network, self._handle, VERSIONS)
        self.heard: Callable[[Host, Any, Any], None] = lambda host, sent, answer: None  # see `owners`

    def _handle(self, sent: Any, give: Callable[[Any], None]) -> None:
        host = self.wire.asker

        def give_and_tell(answer: Any) -> None:
            if host is not None:
                self.heard(host, sent, answer)
            give(answer)

        self.protocol.handle(sent, give_and_tell)

    def create_topic(self, name: str, partitions: int) -> None:
        """Creates a topic, unless it is there."""
        if name not in self.cluster.topics:
            self.cluster.create_topic(name, partitions)

    def feed(self, partition: Partition, record: NewRecord, *, aborted: bool) -> None:
        """Appends a record; an aborted one is that of a transaction which ends at once."""
        try:
            if aborted:
                producer = self.cluster.init_producer_id("feeder")
                self.cluster.add_partitions("feeder", producer, [partition])
                self.cluster.produce(partition, [record], producer, 0, "feeder")
                self.cluster.end_txn("feeder", producer, False)
            else:
                self.cluster.produce(partition, [record])
        except BrokerResponseError:
            return  # its producer would wait and try again: it is as if the vehicle had not sent
        self.protocol.wake()

    def committed(self, group: str, partition: Partition, *, pending: bool = False) -> int:
        """Returns what the group has committed; with `pending`, also what a transaction will, whose end may be decided
        already."""
        offsets = self.cluster.offsets.get(group)
        if offsets is None:
            return 0
        entries = [offsets._stable, *(offsets._pending.values() if pending else ())]
        return max((some[partition].committed.offset for some in entries if partition in some), default=0)

    def commit_of(self, group: str, partition: Partition) -> Committed | None:
        """Returns what the group has committed, with its metadata."""
        offsets = self.cluster.offsets.get(group)
        return None if offsets is None else offsets.fetch([partition], require_stable=False).get(partition)

    def topic_id(self, topic: str) -> str:
        return self.cluster.topics[topic].id

    def last_record_end(self, partition: Partition) -> int:
        """Returns the offset after the last record that a reader gets; behind it there may be markers."""
        log = self.protocol.log(partition)
        whole = (batch for batch in reversed(log.batches) if batch.records and not batch.aborted)
        return max(log.start, next((batch.last + 1 for batch in whole), 0)) if log.end > log.start else 0

    def log_end(self, partition: Partition) -> int:
        return self.protocol.log(partition).end

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Lets aiokafka's clients connect to the model, and admin's commands ask it at once."""
        with ExitStack() as stack:
            stack.enter_context(mock.patch.object(aiokafka.client, "create_conn", self.wire.connect))
            stack.enter_context(mock.patch.object(admin, "connect", self._connect_admin))
            stack.enter_context(mock.patch.object(admin, "partitions_of", self._partitions_of))
            stack.enter_context(mock.patch.object(admin, "absent", self._absent))
            stack.enter_context(mock.patch.object(admin, "create_models", self._create_models))
            yield

    @contextmanager
    def _connect_admin(self, *_: Any, **__: Any) -> Iterator[Any]:
        yield SimpleNamespace()

    def _partitions_of(self, client: Any, topic: str) -> int:
        if topic not in self.cluster.topics:
            raise ValueError(f"there is no topic {topic}")
        return len(self.cluster.topics[topic].logs)

    def _absent(self, client: Any, names: Iterable[str]) -> list[str]:
        return [name for name in names if name not in self.cluster.topics]

    def _create_models(self, client: Any, topics: Topics) -> list[Any]:
        self.create_topic(topics.models, 1)
        return []

    # -- faults

    def elect(self, partition: Partition) -> None:
        self.cluster.elect(partition)
        self._refuse_connections()

    def elect_unclean(self, partition: Partition, lost: int) -> None:
        """Lets a replica lead that lacks the last records, some `lost` of them."""
        self._world.note(f"unclean {partition}")
        end = self.protocol.log(partition).end
        self.cluster.elect_unclean(partition, max(0, end - lost))
        before = self.cut_off.get(partition[1], range(end, end))
        self.cut_off[partition[1]] = range(min(before.start, self.protocol.log(partition).end), max(before.stop, end))
        self._linger()
        self._refuse_connections()

    def _linger(self) -> None:
        """Lets workers answer for a while what they had fetched before it was gone, and then notes where all logs
        end."""
        self.ends_at_cut = {}
        self._world.loop.call_later(LINGER_S, self._note_ends, context=self._world.network.outside)

    def _note_ends(self) -> None:
        self.ends_at_cut = {
            (name, number): log.end
            for name, topic in self.cluster.topics.items()
            for number, log in enumerate(topic.logs)
        }

    def _refuse_connections(self) -> None:
        self.wire.break_all()
        self.protocol.wake()

    def remove_members(self, group: str) -> None:
        """Removes all members from a group, as an operator can (KIP-345): each hears of it at its next request."""
        found = self.cluster.groups.get(group)
        for member_id in list(found.members) if found is not None else ():
            self.cluster.leave_group(group, member_id)

    def fence_producer(self, transactional_id: str) -> None:
        """Fences the producer of a transactional id, as an operator can (KIP-664): its transaction is aborted."""
        try:
            self.cluster.init_producer_id(transactional_id)
        except BrokerResponseError:
            return  # the coordinator is away, or has a transaction to end first: the operator is told so
        self.protocol.wake()

    def take_leader(self, partition: Partition) -> None:
        self.cluster.stop_leader(partition)
        self.protocol.wake()

    def give_leader(self, partition: Partition) -> None:
        if partition in self.cluster._leaderless:
            self.cluster.elect(partition)
            self.protocol.wake()

    def take_coordinators(self, error: type[BrokerResponseError]) -> None:
        self.cluster.move_group_coordinator()
        self.cluster.refuse_groups(error)
        self.cluster.refuse_transactions(error)

    def give_coordinators(self) -> None:
        self.cluster.refuse_groups(None)
        self.cluster.refuse_transactions(None)

    def delay_markers(self, late: bool) -> None:
        self.cluster.hold_markers(late)
        self.protocol.wake()

    def retain(self, partition: Partition, share: float, group: str) -> None:
        """Deletes the oldest records, up to a share of those that there are. What goes before the group has committed
        anything is nobody's loss: it begins with what there is."""
        log = self.protocol.log(partition)
        start = log.start + int(share * (log.end - log.start))
        unread = max(log.start, self.protocol.read_to.get(partition, 0))
        offsets = (one.offset for batch in log.batches if not batch.aborted for one in batch.records)
        deleted = sum(unread <= offset < start for offset in offsets)
        if self.commit_of(group, partition) is not None:
            self.deleted_unread[partition] = self.deleted_unread.get(partition, 0) + deleted
        self.cluster.retain(partition, start)

    def delete(self, topic: str) -> None:
        """Deletes a topic, to be made anew by `create_topic`."""
        for number, log in enumerate(self.cluster.topics[topic].logs):
            self.former_ends[number] = max(log.end, self.former_ends.get(number, 0))
        self._linger()
        self.cluster.delete_topic(topic)
        self.protocol.wake()

    def heal(self) -> None:
        """Ends all faults of the brokers."""
        for partition in list(self.cluster._leaderless):
            self.give_leader(partition)
        self.give_coordinators()
        self.delay_markers(False)
        self._abort_hanging()

    def _abort_hanging(self) -> None:
        """Ends the transactions whose markers an unclean election has cut off, as an operator has to (KIP-664)."""
        ongoing = {one.producer_id for one in self.cluster.transactions._known.values() if one.state == ONGOING}
        for topic in self.cluster.topics.values():
            for log in topic.logs:
                for producer_id in log.open.keys() - ongoing:
                    log.mark(
                        producer_id, log.producers.epoch_of(producer_id) or 0, False, int(self._world.wall_s() * 1000)
                    )
        self.protocol.wake()

    async def tick(self) -> None:
        """Lets time pass at the brokers; markers that are held back are written one by one, sooner or later."""
        while True:
            await asyncio.sleep(TICK_S)
            self.cluster.tick()
            for name, target in self.cluster.pending_markers():
                if self._world.chance.random() < MARKED_SHARE:
                    self.cluster.complete_markers(name, target)
            self.protocol.wake()
