"""The requests to the coordinators of groups and of transactions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from aiokafka.errors import (
    GroupLoadInProgressError,
    IllegalGenerationError,
    InvalidSessionTimeoutError,
    UnknownMemberIdError,
)
from kafka_brokers import SESSIONS_S, Brokers
from kafka_groups import Group, Joined, Protocols
from kafka_offsets import Committed, Partition
from kafka_pending import Pending
from kafka_transactions import ProducerId


class Coordinators(Brokers):
    """The brokers that lead groups and transactions."""

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
            found = self._make_group(group)
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
        """Returns if the member is one of the current generation. aiokafka sends no instance id with it. A coordinator
        that is loading the group says yes to all (GroupCoordinatorService.heartbeat)."""
        if self._groups_refuse is GroupLoadInProgressError:
            return
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
        self._check_topics(offsets)
        self._ask_groups()
        self._group_of_commit(group, generation).check_commit(self._clock(), generation, member_id, instance_id, False)
        self._check_metadata(offsets)
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
        self._check_topics(offsets)
        self._ask_groups()
        if self._transactions_refuse is not None:
            raise GroupLoadInProgressError("the coordinator of transactions cannot be asked")
        self.transactions.verify(transactional_id, producer, group)
        self._group_of_commit(group, generation).check_commit(self._clock(), generation, member_id, None, True)
        self._check_metadata(offsets)
        self._offsets(group).commit_pending(producer.producer_id, offsets)

    def end_txn(self, transactional_id: str, producer: ProducerId, commit: bool) -> None:
        self._ask_transactions()
        self.transactions.end(transactional_id, producer, commit)

    # -- within

    def _group_of_commit(self, name: str, generation: int) -> Group:
        """Returns the group. Who commits without being a member makes it."""
        found = self.groups.get(name)
        if found is None:
            if generation >= 0:
                raise IllegalGenerationError
            found = self._make_group(name)
        return found

    def _make_group(self, name: str) -> Group:
        found = self.groups[name] = Group(self._member_id, self._delay_s)
        return found
