"""Takes one batch of records through the engine, and decides what happens when that raises."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from stream.config.security import Refused
from stream.delivery.accounts import Accounts, count_batch, so_far
from stream.delivery.checkpointer import AWAY
from stream.delivery.cold_reads import ColdReads, Waits
from stream.delivery.committer import FoldedBatch
from stream.delivery.inbox import Inbox, without
from stream.delivery.ownership.ownership import Ownership
from stream.delivery.partitions import AT_ONCE, Piece
from stream.delivery.waiting_pings import Holds, Undecided
from stream.engine.engine import Engine
from stream.kafka.records.record_columns import Records
from stream.store.base import Evicted, Fenced, Store

if TYPE_CHECKING:  # who does not trace does not import it
    from stream.tracing.tracer import Tracer

log: Final = logging.getLogger(__name__)

# Minimum time between two rebuilds of a partition for lost states. One takes some seconds, and a Redis that evicts all
# the time would leave time for nothing else.
REBUILD_EVERY_S: Final = 60.0


class Processing:
    """Answers batches, one at a time. The caller holds the lock of the engine."""

    def __init__(
        self,
        engine: Engine,
        store: Store,
        cold_reads: ColdReads,
        holds: Holds,
        ownership: Ownership,
        inbox: Inbox,
        accounts: Accounts,
        clock: Callable[[], float],
        tracer: Tracer | None,
    ) -> None:
        self._engine = engine
        self._store = store
        self._cold_reads = cold_reads
        self._holds = holds
        self._ownership = ownership
        self._inbox = inbox
        self._accounts = accounts
        self._clock = clock
        self._tracer = tracer
        self._began_ms: float | None = None  # when the engine got the batch; None between batches

    @property
    def batch_s(self) -> float:
        """Returns how long a batch has been in the engine, in seconds."""
        return 0.0 if self._began_ms is None else (self._clock() - self._began_ms) / 1000

    async def answer(self, pieces: Sequence[Piece]) -> FoldedBatch | None:
        """Returns what the engine makes of these pieces. Pieces that must wait for the store, or for a version
        of the atlas, go back to the inbox.

        None if nothing is left, or if the batch failed and its pieces were put back. Raises what the engine raised if
        no takeover can cure it.
        """
        self._began_ms = self._clock()
        try:
            while pieces:
                try:
                    return await self._answer(pieces)
                except Waits as wait:
                    back = [piece for piece in pieces if piece.owned is wait.owned]
                    self._inbox.put_back(back)
                    pieces = without(pieces, back)
                except Undecided as wait:
                    back = [piece for piece in pieces if piece.owned in wait.owners]
                    self._inbox.put_back(back)
                    pieces = without(pieces, back)
                except Evicted as error:
                    pieces = await self._evicted(pieces, error)
            return None
        finally:
            self._began_ms = None

    async def _answer(self, pieces: Sequence[Piece]) -> FoldedBatch | None:
        choice = await self._holds.choice(pieces)
        parts = [piece.records.since(piece.owned.taken) for piece in pieces]
        records, traced = Records.join(parts), None
        if self._tracer is not None:
            fetched = [piece.fetched_ms for piece in pieces]
            traced = self._tracer.sample(list(zip(parts, fetched, strict=True)))
        owners = {piece.owned for piece in pieces}
        before, now_ms = so_far(pieces, self._engine.counts), self._clock()
        careful = any(map(_has_failed, pieces))
        try:
            answers = await self._engine.process(
                records,
                started_ms=now_ms,
                fetched_ms=pieces[0].fetched_ms,
                careful=careful,
                read=self._cold_reads.reader(owners),
                choice=choice,
                traced=traced,
            )
        except (Refused, Waits, Evicted):
            raise  # no record is at fault; a store that refused would refuse again
        except Exception as error:
            await self._retry(pieces, error)
            return None
        self._cold_reads.forget_batch(owners)
        self._accounts.engine_s.observe((self._clock() - now_ms) / 1000)
        self._accounts.batch_records.observe(len(records))
        counts = count_batch(pieces, before, self._engine.counts)
        for piece in pieces:
            piece.owned.taken = max(piece.owned.taken, piece.records.next_offset)
            if careful:  # a replay finds an unsaved quarantine again only if folding fails
                piece.owned.save_at_ms = AT_ONCE
        if traced is not None:
            traced.started_ms = now_ms
        return FoldedBatch(pieces, len(records), answers, counts, traced)

    async def _evicted(self, pieces: Sequence[Piece], error: Evicted) -> Sequence[Piece]:
        """Handles stored states of one partition that the store has lost; nothing is folded yet.

        Returns the pieces that can be answered now. If the partition was rebuilt lately, that is all of them, and the
        lost entities start anew. Otherwise it is those of the other partitions, and this one is taken over again, which
        rebuilds the states.
        """
        owned = next(piece.owned for piece in pieces if piece.owned.partition == error.partition)
        if self._clock() - owned.rebuilt_ms <= REBUILD_EVERY_S * 1000:
            try:
                await self._store.unlist(owned.partition, owned.epoch, error.entity_ids)
            except AWAY:
                pass  # the takeover waits for the store
            except Fenced as fenced:  # we may be a zombie: the takeover asks the group
                await self._retry(pieces, fenced)
                return []
            else:
                self._engine.note_evicted(owned.partition, error.entity_ids)
                log.warning("%s, and it was rebuilt less than %.0f s ago: they start anew", error, REBUILD_EVERY_S)
                return pieces
        log.warning("%s before they expired: is maxmemory-policy noeviction? Rebuilding them from the log", error)
        await self._ownership.take_over_anew([owned])
        shut = [piece for piece in pieces if not piece.owned.ready]  # other partitions may have been fenced meanwhile
        self._inbox.put_back(shut)
        return without(pieces, shut)

    async def _retry(self, pieces: Sequence[Piece], error: Exception) -> None:
        """Takes the batch's partitions over again, because their states may be half-way through it, and then retries
        the batch, this time carefully, so that the engine quarantines only the entities at fault.

        Raises the error if the same records raised before: then no entity is at fault.
        """
        again = not isinstance(error, Fenced)
        if again and any(map(_has_failed, pieces)):
            await self._ownership.settle()
            raise error
        self._accounts.batches_failed += again
        self._accounts.fenced += not again
        log.error("the batch failed (%r): its partitions are taken over anew", error, exc_info=again)
        for piece in pieces:
            if again:
                piece.owned.failed_below = max(piece.owned.failed_below, piece.records.next_offset)
        await self._ownership.take_over_anew(dict.fromkeys(piece.owned for piece in pieces))
        self._inbox.put_back(pieces)


def _has_failed(piece: Piece) -> bool:
    """Returns whether the piece was in a batch that raised."""
    return piece.records.first_offset < piece.owned.failed_below
