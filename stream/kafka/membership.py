"""Asks our group's coordinator whether our assignment is still the current one. Knows aiokafka's coordinator; knows
nothing of partitions.

The question is a heartbeat, for it carries our member id and generation, and changes nothing: it is one more of those
that aiokafka sends anyway. An offset commit carries them, too, but it would have to write an offset. Written before the
owner before us is fenced, that offset would outlive a transaction which that owner has still to end: Kafka keeps what
was written last. The answers of that transaction would then be given again.

    answer                         meaning
    no error                       the generation is current: our assignment holds
    rebalance in progress          another generation is about to begin: nobody else has our partitions yet, but whether
                                   we keep them is open
    illegal generation             the group has gone on without us
    unknown member                 our session has expired, or another process has taken our instance's name
"""

from __future__ import annotations

from typing import Final

from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    IllegalGenerationError,
    NoError,
    NotCoordinatorForGroupError,
    RebalanceInProgressError,
    UnknownMemberIdError,
    for_code,
)
from aiokafka.protocol.group import HeartbeatRequest

from stream.kafka.log import Rebalanced

_OVER: Final = (IllegalGenerationError, RebalanceInProgressError, UnknownMemberIdError)
_ELSEWHERE: Final = (GroupCoordinatorNotAvailableError, NotCoordinatorForGroupError)


async def confirm(coordinator: GroupCoordinator, generation: int) -> None:
    """Returns if `generation`, that of our assignment, is the group's current one, and we are a member of it. Waits for
    a coordinator that is away. Runs on the loop of `coordinator`.

    Raises:
        Rebalanced: it is not; aiokafka joins the group anew, or is at it.
        KafkaError: the coordinator did not say; a retriable one may say if it is asked again.
    """
    await coordinator.ensure_coordinator_known()
    if coordinator.generation != generation:  # aiokafka has heard it already
        raise Rebalanced(f"generation {generation} of group {coordinator.group_id} is over: we join it anew")
    request = HeartbeatRequest(coordinator.group_id, generation, coordinator.member_id)
    error = for_code((await coordinator._send_req(request)).error_code)
    if error in _OVER:
        raise Rebalanced(f"generation {generation} of group {coordinator.group_id} is over: {error.__name__}")
    if error in _ELSEWHERE:
        coordinator.coordinator_dead()  # so that the next question looks for it
    if error is not NoError:
        raise error(f"group {coordinator.group_id}")
