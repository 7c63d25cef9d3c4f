"""Gives the rows of a file to a worker's engine, in batches. There is no broker and no store, and the clock stands
still, so that the same file gives the same answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from model.api import Atlas, Predictor
from stream.adapters.files import RecordedRow
from stream.atlas.own import OwnAtlas
from stream.atlas.replaying import One
from stream.commands.files.survey import NO_TIME, Progress
from stream.commands.replay import records_of
from stream.config.settings import Settings
from stream.engine.assignment import NOTHING, VersionChoice
from stream.engine.engine import Engine
from stream.store.base import MemoryStore
from stream.tracks.track import Policy
from stream.wire import Outgoing, context_of

MOST_POINTS: Final = 3_600  # of a fill whose step was asked for: a session's longest silence is an hour


class RejectedRow(NamedTuple):
    """A row that was no ping, or did not fit the pings before it."""

    row: int  # its number in the file
    code: str
    message: str


@dataclass
class RowCounts:
    """Counts what became of the rows so far."""

    rows: int = 0
    pings: int = 0
    duplicates: int = 0
    forecasts: int = 0  # that were written
    along: int = 0  # of these, moved to where passages of an atlas went


def answers(
    batches: Iterable[list[tuple[int, RecordedRow]]],
    settings: Settings,
    counts: RowCounts,
    progress: Progress,
    *,
    forecasts: bool = True,
    atlas: Path | None = None,
    own: OwnAtlas | None = None,
    step_ms: int = 0,
    unit_ms: int = 1,
) -> Iterator[tuple[int, Outgoing]]:
    """Yields the answers to the rows, each with the number of its row. `counts` is kept while it goes, and `told` hears
    how many rows are done.

    Without `forecasts` only gap fills and dead letters come. `atlas` is a file that all rows ask; without one they ask
    `own`. The points of a gap are `step_ms` apart (0: the track's own cadence), in whole multiples of `unit_ms`. Raises
    WeightsError, AtlasError and OSError for what cannot be loaded.
    """
    predictor = Predictor.load(settings.weights)
    choice = NOTHING if atlas is None else VersionChoice(One(Atlas.load(atlas)))
    policy = gap_policy(predictor.history, step_ms, unit_ms)
    engine = Engine(predictor, MemoryStore(), settings, clock_ms=lambda: 0.0, policy=policy)
    published_ms = int(time.time() * 1000)
    with asyncio.Runner() as loop:
        for batch in batches:
            if own is not None and own.atlases:
                ts_ms = np.array([NO_TIME if row.ts_ms is None else row.ts_ms for _, row in batch], np.int64)
                choice = VersionChoice(own.choose(ts_ms, counts.rows))
            records = records_of([row for _, row in batch], counts.rows, settings.topics.pings, published_ms)
            said = loop.run(engine.process(records, started_ms=0.0, fetched_ms=0.0, choice=choice))
            first = counts.rows
            counts.rows += len(batch)
            of_engine = list(engine.counts.values())
            counts.pings = sum(one.forecasts for one in of_engine)
            counts.duplicates = sum(one.duplicates for one in of_engine)
            for answer in said if forecasts else [one for _, one in said.others]:
                yield batch[answer.src.offset - first][0], answer
            progress(counts.rows)


def gap_policy(history: int, step_ms: int = 0, unit_ms: int = 1) -> Policy:
    """Returns the rules of tracks whose gaps are filled, of which so many pings are known."""
    policy = Policy(history, gap_step_ms=step_ms, gap_unit_ms=unit_ms)
    return policy._replace(max_gap_points=MOST_POINTS) if step_ms else policy


def bad(row: int, answer: Outgoing) -> RejectedRow:
    """Returns why a row is no ping, from its dead letter."""
    context = context_of(answer.headers)
    return RejectedRow(row, context["code"], context["message"])
