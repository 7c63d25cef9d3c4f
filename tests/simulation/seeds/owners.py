"""One owner who may write: looks at each claim, checkpoint and commit of a world for those of a worker whose time was
over, and for committed offsets and epochs that go back.

    claim       a worker raises a partition's epoch in Redis, or takes its transactional id in Kafka. Where the group
                has given the partition to another member, whoever claims must have asked the group in this takeover
                (`stream.delivery.ownership.takeover` says which moment is left even then)
    checkpoint  is written under an epoch that this worker has claimed, and no other
    commit      its offset and its epoch are not below those that were committed before
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from aiokafka.coordinator.protocol import ConsumerProtocol
from kafka_rebalance import STABLE
from plans import CUTS
from virtual_loop import SERVERS, Host

from stream.kafka.log import CommittedOffset

if TYPE_CHECKING:
    from stage import Stage

OFFSET_COMMIT, HEARTBEAT, SYNC, INIT_PRODUCER, END = 8, 12, 14, 22, 26  # requests, by their keys


class Owners:
    """Watches who writes for each partition."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._committed: dict[int, CommittedOffset] = {}
        self._meta: dict[int, dict[str, int]] = {}  # of each partition in Redis
        self._claimed: dict[tuple[int, int], Host] = {}  # partition and epoch
        self._hosts: dict[str, Host] = {}  # by the id of the group's member
        self._taken: Counter[tuple[Host, str]] = Counter()  # claims in Redis, and of transactional ids, by host

    # -- Kafka

    def hear(self, host: Host, sent: Any, answer: Any) -> None:
        """Notes an answer of the brokers."""
        key = sent.API_KEY
        if key in (HEARTBEAT, SYNC):
            self._hosts[sent.member_id] = host
        elif key == INIT_PRODUCER and answer.error_code == 0 and sent.transactional_id:
            self._note_claim(host, int(sent.transactional_id.rpartition("|")[2]), "transactional id")
        if key in (OFFSET_COMMIT, END, INIT_PRODUCER):
            self.look_at_commits()

    def look_at_commits(self) -> None:
        """Compares what is committed with what was committed before."""
        stage = self._stage
        offsets = stage.kafka.cluster.offsets.get(stage.settings.group)
        for number in range(stage.plan.partitions if offsets is not None else 0):
            entry = offsets._stable.get((stage.settings.topics.pings, number)) if offsets is not None else None
            if entry is None:
                self._committed.pop(number, None)  # they are deleted with their topic
                continue
            now = CommittedOffset.of(entry.committed.offset, entry.committed.metadata)
            before = self._committed.get(number, now)
            self._committed[number] = now
            if now.epoch < before.epoch and "topic_anew" not in stage.plan.kinds:
                self._say(f"the epoch in the commits of partition {number} went from {before.epoch} to {now.epoch}")
            if now.offset < before.offset and not stage.plan.kinds & CUTS:
                self._say(f"the committed offset of partition {number} went from {before.offset} to {now.offset}")

    # -- Redis

    def look_at_stores(self, host: Host) -> None:
        """Compares what stands beside each partition's records with what stood there before the request of a host."""
        stage = self._stage
        for number in range(stage.plan.partitions):
            now = stage.redis.meta(stage.settings.group, (stage.settings.topics.pings, number))
            before, self._meta[number] = self._meta.get(number, {}), now
            if now == before or host is SERVERS or "epoch" not in now:
                continue
            epoch = now["epoch"]
            if epoch != before.get("epoch"):
                self._claimed[number, epoch] = host
                self._note_claim(host, number, "epoch")
                continue
            owner = self._claimed.get((number, epoch))
            if owner is not None and owner is not host:
                self._say(f"{host} wrote to partition {number} in Redis as epoch {epoch}, which is that of {owner}")

    # -- within

    def _note_claim(self, host: Host, number: int, what: str) -> None:
        self._taken[host, what] += 1
        worker = next((place.worker for place in self._stage.places if place.host is host), None)
        if worker is None or not hasattr(worker, "input"):
            return
        owner = self._owner(number)
        if owner is not None and owner is not host and self._taken[host, what] > worker.input.confirmed:
            self._say(f"{host} took the {what} of partition {number}, which the group gave to {owner}, and did not ask")

    def _owner(self, number: int) -> Host | None:
        """Returns to whom the group has given a partition; None while that is open."""
        stage = self._stage
        group = stage.kafka.cluster.groups.get(stage.settings.group)
        for member in group.members.values() if group is not None and group.state == STABLE else ():
            if member.assignment and member.id in self._hosts:
                topics = ConsumerProtocol.ASSIGNMENT.decode(member.assignment).assignment
                if number in dict(topics).get(stage.settings.topics.pings, ()):
                    return self._hosts[member.id]
        return None

    def _say(self, what: str) -> None:
        self._stage.note_broken(f"owners: {what}")
