"""Watches what a member does to the others of its group: whose numbers it takes over, and what it publishes again."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Protocol

from stream.atlas.counting.member import Runner as AtlasRunner
from stream.members.group_member import GroupMember
from stream.services.scores.member import Runner as ScoresRunner


class Around(Protocol):
    """What a watch asks of the world."""

    def note_broken(self, what: str) -> None: ...

    def reach(self, name: str) -> None: ...

    def take_slowness(self, point: str) -> float:
        """Returns for how long the servers let the present host wait at a point."""

    def is_over(self, group: str, member_id: str, generation: int) -> bool:
        """Returns whether the brokers have ended a generation of a group, or know the member no more."""

    def committed(self, group: str, partition: tuple[str, int]) -> int: ...

    def was_cut(self) -> bool:
        """Returns whether any log of the world may have lost records that were read."""

    def note_counted_on(self, number: int, counted: int, at: int) -> None:
        """Notes that a member of the atlas goes on in a log that was cut, and what of the log before it has counted."""


class Watch:
    """One member. Its takeovers pass two points, at which it can be killed, paused or let wait."""

    def __init__(self, kind: str, member: GroupMember[Any], around: Around) -> None:
        self._kind = kind
        self._member = member
        self._around = around
        self._committed: dict[int, int] = {}  # by number, when it was taken over
        self._was_over: dict[int, bool] = {}  # by number, before the group was asked
        self._take_over_one, self._begin = member._take_over_one, member._begin
        member._take_over_one = self.take_over_one  # type: ignore[method-assign]
        member._begin = self.begin  # type: ignore[method-assign]
        if isinstance(member, ScoresRunner):
            self._outgoing = member._outgoing
            member._outgoing = self.outgoing  # type: ignore[method-assign]
        if isinstance(member, AtlasRunner):
            self._claimed: dict[tuple[str, int], int | None] = {}
            self._claim = member._store.claim
            member._store.claim = self.claim  # type: ignore[method-assign]

    async def take_over_one(self, number: int) -> None:
        self._around.reach("before_taking")
        await asyncio.sleep(0)  # here it stands still if it is paused
        coordinator = self._member._consumer._coordinator
        self._was_over[number] = self._around.is_over(
            self._member.inputs.group, coordinator.member_id, self._member._generation
        )
        await self._take_over_one(number)

    async def begin(self, number: int) -> Any:
        if number not in self._member._assigned_numbers():
            self._around.note_broken(f"foreign: {self._kind} takes {number} over, which its group gives to nobody here")
        if self._was_over.get(number):
            self._around.note_broken(f"over: {self._kind} takes {number} over by an assignment that had ended before")
        for topic in self._member.inputs.topics:
            self._committed[number] = self._around.committed(self._member.inputs.group, (topic, number))
        self._around.reach("taking")
        if wait_s := self._around.take_slowness(f"{self._kind}:taking"):
            await asyncio.sleep(wait_s)
        held = await self._begin(number)
        for topic, start in held.starts.items():
            if start.is_cut and not self._around.was_cut():
                self._around.note_broken(f"cut: {self._kind} says that {topic}/{number} was cut, and no log was")
            if isinstance(self._member, AtlasRunner) and start.is_cut and not start.is_guess:
                self._around.note_counted_on(number, self._claimed.get((topic, number)) or 0, start.offset)
        return held

    async def claim(self, partition: tuple[str, int]) -> Any:
        """Claims the days of a partition, and notes up to where they were counted."""
        held, growth = await self._claim(partition)
        self._claimed[partition] = held.next_offset
        return held, growth

    def outgoing(self, number: int, decided: Any) -> Any:
        if decided.offset < self._committed.get(number, 0):
            self._around.note_broken(f"again: a score of offset {decided.offset} of {number} is published once more")
        return self._outgoing(number, decided)


def find_shared(members: Iterable[tuple[str, GroupMember[Any]]]) -> list[str]:
    """Returns which numbers two members of one kind hold by the same generation of their group."""
    holders: dict[tuple[str, int, int], int] = {}
    for kind, member in members:
        for number in member._holdings:
            where = kind, member._generation, number
            holders[where] = holders.get(where, 0) + 1
    return [
        f"shared: {many} members of {kind} hold partition {number} by generation {generation}"
        for (kind, generation, number), many in holders.items()
        if many > 1
    ]
