"""The parts of a batch while it is folded. Nothing here calls the model or the store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model import api
from model.api import Approach, Moment
from stream.engine.answers import Answered
from stream.engine.asks import NOTHING, Asks, Choice, Networks
from stream.engine.entities.shard import Entity, Shard, Slots
from stream.engine.entities.table import windows
from stream.engine.pings import Pings
from stream.kafka.records.encoded_batches import Answers, EncodedBatch
from stream.kafka.records.record_columns import Records
from stream.store.base import Partition
from stream.tracks.fix import FIX_BYTES
from stream.tracks.track import Accepted, Gap, Late, Track
from stream.tracks.track_table import NOT_ASKED, firsts
from stream.wire import Outgoing

if TYPE_CHECKING:  # who does not trace does not import it
    from stream.tracing.pings import TracedBatch


@dataclass(eq=False)
class EngineBatch:
    """One call of `process`: its input, its clocks, and its answers."""

    records: Records
    pings: Pings
    shards: Mapping[Partition, Shard]
    started_ms: float
    fetched_ms: float
    silent: bool
    choice: Choice = NOTHING
    moments: list[Moment] = field(default_factory=list)  # of the outcomes in `fills`, in that order
    fills: list[Asked] = field(default_factory=list)
    fillers: list[NDArray[np.int64]] = field(default_factory=list)  # the places of the networks that `moments` are of
    said: list[Answered] = field(default_factory=list)
    pages: list[EncodedBatch] = field(default_factory=list)
    others: list[tuple[int, Outgoing]] = field(default_factory=list)  # unordered, each with the row that it answers
    traced: TracedBatch | None = field(init=False, default=None)  # which of its pings are in a trace, if any
    sources: list[Shard] = field(init=False)  # one for each of the records' partitions
    asks: Asks | None = field(init=False, default=None)
    networks: Networks | None = field(init=False, default=None)  # None: each entity's state stays where it is

    def __post_init__(self) -> None:
        self.sources = [self.shards[partition] for partition in self.records.partitions]
        if self.silent:
            return
        if self.choice.atlas is not None:
            self.asks = Asks.of(self.records, self.choice.atlas)
        if self.choice.weights is not None:
            self.networks = Networks.of(self.records, self.pings.names, self.pings.of, self.choice.weights)

    def count(self) -> None:
        """Counts the batch's records, and the fields that were dropped from them, in their shards' counts."""
        which = self.records.which
        for number, records in enumerate(np.bincount(which).tolist()):
            counts = self.sources[number].counts
            if self.silent:
                counts.replayed += records
                continue
            counts.records_in += records
            if self.pings.dropped.any():
                counts.fields_dropped = counts.fields_dropped + self.pings.dropped_of(which == number)  # never in place

    def shard_of(self, row: int) -> Shard:
        return self.sources[int(self.records.which[row])]

    def entities(self) -> Iterator[tuple[Shard, str]]:
        """Yields the entities that have a ping here, in the order of `Pings.names`."""
        sources = self.records.which[self.pings.first].tolist()
        return zip(map(self.sources.__getitem__, sources), self.pings.names, strict=True)

    def part(self, rows: Sequence[int]) -> EngineBatch:
        """Returns these of its records, in order, as a batch of their own."""
        records = self.records.at(np.array(rows, np.int64))
        pings = self.pings.part(rows, records)
        part = EngineBatch(records, pings, self.shards, self.started_ms, self.fetched_ms, self.silent, self.choice)
        part.traced = self.traced
        return part

    def take(self, rows: Sequence[int], part: EngineBatch) -> None:
        """Takes over the answers of `part`, which is these rows."""
        index = np.array(rows, np.int64)
        self.pages += [page._replace(rows=index[page.rows]) for page in part.pages]
        self.others += [(rows[row], one) for row, one in part.others]

    @property
    def answers(self) -> Answers:
        # They are published in this order. Fills are made last of all, but none may follow its own retraction.
        others = sorted(self.others, key=itemgetter(0))
        if self.traced is not None:
            others = self.traced.add_headers(self.records, others)
        return Answers(self.records, self.pages, others)


@dataclass(frozen=True, eq=False)
class Rows:
    """Pings of a batch in columns. Those of one entity are side by side, in order."""

    index: NDArray[np.int64]  # the row of the ping's record in the batch
    slots: Slots
    fixes: NDArray[Any]  # FIX
    offsets: NDArray[np.int64]
    n: NDArray[np.int64]  # fixes in the window that ends with this one; 0 until it is in a track
    from_ts: NDArray[np.int64]  # the time of that window's oldest fix
    approach: Approach  # by which ways they came, if atlases are asked; else of no rows

    @classmethod
    def of(cls, batch: EngineBatch, index: NDArray[np.int64], slots: Slots) -> Rows:
        """Returns the pings at these indices, whose entities have these slots."""
        by_slot = np.argsort(slots, kind="stable")
        rows = index[by_slot]
        fixes, offsets = batch.pings.fixes[rows], batch.records.offsets[rows]
        approach = NOT_ASKED if batch.asks is None else Approach.none(len(rows))
        n, from_ts = np.zeros((2, len(rows)), np.int64)
        return cls(rows, slots[by_slot], fixes, offsets, n, from_ts, approach)

    def __len__(self) -> int:
        return len(self.slots)

    def part(self, places: NDArray[np.int64]) -> Rows:
        """Returns the rows at some places, in order."""
        index, slots, fixes, offsets, n, from_ts = (
            column[places] for column in (self.index, self.slots, self.fixes, self.offsets, self.n, self.from_ts)
        )
        approach = self.approach if self.approach is NOT_ASKED else self.approach.at(places)
        return Rows(index, slots, fixes, offsets, n, from_ts, approach)

    def steps(self, outcomes: Sequence[Outcome]) -> list[tuple[NDArray[np.int64], list[Outcome]]]:
        """Returns the steps of the model: for each step the places of its rows, in order, and its outcomes.

        A row that is in no track is in no step. A step takes an entity's pings one after the other. It ends before a
        ping that begins a new session, and before and after a late ping. An entity's first ping is in the first step,
        whatever it is.
        """
        taken = np.flatnonzero(self.n)
        if not any(
            outcome.late or outcome.restart for outcome in outcomes
        ):  # nearly always: saves a small batch some 20 calls
            return [(taken, list(outcomes))] if len(taken) else []
        begins, late = np.zeros(len(self), np.int64), np.zeros(len(self), np.bool_)
        begins[[outcome.row for outcome in outcomes if outcome.late or outcome.restart]] = 1
        late[[outcome.row for outcome in outcomes if outcome.late]] = True
        first, begins, late = firsts(self.slots[taken]), begins[taken], late[taken]
        begins[1:] |= late[:-1] & ~first[1:]
        begun = np.cumsum(begins)
        step_of = np.zeros(len(self), np.int64)
        step_of[taken] = begun - np.repeat(begun[first], lengths(first))
        counts = np.bincount(step_of[taken])
        places = np.split(taken[np.argsort(step_of[taken], kind="stable")], np.cumsum(counts)[:-1])
        steps: list[tuple[NDArray[np.int64], list[Outcome]]] = [(some, []) for some in places if len(some)]
        for outcome in outcomes:
            steps[step_of[outcome.row]][1].append(outcome)
        return steps


@dataclass(frozen=True, eq=False)
class Outcome:
    """The outcome of a ping that was not plain, but changed its entity's track.

    It has the track right after the ping, and the verdict.
    """

    row: int  # in the batch's Rows
    index: int  # the row of its record in the batch
    entity: Entity
    shard: Shard
    track: Track
    verdict: Accepted | Late

    @property
    def seen(self) -> bytes:
        """The window up to this ping."""
        if isinstance(self.verdict, Late):
            return self.track.window[: (self.verdict.position + 1) * FIX_BYTES]
        return self.track.window

    @property
    def late(self) -> bool:
        return isinstance(self.verdict, Late)

    @property
    def restart(self) -> bool:
        return isinstance(self.verdict, Accepted) and self.verdict.restart

    @property
    def gaps(self) -> list[tuple[Gap, Literal["provisional", "final"]]]:
        """The gaps to fill: the final ones first, then the one that this ping has just closed."""
        if isinstance(self.verdict, Late):
            return []
        new: list[tuple[Gap, Literal["provisional", "final"]]] = [(gap, "final") for gap in self.verdict.finals]
        return new if self.verdict.gap is None else [*new, (self.verdict.gap, "provisional")]


class Asked(NamedTuple):
    """A gap that a ping has closed or made final."""

    outcome: Outcome
    gap: Gap
    status: Literal["provisional", "final"]


def lengths(first: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Returns how many rows there are from each first row to the next."""
    return np.diff(np.append(np.flatnonzero(first), len(first)))


def rows_of(outcomes: Sequence[Outcome]) -> NDArray[np.int64]:
    return np.array([outcome.row for outcome in outcomes], np.int64)


def slots_of(outcomes: Sequence[Outcome]) -> Slots:
    return np.array([outcome.entity.slot for outcome in outcomes], np.int64)


def ceilings(batch: EngineBatch, partition: Partition) -> dict[str, int]:
    """Returns the first offset of each entity in the batch: no stored record can include it."""
    first = batch.records.offsets[batch.pings.first].tolist()
    shard = batch.shards[partition]
    return {entity_id: offset for (of, entity_id), offset in zip(batch.entities(), first, strict=True) if of is shard}


def model_gap(gap: Gap) -> api.Gap:
    return api.Gap(windows(gap.before), windows(gap.after), np.array(gap.times_ms, dtype=np.int64))
