"""Builds an atlas from recorded pings, or from a topic that still has them.

Of the pings, only those from which a passage may still come are kept, and what is found by day.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Final

from model.api import Predictor
from model.serving.making import Made, Rules, forecasts_of, make_version
from stream.adapters.files import RecordedRow
from stream.adapters.live.on_topic import reader_of
from stream.atlas.follower import POLICY
from stream.atlas.growing import PartitionGrowth
from stream.atlas.growing_days import GrowingDays
from stream.config.security import KafkaSecurity
from stream.kafka.reading import to_end
from stream.kafka.records.record_columns import Records
from stream.tracks.clean import Foreign
from stream.tracks.track import Policy
from stream.wire import Record

__all__ = [
    "CHUNK_ROWS",
    "DEFAULT_RULES",
    "Builder",
    "Built",
    "Made",
    "Rules",
    "choose_publishable",
    "of_rows",
    "of_topic",
]
CHUNK_ROWS: Final = 65_536
DEFAULT_RULES: Final = Rules()


@dataclass(frozen=True)
class Built:
    """Holds what is known of all pings by day, before any rule, and how many records were left out."""

    days: GrowingDays
    left_out: int

    def publishable(self, rules: Rules = DEFAULT_RULES, predictor: Predictor | None = None) -> Made:
        """Returns what may be published of them."""
        return choose_publishable(self.days, rules, predictor)


def choose_publishable(days: GrowingDays, rules: Rules, predictor: Predictor | None = None) -> Made:
    """Returns what may be published of the days that have not faded away. How far its passages are believed is found
    beside the forecasts of `predictor`; without one, all are believed alike."""
    whose = {day: days.whose(day) for day in days}
    forecasts = None if predictor is None else partial(forecasts_of, predictor)
    return make_version(whose, lambda day: days.day(day).passages, rules, forecasts)


class Builder:
    """Takes the records of one partition, and counts what becomes of their pings."""

    def __init__(self, without: Collection[str] = (), foreign: Foreign | None = None, policy: Policy = POLICY) -> None:
        """Takes the names of entities of which nothing is to be counted; `foreign` reads what has not the form of a
        ping of ours. `policy` is as of `Follower`."""
        self._growth = PartitionGrowth(without, policy)
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
    rows: Iterable[RecordedRow],
    progress: Callable[[int], None] = lambda rows: None,
    without: Collection[str] = (),
    policy: Policy = POLICY,
) -> Built:
    """Returns what is known of recorded pings, of which those of an entity come in the order of their times. `progress`
    is told how many rows are read; `policy` is as of `Follower`.
    """
    builder, coming = Builder(without, policy=policy), iter(rows)
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
    progress: Callable[[float], None] = lambda done: None,
    without: Collection[str] = (),
    map_: str | None = None,
) -> Built:
    """Returns what is known of a topic's pings up to its present end. `progress` gets the share that is read; `map_`
    names the preset or file that reads records of another form. Joins no group.

    Raises ConnectionError if no broker answers or it stops answering, Refused if one denies access, ValueError if there
    is no such topic.
    """
    foreign = reader_of(map_)
    builder, number, parts = Builder(without, foreign), 0, list[Built]()
    async for chunk in to_end(bootstrap, topic, security):
        if chunk.number != number:
            parts.append(builder.built())
            builder, number = Builder(without, foreign), chunk.number
        builder.add(chunk.records)
        progress(chunk.done)
    parts.append(builder.built())
    days = GrowingDays()
    for one in parts:
        days.add_all(one.days)
    return Built(days, sum(one.left_out for one in parts))
