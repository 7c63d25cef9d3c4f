"""The log of one partition: batches, leader epochs, transactions and bounds, as a leader of Apache Kafka has them.

The high watermark is the end of the log. A record that its replicas do not have yet is seen by no reader and
acknowledged to no producer, so that from outside it is as if the request had not arrived; the edge loses requests.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from aiokafka.errors import OffsetOutOfRangeError
from kafka_producers import ProducerStates

Headers = Sequence[tuple[str, bytes | None]]
READ_COMMITTED, READ_UNCOMMITTED = "read_committed", "read_uncommitted"
EARLIEST, LATEST = -2, -1  # what list_offsets takes in place of a time
NO_TIME = -1


class NewRecord(NamedTuple):
    """A record that a producer sends."""

    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    timestamp_ms: int = 0


class LogRecord(NamedTuple):
    """A record as a reader gets it."""

    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    leader_epoch: int


class Batch:
    """What a producer sent at once, or the marker of a transaction's end, which has one offset and no records."""

    __slots__ = (
        "aborted", "base", "control", "epoch", "first_sequence", "horizon_ms", "last", "last_sequence", "leader_epoch",
        "max_timestamp_ms", "producer_id", "records", "transactional",
    )  # fmt: skip

    def __init__(self, base: int, leader_epoch: int, records: list[LogRecord], max_timestamp_ms: int) -> None:
        self.base, self.last = base, base + max(len(records), 1) - 1
        self.leader_epoch, self.records, self.max_timestamp_ms = leader_epoch, records, max_timestamp_ms
        self.producer_id = self.epoch = self.first_sequence = self.last_sequence = -1
        self.transactional = self.aborted = False
        self.control: str | None = None  # "commit" or "abort"
        self.horizon_ms: int | None = None  # from when on a cleaner may remove the tombstones or the marker


class Fetched(NamedTuple):
    """The answer to a fetch, as a client reads it: markers and records of aborted transactions are left out."""

    records: list[LogRecord]
    next_offset: int  # the client's position afterwards
    high_watermark: int
    last_stable_offset: int
    log_start: int
    leader_epoch: int  # of the last batch that was passed; -1 if none was


class PartitionLog:
    """The log. `start` <= offset < `end`."""

    def __init__(self) -> None:
        self.start = self.end = 0
        self.leader_epoch = 0
        self.batches: list[Batch] = []  # also those below `start`: what producers wrote stays known
        self._bases: list[int] = []
        self.epochs: list[tuple[int, int]] = [(0, 0)]  # leader epochs, and where the records of each begin
        self.producers = ProducerStates()
        self.open: dict[int, int] = {}  # the first offset of each transaction without a marker, by producer

    @property
    def last_stable_offset(self) -> int:
        """The offset below which all transactions have ended."""
        return max(self.start, min(self.open.values())) if self.open else self.end

    # -- written

    def append(
        self,
        new: Sequence[NewRecord],
        producer_id: int = -1,
        epoch: int = -1,
        sequence: int = -1,
        transactional: bool = False,
    ) -> int:
        """Appends a batch, and returns its base offset, or that of the same batch if it is here already.

        Raises InvalidProducerEpoch, OutOfOrderSequenceNumber."""
        if producer_id >= 0:
            last = (sequence + len(new) - 1) % 2**31
            duplicate = self.producers.find_duplicate(producer_id, epoch, sequence, last)
            if duplicate is not None:
                return duplicate
            self.producers.check(producer_id, epoch, sequence)
        base, leader = self.end, self.leader_epoch
        records = [
            LogRecord(base + at, one.timestamp_ms, one.key, one.value, one.headers, leader)
            for at, one in enumerate(new)
        ]
        batch = Batch(base, leader, records, max(one.timestamp_ms for one in new))
        if producer_id >= 0:
            batch.producer_id, batch.epoch, batch.transactional = producer_id, epoch, transactional
            batch.first_sequence, batch.last_sequence = sequence, last
        self._add(batch)
        return base

    def mark(self, producer_id: int, epoch: int, commit: bool, now_ms: int) -> None:
        """Writes the marker that ends the producer's transaction here."""
        batch = Batch(self.end, self.leader_epoch, [], now_ms)
        batch.producer_id, batch.epoch, batch.control = producer_id, epoch, "commit" if commit else "abort"
        self._add(batch)

    def _add(self, batch: Batch) -> None:
        self.batches.append(batch)
        self._bases.append(batch.base)
        self.end = batch.last + 1
        self._note(batch, len(self.batches) - 1)

    def _note(self, batch: Batch, at: int) -> None:
        """Notes what a batch means for producers and transactions."""
        producer_id = batch.producer_id
        if producer_id < 0:
            return
        if batch.control is not None:
            self.producers.note_marker(producer_id, batch.epoch)
            first = self.open.pop(producer_id, None)
            if first is not None and batch.control == "abort":
                for one in self.batches[bisect_right(self._bases, first) - 1 : at]:
                    if one.producer_id == producer_id and one.transactional:
                        one.aborted = True
            return
        self.producers.note(producer_id, batch.epoch, batch.first_sequence, batch.last_sequence, batch.base)
        if batch.transactional:
            self.open.setdefault(producer_id, batch.base)

    # -- read

    def read(self, offset: int, isolation: str, most: int) -> Fetched:
        """Returns at most `most` records from `offset` on. Raises OffsetOutOfRangeError."""
        if not self.start <= offset <= self.end:
            raise OffsetOutOfRangeError(f"{offset} is not within {self.start} to {self.end}")
        committed = isolation == READ_COMMITTED
        stable = self.last_stable_offset
        until = stable if committed else self.end
        found: list[LogRecord] = []
        position, epoch = offset, -1
        for batch in self._from(offset):
            if batch.base >= until or (len(found) >= most and batch.records):
                break
            if not (committed and batch.aborted):
                some = [one for one in batch.records if one.offset >= offset] if batch.base < offset else batch.records
                room = most - len(found)
                if len(some) > room:
                    found += some[:room]
                    position, epoch = found[-1].offset + 1, batch.leader_epoch
                    break
                found += some
            position, epoch = batch.last + 1, batch.leader_epoch
            if len(found) >= most:
                break
        return Fetched(found, position, self.end, stable, self.start, epoch)

    def _from(self, offset: int) -> Iterator[Batch]:
        """Yields the batches from the one that contains `offset` on, or from the next."""
        at = max(0, bisect_right(self._bases, offset) - 1)
        if at < len(self.batches) and self.batches[at].last < offset:
            at += 1
        for index in range(at, len(self.batches)):
            yield self.batches[index]

    def find_time(self, timestamp_ms: int, isolation: str) -> tuple[int, int]:
        """Returns time and offset of the first record that is not older, (-1, -1) if there is none; the bounds for
        EARLIEST and LATEST."""
        until = self.last_stable_offset if isolation == READ_COMMITTED else self.end
        if timestamp_ms == EARLIEST:
            return NO_TIME, self.start
        if timestamp_ms == LATEST:
            return NO_TIME, until
        for batch in self._from(self.start):
            if batch.max_timestamp_ms < timestamp_ms:
                continue
            if batch.control is not None:
                found = (batch.max_timestamp_ms, batch.base)
            else:
                hits = (one for one in batch.records if one.timestamp_ms >= timestamp_ms and one.offset >= self.start)
                one = next(hits, None)
                if one is None:
                    continue
                found = (one.timestamp_ms, one.offset)
            return found if found[1] < until else (NO_TIME, -1)
        return NO_TIME, -1

    # -- leaders and bounds

    def epoch_end(self, asked: int) -> tuple[int, int]:
        """Returns the last epoch that is at most `asked`, and where its records end; (-1, -1) if it is not known here
        (KIP-320: LeaderEpochFileCache.endOffsetFor)."""
        if asked == -1 or not self.epochs:
            return -1, -1
        if asked == self.epochs[-1][0]:
            return asked, self.end
        higher = next((at for at, (epoch, _) in enumerate(self.epochs) if epoch > asked), None)
        if higher is None:
            return -1, -1
        end = self.epochs[higher][1]
        return (self.epochs[higher - 1][0] if higher else asked), end

    def lead(self, epoch: int) -> None:
        """Begins a leader epoch at the end of the log."""
        self.leader_epoch = epoch
        self.epochs = [one for one in self.epochs if one[0] < epoch and one[1] < self.end]
        self.epochs.append((epoch, self.end))

    def cut(self, end: int) -> None:
        """Removes the records from `end` on, and from the beginning of the batch that has `end` within it. What is
        known of producers and transactions afterwards is that of the shorter log."""
        kept = bisect_right(self._bases, end - 1)
        if kept and self.batches[kept - 1].last >= end:
            kept -= 1
        batches = self.batches[:kept]
        self.batches, self._bases = [], []
        # Where nothing is left, a log goes on at its start: offsets that retention has passed do not come again.
        self.end = max(self.start, batches[-1].last + 1 if batches else 0)
        self.producers, self.open = ProducerStates(), {}
        for at, batch in enumerate(batches):
            batch.aborted = False
            self.batches.append(batch)
            self._bases.append(batch.base)
            self._note(batch, at)
        self.epochs = [one for one in self.epochs if one[1] < self.end]

    def retain(self, start: int) -> None:
        """Moves the start of the log forward; never back."""
        if start <= self.start:
            return
        self.start = start
        below = [one for one in self.epochs if one[1] <= start]
        if below:
            self.epochs = [(below[-1][0], start), *(one for one in self.epochs if one[1] > start)]
