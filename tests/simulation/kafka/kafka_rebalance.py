"""The rebalances of one consumer group, and the sessions of its members (GroupMetadataManager).

Empty -> PreparingRebalance: members join -> CompletingRebalance: the leader's assignment is awaited -> Stable
"""

from __future__ import annotations

from collections.abc import Callable

from aiokafka.errors import NotCoordinatorForGroupError, RebalanceInProgressError, UnknownMemberIdError
from kafka_members import Joined, Member

EMPTY, PREPARING, COMPLETING, STABLE = "Empty", "PreparingRebalance", "CompletingRebalance", "Stable"


class Rebalance:
    """The state of a group. Each method is told the time; `expire` does what is due by then."""

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
        self._shrink(now)

    def _shrink(self, now: float) -> None:
        """Somebody is gone: a rebalance begins, or may go on."""
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
            self._initial = self.state == EMPTY
            self.state = PREPARING
            self._unsynced.clear()
            longest = max((one.rebalance_s for one in self.members.values()), default=0.0)
            self._due_at = now + (self._initial_delay_s if self._initial else longest)
            self._newcomer, self._initial_until = False, now + longest
            for sync in syncs:
                sync.set_error(RebalanceInProgressError())
            if self._initial and self._initial_delay_s <= 0:  # it waits for nobody, not even for those who have an id
                self._go_on_without(now)
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
