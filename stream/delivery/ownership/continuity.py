"""Checks whether the records that come for a partition follow those that were taken.

Most records do: they begin where the last ones ended, and have the same leader epoch. For all others a broker is asked,
before the engine sees them:

    they come from a new leader      its log may lack what we were given (`stream.kafka.log.find_cut`)
    they begin before the last ones  the consumer reads again; or its position was not in the log any more
    they begin after the last ones   nothing was there (markers of transactions, compaction), or retention deleted it;
                                     or they are of another leader, whose log lacked what nobody is shown, as aborted
                                     transactions, and has got records there which the consumer has passed over
    they waited for the takeover,    they are gone: the log was cut meanwhile, and may be as long again with others that
    and their leader leads no more   the consumer has passed over
    none came for long before them   the worker may have stood still while the topic was deleted and made anew: its
                                     first leader has the same epoch as before, and its log may have grown as long
    their first takeover took long,  the same may have happened in it, and the broker told it of the new topic only: the
    and nothing was committed        first of them is read once more, and compared
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from aiokafka.errors import KafkaError

from stream.delivery.accounts import Accounts
from stream.delivery.partitions import InputLog, Owned, Piece
from stream.kafka.log import Partition, find_cut
from stream.wire import Record

log = logging.getLogger(__name__)

# To wait for an answer; no batch is taken meanwhile. After it the partition is taken over, and waits alone.
ASK_S: Final = 5.0
SILENT_S: Final = 2.0  # no topic is deleted, made anew and filled in less, unseen by a worker that fetches


class Step(NamedTuple):
    """Some records that came for a partition, and where the records before them ended."""

    owned: Owned
    expected: int  # the offset after the records before
    first: int
    end: int  # the offset after the last of them
    leader_epoch: int  # -1: unknown
    fetched_ms: float

    @property
    def same_leader(self) -> bool:
        """Returns whether the leader epochs are equal, or one of them is unknown, so that there is nothing to ask."""
        known = self.owned.history.leader_epoch
        return self.leader_epoch == known or self.leader_epoch == -1 or known == -1

    @property
    def is_gap(self) -> bool:
        return self.first > self.expected

    @property
    def is_of_known_leader(self) -> bool:
        return self.leader_epoch == self.owned.history.leader_epoch != -1

    @property
    def is_gone(self) -> bool:
        """Returns whether some of the records were cut off before the takeover, for which they waited."""
        epoch, end = self.owned.ended
        return self.leader_epoch == epoch != -1 and self.end > end

    @property
    def follows(self) -> bool:
        silent_ms = self.fetched_ms - self.owned.heard_ms
        comes_next = self.first == self.expected and self.same_leader and not self.is_gone
        return comes_next and silent_ms <= 1000 * SILENT_S


def steps(pieces: Iterable[Piece]) -> list[Step]:
    """Returns a step for each piece, in the order of the pieces."""
    ends: dict[int, int] = {}
    found = []
    for piece in pieces:
        owned, records = piece.owned, piece.records
        expected = ends.get(id(owned), owned.taken)
        bounds = records.first_offset, records.next_offset
        found.append(Step(owned, expected, *bounds, records.leader_epoch, piece.fetched_ms))
        ends[id(owned)] = max(expected, records.next_offset)
    return found


class Continuity:
    """Checks new records, and asks `input_log` where needed."""

    def __init__(self, input_log: InputLog, accounts: Accounts) -> None:
        self._input = input_log
        self._accounts = accounts

    async def broken(self, pieces: Sequence[Piece]) -> list[Owned]:
        """Returns the partitions whose new records must not be taken: a takeover decides on them.

        Their log is not the one that was answered, or no broker confirms it within ASK_S. For the others this notes the
        leader epoch of their records.
        """
        broken: dict[int, Owned] = {}
        for piece, step in zip(pieces, steps(pieces), strict=True):
            owned = step.owned
            if id(owned) in broken:
                continue
            is_proven = not owned.unproven or await self._is_of_this_topic(piece)
            if not is_proven or not (step.follows or await self._is_sound(step)):
                broken[id(owned)] = owned
                continue
            owned.heard_ms = step.fetched_ms
            if step.first >= step.expected and step.leader_epoch not in (-1, owned.history.leader_epoch):
                owned.history = owned.history._replace(leader_epoch=step.leader_epoch)
        return list(broken.values())

    async def _is_of_this_topic(self, piece: Piece) -> bool:
        """Returns whether the log has the first of these records. If it has another one there, the consumer begins
        again: brokers have deleted the offsets of the topic before, so that no takeover notices it."""
        partition, first = piece.owned.partition, piece.records[0]
        try:
            async with asyncio.timeout(ASK_S):
                found = await self._input.describe_log(partition, -1)
                there: list[Record] = []
                if found.begin <= first.offset < found.end:
                    async for records in self._input.reread(partition, first.offset, first.offset + 1):
                        there += records
        except (KafkaError, TimeoutError) as error:
            log.warning("%s/%d: cannot ask whether its topic was made anew: %r", *partition, error)
            return False
        if there != [first]:
            log.warning("%s/%d: what was fetched is of another log: it is read again", *partition)
            self._input.rejoin()
            return False
        piece.owned.unproven = False
        return True

    async def _is_sound(self, step: Step) -> bool:
        partition = step.owned.partition
        try:
            async with asyncio.timeout(ASK_S):
                asks_little = step.is_gap and step.same_leader
                if asks_little and await self._input.first_offset(partition) <= step.expected:
                    return step.is_of_known_leader or await self._is_empty(partition, step.expected, step.first)
                found = await self._input.describe_log(partition, step.owned.history.leader_epoch)
                cut = find_cut(step.end if step.is_gone else step.expected, step.owned.history, found)
                if cut is None and not await self._is_empty(partition, max(found.begin, step.expected), step.first):
                    return False
        except (KafkaError, TimeoutError) as error:
            log.warning("%s/%d: cannot ask whether its log is the one that we know: %r", *partition, error)
            return False
        if cut is not None:
            if cut >= step.owned.next_offset:
                # Nothing that was answered is gone, so no takeover notices it. But some records are gone that we have
                # fetched and not answered, and they would come again after each takeover.
                self._input.rejoin()
            return False
        if found.begin > step.expected:
            self._lose(step.owned, step.expected, min(found.begin, step.first))
        return True

    async def _is_empty(self, partition: Partition, start: int, end: int) -> bool:
        """Returns whether the log has no record of [start, end). If it has one, the consumer begins again, as it has
        passed over that."""
        async for records in self._input.reread(partition, start, end):
            log.warning("%s/%d: offset %d has got a record again: it is read", *partition, records.first_offset)
            self._input.rejoin()
            return False
        return True

    def _lose(self, owned: Owned, start: int, end: int) -> None:
        """Notes that retention has deleted [start, end) before we read it."""
        log.error("%s/%d: retention deleted the offsets from %d to %d unanswered", *owned.partition, start, end)
        self._accounts.accounts[owned.partition].retention_lost += end - start
        owned.history = owned.history._replace(lost=owned.history.lost + end - start)
