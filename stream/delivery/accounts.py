"""Counts what a worker has done with the records that it took.

This equation holds for each partition at any time:

    taken = forecasts + late + rejects + quarantined + duplicates + answered_before + handed_back + in flight

Its two sides are counted at different places, so the equation is a check and not an identity: `taken` where records
enter, the outcomes from what was published and committed, in flight from the lists where records wait. If a record
falls out of a list, or its answer is lost on its way to the broker, the difference stays.

All of it is counted on the event loop, between two awaits, so code on the event loop always reads a consistent state.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Final, NamedTuple

from stream.delivery.partitions import Piece
from stream.engine.counts import Counts
from stream.kafka.log import Partition
from stream.kafka.records.encoded_batches import Answers
from stream.wire import Topics, code_of

BATCH_RECORDS: Final = (1, 4, 16, 64, 256, 1024, 4096)
# 0.05 s is the latency budget of a ping.
SECONDS: Final = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)


@dataclass
class Account:
    """One partition's records since the process began, over all the times that the partition was ours."""

    taken: int = 0  # records that we must answer
    forecasts: int = 0  # of pings in order
    late: int = 0  # forecasts of pings that came late
    rejects: int = 0  # dead letters, except those of impossible jumps
    quarantined: int = 0  # dead letters of impossible jumps
    duplicates: int = 0
    answered_before: int = 0  # records that came again after they were answered
    handed_back: int = 0  # unanswered when the partition was lost: its next owner reads them again
    # These are not outcomes of records, so they are not in the equation.
    gap_fills: int = 0
    log_shortened: int = 0  # times
    retention_lost: int = 0  # offsets deleted before their records were answered

    @property
    def settled(self) -> int:
        answered = self.forecasts + self.late + self.rejects + self.quarantined
        return answered + self.duplicates + self.answered_before + self.handed_back

    def count_unaccounted(self, in_flight: int) -> int:
        """Returns 0 if the accounts are right; more if records are lost, less if some were settled twice."""
        return self.taken - self.settled - in_flight


def so_far(pieces: Iterable[Piece], counts: Mapping[Partition, Counts]) -> dict[Partition, Counts]:
    """Returns copies of what the engine has counted until now, of the pieces' partitions."""
    partitions = {piece.owned.partition for piece in pieces}
    return {one: counts[one].copy() if one in counts else Counts() for one in partitions}


def count_batch(
    pieces: Iterable[Piece], before: Mapping[Partition, Counts], counts: Mapping[Partition, Counts]
) -> dict[Partition, Counts]:
    """Returns what was counted of one batch, given what `so_far` returned before it.

    Call it before the pieces are marked as taken: records below `taken` came once more, and the engine did not get
    them.
    """
    found = {partition: counts[partition].since(earlier) for partition, earlier in before.items()}
    for piece in pieces:
        found[piece.owned.partition].folded += piece.records.count_before(piece.owned.taken)
    return found


class Spread(NamedTuple):
    """A histogram at one moment."""

    bounds: Sequence[float]
    at_most: Sequence[int]  # how many values were at most each bound; the last element counts all values
    sum: float


class Histogram:
    """Counts how many values fell below each bound.

    It is for one thread: unlike the client library's, it takes no lock.
    """

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        self._counts[bisect_left(self._bounds, value)] += times
        self._sum += value * times

    def read(self) -> Spread:
        return Spread(self._bounds, list(accumulate(self._counts)), self._sum)


@dataclass(eq=False)
class Accounts:
    """The accounts of all partitions, and histograms of how long things took."""

    topics: Topics
    accounts: dict[Partition, Account] = field(default_factory=lambda: defaultdict(Account))
    batch_records: Histogram = field(default_factory=lambda: Histogram(BATCH_RECORDS))
    engine_s: Histogram = field(default_factory=lambda: Histogram(SECONDS))
    commit_s: Histogram = field(default_factory=lambda: Histogram(SECONDS))  # from the engine's answers to the offsets
    checkpoint_s: Histogram = field(default_factory=lambda: Histogram(SECONDS))
    # From a record's timestamp to its committed answer. Each record counts like the first of its poll, which is the
    # oldest: an upper bound, measured once per poll. The timestamp is the producer's, so a backlog and a wrong clock
    # count, too. A record without a time has waited since it was fetched.
    latency_s: Histogram = field(default_factory=lambda: Histogram(SECONDS))
    checkpoints_failed: int = 0  # Redis could not be reached
    fenced: int = 0  # writes that were refused because another worker had claimed the partition
    batches_failed: int = 0  # batches for which the engine raised: their partitions are taken over again
    rejects: Counter[str] = field(default_factory=Counter)  # committed dead letters, by code
    fields_dropped: Counter[str] = field(default_factory=Counter)  # by name, for pings whose answers are committed

    def take(self, partition: Partition, records: int) -> None:
        self.accounts[partition].taken += records

    def hand_back(self, pieces: Iterable[Piece]) -> None:
        for piece in pieces:
            self.accounts[piece.owned.partition].handed_back += len(piece.records)

    def settle(
        self, pieces: Sequence[Piece], answers: Answers, counts: Mapping[Partition, Counts], now_ms: float
    ) -> None:
        """Counts records that were published and committed, of which the engine has counted `counts`.

        Answers to other partitions do not count.
        """
        published = answers.counts()
        for piece in pieces:
            first_ms = float(piece.records.timestamps_ms[0])
            waited_ms = now_ms - (piece.fetched_ms if first_ms < 0 else first_ms)
            self.latency_s.observe(max(waited_ms, 0.0) / 1000, len(piece.records))
        partitions = {piece.owned.partition for piece in pieces}
        self.rejects.update(
            code
            for _, one in answers.others
            if one.topic == self.topics.dead_letters and (one.src.topic, one.src.partition) in partitions
            if (code := code_of(one.headers)) is not None
        )
        for partition in partitions:
            account, done = self.accounts[partition], counts[partition]
            account.forecasts += published[self.topics.forecasts, partition] - done.late
            account.late += done.late
            account.rejects += published[self.topics.dead_letters, partition] - done.quarantined
            account.quarantined += done.quarantined
            account.duplicates += done.duplicates
            account.answered_before += done.folded
            account.gap_fills += published[self.topics.gapfills, partition]
            self.fields_dropped.update(done.fields_dropped)
