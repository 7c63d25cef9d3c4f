"""Takes one batch of records through the engine, and decides what happens when that raises. Knows the engine and the
errors of the store; knows nothing of the broker, and starts no takeover by itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from stream.checkpoints import AWAY, Checkpoints, delays
from stream.connect import Refused
from stream.engine import Engine
from stream.finishing import Finishing
from stream.inbox import Inbox
from stream.intake import Records
from stream.pages import Answers
from stream.seams import Owned, Piece
from stream.store import Fenced
from stream.tally import Tally

log: Final = logging.getLogger(__name__)


class Processing:
    """Answers batches, one at a time. The caller holds the engine."""

    def __init__(
        self,
        engine: Engine,
        checkpoints: Checkpoints,
        finishing: Finishing,
        inbox: Inbox,
        tally: Tally,
        clock: Callable[[], float],
        draining: Callable[[], bool],
        lose: Callable[[Iterable[Owned]], None],
        restart_takeover: Callable[[Owned], None],
    ) -> None:
        """`draining` tells whether the partitions are about to go; `lose` forgets partitions that are another member's;
        `restart_takeover` takes a partition over anew, whose states are not to be trusted any more."""
        self._engine = engine
        self._checkpoints = checkpoints
        self._finishing = finishing
        self._inbox = inbox
        self._tally = tally
        self._clock = clock
        self._draining = draining
        self._lose = lose
        self._restart_takeover = restart_takeover
        self._began_ms: float | None = None  # when the batch came to the engine; None between batches

    @property
    def batch_s(self) -> float:
        """How long a batch has been at the engine, in seconds."""
        return 0.0 if self._began_ms is None else (self._clock() - self._began_ms) / 1000

    async def answer(self, records: Records, pieces: Sequence[Piece]) -> Answers | None:
        """The engine's answers. Waits for a store that is away; None if there are none, and the pieces are seen to.

        Raises what the engine raised if no takeover can cure it.
        """
        self._began_ms = self._clock()
        answers = await self._answer(records, pieces)
        self._began_ms = None
        return answers

    async def _answer(self, records: Records, pieces: Sequence[Piece]) -> Answers | None:
        for delay_s in delays():
            try:
                now, fetched = self._clock(), pieces[0].fetched_ms
                careful = any(map(_has_failed, pieces))
                answers = await self._engine.process(records, started_ms=now, fetched_ms=fetched, careful=careful)
            except AWAY as error:
                self._checkpoints.is_away(error)
                if self._draining():
                    self._lose({piece.owned for piece in pieces})
                    self._inbox.put_back(pieces)
                    return None
                log.warning("Redis is away (%s): %d records wait for their stored states", error, len(records))
                await asyncio.sleep(delay_s)
            except Refused:
                raise  # no record is at fault, and asked again it would say no again
            except Exception as error:
                await self._retry(pieces, error)
                return None
            else:
                self._tally.engine_s.observe((self._clock() - now) / 1000)
                self._tally.batch_records.observe(len(records))
                if careful:  # a quarantine in no checkpoint is found again by the replay only if folding is what fails
                    for piece in pieces:
                        piece.owned.save_at_ms = 0.0
                return answers
        raise AssertionError("the delays never end")

    async def _retry(self, pieces: Sequence[Piece], error: Exception) -> None:
        """The states may be half-way through the batch: take its partitions over anew, and then the batch again, so
        that the engine gives up who is at fault, and no more.

        Raises the error if it came with the same records before: then nobody is.
        """
        await self._finishing.settle()
        again = not isinstance(error, Fenced)
        if again and any(map(_has_failed, pieces)):
            raise error
        self._tally.batches_failed += again
        self._tally.fenced += not again
        log.error("the batch failed (%r): its partitions are taken over anew", error, exc_info=again)
        for piece in pieces:
            if again:
                piece.owned.failed_below = max(piece.owned.failed_below, piece.records.next_offset)
        for owned in {id(piece.owned): piece.owned for piece in pieces}.values():
            self._restart_takeover(owned)
        self._inbox.put_back(pieces)


def _has_failed(piece: Piece) -> bool:
    """Whether it was in a batch that raised."""
    return piece.records.first_offset < piece.owned.failed_below
