"""One consumer group of the classic protocol, as Apache Kafka's coordinator leads it (GroupMetadataManager).

Empty -> PreparingRebalance: members join -> CompletingRebalance: the leader's assignment is awaited -> Stable
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from aiokafka.errors import (
    IllegalGenerationError,
    InconsistentGroupProtocolError,
    MemberIdRequired,
    NotCoordinatorForGroupError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)
from kafka_errors import FencedInstanceId
from kafka_pending import Pending

EMPTY, PREPARING, COMPLETING, STABLE = "Empty", "PreparingRebalance", "CompletingRebalance", "Stable"
NEW_MEMBER_S = 300.0  # how long a new member may wait for its first answer: classic.group.new.member.join.timeout
Protocols = Sequence[tuple[str, bytes]]


class Joined(NamedTuple):
    """The answer to JoinGroup. Only the leader gets the members: id, instance id and metadata."""

    generation: int
    protocol: str
    leader: str
    member_id: str
    members: tuple[tuple[str, str | None, bytes], ...]


class Member:
    def __init__(
        self, member_id: str, instance_id: str | None, protocols: Protocols, session_s: float, rebalance_s: float
    ):
        self.id, self.instance_id = member_id, instance_id
        self.protocols, self.session_s, self.rebalance_s = tuple(protocols), session_s, rebalance_s
        self.assignment = b""
        self.is_new = False
        self.dies_at = 0.0
        self.join: Pending[Joined] | None = None
        self.sync: Pending[bytes] | None = None

    def copy(self) -> Member:
        """Returns what a coordinator writes of a member into its log."""
        copied = Member(self.id, self.instance_id, self.protocols, self.session_s, self.rebalance_s)
        copied.assignment = self.assignment
        return copied

    def metadata(self, protocol: str) -> bytes:
        return next((data for name, data in self.protocols if name == protocol), b"")

    @property
    def lives_by_waiting(self) -> bool:
        """A member that waits for an answer need not send heartbeats; a new one may not wait for ever."""
        return not self.is_new and (self.join is not None or self.sync is not None)


class Group:
    """A group. Each method is told the time; `expire` does what is due by then."""

    def __init__(self, new_id: Callable[[str], str], initial_delay_s: float) -> None:
        self._new_id, self._initial_delay_s = new_id, initial_delay_s
        self.state, self.generation, self.protocol = EMPTY, 0, ""
        self.leader: str | None = None
        self.members: dict[str, Member] = {}
        self._static: dict[str, str] = {}  # member ids by instance
        self._named: dict[str, float] = {}  # ids that were given and have not joined yet, and until when they may
        self._unsynced: set[str] = set()
        self._due_at: float | None = None  # when the rebalance goes on without those who have not joined or synced
        self._initial = False  # the first rebalance waits for more members
        self._newcomer, self._initial_until = False, 0.0
        self._kept: tuple[int, str, str | None, list[Member]] = (0, "", None, [])  # what the coordinator's log has

    # -- requests

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
        if member.sync is not None:
            member.sync.set_error(RebalanceInProgressError())
        member.sync = answer
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
            self._go_on(now)
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

    # -- time

    def next_deadline(self) -> float | None:
        """Returns when `expire` has something to do."""
        times = [one.dies_at for one in self.members.values() if not one.lives_by_waiting]
        times += self._named.values()
        if self._due_at is not None:
            times.append(self._due_at)
        return min(times, default=None)

    def expire(self, now: float) -> None:
        """Removes members whose session is over, and lets a rebalance go on whose time is over, in the order of these
        times."""
        while (at := self.next_deadline()) is not None and at <= now:
            if self._due_at == at:
                self._go_on_without(at)
                continue
            for member_id in [one for one, until in self._named.items() if until <= at]:
                del self._named[member_id]
                self._go_on(at)
            for member in [one for one in self.members.values() if one.dies_at <= at and not one.lives_by_waiting]:
                self._remove(at, member)

    def reload(self, now: float) -> None:
        """Forgets what only the coordinator's memory has: its successor reads the last stable generation."""
        for member in list(self.members.values()):
            self._fail(member, NotCoordinatorForGroupError)
        generation, protocol, leader, members = self._kept
        self.generation, self.protocol, self.leader = generation, protocol, leader
        members = [one.copy() for one in members]
        self.members = {one.id: one for one in members}
        self._static = {one.instance_id: one.id for one in members if one.instance_id is not None}
        self._named, self._unsynced, self._due_at, self._initial = {}, set(), None, False
        self.state = STABLE if members else EMPTY
        for member in members:
            self._live(member, now)

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
        if member.join is not None:
            member.join.set_error(UnknownMemberIdError())  # it asks twice; only the newer question is answered
        member.join = answer = Pending()
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

    def _live(self, member: Member, now: float) -> None:
        member.dies_at = now + member.session_s

    def _joined(self, member: Member) -> Joined:
        members: tuple[tuple[str, str | None, bytes], ...] = ()
        if member.id == self.leader:
            members = tuple((one.id, one.instance_id, one.metadata(self.protocol)) for one in self.members.values())
        return Joined(self.generation, self.protocol, self.leader or "", member.id, members)

    def _fail(self, member: Member, error: type[Exception]) -> None:
        join, sync, member.join, member.sync = member.join, member.sync, None, None
        for one in (join, sync):
            if one is not None:
                one.set_error(error())

    def _remove(self, now: float, member: Member) -> None:
        self._fail(member, UnknownMemberIdError)
        del self.members[member.id]
        self._unsynced.discard(member.id)
        if member.instance_id is not None:
            self._static.pop(member.instance_id, None)
        if self.leader == member.id:
            self.leader = min(self.members, default=None)  # any of them: the real ids are random
        if self.state in (STABLE, COMPLETING):
            self._prepare(now)
        else:
            self._go_on(now)

    def _prepare(self, now: float) -> None:
        """Begins a rebalance, or goes on with it."""
        if self.state != PREPARING:
            syncs = [one.sync for one in self.members.values() if one.sync is not None]
            for member in self.members.values():
                member.sync = None
                if self.state == COMPLETING:
                    member.assignment = b""
            self._initial = self.state == EMPTY and self._initial_delay_s > 0
            self.state = PREPARING
            self._unsynced.clear()
            longest = max((one.rebalance_s for one in self.members.values()), default=0.0)
            self._due_at = now + (self._initial_delay_s if self._initial else longest)
            self._newcomer, self._initial_until = False, now + longest
            for sync in syncs:
                sync.set_error(RebalanceInProgressError())
        self._go_on(now)

    def _go_on(self, now: float) -> None:
        if self.state != PREPARING or self._initial or self._named:
            return
        if all(one.join is not None for one in self.members.values()):
            self._complete(now)

    def _go_on_without(self, now: float) -> None:
        """The time of the rebalance is over."""
        self._due_at = None
        if self._initial and self._newcomer and now < self._initial_until:
            self._newcomer = False
            self._due_at = min(now + self._initial_delay_s, self._initial_until)
            return
        self._initial = False
        if self.state == PREPARING:
            self._complete(now)
        elif self.state in (COMPLETING, STABLE) and self._unsynced:
            for member in [self.members[one] for one in self._unsynced if one in self.members]:
                self._fail(member, UnknownMemberIdError)
                self.members.pop(member.id)
                if member.instance_id is not None:
                    self._static.pop(member.instance_id, None)
                if self.leader == member.id:
                    self.leader = min(self.members, default=None)
            self._unsynced.clear()
            self._prepare(now)

    def _complete(self, now: float) -> None:
        """Begins the next generation with those who have joined. A static member that has not stays until its session
        is over."""
        for member in [one for one in self.members.values() if one.join is None and one.instance_id is None]:
            del self.members[member.id]
        joined = [one for one in self.members.values() if one.join is not None]
        if self.leader not in (one.id for one in joined):
            if self.members and not joined:
                self._due_at = now + max(one.rebalance_s for one in self.members.values())
                return
            self.leader = min((one.id for one in joined), default=None)
        self.generation += 1
        self._due_at = None
        if not self.members:
            self.state, self.protocol = EMPTY, ""
            self._keep()
            return
        self.state, self.protocol = COMPLETING, self._choose_protocol()
        self._unsynced = set(self.members)
        self._due_at = now + max(one.rebalance_s for one in self.members.values())
        answers = []
        for member in joined:
            member.is_new = False
            self._live(member, now)
            answers.append((member.join, self._joined(member)))
            member.join = None
        for answer, value in answers:
            if answer is not None:
                answer.set_value(value)

    def _choose_protocol(self) -> str:
        """Returns the protocol that all have and most prefer."""
        common = set.intersection(*({name for name, _ in one.protocols} for one in self.members.values()))
        votes: dict[str, int] = {}
        for member in self.members.values():
            first = next(name for name, _ in member.protocols if name in common)
            votes[first] = votes.get(first, 0) + 1
        return max(votes, key=lambda name: votes[name])

    def _stabilize(self, now: float) -> None:
        self.state = STABLE
        if not self._unsynced:
            self._due_at = None
        self._keep()
        answers = []
        for member in self.members.values():
            if member.sync is not None:
                answers.append((member.sync, member.assignment))
                member.sync = None
                self._live(member, now)
        for answer, value in answers:
            answer.set_value(value)

    def _keep(self) -> None:
        """Writes the group into the coordinator's log."""
        self._kept = (self.generation, self.protocol, self.leader, [one.copy() for one in self.members.values()])
