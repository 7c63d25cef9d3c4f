"""Holds what the engine answers: forecasts as encoded batches, in Kafka's record format (v2: zigzag varints), and the
few other records one by one.

A batch has a thousand forecasts of one shape. When each was an object that was written, put into a batch and thrown
away, they took a fifth of a worker's CPU. So they are written next to each other, and compiled code encodes them from
there. This module does not depend on the fields of a forecast.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import itemgetter
from typing import Any, Final, NamedTuple

import numpy as np
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy
from aiokafka.record.memory_records import MemoryRecords

from model.jit import compiled
from stream.kafka.records.columns import I64, Bytes, BytesColumn, copy_bytes
from stream.kafka.records.record_columns import Partition, Records, varint
from stream.wire import Headers, Outgoing

NO_RECORDS: Final = Records.of(())
# The most bytes that one request has for a partition; a broker accepts 1 MiB unless it is configured otherwise.
BATCH_BYTES: Final = 512 * 1024
HEAD_BYTES: Final = _DefaultRecordBatchBuilderPy.HEADER_STRUCT.size
MOST_FRAMING: Final = 2 + 5 * 5  # bytes of a record: attributes, time, and varints of five lengths or counts


class EncodedBatch(NamedTuple):
    """Records of one topic, in Kafka's format, that answer records of one partition and fit into one record batch."""

    topic: str
    source: Partition
    rows: I64  # for each record, the row of the input record that it answers
    body: Bytes  # the records as they follow the header of a batch

    def batch(self, *, compression: int = 0, transactional: bool = False) -> Whole:
        """Returns a batch that aiokafka's producer can send. Its timestamp is now."""
        return Whole(self, compression, transactional)

    def read(self) -> list[tuple[bytes | None, bytes | None, Headers]]:
        """Returns the key, value and headers of each record."""
        batch = MemoryRecords(bytes(self.batch()._build())).next_batch()
        return [] if batch is None else [(one.key, one.value, tuple(one.headers)) for one in batch]


class Whole(BatchBuilder):  # type: ignore[misc]
    """An aiokafka batch that is full from the start. aiokafka's own Python code makes header, compression and checksum:
    unlike its compiled code, it has a buffer into which the records of an encoded batch can be put."""

    def __init__(self, encoded: EncodedBatch, compression: int, transactional: bool) -> None:
        super().__init__(0, compression, is_transactional=transactional)
        self._builder = builder = _DefaultRecordBatchBuilderPy(2, compression, int(transactional), -1, -1, 0, 0)
        builder._buffer += encoded.body.data
        builder._first_timestamp = builder._max_timestamp = int(time.time() * 1000)
        builder._num_records = self._relative_offset = len(encoded.rows)
        builder._last_offset = len(encoded.rows) - 1
        self.close()

    def _set_producer_state(self, producer_id: int, producer_epoch: int, base_sequence: int) -> None:
        self._builder.set_producer_state(producer_id, producer_epoch, base_sequence)


@dataclass(frozen=True)
class Answers:
    """Holds what a worker publishes for a batch of input records. Iteration yields one record at a time, in the order
    of the input records: replays and tests use it. A worker publishes the encoded batches as they are.
    """

    records: Records = NO_RECORDS  # the input records
    pages: Sequence[EncodedBatch] = ()
    others: Sequence[tuple[int, Outgoing]] = ()  # each after the row of the input record that it answers, in order

    def __len__(self) -> int:
        return sum(len(encoded.rows) for encoded in self.pages) + len(self.others)

    def __iter__(self) -> Iterator[Outgoing]:
        found: list[tuple[int, Outgoing]] = []
        for encoded in self.pages:
            for row, (key, value, headers) in zip(encoded.rows.tolist(), encoded.read(), strict=True):
                found.append((row, Outgoing(encoded.topic, key, value, headers, self.records[row])))
        found += self.others
        return iter([one for _, one in sorted(found, key=itemgetter(0))])

    def of(self, partitions: Collection[Partition]) -> Answers:
        """Returns the answers to records of these partitions."""
        return Answers(
            self.records,
            [encoded for encoded in self.pages if encoded.source in partitions],
            [(row, one) for row, one in self.others if (one.src.topic, one.src.partition) in partitions],
        )

    def counts(self) -> Counter[tuple[str, Partition]]:
        """Returns the number of answers by their topic and the partition that they answer."""
        counts: Counter[tuple[str, Partition]] = Counter()
        for encoded in self.pages:
            counts[encoded.topic, encoded.source] += len(encoded.rows)
        for _, one in self.others:
            counts[one.topic, (one.src.topic, one.src.partition)] += 1
        return counts


NONE: Final = Answers()


class Column(NamedTuple):
    """A header whose value differs from record to record."""

    name: str
    values: BytesColumn


def encode_batches(
    keys: BytesColumn,
    values: BytesColumn,
    constant: BytesColumn,
    last: Column,
    breaks: Any,
    room: int = BATCH_BYTES - HEAD_BYTES,
) -> list[tuple[slice, Bytes]]:
    """Encodes records in Kafka's format and cuts them into encoded batches. Returns the rows and the bytes of each.

    Args:
        keys, values: N of each.
        constant: N beginnings of lists of headers, in Kafka's format, which the `last` header completes.
        breaks: [N] bool: rows that begin an encoded batch in any case. The first row must be one.
        room: the most bytes of an encoded batch, if it has more than one record.
    """
    n = len(keys.start)
    name = varint(len(last.name.encode())) + last.name.encode()
    most = n * (MOST_FRAMING + len(name)) + sum(int(one.lengths.sum()) for one in (keys, values, constant, last.values))
    out, first, begin = np.empty(most, np.uint8), np.array(breaks, np.bool_), np.empty(n + 1, np.int64)
    _frame(*keys, *values, *constant, np.frombuffer(name, np.uint8), *last.values, room, first, out, begin)
    cuts = [*np.flatnonzero(first).tolist(), n]
    return [(slice(a, b), out[begin[a] : begin[b]]) for a, b in pairwise(cuts)]


@compiled
def _frame(  # type: ignore[no-untyped-def]
    keys, key, key_end, values, value, value_end, constants, constant, constant_end,
    name, lasts, last, last_end, room, first, out, begin,
):  # fmt: skip
    at, start, delta = 0, 0, 0
    for i in range(len(key)):
        sizes = key_end[i] - key[i], value_end[i] - value[i], last_end[i] - last[i]
        body = 2 + constant_end[i] - constant[i] + len(name)
        for size in sizes:
            body += size + _size(size)
        delta = 0 if first[i] else delta + 1
        framing = _size(body + _size(delta))
        if not first[i] and at - start + framing + body + _size(delta) > room:
            first[i], delta = True, 0
        if first[i]:
            start = at
        begin[i] = at
        at = _put(body + _size(delta), out, at)
        out[at] = out[at + 1] = 0  # no attributes, and the batch's own timestamp
        at = _put(delta, out, at + 2)
        at = copy_bytes(keys, key[i], key_end[i], out, _put(sizes[0], out, at))
        at = copy_bytes(values, value[i], value_end[i], out, _put(sizes[1], out, at))
        at = copy_bytes(constants, constant[i], constant_end[i], out, at)
        at = copy_bytes(name, 0, len(name), out, at)
        at = copy_bytes(lasts, last[i], last_end[i], out, _put(sizes[2], out, at))
    begin[len(key)] = at


@compiled
def _size(number):  # type: ignore[no-untyped-def]
    """Returns how many bytes the zigzag varint of a number of at least 0 has."""
    rest, size = number >> 6, 1
    while rest:
        rest >>= 7
        size += 1
    return size


@compiled
def _put(number, out, at):  # type: ignore[no-untyped-def]
    """Writes the zigzag varint of a number of at least 0, whose last bit is thus 0. Returns where it ends."""
    rest = number << 1
    while rest > 127:
        out[at] = 128 | (rest & 127)
        rest >>= 7
        at += 1
    out[at] = rest
    return at + 1
