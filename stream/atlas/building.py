"""Builds an atlas from recorded pings, or from a topic that still has them.

Of the pings, only those of which something may still become are kept, and the sums by day.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from aiokafka.errors import KafkaError

from model.atlas.days import contents, seen
from model.atlas.published import HALF_LIFE_DAYS, MIN_ENTITIES, Published, of_runs, weights
from stream.adapters.files import Row
from stream.adapters.live.on_topic import reader_of
from stream.atlas.growing import PartitionGrowth
from stream.atlas.growing_days import Days, GrowingDays
from stream.config.security import KafkaSecurity, kafka_refusal
from stream.kafka import admin
from stream.kafka.log import bounds, reread
from stream.kafka.records.record_columns import Partition, Records
from stream.tracks.clean import Foreign
from stream.wire import Record

CHUNK_ROWS: Final = 65_536
MAX_CELLS: Final = 20_000_000  # keys in an atlas, which have 168 bytes each


@dataclass(frozen=True)
class Rules:
    """By what rules an atlas is made of the sums of days."""

    half_life_days: float = HALF_LIFE_DAYS
    min_entities: int = MIN_ENTITIES
    max_cells: int = MAX_CELLS


DEFAULT_RULES: Final = Rules()


@dataclass(frozen=True)
class Built:
    """The sums of all pings by day, before any rule, and how many records were left out."""

    days: Days
    left_out: int

    def published(self, rules: Rules = DEFAULT_RULES) -> tuple[Published, dict[str, Any]]:
        """Returns what may be published of them, and what it contains."""
        return published_of(self.days, rules)


def published_of(days: Days, rules: Rules) -> tuple[Published, dict[str, Any]]:
    """Returns what may be published of days, and what it contains: those that have not faded away."""
    whose = {day: days.whose(day) for day in days}
    counting = weights(whose, seen(whose, rules.min_entities), rules.half_life_days)
    runs = ((days.run(day), of_day) for day, of_day in counting.items())
    found = of_runs(runs, rules.min_entities, rules.max_cells)
    made = {"half_life_days": rules.half_life_days, "min_entities": rules.min_entities}
    return found, {**contents([whose[day] for day in counting]), **made}


class Builder:
    """Takes records, and counts what becomes of their pings."""

    def __init__(self, without: Collection[str] = (), foreign: Foreign | None = None) -> None:
        """Takes the names of entities of which nothing is to be counted; `foreign` reads what has not the form of a
        ping of ours."""
        self._without = frozenset(without)
        self._foreign = foreign
        self._growths: dict[Partition, PartitionGrowth] = {}
        self._days = GrowingDays()

    @property
    def records(self) -> int:
        """How many it has taken."""
        return sum(growth.records for growth in self._growths.values())

    def add(self, records: Records) -> None:
        """Takes records of one partition; they come in their order."""
        if not records:
            return
        (partition,) = records.partitions
        if partition not in self._growths:
            self._growths[partition] = PartitionGrowth(self._without)
        self._days.add(self._growths[partition].add(records, self._foreign))

    def built(self) -> Built:
        return Built(self._days, sum(growth.left_out for growth in self._growths.values()))


def of_rows(
    rows: Iterable[Row], progress: Callable[[int], None] = lambda rows: None, without: Collection[str] = ()
) -> Built:
    """Returns the sums of recorded pings, which come in the order of their times. `progress` is told how many rows are
    read.
    """
    builder, coming = Builder(without), iter(rows)
    while chunk := list(islice(coming, CHUNK_ROWS)):
        # A recording has no time of publication: nothing of it can be told to be in the future.
        records = [Record("", 0, place, -1, row.key, row.value) for place, row in enumerate(chunk, builder.records)]
        builder.add(Records.of(records))
        progress(builder.records)
    return builder.built()


async def of_topic(
    bootstrap: str,
    topic: str,
    security: KafkaSecurity,
    progress: Callable[[int, int], None] = lambda done, total: None,
    without: Collection[str] = (),
    map_: str | None = None,
) -> Built:
    """Returns the sums of a topic's pings up to its present end. `progress` is told how many records of how many are
    read; `map_` names the preset or file that reads records of another form. Joins no group.

    Raises ConnectionError if no broker answers or it stops answering, Refused if one denies access, ValueError if there
    is no such topic.
    """
    servers, access, builder = bootstrap.split(","), security.arguments(), Builder(without, reader_of(map_))
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
