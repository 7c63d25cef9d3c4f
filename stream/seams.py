"""What `delivery` asks of its input and its output, and what it keeps per partition. No behaviour here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from stream.source import Bounds, Partition
from stream.wire import Outgoing, Record


class Rebalanced(Exception):
    """The group has moved on: these offsets are another member's to commit."""


class InputLog(Protocol):
    """The input topic, and what our group has committed of it. `stream.transport.Consumer` is one."""

    async def commit_offsets(self, offsets: Mapping[Partition, int]) -> None:
        """Raises Rebalanced if they are not ours any more; returns only when they are committed."""

    async def committed(self, partition: Partition) -> int | None: ...

    async def bounds(self, partition: Partition) -> Bounds: ...

    def reread(self, partition: Partition, start: int, end: int) -> AsyncIterator[list[Record]]:
        """What the log still holds of [start, end), in order, apart from what the group consumes."""


class Output(Protocol):
    """Where answers go. `stream.publisher.Publisher` is one."""

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def publish(self, outgoing: Sequence[Outgoing]) -> None:
        """Returns when every record is durable; raises if one may not be."""


@dataclass(eq=False)
class Owned:
    """A partition that the group has given us. Replaced, not reused, at the next assignment."""

    partition: Partition
    epoch: int = 0
    next_offset: int = 0  # the next record to process; all below are answered and committed
    taken: int = 0  # the next record for the engine: one batch may be folded and not yet committed
    saved: int = 0  # the next_offset of the last checkpoint
    save_at_ms: float = 0.0  # no checkpoint before then
    ready: bool = False  # the takeover is complete
    gone: bool = False  # revoked, or lost to another owner
    takeover: asyncio.Task[None] | None = None


@dataclass(frozen=True)
class Piece:
    """One poll's records of one partition, waiting for their turn."""

    owned: Owned
    records: Sequence[Record]
    fetched_ms: float
    done: Callable[[], None] = field(repr=False)  # retires the input; it commits nothing
