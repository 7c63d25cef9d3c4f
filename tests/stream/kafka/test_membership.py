"""What is made of the coordinator's answers. When Apache Kafka gives which of them is in tests/system/delivery."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer.group_coordinator import CoordinatorGroupRebalance, GroupCoordinator
from aiokafka.consumer.subscription_state import SubscriptionState
from aiokafka.errors import (
    CommitFailedError,
    GroupAuthorizationFailedError,
    GroupLoadInProgressError,
    IllegalGenerationError,
    KafkaError,
    NotCoordinatorForGroupError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)
from aiokafka.protocol.commit import OffsetCommitRequest, OffsetFetchRequest, OffsetFetchResponse_v3
from aiokafka.protocol.group import HeartbeatRequest, HeartbeatRequest_v1, SyncGroupRequest
from aiokafka.structs import OffsetAndMetadata

from stream.kafka.log import Rebalanced
from stream.kafka.membership import confirm
from stream.kafka.patches import patch_aiokafka

GENERATION = 7


class Coordinator:
    """aiokafka's, with a broker that answers each heartbeat with `error_code`, and a question about offsets with
    `of_offsets`, if that is an error."""

    group_id, member_id, generation = "group", "me", GENERATION

    def __init__(self, error_code: int, of_offsets: type[KafkaError] | None = None) -> None:
        self.known = True
        self.heartbeats: list[tuple[str, int, str]] = []
        self._error_code, self._of_offsets = error_code, of_offsets

    async def ensure_coordinator_known(self) -> None:
        self.known = True

    def coordinator_dead(self) -> None:
        self.known = False

    async def _send_req(self, request: HeartbeatRequest | OffsetFetchRequest) -> SimpleNamespace:
        assert self.known
        if isinstance(request, OffsetFetchRequest):
            if self._of_offsets is not None:
                raise self._of_offsets(self.group_id)
            return SimpleNamespace(error_code=0)
        sent = request.build(HeartbeatRequest_v1)
        self.heartbeats.append((sent.group, sent.generation_id, sent.member_id))
        return SimpleNamespace(error_code=self._error_code)


async def ask(coordinator: Coordinator, generation: int = GENERATION) -> None:
    await confirm(cast(Any, coordinator), generation)


async def test_the_question_carries_member_and_generation_and_no_error_is_a_yes() -> None:
    coordinator = Coordinator(0)
    await ask(coordinator)
    assert coordinator.heartbeats == [("group", GENERATION, "me")]


@pytest.mark.parametrize("error", [IllegalGenerationError, RebalanceInProgressError, UnknownMemberIdError])
async def test_an_assignment_that_is_over_or_about_to_be_is_not_confirmed(error: type[KafkaError]) -> None:
    with pytest.raises(Rebalanced, match=error.__name__):
        await ask(Coordinator(error.errno))


@pytest.mark.parametrize("now", [-1, GENERATION + 1], ids=["aiokafka joins anew", "aiokafka has joined anew"])
async def test_an_assignment_of_an_earlier_generation_is_over_whatever_the_group_would_say(now: int) -> None:
    coordinator = Coordinator(0)
    coordinator.generation = now
    with pytest.raises(Rebalanced):
        await ask(coordinator)
    assert coordinator.heartbeats == []


async def test_an_assignment_that_has_not_begun_is_nobodys() -> None:
    """Between two generations ours is -1, and so is aiokafka's when its group has put it out."""
    coordinator = Coordinator(0)
    coordinator.generation, coordinator.member_id = -1, ""
    with pytest.raises(Rebalanced):
        await ask(coordinator, -1)
    assert coordinator.heartbeats == []


async def test_a_coordinator_that_loads_the_group_says_yes_to_all_and_is_not_believed() -> None:
    with pytest.raises(GroupLoadInProgressError):
        await ask(Coordinator(0, of_offsets=GroupLoadInProgressError))


@pytest.mark.parametrize(
    ("error", "is_known", "retriable"),
    [
        (NotCoordinatorForGroupError, False, True),
        (GroupLoadInProgressError, True, True),
        (GroupAuthorizationFailedError, True, False),
    ],
)
async def test_a_coordinator_that_does_not_say_is_asked_again_where_that_may_help(
    error: type[KafkaError], is_known: bool, retriable: bool
) -> None:
    coordinator = Coordinator(error.errno)
    with pytest.raises(error) as raised:
        await ask(coordinator)
    assert (coordinator.known, raised.value.retriable) == (is_known, retriable)


class ClientOfScript:
    """Answers a request for committed offsets with the next of these: an error of the whole, or an offset."""

    def __init__(self, *answers: type[KafkaError] | int) -> None:
        self._answers = list(answers)

    async def send(self, node: int, request: OffsetFetchRequest, group: object) -> OffsetFetchResponse_v3:
        answer = self._answers.pop(0)
        if isinstance(answer, int):
            return OffsetFetchResponse_v3(0, [("pings", [(0, answer, "epoch=3", 0)])], 0)
        return OffsetFetchResponse_v3(0, [], answer.errno)


def coordinator_of(*answers: type[KafkaError] | int) -> GroupCoordinator:
    patch_aiokafka()
    made: Any = GroupCoordinator.__new__(GroupCoordinator)

    async def find() -> None:
        made.coordinator_id = 1

    made.group_id, made.coordinator_id, made._retry_backoff_ms = "group", 1, 1
    made._client, made.ensure_coordinator_known = ClientOfScript(*answers), find
    made.coordinator_dead = lambda: setattr(made, "coordinator_id", None)
    return made


@pytest.mark.parametrize("error", [GroupLoadInProgressError, NotCoordinatorForGroupError])
async def test_a_coordinator_that_knows_nothing_now_is_asked_again_about_offsets(error: type[KafkaError]) -> None:
    """Apache Kafka names no partition then. It read as if nothing was committed: `verify` said so once, a moment after
    the coordinator had moved, and a takeover would have answered the whole log again."""
    pings = TopicPartition("pings", 0)
    found = await coordinator_of(error, error, 1_363).fetch_committed_offsets([pings])
    assert (found[pings].offset, found[pings].metadata) == (1_363, "epoch=3")
    assert await coordinator_of(-1).fetch_committed_offsets([pings]) == {}, "nothing is committed"
    with pytest.raises(GroupAuthorizationFailedError):
        await coordinator_of(GroupAuthorizationFailedError).fetch_committed_offsets([pings])


async def test_who_asks_a_coordinator_that_loads_the_group_for_its_assignment_joins_again() -> None:
    """A simulated worker ended at it: aiokafka took it for an error that no other try mends."""
    made, joins = cast(Any, coordinator_of()), []

    async def send(node: int, request: SyncGroupRequest, group: object) -> SimpleNamespace:
        return SimpleNamespace(error_code=GroupLoadInProgressError.errno)

    made._client, made._group_instance_id, made._rebalance_timeout_ms = SimpleNamespace(send=send), None, 10_000
    made.generation, made.member_id = GENERATION, "me"
    made.request_rejoin = lambda: joins.append("again")
    rebalance: Any = CoordinatorGroupRebalance(made, "group", 1, SubscriptionState(), [], 10_000, 100)
    assert await rebalance._on_join_follower() is None
    assert joins == ["again"]


class ClientOfCommits:
    """Takes every commit, as the coordinator of a group without members does with those of who is none."""

    def __init__(self) -> None:
        self.sent = 0

    async def send(self, node: int, request: OffsetCommitRequest, group: object) -> SimpleNamespace:
        self.sent += 1
        return SimpleNamespace(topics=[("pings", [(0, 0)])])


@pytest.mark.parametrize("is_member", [True, False])
async def test_who_was_put_out_of_its_group_commits_nothing_and_who_never_was_in_it_may(is_member: bool) -> None:
    """Sessions end together where a coordinator was away. A simulated worker's second commit passed then, after another
    one had read what was committed before, and had made states up to there: its next answers lacked four pings."""
    made, pings = cast(Any, coordinator_of()), TopicPartition("pings", 0)
    made._client, made._commit_lock, made._subscription = ClientOfCommits(), asyncio.Lock(), SubscriptionState()
    made.reset_generation = lambda: None
    made.generation, made.member_id = OffsetCommitRequest.DEFAULT_GENERATION_ID, ""
    if is_member:
        made._subscription.subscribe({"pings"})
        with pytest.raises(CommitFailedError):
            await made.commit_offsets(None, {pings: OffsetAndMetadata(17, "")})
    else:
        made._subscription.assign_from_user([pings])
        await made.commit_offsets(None, {pings: OffsetAndMetadata(17, "")})
    assert made._client.sent == (0 if is_member else 1)
