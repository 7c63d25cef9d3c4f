"""What a worker has done with the records that it took. Knows counts; knows no broker, no clock and no metric's name.

Of each partition, at any time:

    taken = forecasts + late + rejects + quarantined + duplicates + answered_before + handed_back + in flight

The two sides are counted at different places, so that the equation is a check and not an identity: `taken` where
records enter, the outcomes from what was published and committed, in flight from the lists where records wait. A
record that falls out of a list, or whose answer is lost on its way to the broker, is a difference that stays.

All of it is counted on the event loop, between two awaits: whoever reads it there reads one moment.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from operator import sub
from typing import Final, NamedTuple

from stream.delivery.partitions import Piece
from stream.engine.counts import Counts
from stream.kafka.encoded_batches import Answers
from stream.kafka.log import Partition
from stream.wire import Topics, code_of

BATCH_RECORDS: Final = (1, 4, 16, 64, 256, 1024, 4096)
SECONDS: Final = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)  # 0.05 is the budget of a ping


@dataclass
class Account:
    """One partition's records since the process began, over all the times that it was ours."""

    taken: int = 0  # ours to answer
    forecasts: int = 0  # of pings in order
    late: int = 0  # forecasts of pings that came late
    rejects: int = 0  # dead letters: no pings, and pings of entities in quarantine
    quarantined: int = 0  # dead letters of impossible jumps
    duplicates: int = 0
    answered_before: int = 0  # the consumer brought them once more
    handed_back: int = 0  # unanswered, as the partition went: its next owner reads them again
    # Beside the equation: no record's outcome.
    gap_fills: int = 0
    log_shortened: int = 0  # times
    retention_lost: int = 0  # offsets deleted before their records were answered

    @property
    def settled(self) -> int:
        answered = self.forecasts + self.late + self.rejects + self.quarantined
        return answered + self.duplicates + self.answered_before + self.handed_back

    def unaccounted(self, in_flight: int) -> int:
        """0. Above, records are lost; below, some were settled twice."""
        return self.taken - self.settled - in_flight


NO_FIELDS: Final[Counter[str]] = Counter()


class OutcomeCounts(NamedTuple):
    """What answers do not tell: which of them are of which kind, which records have none, and which optional fields
    were dropped from their pings, by name."""

    late: int = 0
    quarantined: int = 0
    duplicates: int = 0
    answered_before: int = 0
    fields_dropped: Counter[str] = NO_FIELDS


def so_far(counts: Mapping[Partition, Counts]) -> dict[Partition, OutcomeCounts]:
    """By the engine's own counts, since it began."""
    return {
        key: OutcomeCounts(one.late, one.quarantined, one.duplicates, one.folded, one.fields_dropped)
        for key, one in counts.items()
    }


def untold(
    pieces: Iterable[Piece], before: Mapping[Partition, OutcomeCounts], counts: Mapping[Partition, Counts]
) -> dict[Partition, OutcomeCounts]:
    """Of one batch at the engine, given what was `so_far` before it; called before the pieces are marked as taken."""
    now = so_far(counts)
    found: dict[Partition, OutcomeCounts] = {}
    for piece in pieces:
        key, nothing = piece.owned.partition, OutcomeCounts()
        told = found.get(key) or OutcomeCounts(*map(sub, now.get(key, nothing), before.get(key, nothing)))
        skipped = piece.records.count_before(piece.owned.taken)  # delivery kept them from the engine
        found[key] = told._replace(answered_before=told.answered_before + skipped)
    return found


class Spread(NamedTuple):
    """A histogram at one moment."""

    bounds: Sequence[float]
    at_most: Sequence[int]  # how many values were at most each bound; the last are all
    sum: float


class Histogram:
    """How often values fell below each bound. For one thread: unlike the client library's, it takes no lock."""

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
    """The accounts of all partitions, and how long things took."""

    topics: Topics
    accounts: dict[Partition, Account] = field(default_factory=lambda: defaultdict(Account))
    batch_records: Histogram = field(default_factory=lambda: Histogram(BATCH_RECORDS))
    engine_s: Histogram = field(default_factory=lambda: Histogram(SECONDS))
    commit_s: Histogram = field(default_factory=lambda: Histogram(SECONDS))  # from the engine's answers to the offsets
    checkpoint_s: Histogram = field(default_factory=lambda: Histogram(SECONDS))
    # From a record's timestamp to its committed answer, each record counted like the first of its poll, which is the
    # oldest: an upper bound, at one look per poll. The timestamp is its producer's, so a backlog counts, and a wrong
    # clock does, too. One without a time has waited since it was fetched.
    latency_s: Histogram = field(default_factory=lambda: Histogram(SECONDS))
    checkpoints_failed: int = 0  # Redis was away
    fenced: int = 0  # writes that were refused, as another worker had claimed the partition
    batches_failed: int = 0  # at the engine: their partitions are taken over anew
    rejects: Counter[str] = field(default_factory=Counter)  # dead letters by code; committed
    fields_dropped: Counter[str] = field(default_factory=Counter)  # by name; of pings whose answers are committed

    def take(self, partition: Partition, records: int) -> None:
        self.accounts[partition].taken += records

    def hand_back(self, pieces: Iterable[Piece]) -> None:
        for piece in pieces:
            self.accounts[piece.owned.partition].handed_back += len(piece.records)

    def settle(
        self, pieces: Sequence[Piece], answers: Answers, told: Mapping[Partition, OutcomeCounts], now_ms: float
    ) -> None:
        """These were published and committed. Answers to other partitions do not count."""
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
            account, quiet = self.accounts[partition], told[partition]
            account.forecasts += published[self.topics.forecasts, partition] - quiet.late
            account.late += quiet.late
            account.rejects += published[self.topics.dead_letters, partition] - quiet.quarantined
            account.quarantined += quiet.quarantined
            account.duplicates += quiet.duplicates
            account.answered_before += quiet.answered_before
            account.gap_fills += published[self.topics.gapfills, partition]
            self.fields_dropped.update(quiet.fields_dropped)
