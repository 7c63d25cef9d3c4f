"""Takes batches from the engine's answers to the commit, two batches at most, and keeps their order.

    begin -> the broker has every answer -> the batch before is committed -> the offsets are committed -> retired

While the offsets of one batch are being committed, the answers of the next may be published. If a partition is lost,
fenced or to be taken over again meanwhile, its records go back to the inbox, uncommitted.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from stream.config import failpoints
from stream.delivery.accounts import Accounts, OutcomeCounts
from stream.delivery.inbox import Inbox, without
from stream.delivery.partitions import Guarantee, Owned, Piece
from stream.kafka.encoded_batches import Answers
from stream.kafka.log import CommittedOffset, Partition, Rebalanced

log = logging.getLogger(__name__)


class FoldedBatch(NamedTuple):
    """Holds what the engine made of some records."""

    pieces: Sequence[Piece]
    records: int
    answers: Answers
    told: Mapping[Partition, OutcomeCounts]


class _Flying(NamedTuple):
    task: asyncio.Task[None]
    published: asyncio.Future[None]  # cancelled if publishing failed


class Committer:
    """Publishes and commits batches through `guarantee`, one after the other."""

    def __init__(
        self,
        guarantee: Guarantee,
        inbox: Inbox,
        accounts: Accounts,
        clock: Callable[[], float],
        news: Callable[[], None],
        lose: Callable[[Iterable[Owned]], None],
        take_over_anew: Callable[[Owned], None],
    ) -> None:
        """Takes three callbacks.

        `news` is called when a batch has ended; `lose` for partitions that the group has given to another member;
        `take_over_anew` for partitions that another worker has fenced.
        """
        self._guarantee = guarantee
        self._inbox = inbox
        self._accounts = accounts
        self._clock = clock
        self._news = news
        self._lose = lose
        self._take_over_anew = take_over_anew
        self._batches: deque[_Flying] = deque()
        self.records_in = 0
        self.records_out = 0

    async def has_room(self) -> None:
        """Waits until another batch may begin: at most one is left, and its answers are published.

        Raises what one of the batches raised.
        """
        while len(self._batches) > 1:
            await self._settle_one()
        if self._batches:
            await asyncio.wait([self._batches[0].published])
            if self._batches[0].published.cancelled():
                await self.settle()  # raises what made it fail

    def begin(self, batch: FoldedBatch) -> None:
        """Starts to publish and commit a batch. Pieces that are no longer ours are left out."""
        batch = self._still_ours(batch)
        if batch.pieces:
            published = asyncio.get_running_loop().create_future()
            task = asyncio.create_task(self._finish(batch, self.last, published))
            task.add_done_callback(self._finished)
            self._batches.append(_Flying(task, published))

    @property
    def last(self) -> asyncio.Task[None] | None:
        """The task of the newest batch that is not settled; None if there is none."""
        return self._batches[-1].task if self._batches else None

    async def settle(self) -> None:
        """Waits for all batches that are being committed. Raises what one of them raised."""
        while self._batches:
            await self._settle_one()

    async def settle_done(self) -> None:
        """Removes the batches that have ended. Raises what one of them raised."""
        while self._batches and self._batches[0].task.done():
            await self._settle_one()

    async def ended(self) -> None:
        """Waits for all batches, and leaves their exceptions to `Delivery.run`."""
        if self._batches:
            await asyncio.wait([one.task for one in self._batches])

    def abandon(self) -> None:
        for flying in self._batches:
            flying.task.cancel()

    async def _settle_one(self) -> None:
        first = self._batches[0]
        await asyncio.shield(first.task)
        if self._batches and self._batches[0] is first:  # another waiter may have removed it
            self._batches.popleft()

    def _finished(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            task.exception()  # marks it as seen: it is raised when the batch is settled
        self._news()

    def _still_ours(self, batch: FoldedBatch) -> FoldedBatch:
        """Returns the batch without the pieces whose partition was lost, or is to be taken over again, since the engine
        took them.

        Those pieces go back to the inbox. No takeover is complete before all of its partition's batches are settled.
        """
        back = [piece for piece in batch.pieces if not piece.owned.ready]
        if not back:
            return batch
        self._inbox.put_back(back)
        ours = {piece.owned.partition for piece in batch.pieces} - {piece.owned.partition for piece in back}
        return batch._replace(pieces=without(batch.pieces, back), answers=batch.answers.of(ours))

    async def _finish(
        self, batch: FoldedBatch, before: asyncio.Task[None] | None, published: asyncio.Future[None]
    ) -> None:
        """Publishes one batch and commits it after the batch before.

        If this raises, the batch is neither committed nor retired.
        """
        began_ms = self._clock()
        try:
            await self._guarantee.publish(batch.answers)
        except BaseException:
            published.cancel()
            raise
        published.set_result(None)
        if before is not None:
            await before
            batch = self._still_ours(batch)
        pieces, records, answers, told = batch
        # The last piece of a partition counts.
        next_offsets = {piece.owned: piece.records.next_offset for piece in pieces}
        # Records that the consumer brings once more do not move a committed offset back.
        marks = {
            owned.partition: CommittedOffset(max(offset, owned.next_offset), owned.epoch, owned.history)
            for owned, offset in next_offsets.items()
        }
        try:
            fenced = await self._guarantee.commit(marks, answers) if marks else set()
            failpoints.reach("after_commit")
        except Rebalanced as error:
            log.warning("%s; whoever owns these partitions now reads the records again", error)
            self._lose(next_offsets)
            self._inbox.put_back(pieces)
            return
        self.records_in += records
        self.records_out += len(answers)
        for owned, offset in next_offsets.items():
            if owned.partition not in fenced:
                owned.next_offset = max(owned.next_offset, offset)
        back = [piece for piece in pieces if piece.owned.partition in fenced]
        for owned in {id(piece.owned): piece.owned for piece in back}.values():
            # Another worker has it and a rebalance will follow, or a zombie took it for a moment.
            log.warning("%s was fenced: what was not committed is taken back", owned.partition)
            self._accounts.fenced += 1
            self._take_over_anew(owned)
        answered = without(pieces, back)
        self._accounts.settle(answered, answers, told, self._clock())
        self._accounts.commit_s.observe((self._clock() - began_ms) / 1000)
        self._inbox.retire(answered)
        self._inbox.put_back(back)
