"""The requests to one consumer group of the classic protocol, as Apache Kafka's coordinator answers them."""

from __future__ import annotations

from collections.abc import Mapping

from aiokafka.errors import (
    IllegalGenerationError,
    InconsistentGroupProtocolError,
    MemberIdRequired,
    RebalanceInProgressError,
    UnknownMemberIdError,
)
from kafka_errors import FencedInstanceId
from kafka_members import Joined, Member, Protocols
from kafka_pending import Pending
from kafka_rebalance import COMPLETING, EMPTY, PREPARING, STABLE, Rebalance

NEW_MEMBER_S = 300.0  # how long a new member may wait for its first answer: classic.group.new.member.join.timeout


class Group(Rebalance):
    """A group. Each method is told the time, and does first what is due by then."""

    def join(
        self, now: float, member_id: str, client: str, instance_id: str | None, protocols: Protocols,
        session_s: float, rebalance_s: float,
    ) -> Pending[Joined]:  # fmt: skip
        """Joins. Raises MemberIdRequired (with `member_id`), UnknownMemberIdError, FencedInstanceId,
        InconsistentGroupProtocolError."""
        self.expire(now)
        if not self._supports(protocols):
            raise InconsistentGroupProtocolError(str([name for name, _ in protocols]))
        if not member_id:
            return self._join_first(now, client, instance_id, protocols, session_s, rebalance_s)
        if member_id in self._named and instance_id is None:
            return self._admit(now, Member(member_id, None, protocols, session_s, rebalance_s))
        member = self._validate(member_id, instance_id)
        changed = member.protocols != tuple(protocols)
        if self.state == PREPARING or (self.state == COMPLETING and changed):
            return self._rejoin(now, member, protocols)
        if self.state == STABLE and (member.id == self.leader or changed):
            return self._rejoin(now, member, protocols)
        answer: Pending[Joined] = Pending()
        answer.set_value(self._joined(member))
        self._live(member, now)
        return answer

    def sync(
        self, now: float, generation: int, member_id: str, instance_id: str | None, assignments: Mapping[str, bytes]
    ) -> Pending[bytes]:
        """Waits for the leader's assignment, or gives it. Raises RebalanceInProgressError, IllegalGenerationError,
        UnknownMemberIdError, FencedInstanceId."""
        self.expire(now)
        member = self._validate(member_id, instance_id, generation)
        if self.state == PREPARING:
            raise RebalanceInProgressError
        answer: Pending[bytes] = Pending()
        self._unsynced.discard(member.id)
        if self.state == STABLE:
            if not self._unsynced:
                self._due_at = None
            self._live(member, now)
            answer.set_value(member.assignment)
            return answer
        member.sync = answer  # one that it sent before is never answered
        if member.id == self.leader:
            for one in self.members.values():
                one.assignment = assignments.get(one.id, b"")
            self._stabilize(now)
        return answer

    def heartbeat(self, now: float, generation: int, member_id: str, instance_id: str | None) -> None:
        """Raises RebalanceInProgressError, IllegalGenerationError, UnknownMemberIdError, FencedInstanceId."""
        self.expire(now)
        self._live(self._validate(member_id, instance_id, generation), now)
        if self.state == PREPARING:
            raise RebalanceInProgressError

    def leave(self, now: float, member_id: str, instance_id: str | None = None) -> None:
        """Raises UnknownMemberIdError, FencedInstanceId."""
        self.expire(now)
        if instance_id is not None and not member_id:  # as an operator removes a static member
            member_id = self._static.get(instance_id, "")
        if self._named.pop(member_id, None) is not None:
            self._shrink(now)  # a rebalance begins even for one that has never joined
            return
        self._remove(now, self._validate(member_id, instance_id))

    def check_commit(
        self, now: float, generation: int, member_id: str, instance_id: str | None, transactional: bool
    ) -> None:
        """Returns if these may commit (ClassicGroup.validateOffsetCommit); a member's session begins anew then. Raises
        RebalanceInProgressError, IllegalGenerationError, UnknownMemberIdError, FencedInstanceId."""
        self.expire(now)
        if generation < 0 and self.state == EMPTY:
            return
        if generation >= 0 or member_id or instance_id is not None:
            member = self._validate(member_id, instance_id, generation)
            if not transactional and self.state == COMPLETING:
                raise RebalanceInProgressError
            if self.state in (STABLE, PREPARING):
                self._live(member, now)
        elif not transactional:
            raise UnknownMemberIdError

    # -- within

    def _supports(self, protocols: Protocols) -> bool:
        if self.state == EMPTY or not self.members:
            return bool(protocols)
        common = set.intersection(*({name for name, _ in one.protocols} for one in self.members.values()))
        return any(name in common for name, _ in protocols)

    def _join_first(
        self, now: float, client: str, instance_id: str | None, protocols: Protocols, session_s: float,
        rebalance_s: float,
    ) -> Pending[Joined]:  # fmt: skip
        new_id = self._new_id(instance_id or client)
        if instance_id is None:  # KIP-394: it has to come back with an id
            self._named[new_id] = now + session_s
            error = MemberIdRequired(new_id)
            error.member_id = new_id
            raise error
        member = Member(new_id, instance_id, protocols, session_s, rebalance_s)
        if instance_id not in self._static:
            return self._admit(now, member)
        return self._replace(now, self.members[self._static[instance_id]], member)

    def _replace(self, now: float, old: Member, new: Member) -> Pending[Joined]:
        """A second process of a static member takes the place of the first."""
        self._fail(old, FencedInstanceId)
        leader = self.leader
        self.members = {
            (new.id if key == old.id else key): (new if key == old.id else m) for key, m in self.members.items()
        }
        self._static[new.instance_id or ""] = new.id
        new.assignment = old.assignment
        if old.id in self._unsynced:
            self._unsynced.discard(old.id)
            self._unsynced.add(new.id)
        if self.leader == old.id:
            self.leader = new.id
        self._live(new, now)
        new.join = Pending()
        answer = new.join
        if self.state == STABLE and self._choose_protocol() == self.protocol:
            self._keep()
            # The answer names the old leader, so that nobody takes the new member for one that has to assign.
            new.join = None
            answer.set_value(self._joined(new)._replace(leader=leader or "", members=()))
        elif self.state == PREPARING:
            self._go_on(now)
        else:
            self._prepare(now)
        return answer

    def _admit(self, now: float, member: Member) -> Pending[Joined]:
        self._named.pop(member.id, None)
        self.members[member.id] = member
        if member.instance_id is not None:
            self._static[member.instance_id] = member.id
        if self.leader is None:
            self.leader = member.id
        self._newcomer = True
        member.is_new, member.dies_at = True, now + NEW_MEMBER_S
        member.join = answer = Pending()
        self._prepare(now)
        return answer

    def _rejoin(self, now: float, member: Member, protocols: Protocols) -> Pending[Joined]:
        member.protocols = tuple(protocols)
        member.join = answer = Pending()  # one that it sent before is never answered
        self._prepare(now)
        return answer

    def _validate(self, member_id: str, instance_id: str | None, generation: int | None = None) -> Member:
        if instance_id is not None:
            owner = self._static.get(instance_id)
            if owner is None:
                raise UnknownMemberIdError
            if owner != member_id:
                raise FencedInstanceId
        member = self.members.get(member_id)
        if member is None:
            raise UnknownMemberIdError
        if generation is not None and generation != self.generation:
            raise IllegalGenerationError(f"{generation} is not {self.generation}")
        return member
