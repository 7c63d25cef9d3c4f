"""The records that delivery has taken and not settled yet: waiting, or at work. Knows pieces, their order and when a
batch of them is due; knows neither the engine nor the broker.

    put -> waiting -> take -> at work -> retire       answered and committed
                   <-------- put_back                 to be taken once more
                   -> hand_back, forget               not ours any more: the next owner reads them again
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from stream.delivery import checkpointer
from stream.delivery.accounts import Accounts
from stream.delivery.partitions import InputLog, Owned, Piece, Poll
from stream.kafka.log import Partition
from stream.kafka.record_columns import Records

log: Final = logging.getLogger(__name__)

# Pieces of a shut partition that wait, each with its poll's message: a quiet partition has a record in each.
MAX_HELD_PIECES: Final = 16


class Inbox:
    """Pieces, in the order of their arrival; a handful.

    A partition that is shut holds up only itself. Its records take nobody's room, and once a batch of them is here, no
    more of it is fetched, while polls go on bringing the others' records. The polls cannot wait instead, because one
    message holds all partitions. Nor are records dropped here and read again later: those behind them are in Faust's
    buffer by then, and would have to be told from those that come again. aiokafka does both where a partition is
    paused: it drops what it has fetched and not handed over, and goes on behind the last record that it did hand over.
    So at most a batch of a shut partition is here, and the polls that were on their way when it was paused.
    """

    def __init__(self, limits: Limits, accounts: Accounts, input_log: InputLog) -> None:
        self._limits = limits
        self._accounts = accounts
        self._input = input_log
        self._waiting: list[Piece] = []
        self._at_work: list[Piece] = []  # at the engine, or to be committed
        self._room = asyncio.Event()  # _waiting has shrunk

    def put(
        self,
        polled: Mapping[Partition, Records],
        fetched_ms: float,
        done: Callable[[], None],
        owned: Mapping[Partition, Owned],
    ) -> None:
        """One poll's records. Those of an assignment that is over are retired at once."""
        poll = Poll(len(polled), done)
        for partition, records in polled.items():
            owner = owned.get(partition)
            if owner is None or owner.gone:
                poll.retire()
            else:
                self._waiting.append(Piece(owner, records, fetched_ms, poll.retire))
                self._accounts.take(partition, len(records))
                self._pause_if_full(owner)

    def _pause_if_full(self, owned: Owned) -> None:
        if owned.paused or is_open(owned):
            return
        sizes = [len(piece.records) for piece in self._waiting if piece.owned is owned]
        if sum(sizes) >= self._limits.max_records or len(sizes) >= MAX_HELD_PIECES:
            log.info("%s is shut: no more of it is fetched until it opens", owned.partition)
            owned.paused = True
            self._input.pause(owned.partition)

    def resume(self, all_owned: Iterable[Owned]) -> None:
        """Fetch those again that are open."""
        for owned in all_owned:
            if owned.paused and is_open(owned):
                owned.paused = False
                self._input.resume(owned.partition)

    async def has_room(self) -> None:
        """Until less than two batches wait of partitions that are open."""
        while sum(len(piece.records) for piece in self._open()) >= 2 * self._limits.max_records:
            self._room.clear()
            await self._room.wait()

    def due_at_ms(self) -> float:
        """When the next batch is full or old enough; infinity if nothing may be taken."""
        return self._due_at_ms(self._open())

    def take(self, now_ms: float) -> list[Piece]:
        """The next batch, if it is due. It is at work from here on."""
        open_ = self._open()
        if self._due_at_ms(open_) > now_ms:
            return []
        batch = open_[: self._limits.fit(len(piece.records) for piece in open_)]
        self._waiting = without(self._waiting, batch)
        self._at_work += batch
        self._room.set()
        return batch

    def _open(self) -> list[Piece]:
        """What may be taken now, oldest first."""
        return [piece for piece in self._waiting if is_open(piece.owned)]

    def _due_at_ms(self, pieces: Sequence[Piece]) -> float:
        records = sum(len(piece.records) for piece in pieces)
        return self._limits.due_at_ms(records, pieces[0].fetched_ms if pieces else None)

    def put_back(self, pieces: Sequence[Piece]) -> None:
        """These wait again, or are handed back if their partition is another's now."""
        self.hand_back([piece for piece in pieces if piece.owned.gone])
        again = [piece for piece in pieces if not piece.owned.gone]
        self._at_work = without(self._at_work, again)
        # By offset, as a partition's records must go through the engine; two batches may come back in any order.
        self._waiting = sorted(again + self._waiting, key=lambda piece: piece.records.first_offset)
        self._room.set()

    def retire(self, pieces: Sequence[Piece]) -> None:
        """These are answered and committed."""
        self._at_work = without(self._at_work, pieces)
        for piece in pieces:
            piece.done()
        self._room.set()  # a partition may be shut now, as too much of it is in no checkpoint

    def hand_back(self, pieces: Sequence[Piece]) -> None:
        """Retire these unanswered: their next owner reads them again."""
        self._accounts.hand_back(pieces)
        self.retire(pieces)

    def forget(self, which: Callable[[Owned], bool]) -> None:
        """Hand back what waits for these partitions."""
        forgotten = [piece for piece in self._waiting if which(piece.owned)]
        self._waiting = without(self._waiting, forgotten)
        self.hand_back(forgotten)
        self._room.set()

    def abandon(self) -> None:
        """Forget everything; what is at work is never retired."""
        self.forget(lambda owned: True)
        self._accounts.hand_back(self._at_work)
        self._at_work = []

    def waiting(self, owned: Owned) -> int:
        """Records of this partition that are not at work yet."""
        return _records_of(owned, self._waiting)

    def at_work(self, owned: Owned) -> int:
        return _records_of(owned, self._at_work)


def is_open(owned: Owned) -> bool:
    """Whether its records may be taken. A partition is shut until its takeover is complete, while too much of it is in
    no checkpoint, and while it waits for stored records."""
    return owned.ready and not owned.waits and owned.next_offset - owned.saved < checkpointer.MAX_UNSAVED


def without(pieces: Sequence[Piece], others: Sequence[Piece]) -> list[Piece]:
    left_out = set(map(id, others))
    return [piece for piece in pieces if id(piece) not in left_out]


def _records_of(owned: Owned, pieces: Iterable[Piece]) -> int:
    return sum(len(piece.records) for piece in pieces if piece.owned is owned)


NEVER = math.inf


@dataclass(frozen=True)
class Limits:
    """A batch goes when it holds `max_records`, or when its oldest record has waited `max_wait_ms`."""

    max_records: int
    max_wait_ms: float

    def due_at_ms(self, records: int, oldest_ms: float | None) -> float:
        """When to go, given what waits: in the past if full, NEVER if nothing waits. `oldest_ms` is its arrival."""
        if oldest_ms is None:
            return NEVER
        return oldest_ms if records >= self.max_records else oldest_ms + self.max_wait_ms

    def fit(self, sizes: Iterable[int]) -> int:
        """How many of the pieces, taken in order, make one batch: as many as stay within the limit, at least one."""
        count = total = 0
        for size in sizes:
            total += size
            if count and total > self.max_records:
                break
            count += 1
        return count
