"""A member of a group, without brokers: what it does where one of them never answers, where its log gets shorter, and
where its group goes on without it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from types import MappingProxyType, SimpleNamespace
from typing import Any, ClassVar, cast

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import LeaderNotAvailableError
from delivery_rig import P0, TOPIC, Kafka

from stream.kafka import log_facts, membership
from stream.kafka.log import History, Log, Rebalanced, Seen, start_of
from stream.kafka.records.record_columns import Records
from stream.members import group_member
from stream.members.continuity import Holding
from stream.members.group_member import GroupMember
from stream.members.inputs import Inputs
from stream.services import member
from stream.services.member import Member
from stream.services.plan import Plan, parts_of
from stream.wire import Outgoing, Record

TP = TopicPartition(*P0)


class Silent:
    """A publisher whose coordinator never answers."""

    closed: ClassVar[list[str]] = []

    def __init__(self, bootstrap: str, name: str, **_: Any) -> None:
        self._name = name

    async def start(self) -> None:
        await asyncio.Event().wait()

    async def close(self) -> None:
        self.closed.append(self._name)


async def test_a_coordinator_that_never_answers_holds_up_no_other_partition(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is counted as a failure, which the alerts know, and tried again."""

    async def confirm(coordinator: Any, generation: int) -> None:
        await asyncio.sleep(0)

    monkeypatch.setattr(member, "STOP_S", 0.05)
    monkeypatch.setattr(member, "Publisher", Silent)
    monkeypatch.setattr(membership, "confirm", confirm)
    one = Member(Plan("latest", ("forecasts",), "g-latest"), begin=lambda taken: pytest.fail("nothing was taken over"))
    monkeypatch.setattr(one, "_assigned_numbers", lambda: {0, 1})
    Silent.closed.clear()
    async with asyncio.timeout(60):
        await one._take_over()
    assert one.failures == 2
    assert Silent.closed == ["g-latest|forecasts|0", "g-latest|forecasts|1"]


class Brokers(Kafka):
    """The brokers and the consumer of a member of a group of its own, as far as the member sees them."""

    def __init__(self) -> None:
        super().__init__()
        self._coordinator = SimpleNamespace(generation=1)
        self.position_ = 0
        self.ours = True
        self.asked = 0
        self.refuse = 0

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def assignment(self) -> set[TopicPartition]:
        return {TP} if self.ours else set()

    def seek(self, tp: TopicPartition, offset: int) -> None:
        self.position_ = offset

    async def position(self, tp: TopicPartition) -> int:
        return self.position_

    async def getmany(self, **_: Any) -> dict[TopicPartition, Records]:
        await asyncio.sleep(0)
        log = self.logs[P0]
        if not self.begins.get(P0, 0) <= self.position_ <= len(log):  # as auto_offset_reset says
            self.position_ = self.begins.get(P0, 0)
        found = log[self.position_ : self.position_ + 7]
        if not found:
            return {}
        self.position_ += len(found)
        epoch = max(epoch for epoch, begin in self.leaders.setdefault(P0, {0: 0}).items() if begin < self.position_)
        return {TP: Records.of(found).with_epoch(epoch)}

    async def beginning_offsets(self, tps: Any) -> dict[TopicPartition, int]:
        return {TP: self.begins.get(P0, 0)}

    async def end_offsets(self, tps: Any) -> dict[TopicPartition, int]:
        return {TP: len(self.logs[P0])}

    async def ask(self, _: Any, tp: TopicPartition, leader_epoch: int) -> Log:
        self.asked += 1
        if self.refuse:
            self.refuse -= 1
            raise LeaderNotAvailableError(tp)
        return (await self.describe_log(P0, leader_epoch))._replace(leader_epoch=self.leader_epoch(P0))


class Noting(GroupMember[Holding]):
    """A member that notes the values that it reads. What it stored survives it."""

    def __init__(self, kafka: Brokers, stored: list[Any]) -> None:
        super().__init__(Inputs((TOPIC,), "nowhere"), kafka)
        self.kafka, self.stored = kafka, stored
        self.noted: list[bytes] = stored[2] if stored else []
        self.let_go = 0

    async def _begin(self, number: int) -> Holding:
        offset, seen, self.noted = self.stored or (None, "", [])
        self.noted = list(self.noted)
        return Holding({TOPIC: await self._start(TP, offset, Seen.of(seen))})

    async def _fold(self, number: int, held: Holding, records: Records) -> None:
        self.noted += [one.value or b"" for one in records]

    async def _after(self) -> None:
        await self._move()
        await self._last(set(self._holdings))

    async def _last(self, numbers: Collection[int]) -> None:
        for number in numbers:
            held = self._holdings[number]
            self.stored[:] = [held.folded[TOPIC], held.seen[TOPIC].text, list(self.noted)]

    async def _drop(self, number: int, held: Holding) -> None:
        self.let_go += 1

    def _describe(self) -> str:
        return "noted"

    async def until_read(self) -> None:
        """Lives until nothing is left to read."""
        idle = 0
        async with asyncio.timeout(60):
            while idle < 3:
                read = self.read
                await self._step()
                idle = idle + 1 if self._holdings and self.read == read else 0


@pytest.fixture
def kafka(monkeypatch: pytest.MonkeyPatch) -> Brokers:
    async def confirm(coordinator: Any, generation: int) -> None:
        await asyncio.sleep(0)

    made = Brokers()
    made.logs[P0] = values("old", 0, 30)
    monkeypatch.setattr(membership, "confirm", confirm)
    monkeypatch.setattr(log_facts, "ask", made.ask)
    monkeypatch.setattr(group_member, "RETRY_S", 0.01)
    return made


def values(name: str, start: int, stop: int) -> list[Record]:
    return [Record(TOPIC, 0, n, 0, None, b"%s %d" % (name.encode(), n)) for n in range(start, stop)]


def noted(*parts: list[Record]) -> list[bytes | None]:
    return [one.value for part in parts for one in part]


@pytest.mark.parametrize("refilled", [20, 25, 30, 40], ids=["and is not refilled", "shorter", "as long", "longer"])
@pytest.mark.parametrize("is_away", [False, True], ids=["live", "while away"])
async def test_new_records_are_folded_once_where_a_log_was_cut(
    kafka: Brokers, is_away: bool, refilled: int, caplog: pytest.LogCaptureFixture
) -> None:
    """They came at offsets that were read: a member skipped them, or it read the first 20 again."""
    one = Noting(kafka, [])
    await one.until_read()
    kafka.elect(P0, end=20)
    new = values("new", 20, refilled)
    kafka.logs[P0] += new
    if is_away:
        one = Noting(kafka, one.stored)
    await one.until_read()
    more = values("new", refilled, refilled + 5)
    kafka.logs[P0] += more
    await one.until_read()
    assert one.noted == noted(values("old", 0, 30), new, more)
    assert one.shortened == 1
    assert [line.getMessage() for line in caplog.records if line.levelno == logging.ERROR] == [
        f"{TOPIC}/0: the log was shortened to 20, and all below 30 was read: records from 20 on are new"
    ]
    again = Noting(kafka, one.stored)
    await again.until_read()
    assert (again.noted, again.shortened) == (one.noted, 0)


@pytest.mark.parametrize("refilled", [10, 30, 60])
@pytest.mark.parametrize("is_away", [False, True], ids=["live", "while away"])
async def test_a_topic_that_is_made_anew_is_folded_from_its_first_record_on(
    kafka: Brokers, is_away: bool, refilled: int
) -> None:
    one = Noting(kafka, [])
    await one.until_read()
    kafka.make_anew(P0, "second")
    kafka.leaders[P0] = {0: 0, 1: 0}  # else it has read on in it before it could be told apart
    kafka.logs[P0] = values("new", 0, refilled)
    if is_away:
        one = Noting(kafka, one.stored)
    await one.until_read()
    kafka.logs[P0] += values("new", refilled, refilled + 5)
    await one.until_read()
    assert one.noted == noted(values("old", 0, 30), values("new", 0, refilled + 5))
    assert one.shortened == 1


async def test_with_nothing_but_its_end_a_log_that_is_shorter_is_read_anew(
    kafka: Brokers, caplog: pytest.LogCaptureFixture
) -> None:
    """An earlier release has stored the offset, and nothing of the log."""
    kafka.logs[P0] = new = values("new", 0, 20)
    one = Noting(kafka, [30, "", noted(values("old", 0, 30))])
    await one.until_read()
    assert one.noted == noted(values("old", 0, 30), new)
    assert "the log ends at 20, and all below 30 was read: it is read anew from 0 on" in caplog.text


async def test_nobody_is_asked_while_records_follow_and_once_when_another_broker_leads(kafka: Brokers) -> None:
    one = Noting(kafka, [])
    await one.until_read()
    assert kafka.asked == 1, "by the takeover"
    kafka.elect(P0)
    kafka.logs[P0] += (new := values("new", 30, 60))
    await one.until_read()
    assert (kafka.asked, one.let_go, one.shortened) == (2, 0, 0)
    assert one.noted == noted(values("old", 0, 30), new)


async def test_while_no_broker_can_tell_nothing_is_folded(kafka: Brokers) -> None:
    one = Noting(kafka, [])
    await one.until_read()
    kafka.elect(P0, end=20)
    kafka.logs[P0] += (new := values("new", 20, 40))
    kafka.refuse = 3
    await one.until_read()
    assert one.failures == 2, "takeovers, after the check of the records"
    assert one.noted == noted(values("old", 0, 30), new)


async def test_what_retention_deletes_unread_is_said(kafka: Brokers, caplog: pytest.LogCaptureFixture) -> None:
    one = Noting(kafka, [])
    await one.until_read()
    kafka.logs[P0] += values("old", 30, 60)
    kafka.begins[P0] = 50
    again = Noting(kafka, one.stored)
    await again.until_read()
    assert again.noted == noted(values("old", 0, 30), values("old", 50, 60))
    assert "retention deleted the offsets from 30 to 50 unread" in caplog.text


async def test_up_to_the_present_end_ends_though_the_log_is_cut_meanwhile(
    kafka: Brokers, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = Noting(kafka, [])
    one.joined, one._until = True, {TP: 30}
    await one.until_read()
    kafka.elect(P0, end=20)
    await one.until_read()
    assert await one._has_reached(one._until)


async def test_what_is_given_away_between_a_poll_and_its_fold_is_not_folded(
    kafka: Brokers, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = Noting(kafka, [])
    await one._take_over()
    getmany = kafka.getmany

    async def given_away_after_it(**how: Any) -> Any:
        polled = await getmany(**how)
        kafka.ours = False
        await one.on_partitions_revoked([TP])
        return polled

    monkeypatch.setattr(kafka, "getmany", given_away_after_it)
    await one._step()
    assert (one.read, one.noted, one.stored[0]) == (0, [], 0)


async def test_nobody_is_fenced_for_a_number_that_went_to_another_member_while_the_one_before_was_taken_over(
    kafka: Brokers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list of numbers was made before the rebalance, and the newer generation was confirmed for all of it: so the
    rightful owner was fenced, and paused for as long as a session."""
    one = Noting(kafka, [])
    numbers, begun = {0, 1}, []

    async def slow(number: int) -> Holding:
        begun.append(number)
        numbers.discard(1)
        return Holding({TOPIC: await one._start(TP, None, Seen())})

    monkeypatch.setattr(one, "_assigned_numbers", lambda: set(numbers))
    monkeypatch.setattr(one, "_begin", slow)
    await one._take_over()
    assert (begun, one.failures, list(one._holdings)) == ([0], 0, [0])


async def test_what_is_taken_over_while_the_group_gives_the_partitions_anew_is_not_held(
    kafka: Brokers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """aiokafka leaves a member its assignment until it has the next one: a takeover that ended in between was held on,
    whoever got the number, and with what was there then. Found by a simulated world (seed 2375)."""
    one = Noting(kafka, [])
    await one.on_partitions_assigned([TP])
    given_away = iter([True])

    async def slow(number: int) -> Holding:
        if next(given_away, False):
            await one.on_partitions_revoked([TP])
        return Holding({TOPIC: await one._start(TP, None, Seen())})

    monkeypatch.setattr(one, "_begin", slow)
    await one._take_over()
    assert (kafka.assignment(), one._holdings, one.failures) == ({TP}, {}, 0)
    await one.on_partitions_assigned([TP])
    await one._take_over()
    assert list(one._holdings) == [0]


async def test_who_is_of_no_group_any_more_fences_nobody(kafka: Brokers, monkeypatch: pytest.MonkeyPatch) -> None:
    async def over(coordinator: Any, generation: int) -> None:
        raise Rebalanced("generation 1 is over")

    one = Noting(kafka, [])
    monkeypatch.setattr(membership, "confirm", over)
    await one._take_over()
    assert (kafka.asked, one.failures, one._holdings) == (0, 0, {})


class Chain:
    """A unit that has to fold again from offset 20 on."""

    waiting, counts = 0, MappingProxyType[str, int]({})

    def __init__(self) -> None:
        self.needed = {"fills": 20}

    def take_outgoing(self, quiet_ms: int | None) -> list[Outgoing]:
        return []

    def metadata(self) -> str:
        return '{"a":1}'


class Committing:
    """A publisher that notes the transactions."""

    def __init__(self) -> None:
        self.marks: list[dict[tuple[str, int], tuple[int, str]]] = []

    async def transact_all(self, answers: Any, marks: Any, group: str) -> None:
        self.marks.append({tp: (mark.offset, mark.metadata) for tp, mark in marks.items()})


async def test_a_transaction_commits_what_a_successor_has_to_fold_again_and_what_is_known_of_each_log() -> None:
    one = Member(Plan("latest", ("forecasts", "fills"), "g-latest"), begin=lambda taken: pytest.fail("not asked"))
    starts = {topic: start_of(40, Seen(40, History(topic, 2)), Log(0, 40, topic)) for topic in ("forecasts", "fills")}
    publisher = Committing()
    held = member._Published(starts, cast(Any, Chain()), cast(Any, publisher), {}, {})
    await one._transact(3, held)
    assert publisher.marks == [
        {
            ("forecasts", 3): (40, '{"a":1}\nread=40;topic_id=forecasts;leader_epoch=2'),
            ("fills", 3): (20, "\nread=40;topic_id=fills;leader_epoch=2"),
        }
    ]
    texts = [text for _, text in publisher.marks[0].values()]
    assert [parts_of(text) for text in texts] == [('{"a":1}', starts["forecasts"].seen), ("", starts["fills"].seen)]
    assert parts_of('{"a":1}') == ('{"a":1}', Seen()), "as earlier releases committed it"
    await one._transact(3, held)
    assert len(publisher.marks) == 1, "nothing is new"
