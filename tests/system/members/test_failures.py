"""What a member does when something fails within it or beside it, in the test's own process: nothing is lost by that,
and nothing comes twice."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

import pytest
from aiokafka.errors import KafkaTimeoutError
from member_kinds import HEARTBEAT_MS, KINDS, PARTITIONS, Kind
from pathcast_process import PATIENCE_S, eventually

from stream.kafka.producer import Publisher
from stream.members import group_member, storing_member
from stream.members.group_member import GroupMember
from stream.services import member as services_member
from stream.store.redis_store import RedisStore
from stream.wire import Record

RECORDS = 100  # of each partition of each input
POLLED = 40  # records: so that a partition is read in several polls

WRITES: dict[str, tuple[type, str]] = {
    "transactional": (Publisher, "transact_all"),
    "storing": (RedisStore, "put_many"),
}


@pytest.fixture(params=WRITES)
def kind(request: pytest.FixtureRequest, kafka: str, redis_url: str, topic_prefix: str) -> Iterator[Kind]:
    """Both kinds whose writes have what was folded and the offset in one step. `test_scores.py` has that of scores."""
    made = KINDS[request.param](kafka, redis_url, topic_prefix)
    made.create()
    made.send(RECORDS)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small polls, and short pauses before what failed is tried again."""
    monkeypatch.setattr(GroupMember, "MOST_POLLED", POLLED)
    for module in (group_member, services_member):
        monkeypatch.setattr(module, "RETRY_S", 0.1)
    for module in (storing_member, services_member):
        monkeypatch.setattr(module, "SESSION_S", 0.1)


def name_of(kind: Kind) -> str:
    return next(name for name, one in KINDS.items() if one is type(kind))


async def lives(member: GroupMember[Any]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        await member.run()


async def assert_whole(kind: Kind) -> None:
    assert await asyncio.to_thread(kind.differences) == []


class Failing:
    """A write that fails at its second time before anything is done, and at its fourth time after it was done, as if
    only the answer had been lost."""

    def __init__(self, write: Callable[..., Awaitable[Any]]) -> None:
        self._write = write
        self.times = 0

    async def __call__(self, *given: Any) -> Any:
        self.times += 1
        if self.times == 2:
            raise KafkaTimeoutError("nothing was written")
        done = await self._write(*given)
        if self.times == 4:
            raise KafkaTimeoutError("nobody knows what was written")
        return done


async def test_a_write_that_failed_is_made_up_for_whether_or_not_it_was_done(
    kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, name = WRITES[name_of(kind)]
    failing = Failing(getattr(owner, name))
    monkeypatch.setattr(owner, name, lambda *given: failing(*given))
    member = kind.member(once=True)
    await lives(member)
    assert member.failures == 2
    assert failing.times > 4
    await assert_whole(kind)


async def test_a_takeover_that_failed_is_tried_again(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    member = kind.member(once=True)
    begin, times = member._begin, 0

    async def away_once(number: int) -> Any:
        nonlocal times
        times += 1
        if times == 2:
            raise KafkaTimeoutError("nobody answers")
        return await begin(number)

    monkeypatch.setattr(member, "_begin", away_once)
    await lives(member)
    assert (member.failures, times) == (1, PARTITIONS + 1)
    await assert_whole(kind)


@pytest.mark.parametrize("kind", ["storing"], indirect=True)  # the other kind commits in its transactions
async def test_that_offsets_cannot_be_committed_does_not_matter_to_a_member_with_a_store(
    kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):  # the second goes on where the store says
        member = kind.member(once=True)

        async def refused(offsets: Any) -> None:
            raise KafkaTimeoutError("the coordinator is away")

        monkeypatch.setattr(member._consumer, "commit", refused)
        await lives(member)
        await assert_whole(kind)
        await asyncio.to_thread(kind.send, RECORDS)


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


async def test_a_number_that_goes_to_another_member_while_it_is_taken_over_is_not_held(
    kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = first, second = kind.member(), kind.member()
    begin, begun = first._begin, asyncio.Event()

    async def slow(number: int) -> Any:
        held = await begin(number)
        while number == 0 and number in first._assigned_numbers():
            begun.set()
            await asyncio.sleep(0.01)
        return held

    monkeypatch.setattr(first, "_begin", slow)
    for member, name in zip(members, "ba", strict=True):  # the second sorts first, so that the group gives it number 0
        member._consumer._client._client_id = name
        member._consumer._heartbeat_interval_ms = HEARTBEAT_MS
    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
        group.create_task(first.run())
        await begun.wait()
        group.create_task(second.run())
        await asyncio.to_thread(eventually, lambda: not kind.differences())
        for member in members:
            member.stop()
    assert first.failures == 0, "it goes on where the consumer has no such partition"
    assert second.failures == 0, "it is the rightful owner, and was fenced"
    await assert_whole(kind)
