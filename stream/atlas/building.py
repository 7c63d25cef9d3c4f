"""Builds an atlas from recorded pings, or from a topic that still has them.

Of the pings, only those from which a passage may still come are kept, and what is found by day.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Final

from aiokafka.errors import KafkaError

from model.api import Predictor
from model.serving.making import Made, Rules, forecasts_of, make_version
from stream.adapters.files import Row
from stream.adapters.live.on_topic import reader_of
from stream.atlas.growing import PartitionGrowth
from stream.atlas.growing_days import GrowingDays
from stream.config.security import KafkaSecurity, kafka_refusal
from stream.kafka import admin
from stream.kafka.log import bounds, reread
from stream.kafka.records.record_columns import Records
from stream.tracks.clean import Foreign
from stream.wire import Record

__all__ = ["CHUNK_ROWS", "DEFAULT_RULES", "Builder", "Built", "Made", "Rules", "of_rows", "of_topic", "published_of"]
CHUNK_ROWS: Final = 65_536
DEFAULT_RULES: Final = Rules()


@dataclass(frozen=True)
class Built:
    """Holds what is known of all pings by day, before any rule, and how many records were left out."""

    days: GrowingDays
    left_out: int

    def published(self, rules: Rules = DEFAULT_RULES, predictor: Predictor | None = None) -> Made:
        """Returns what may be published of them."""
        return published_of(self.days, rules, predictor)


def published_of(days: GrowingDays, rules: Rules, predictor: Predictor | None = None) -> Made:
    """Returns what may be published of the days that have not faded away. How far its passages are believed is found
    beside the forecasts of `predictor`; without one, all are believed alike."""
    whose = {day: days.whose(day) for day in days}
    forecasts = None if predictor is None else partial(forecasts_of, predictor)
    return make_version(whose, lambda day: days.day(day).passages, rules, forecasts)


class Builder:
    """Takes the records of one partition, and counts what becomes of their pings."""

    def __init__(self, without: Collection[str] = (), foreign: Foreign | None = None) -> None:
        """Takes the names of entities of which nothing is to be counted; `foreign` reads what has not the form of a
        ping of ours."""
        self._growth = PartitionGrowth(without)
        self._foreign = foreign
        self._days = GrowingDays()

    @property
    def records(self) -> int:
        """How many it has taken."""
        return self._growth.records

    def add(self, records: Records) -> None:
        """Takes the next records."""
        for grown in self._growth.add(records, self._foreign):
            self._days.forget(grown.forgotten)
            self._days.add(grown.days)

    def built(self) -> Built:
        return Built(self._days, self._growth.left_out)


def of_rows(
    rows: Iterable[Row], progress: Callable[[int], None] = lambda rows: None, without: Collection[str] = ()
) -> Built:
    """Returns what is known of recorded pings, which come in the order of their times. `progress` is told how many rows
    are read.
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
    """Returns what is known of a topic's pings up to its present end. `progress` is told how many records of how many
    are read; `map_` names the preset or file that reads records of another form. Joins no group.

    Raises ConnectionError if no broker answers or it stops answering, Refused if one denies access, ValueError if there
    is no such topic.
    """
    servers, access, foreign = bootstrap.split(","), security.arguments(), reader_of(map_)
    with admin.connected(bootstrap, security) as client:
        numbers = range(admin.partitions_of(client, topic))
    try:
        found = await bounds(servers, [(topic, number) for number in numbers], access=access)
        days, left_out, done, total = GrowingDays(), 0, 0, sum(end - begin for begin, end in found.values())
        for partition, (begin, end) in found.items():
            builder = Builder(without, foreign)
            async for records in reread(servers, partition, begin, end, access=access):
                builder.add(records)
                progress(done + builder.records, total)
            built, done = builder.built(), done + builder.records
            days.add_all(built.days)
            left_out += built.left_out
    except (KafkaError, TimeoutError) as error:
        refusal = kafka_refusal(bootstrap, security, error)
        raise refusal or ConnectionError(f"reading {topic} at {bootstrap} failed: {error!r}") from error
    return Built(days, left_out)
