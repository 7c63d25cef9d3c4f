"""A member loses nothing, and writes nothing twice, when something falls between two of its own steps. It runs in the
test's own process. Failures of servers, and members that take numbers from each other, are in worlds of the
simulation."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from member_kinds import KINDS, Kind
from pathcast_process import PATIENCE_S

from stream.members.group_member import GroupMember
from stream.wire import Record

RECORDS = 100  # of each partition of each input
POLLED = 40  # records: so that a partition is read in several polls


@pytest.fixture(params=["transactional", "storing"])
def kind(request: pytest.FixtureRequest, kafka: str, redis_url: str, topic_prefix: str) -> Iterator[Kind]:
    """Both kinds whose writes have what was folded and the offset in one step. `test_scores.py` has that of scores."""
    made = KINDS[request.param](kafka, redis_url, topic_prefix)
    made.create()
    made.send(RECORDS)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def small_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets a partition take several polls."""
    monkeypatch.setattr(GroupMember, "MOST_POLLED", POLLED)


async def lives(member: GroupMember[Any]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        await member.run()


async def assert_whole(kind: Kind) -> None:
    assert await asyncio.to_thread(kind.differences) == []


async def test_what_was_polled_and_is_not_folded_yet_is_not_given_away_as_folded(
    kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rebalance can fall between a poll, which moves the consumer's position, and the fold of what it brought."""
    member = kind.member(once=True)
    poll, polls = member._consumer.getmany, 0

    async def revoked_after_poll(**how: Any) -> Any:
        nonlocal polls
        polled = await poll(**how)
        polls += bool(polled)
        if polled and polls <= 4:
            await member.on_partitions_revoked(list(member._consumer.assignment()))
            await member.on_partitions_assigned(list(member._consumer.assignment()))
        return polled

    monkeypatch.setattr(member._consumer, "getmany", revoked_after_poll)
    await lives(member)
    assert polls > 4
    await assert_whole(kind)


class Torn:
    """Records of which only the first half can be read."""

    def __init__(self, records: Sequence[Record]) -> None:
        self._records = records

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, some: slice) -> Torn:
        return Torn(self._records[some])

    def __iter__(self) -> Iterator[Record]:
        yield from self._records[: len(self._records) // 2]
        raise MemoryError


async def test_what_was_folded_in_part_is_written_by_nobody(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even with what was folded before, and is not written yet."""
    member = kind.member(once=True)
    fold, folded = member._fold, set[int]()

    async def fails(number: int, held: Any, records: Any) -> None:
        await fold(number, held, Torn(records) if number in folded else records)
        folded.add(number)

    async def writes_nothing() -> None:
        pass

    monkeypatch.setattr(member, "_fold", fails)
    monkeypatch.setattr(member, "_after", writes_nothing)
    with pytest.raises(MemoryError):
        await lives(member)
    await lives(kind.member(once=True))
    await assert_whole(kind)
