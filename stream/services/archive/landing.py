"""A partition that is ours: takes its records in order, and lands their pings, each once.

Records wait in memory. A landing writes a file for each day that they have pings of, and then the manifest that names
these files and the offset that follows the records. So whoever owns the partition next goes on at that offset, whatever
died: what no manifest names does not count, and what one names is whole.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa

from stream.adapters.archived.catalog import Catalog
from stream.adapters.archived.manifest import DAY_MS, File, Manifest
from stream.adapters.archived.reading import SCHEMA
from stream.adapters.live.on_topic import reader_of
from stream.config import failpoints
from stream.kafka.log import Seen, Start
from stream.kafka.records.record_columns import Records
from stream.services.archive import commits, tidying, writing
from stream.services.archive.commits import Outrun
from stream.services.archive.forgetting import rows_of_others, settled
from stream.services.archive.settings import Rules
from stream.services.archive.writing import Range
from stream.tracks.clean import Foreign, parse
from stream.wire import NO_TIME_MS, Record, Reject

# Reasons of ours to leave a ping out; those of `stream.tracks.clean` come besides.
TOO_LATE = "too_late"  # much older than its record
TOO_OLD = "too_old"  # of a day that is not kept
FORGOTTEN = "forgotten"  # of an entity of which nothing is stored


def parsed(records: Iterable[Record], late_ms: int | None, foreign: Foreign | None = None) -> tuple[Any, Counter[str]]:
    """Returns the pings as a record batch of SCHEMA, and how many records are left out, by reason. `foreign` reads what
    has not the form of a ping of ours."""
    rows, left_out = [], Counter[str]()
    for record in records:
        ping = parse(record, foreign)
        if isinstance(ping, Reject):
            left_out[ping.code] += 1
        elif late_ms is not None and record.timestamp_ms != NO_TIME_MS and ping.ts < record.timestamp_ms - late_ms:
            left_out[TOO_LATE] += 1
        else:
            rows.append(
                (
                    ping.entity_id,
                    ping.ts,
                    ping.lat,
                    ping.lon,
                    ping.speed_mps,
                    ping.heading_deg,
                    ping.trip_id,
                    ping.category,
                    record.partition,
                    record.offset,
                )
            )
    columns = list(zip(*rows, strict=True)) or [()] * len(SCHEMA)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)]
    return pa.record_batch(arrays, schema=SCHEMA), left_out


log: Final = logging.getLogger(__name__)

MOST_DAYS: Final = 32  # that wait in memory, each of which will be a file; with more of them, a landing is due
_TRIES: Final = 10


class Fenced(RuntimeError):
    """Another member has taken the partition over."""


class Owned:
    """One partition that is ours, with the pings that wait to land."""

    def __init__(self, catalog: Catalog, manifest: Manifest, rules: Rules) -> None:
        """Takes the manifest by which the partition was taken over."""
        self._catalog = catalog
        self._manifest = manifest
        self._rules = rules
        self._foreign = reader_of(rules.map)
        self._waiting: list[Any] = []  # record batches
        self._left_out = Counter[str]()
        self._days: set[int] = set()
        self._first_offset = 0  # of the first record that was taken
        # That of the next record to take; None: the first that there is. Its user may set it to a later one if all
        # records before that were taken.
        self.next_offset = manifest.next_offset
        self.seen = Seen.of(manifest.seen)
        self.rows = 0  # pings that wait

    @classmethod
    def taken_over(cls, catalog: Catalog, base: Manifest, start: Start, rules: Rules) -> Owned:
        """Takes a partition over whose valid manifest is `base`, and whose log goes on so (`read_seen` says what is
        known of it). Deletes what an earlier owner left half done.

        Raises Outrun if the manifest is not valid any more, ArchiveDamaged, OSError.
        """
        left = commits.leftovers(catalog, base)
        made = commits.commit(catalog, base, epoch=base.epoch + 1, **_continued(base, start))
        commits.delete(catalog, left)
        return cls(catalog, made, rules)

    @property
    def is_due(self) -> bool:
        """Whether the pings that wait are of so many days that they should land."""
        return len(self._days) > MOST_DAYS

    @property
    def landed_offset(self) -> int | None:
        """The offset that follows the records that have landed."""
        return self._manifest.next_offset

    @property
    def landed_ms(self) -> int | None:
        """When they landed."""
        return self._manifest.landed_ms or None

    @property
    def counts(self) -> Mapping[str, int]:
        """Returns how many records became pings, and how many were left out, by reason."""
        return self._manifest.counts

    def add(self, records: Records) -> None:
        """Takes the next records."""
        if self.next_offset is None:
            self._first_offset = records.first_offset
        batch, left_out = parsed(records, self._rules.late_ms, self._foreign)
        if batch.num_rows:
            self._waiting.append(batch)
            self._days.update(np.unique(batch.column("t").to_numpy() // DAY_MS).tolist())
        self._left_out += left_out
        self.rows += batch.num_rows
        self.next_offset = records.next_offset

    def land(self, now_ms: int) -> int | None:
        """Lands what waits, up to `next_offset`. Returns how many pings; None if no record has come since the last.

        After OSError it may be called again. Raises Fenced, ArchiveDamaged.
        """
        next_offset = self.next_offset
        if next_offset is None or next_offset == self._manifest.next_offset:
            return None
        failpoints.reach("before_landing")
        table = pa.Table.from_batches(self._waiting, SCHEMA)
        for _ in range(_TRIES):
            self._manifest = self._newest()
            if self._manifest.next_offset == next_offset:  # it had landed, and the store's answer was lost
                return self._has_landed(0)
            written: list[File] = []
            try:
                hashes = self._catalog.forgotten()
                self._manifest, _ = settled(self._catalog, self._manifest, hashes)
                counts = self._write(table, hashes, next_offset, now_ms, written)
                self._manifest = self._commit(written, counts, next_offset, now_ms)
            except (Outrun, FileNotFoundError):  # a file is missing where it was cleared away before it was whole
                commits.delete(self._catalog, [file.name for file in written])
                continue
            failpoints.reach("after_landed")
            return self._has_landed(sum(file.rows for file in written))
        raise OSError(f"{self._catalog.storage.url}: the archive changes faster than records can land")

    def tidy(self, now_ms: int) -> bool:
        """Does one step of what is to be merged or deleted. Returns whether there was any. Raises as `land`."""
        if not tidying.is_due(self._manifest, now_ms, self._rules):
            return False
        self._manifest = self._newest()
        try:
            made = tidying.tidied(self._catalog, self._manifest, now_ms, self._rules)
        except (Outrun, FileNotFoundError):
            return True
        self._manifest = self._manifest if made is None else made
        return True

    def _has_landed(self, pings: int) -> int:
        self._waiting, self._left_out, self._days, self.rows = [], Counter(), set(), 0
        return pings

    def _write(self, table: Any, hashes: set[str], next_offset: int, now_ms: int, written: list[File]) -> Counter[str]:
        """Writes the files of a landing, which it adds to `written`. Returns what is counted."""
        kept = rows_of_others(self._catalog.head, table, hashes)
        counts = self._left_out + Counter({FORGOTTEN: table.num_rows - kept.num_rows})
        oldest = self._rules.oldest_day(now_ms)
        manifest = self._manifest
        first = self._first_offset if manifest.next_offset is None else manifest.next_offset
        of = Range(manifest.partition, manifest.log, first, next_offset)
        try:
            for day, rows in writing.by_day(kept):
                if oldest is not None and day < oldest:
                    counts[TOO_OLD] += rows.num_rows
                    continue
                if written:
                    failpoints.reach("within_landing")
                written.append(writing.write(self._catalog.storage, rows, day, of))
        except OSError:
            commits.delete(self._catalog, [file.name for file in written])
            raise
        counts["pings"] += sum(file.rows for file in written)
        return counts

    def _commit(self, files: Sequence[File], counts: Counter[str], next_offset: int, now_ms: int) -> Manifest:
        failpoints.reach("before_landed")
        base = self._manifest
        return commits.commit(
            self._catalog,
            base,
            next_offset=next_offset,
            seen=self.seen.text,
            landed_ms=now_ms,
            counts=dict(Counter(base.counts) + counts),
            files=(*base.files, *files),
        )

    def _newest(self) -> Manifest:
        """Returns the valid manifest, which may be of `forget --archive`. Raises Fenced if it is of another owner."""
        found = self._catalog.manifest(self._manifest.partition)
        if found.epoch != self._manifest.epoch:
            raise Fenced(f"{found.topic}/{found.partition} has another owner: epoch {found.epoch}")
        return found


def read_seen(manifest: Manifest) -> Seen:
    """Returns what is known of the log below the manifest's offset. Earlier releases noted the topic's id alone."""
    seen = Seen.of(manifest.seen)
    topic_id = seen.history.topic_id or manifest.topic_id
    return seen._replace(history=seen.history._replace(topic_id=topic_id))


def _continued(base: Manifest, start: Start) -> dict[str, Any]:
    """Returns what a takeover changes. Rows of records that the log lacks stay, and new ones are of another log."""
    known = {"topic_id": start.seen.history.topic_id, "seen": start.seen.text}
    if base.next_offset is None:
        return known
    log = base.log + 1 if start.is_cut else base.log
    return {**known, "log": log, "lost": base.lost + start.lost, "next_offset": start.offset}
