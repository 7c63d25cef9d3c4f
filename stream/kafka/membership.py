"""Asks the coordinator of our consumer group whether our assignment is still the current one.

The question is a heartbeat, because a heartbeat carries our member id and generation and changes nothing; aiokafka
sends them anyway. An offset commit carries both, too, but it would have to write an offset. If we wrote one before the
previous owner is fenced, a transaction of that owner could still end later, and its offset would be lost: Kafka keeps
the one that was written last. The answers of that transaction would then be published again.

    answer                         meaning
    no error                       the generation is current: our assignment holds
    rebalance in progress          another generation is about to begin: nobody else has our partitions yet, but it is
                                   open whether we keep them
    illegal generation             the group has a newer generation, without us
    unknown member                 our session has expired, or another process has taken our instance's name

A broker that has become the coordinator and has not loaded the group yet says yes to every heartbeat, even to one of
nobody, so that no member leaves for that (GroupCoordinatorService.heartbeat of Apache Kafka). Questions about committed
offsets it refuses meanwhile. So it is asked one of those first, which names no partition.
"""

from __future__ import annotations

from typing import Final

from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.errors import (
    IllegalGenerationError,
    NoError,
    RebalanceInProgressError,
    UnknownMemberIdError,
    for_code,
)
from aiokafka.protocol.commit import OffsetFetchRequest
from aiokafka.protocol.group import HeartbeatRequest

from stream.kafka.log import Rebalanced
from stream.kafka.patches import ELSEWHERE

_OVER: Final = (IllegalGenerationError, RebalanceInProgressError, UnknownMemberIdError)


async def confirm(coordinator: GroupCoordinator, generation: int) -> None:
    """Returns if `generation`, that of our assignment, is the group's current one and we are a member of it.

    It waits for a coordinator that does not answer. It must run on the event loop of `coordinator`.

    Raises:
        Rebalanced: the generation is over; aiokafka joins the group again, or has begun to.
        KafkaError: the coordinator did not answer the question; after a retriable error it may if it is asked again.
    """
    await coordinator.ensure_coordinator_known()
    await coordinator._send_req(OffsetFetchRequest(coordinator.group_id, []))  # raises while the group is not loaded
    # aiokafka may know already that ours is over. One below 0 is nobody's: neither theirs nor ours has begun yet.
    if generation < 0 or coordinator.generation != generation:
        raise Rebalanced(f"generation {generation} of group {coordinator.group_id} is over: we join it anew")
    request = HeartbeatRequest(coordinator.group_id, generation, coordinator.member_id)
    error = for_code((await coordinator._send_req(request)).error_code)
    if error in _OVER:
        raise Rebalanced(f"generation {generation} of group {coordinator.group_id} is over: {error.__name__}")
    if error in ELSEWHERE:
        coordinator.coordinator_dead()  # so that the next question looks for the coordinator again
    if error is not NoError:
        raise error(f"group {coordinator.group_id}")
