"""Changes aiokafka; no other module does. An import patches nothing: whoever starts a client calls `patch_aiokafka`."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import google_crc32c
from aiokafka.consumer import fetcher as theirs
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    GroupLoadInProgressError,
    NotCoordinatorForGroupError,
    UnknownMemberIdError,
    for_code,
)
from aiokafka.protocol.commit import OffsetCommitRequest, OffsetFetchRequest
from aiokafka.protocol.group import SyncGroupRequest
from aiokafka.record import default_records

from stream.kafka import fetcher as ours
from stream.kafka.records import decompression

ELSEWHERE: Final = (GroupCoordinatorNotAvailableError, NotCoordinatorForGroupError)  # who answers so is no coordinator

_SEND: Final = GroupCoordinator._send_req


def patch_aiokafka() -> None:
    """Changes every consumer and producer of this process, from now on. Calling it again does no harm.

    Consumers read what any producer may have written (`stream.kafka.fetcher`), decompression stops at a limit
    (`stream.kafka.records.decompression`), and checksums are google-crc32c's: aiokafka's own take nine times as long,
    which would be 2.8 % of a ping's CPU (reports/bench.md). What a group's coordinator answers is checked
    (`send_checked`), and whoever stops a consumer is not cancelled by that (`close_fetcher`).
    """
    decompression.bound()
    theirs.MemoryRecords = ours.TolerantRecords
    theirs.PartitionRecords = ours.PartitionRecords
    theirs.FetchResult = ours.FetchResult
    default_records.calc_crc32c = crc32c
    GroupCoordinator._send_req = send_checked
    theirs.Fetcher.close = close_fetcher


def crc32c(raw: bytes | bytearray) -> int:
    return int(google_crc32c.value(bytes(raw)))


async def send_checked(coordinator: GroupCoordinator, request: Any) -> Any:
    """Sends a request to the group's coordinator, and returns its answer. Raises KafkaError, also for an error of the
    whole answer about committed offsets, and where a coordinator that loads the group is asked for the assignment.

    aiokafka 0.14 looks at the errors of partitions alone. A broker that is the coordinator no longer, or has not loaded
    the group yet, names no partition, and says why for the whole: so it read as if nothing was committed, and whoever
    took a partition over then would have answered its log from the first record on.

    A member that its group has put out has no generation and no id until it joins again, and aiokafka 0.14 sends its
    commits all the same: as of one who is of no group, which a broker takes while a group has no members. So a commit
    that was refused, or the next one, could pass when all sessions had ended, behind the back of whoever had taken the
    partition over in the meantime, and read what was committed before. Such a commit is not sent.

    A coordinator that loads the group has forgotten the rebalance that it is asked about, and since Apache Kafka 4 it
    says so (GroupCoordinatorService.syncGroup); older ones said that another rebalance is in progress. aiokafka 0.14
    knows no such answer, and gave the consumer up. After an error that is raised here it joins again.
    """
    if isinstance(request, OffsetCommitRequest) and coordinator.generation < 0 and _shares(coordinator):
        raise UnknownMemberIdError(f"not of group {coordinator.group_id} any more")
    answer = await _SEND(coordinator, request)
    if isinstance(request, OffsetFetchRequest) and (code := getattr(answer, "error_code", 0)):
        error = for_code(code)
        if error in ELSEWHERE:
            coordinator.coordinator_dead()  # so that it is looked for again
        raise error(coordinator.group_id)
    if isinstance(request, SyncGroupRequest) and answer.error_code == GroupLoadInProgressError.errno:
        raise GroupLoadInProgressError(coordinator.group_id)
    return answer


def _shares(coordinator: GroupCoordinator) -> bool:
    """Returns whether the group gives the consumer its partitions; else it has chosen them, and is no member."""
    return bool(coordinator._subscription.partitions_auto_assigned())


async def close_fetcher(fetcher: theirs.Fetcher) -> None:
    """Ends what a consumer fetches, as aiokafka's own `close` does, when the consumer is stopped.

    That of aiokafka 0.14 awaits each request that it has cancelled. One that had not begun, or waited for metadata,
    ends with CancelledError, which so came out of `stop`: it ended the task of whoever read a log back, as if that had
    been cancelled. A takeover that ended so said nothing, and its partition stood still for ever.
    """
    fetcher._closed = True
    fetcher._fetch_task.cancel()
    await asyncio.gather(fetcher._fetch_task, return_exceptions=True)
    for waiter in fetcher._fetch_waiters:
        fetcher._notify(waiter)
    for request in fetcher._pending_tasks:
        request.cancel()
    await asyncio.gather(*fetcher._pending_tasks, return_exceptions=True)
