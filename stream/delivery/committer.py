"""Takes batches from the engine's answers to the commit, two batches at most, and keeps their order.

    begin -> the broker has every answer -> the batch before is committed -> the offsets are committed -> retired

While the offsets of one batch are being committed, the answers of the next may be published. If a partition is lost,
fenced or to be taken over again meanwhile, its records are not committed. Whoever calls `take_done` learns it from the
batch's `CommitResult`, and puts them back.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from stream.config import failpoints
from stream.config.wording import place
from stream.delivery.accounts import Accounts
from stream.delivery.inbox import Inbox, without
from stream.delivery.partitions import Guarantee, Owned, Piece
from stream.engine.counts import Counts
from stream.kafka.log import CommittedOffset, Partition, Rebalanced
from stream.kafka.records.encoded_batches import Answers

if TYPE_CHECKING:  # who does not trace does not import it
    from stream.tracing.pings import TracedBatch
    from stream.tracing.tracer import Tracer

log = logging.getLogger(__name__)


class FoldedBatch(NamedTuple):
    """Holds what the engine made of some records."""

    pieces: Sequence[Piece]
    records: int
    answers: Answers
    counts: Mapping[Partition, Counts]  # of these records alone
    traced: TracedBatch | None = None  # which of its pings are in a trace, if any


@dataclass
class CommitResult:
    """Holds which of a batch's records are not committed, and why."""

    lost: list[Owned] = field(default_factory=list)  # the group has given these partitions to another member
    fenced: list[Owned] = field(default_factory=list)  # another worker has fenced these partitions
    back: list[Piece] = field(default_factory=list)  # all pieces that are not committed


class _Flying(NamedTuple):
    task: asyncio.Task[CommitResult]
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
        tracer: Tracer | None = None,
    ) -> None:
        """Takes `news`, which is called when a batch has ended, and `tracer`, if pings are traced."""
        self._guarantee = guarantee
        self._inbox = inbox
        self._accounts = accounts
        self._clock = clock
        self._news = news
        self._tracer = tracer
        self._batches: deque[_Flying] = deque()
        self.records_in = 0
        self.records_out = 0

    async def room(self) -> None:
        """Waits until another batch may begin: at most one has not ended, and its answers are published.

        It raises nothing. Call `take_done` before `begin`.
        """
        if len(self._batches) > 1:
            await asyncio.wait([self._batches[0].task])
        if self._batches:
            newest = self._batches[-1]
            await asyncio.wait([newest.published])
            if newest.published.cancelled():
                await asyncio.wait([newest.task])

    async def all_done(self) -> None:
        """Waits until no batch is being committed. It raises nothing."""
        if self._batches:
            await asyncio.wait([one.task for one in self._batches])

    def take_done(self) -> Iterator[CommitResult]:
        """Removes the batches that have ended, oldest first, and yields what became of each.

        It stops before a batch that raised; `failure` has the exception.
        """
        while self._batches and self._batches[0].task.done() and self.failure is None:
            yield self._batches.popleft().task.result()

    @property
    def failure(self) -> BaseException | None:
        """The exception of the oldest batch, which no later batch can cure; None if it has raised none."""
        if not self._batches or not (task := self._batches[0].task).done():
            return None
        return asyncio.CancelledError() if task.cancelled() else task.exception()

    def begin(self, batch: FoldedBatch) -> None:
        """Starts to publish and commit a batch. Pieces that are no longer ours go back to the inbox."""
        batch, back = _still_ours(batch)
        self._inbox.put_back(back)
        if batch.pieces:
            published = asyncio.get_running_loop().create_future()
            task = asyncio.create_task(self._finish(batch, self.last, published))
            task.add_done_callback(self._finished)
            self._batches.append(_Flying(task, published))

    @property
    def last(self) -> asyncio.Task[CommitResult] | None:
        """The task of the newest batch that `take_done` has not removed; None if there is none."""
        return self._batches[-1].task if self._batches else None

    def abandon(self) -> None:
        for flying in self._batches:
            flying.task.cancel()

    def _finished(self, task: asyncio.Task[CommitResult]) -> None:
        if not task.cancelled():
            task.exception()  # marks it as seen: `failure` reports it
        self._news()

    async def _finish(
        self, batch: FoldedBatch, before: asyncio.Task[CommitResult] | None, published: asyncio.Future[None]
    ) -> CommitResult:
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
        published_ms = self._clock()
        result = CommitResult()
        if before is not None:
            earlier = await before
            batch, result.back = _still_ours(batch, earlier.lost + earlier.fenced)
        pieces, records, answers, counts, traced = batch
        # The last piece of a partition counts.
        next_offsets = {piece.owned: piece.records.next_offset for piece in pieces}
        # Records that the consumer brings once more do not move a committed offset back.
        marks = {
            owned.partition: CommittedOffset(max(offset, owned.next_offset), owned.epoch, owned.history)
            for owned, offset in next_offsets.items()
        }
        commit_ms = self._clock()
        try:
            fenced = await self._guarantee.commit(marks, answers) if marks else set()
            failpoints.reach("after_commit")
        except Rebalanced as error:
            log.warning("%s; whoever owns these partitions now reads the records again", error)
            result.lost += next_offsets
            result.back += pieces
            return result
        self.records_in += records
        self.records_out += len(answers)
        for owned, offset in next_offsets.items():
            if owned.partition in fenced:
                # Another worker has it and a rebalance will follow, or a zombie took it for a moment.
                log.warning("%s was fenced: what was not committed is taken back", place(owned.partition))
                self._accounts.fenced += 1
                result.fenced.append(owned)
            else:
                owned.next_offset = max(owned.next_offset, offset)
        back = [piece for piece in pieces if piece.owned in result.fenced]
        result.back += back
        answered = without(pieces, back)
        self._accounts.settle(answered, answers, counts, self._clock())
        self._accounts.commit_s.observe((self._clock() - began_ms) / 1000)
        self._inbox.retire(answered)
        if traced is not None and self._tracer is not None:
            traced.publish_ms, traced.published_ms = began_ms, published_ms
            traced.commit_ms, traced.committed_ms = commit_ms, self._clock()
            self._tracer.send_spans(traced, {piece.owned.partition for piece in answered})
        return result


def _still_ours(batch: FoldedBatch, closed: Collection[Owned] = ()) -> tuple[FoldedBatch, list[Piece]]:
    """Returns the batch without the pieces whose partition was lost, or is to be taken over again, since the engine
    took them; and those pieces.

    `closed` are partitions for which the batch before has just found that out. No takeover is complete before all of
    its partition's batches have ended.
    """
    back = [piece for piece in batch.pieces if not piece.owned.ready or piece.owned in closed]
    if not back:
        return batch, back
    ours = {piece.owned.partition for piece in batch.pieces} - {piece.owned.partition for piece in back}
    return batch._replace(pieces=without(batch.pieces, back), answers=batch.answers.of(ours)), back
