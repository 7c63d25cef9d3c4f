"""Holds the records that delivery has taken and not settled yet, and decides when a batch of them is due.

put -> waiting -> take -> at work -> retire       answered and committed
               <-------- put_back                 to be taken once more
               -> hand_back, forget               no longer ours: the next owner reads them again
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from stream.config.wording import place
from stream.delivery import checkpointer
from stream.delivery.accounts import Accounts
from stream.delivery.partitions import InputLog, Owned, Piece, Poll
from stream.kafka.log import Partition
from stream.kafka.records.record_columns import Records

log: Final = logging.getLogger(__name__)

# Limit of the waiting pieces of a closed partition. Each piece holds its poll's message, and a quiet partition has only
# one record in each.
MAX_HELD_PIECES: Final = 16


class Inbox:
    """Holds pieces in the order of their arrival; there are only a handful.

    A closed partition holds up only itself. Its records do not count in `has_room`. Once a batch of them is here, the
    consumer fetches no more of it, while polls still bring the records of other partitions. The polls themselves cannot
    wait, because one message holds the records of all partitions. The inbox cannot drop records and read them again
    later either: Faust's buffer has the records after them by then, and they would have to be told apart from those
    that come again. When a partition is paused, aiokafka does both: it drops what it has fetched and not handed
    over, and continues after the last record that it did hand over. So the inbox holds at most one batch of a closed
    partition, and the polls that were on their way when it was paused.
    """

    def __init__(self, limits: Limits, accounts: Accounts, input_log: InputLog) -> None:
        self._limits = limits
        self._accounts = accounts
        self._input = input_log
        self._waiting: list[Piece] = []
        self._at_work: list[Piece] = []  # in the engine, or waiting for their commit
        self._room = asyncio.Event()  # set when fewer records may wait for open partitions

    def put(
        self,
        polled: Mapping[Partition, Records],
        fetched_ms: float,
        done: Callable[[], None],
        owned: Mapping[Partition, Owned],
    ) -> None:
        """Adds one poll's records. Records of an assignment that is over are retired at once."""
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
            log.info("%s is shut: no more of it is fetched until it opens", place(owned.partition))
            owned.paused = True
            self._input.pause(owned.partition)

    def resume(self, all_owned: Iterable[Owned]) -> None:
        """Resumes fetching the paused partitions that are open again."""
        for owned in all_owned:
            if owned.paused and is_open(owned):
                owned.paused = False
                self._input.resume(owned.partition)

    async def has_room(self) -> None:
        """Waits until fewer records than two batches wait for open partitions."""
        while sum(len(piece.records) for piece in self._open()) >= 2 * self._limits.max_records:
            self._room.clear()
            await self._room.wait()

    def look_for_room(self) -> None:
        """Lets whoever waits for room look again, because a partition was closed and its records count no more."""
        self._room.set()

    def due_at_ms(self) -> float:
        """Returns when the next batch is full or old enough; infinity if nothing may be taken."""
        return self._due_at_ms(self._open())

    def take(self, now_ms: float) -> list[Piece]:
        """Returns the next batch, or no pieces if none is due. Its pieces are at work from now on."""
        open_ = self._open()
        if self._due_at_ms(open_) > now_ms:
            return []
        batch = open_[: self._limits.fit(len(piece.records) for piece in open_)]
        self._waiting = without(self._waiting, batch)
        self._at_work += batch
        self._room.set()
        return batch

    def _open(self) -> list[Piece]:
        """Returns the pieces that may be taken now, oldest first."""
        return [piece for piece in self._waiting if is_open(piece.owned)]

    def _due_at_ms(self, pieces: Sequence[Piece]) -> float:
        records = sum(len(piece.records) for piece in pieces)
        return self._limits.due_at_ms(records, pieces[0].fetched_ms if pieces else None)

    def put_back(self, pieces: Sequence[Piece]) -> None:
        """Makes these pieces wait again. Pieces of a partition that is no longer ours are handed back."""
        self.hand_back([piece for piece in pieces if piece.owned.gone])
        again = [piece for piece in pieces if not piece.owned.gone]
        self._at_work = without(self._at_work, again)
        # Sorted by offset, because the engine must get a partition's records in order, and two batches may come back in
        # any order.
        self._waiting = sorted(again + self._waiting, key=lambda piece: piece.records.first_offset)
        self._room.set()

    def retire(self, pieces: Sequence[Piece]) -> None:
        """Removes pieces that are answered and committed."""
        self._at_work = without(self._at_work, pieces)
        for piece in pieces:
            piece.done()
        self._room.set()  # a partition may be closed now, because too many of its records are in no checkpoint

    def hand_back(self, pieces: Sequence[Piece]) -> None:
        """Retires these pieces without an answer: their next owner reads them again."""
        self._accounts.hand_back(pieces)
        self.retire(pieces)

    def forget(self, which: Callable[[Owned], bool]) -> None:
        """Hands back the waiting pieces of the partitions for which `which` is true."""
        forgotten = [piece for piece in self._waiting if which(piece.owned)]
        self._waiting = without(self._waiting, forgotten)
        self.hand_back(forgotten)
        self._room.set()

    def abandon(self) -> None:
        """Removes everything. Pieces that are at work are never retired."""
        self.forget(lambda owned: True)
        self._accounts.hand_back(self._at_work)
        self._at_work = []

    def waiting(self, owned: Owned) -> int:
        """Returns how many records of this partition are not at work yet."""
        return _records_of(owned, self._waiting)

    def at_work(self, owned: Owned) -> int:
        return _records_of(owned, self._at_work)


def is_open(owned: Owned) -> bool:
    """Returns whether the partition's records may be taken.

    A partition is closed until its takeover is complete, while too many of its records are in no checkpoint, and while
    it waits for stored records or for a version of the atlas.
    """
    waits = owned.waits or owned.undecided
    return owned.ready and not waits and owned.next_offset - owned.saved < checkpointer.MAX_UNSAVED


def without(pieces: Sequence[Piece], others: Sequence[Piece]) -> list[Piece]:
    left_out = set(map(id, others))
    return [piece for piece in pieces if id(piece) not in left_out]


def _records_of(owned: Owned, pieces: Iterable[Piece]) -> int:
    return sum(len(piece.records) for piece in pieces if piece.owned is owned)


NEVER = math.inf


@dataclass(frozen=True)
class Limits:
    """A batch is due when it holds `max_records`, or when its oldest record has waited `max_wait_ms`."""

    max_records: int
    max_wait_ms: float

    def due_at_ms(self, records: int, oldest_ms: float | None) -> float:
        """Returns when a batch of the waiting records is due: in the past if it is full, NEVER if nothing waits.

        `oldest_ms` is when the oldest waiting record arrived, None if there is none.
        """
        if oldest_ms is None:
            return NEVER
        return oldest_ms if records >= self.max_records else oldest_ms + self.max_wait_ms

    def fit(self, sizes: Iterable[int]) -> int:
        """Returns how many of the pieces, in order, make one batch: as many as fit, but at least one."""
        count = total = 0
        for size in sizes:
            total += size
            if count and total > self.max_records:
                break
            count += 1
        return count
