"""A member of a consumer group, and what it is told when it has joined."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from kafka_pending import Pending

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
