"""One partition that is ours: scores its records, and says with each committed offset how to go on from there.

What waits is in no store. It is made again of the forecasts topic: the metadata of a commit has the offset `since` from
which on the records are enough for that, and what else cannot be read from them (event time, and the watches of drift).
Whoever takes the partition over reads from `since` and publishes nothing up to the committed offset.
"""

from __future__ import annotations

import logging
from typing import Final

import msgspec

from stream.kafka.log import Seen, Start
from stream.kafka.records.record_columns import Partition, Records
from stream.services.scores.scoring.clock import Mark
from stream.services.scores.scoring.drift import State, Watches
from stream.services.scores.scoring.scorer import Scorer
from stream.services.scores.settings import ScoreSettings
from stream.wire import Drift, Score

log: Final = logging.getLogger(__name__)

VERSION: Final = 1  # of the metadata, and of the rules by which records become scores


class CommitMetadata(msgspec.Struct, frozen=True, omit_defaults=True):
    """The metadata of a committed offset. A broker takes 4,096 bytes of it, and it has 3,600 at most."""

    version: int
    longest_s: float
    since: Mark
    watches: list[State] = []
    seen: str = ""  # what is known of the log (`stream.kafka.log.Seen`)


class Decided(msgspec.Struct, frozen=True):
    """A record to publish, and the offset of the forecast that decided it."""

    offset: int
    record: Score | Drift


class Owned:
    """One partition, with what waits in it."""

    def __init__(
        self,
        partition: Partition,
        settings: ScoreSettings,
        metadata_before: CommitMetadata | None,
        answered: int | None,
    ) -> None:
        """`answered` is the committed offset, below which all is published; None: nothing is."""
        self.partition = partition
        self._settings = settings
        self.answered = answered
        self.begin = (
            answered if metadata_before is None else metadata_before.since.offset
        )  # the first record to read; None: the log's first
        start = None if metadata_before is None else metadata_before.since
        self.scorer = Scorer(settings.rules, start=start, max_entities=settings.max_entities)
        watched = [] if metadata_before is None else metadata_before.watches
        self._watches = Watches(*partition, watched) if settings.drift else None
        self.next_offset = self.begin

    @classmethod
    def take_over(
        cls, partition: Partition, settings: ScoreSettings, committed: tuple[int, str] | None, start: Start
    ) -> Owned:
        """Takes a partition over from where its group has committed, offset and metadata, in a log that goes on so.

        Of a log that was cut, what waits in the rest is made again of that, and records from the cut on are new.
        """
        name = f"{partition[0]}/{partition[1]}"
        if committed is None or (start.is_cut and start.offset == start.log.begin):
            return cls(partition, settings, None, None)
        offset, metadata_before = start.offset, _decode(committed[1], settings)
        if metadata_before is None:
            log.warning("%s: the commit does not say what waited, so forecasts before %d get no score", name, offset)
        elif metadata_before.since.offset > offset:
            metadata_before = None  # all that waited is gone, and so is the event time
        elif metadata_before.since.offset < start.log.begin:
            lost = start.log.begin - metadata_before.since.offset
            log.warning("%s: retention took %d records of what waits", name, lost)
        return cls(partition, settings, metadata_before, offset)

    @property
    def is_ready(self) -> bool:
        """Returns whether all that waited is made again."""
        return self.answered is None or (self.next_offset or 0) >= self.answered

    def fold(self, records: Records) -> list[Decided]:
        """Takes the next records, and returns what they decide, except what was published before."""
        found: list[Decided] = []
        for offset, raw in zip(records.offsets.tolist(), records.values.each(), strict=True):
            scores = self.scorer.fold(offset, raw)
            if self.answered is not None and offset < self.answered:
                continue
            for score in scores:
                found.append(Decided(offset, score))
                if self._watches is not None:
                    found += (Decided(offset, drift) for drift in self._watches.add(score, offset))
        self.next_offset = records.next_offset
        return found

    def metadata(self, offset: int, seen: Seen) -> str:
        """Returns the metadata of a commit of `offset`, up to which all records were folded, in a log of which this is
        known."""
        since = self.scorer.oldest() or self.scorer.clock.at(offset)
        watches = [] if self._watches is None else self._watches.states()
        longest_s = self._settings.rules.longest_s
        return msgspec.json.encode(CommitMetadata(VERSION, longest_s, since, watches, seen.text)).decode()


def read_seen(metadata: str) -> Seen:
    """Returns what the metadata of a commit says of the log."""
    parsed = _parse(metadata)
    return Seen() if parsed is None else Seen.of(parsed.seen)


def _decode(metadata: str, settings: ScoreSettings) -> CommitMetadata | None:
    """Returns what a commit says of what waited. None if other rules were in force."""
    parsed = _parse(metadata)
    ours = (VERSION, settings.rules.longest_s)
    return parsed if parsed is not None and (parsed.version, parsed.longest_s) == ours else None


def _parse(metadata: str) -> CommitMetadata | None:
    """Parses the metadata. None if it is not ours: an operator has moved the group."""
    try:
        return msgspec.json.decode(metadata.encode(), type=CommitMetadata)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
