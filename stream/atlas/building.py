"""Builds an atlas from recorded pings, or from a topic that still has them.

Pings are kept until all are read, some hundred bytes each, because what becomes of one is known only later. Then their
outcomes are counted, some entities at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

import numpy as np
from aiokafka.errors import KafkaError
from numpy.typing import NDArray

from model.atlas import outcomes, sums
from model.atlas.outcomes import NEVER
from model.atlas.sums import Sums
from stream.adapters.files import Row
from stream.atlas.follower import Follower, InOrder
from stream.config.security import KafkaSecurity, kafka_refusal
from stream.engine.batch import firsts
from stream.kafka import admin
from stream.kafka.log import bounds, reread
from stream.kafka.record_columns import Records
from stream.wire import Record

CHUNK_ROWS: Final = 65_536
CHUNK_PINGS: Final = 50_000  # whose outcomes are counted together, and all of their last entity: some 150 MB


@dataclass(frozen=True)
class Built:
    """The sums of all pings, before `Sums.published`, and what they contain."""

    sums: Sums
    contains: dict[str, Any]
    left_out: int


class Builder:
    """Takes records, and counts what became of their pings when all are there."""

    def __init__(self) -> None:
        self._follower = Follower()
        self._parts: list[InOrder] = []

    @property
    def records(self) -> int:
        """How many it has taken."""
        return self._follower.records

    def add(self, records: Records) -> None:
        """Takes records; those of one partition come in their order."""
        self._parts.append(self._follower.fold(records))

    def built(self) -> Built:
        entity, fixes, begins = (
            np.concatenate([part[i] for part in self._parts] or [np.empty(0)]) for i in range(len(InOrder._fields))
        )
        order = np.argsort(entity, kind="stable")
        entity, fixes, begins = entity[order], fixes[order], begins[order]
        counted = _counted(self._follower.names, entity, fixes, begins)
        return Built(counted, _contents(self._follower.names, entity, fixes), self._follower.left_out)


def of_rows(rows: Iterable[Row], progress: Callable[[int], None] = lambda rows: None) -> Built:
    """Returns the sums of recorded pings, which come in the order of their times. `progress` is told how many rows are
    read.
    """
    builder, coming = Builder(), iter(rows)
    while chunk := list(islice(coming, CHUNK_ROWS)):
        # A recording has no time of publication: nothing of it can be told to be in the future.
        records = [Record("", 0, place, -1, row.key, row.value) for place, row in enumerate(chunk, builder.records)]
        builder.add(Records.of(records))
        progress(builder.records)
    return builder.built()


async def of_topic(
    bootstrap: str, topic: str, security: KafkaSecurity, progress: Callable[[int, int], None] = lambda done, total: None
) -> Built:
    """Returns the sums of a topic's pings up to its present end. `progress` is told how many records of how many are
    read. Joins no group.

    Raises ConnectionError if no broker answers or it stops answering, Refused if one denies access, ValueError if there
    is no such topic.
    """
    servers, access, builder = bootstrap.split(","), security.arguments(), Builder()
    with admin.connected(bootstrap, security) as client:
        numbers = range(admin.partitions_of(client, topic))
    try:
        found = await bounds(servers, [(topic, number) for number in numbers], access=access)
        total = sum(end - begin for begin, end in found.values())
        for partition, (begin, end) in found.items():
            async for records in reread(servers, partition, begin, end, access=access):
                builder.add(records)
                progress(builder.records, total)
    except (KafkaError, TimeoutError) as error:
        refusal = kafka_refusal(bootstrap, security, error)
        raise refusal or ConnectionError(f"reading {topic} at {bootstrap} failed: {error!r}") from error
    return builder.built()


def _counted(names: list[str], entity: NDArray[np.int64], fixes: NDArray[Any], begins: NDArray[np.bool_]) -> Sums:
    total = Sums.none()
    if not len(entity):
        return total
    bits = sums.entity_bits(names)
    new = firsts(entity)
    starts, entities = np.flatnonzero(begins | new), np.flatnonzero(new)
    begin = 0
    while begin < len(entity):
        later = entities[entities >= begin + CHUNK_PINGS]  # a chunk has all tracks of its entities
        end = int(later[0]) if len(later) else len(entity)
        tracks = starts[(starts >= begin) & (starts < end)] - begin
        total = total.plus(_of_tracks(entity[begin:end], fixes[begin:end], tracks, bits))
        begin = end
    return total


def _of_tracks(
    entity: NDArray[np.int64], fixes: NDArray[Any], starts: NDArray[np.int64], bits: NDArray[np.uint64]
) -> Sums:
    found = outcomes.of_tracks(fixes, starts)
    counts = sums.counted(entity[found.row], found.key, fixes["ts_ms"][found.row])
    return Sums.of_outcomes(found, counts, bits[entity[found.row]], *np.nonzero(found.known_ms < NEVER))


def _contents(names: list[str], entity: NDArray[np.int64], fixes: NDArray[Any]) -> dict[str, Any]:
    if not len(entity):
        return {"entities": 0, "pings": 0, "from_ms": 0, "to_ms": 0}
    times = fixes["ts_ms"]
    span = {"from_ms": int(times.min()), "to_ms": int(times.max())}
    return {"entities": len({names[number] for number in np.unique(entity).tolist()}), "pings": len(entity), **span}
