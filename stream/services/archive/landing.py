"""A partition that is ours: takes its records in order, and lands their pings, each once.

Records wait in memory. A landing writes a file for each day that they have pings of, and then the manifest that names
these files and the offset that follows the records. So whoever owns the partition next goes on at that offset, whatever
died: what no manifest names does not count, and what one names is whole.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from operator import attrgetter
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
from stream.services.archive import tidying
from stream.services.archive.changes import Change, Outrun, delete, leftovers
from stream.services.archive.forgetting import remove_rows, settle
from stream.services.archive.settings import ArchiveRules
from stream.tracks.clean import Foreign, parse
from stream.wire import NO_TIME_MS, Record, Reject

# Reasons of ours to leave a ping out; those of `stream.tracks.clean` come besides.
TOO_LATE: Final = "too_late"  # much older than its record
TOO_OLD: Final = "too_old"  # of a day that is not kept
FORGOTTEN: Final = "forgotten"  # of an entity of which nothing is stored

MOST_DAYS: Final = 32  # that wait in memory, each of which will be a file; with more of them, a landing is due
_TRIES: Final = 10
_values = attrgetter("entity_id", "ts", "lat", "lon", "speed_mps", "heading_deg", "trip_id", "category")


def parse_pings(
    records: Iterable[Record], late_ms: int | None, foreign: Foreign | None = None
) -> tuple[Any, Counter[str]]:
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
            rows.append((*_values(ping), record.partition, record.offset))
    columns = list(zip(*rows, strict=True)) or [()] * len(SCHEMA)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)]
    return pa.record_batch(arrays, schema=SCHEMA), left_out


class Fenced(RuntimeError):
    """Another member has taken the partition over."""


class Owned:
    """One partition that is ours, with the pings that wait to land."""

    def __init__(self, catalog: Catalog, manifest: Manifest, rules: ArchiveRules) -> None:
        """Takes the manifest by which the partition was taken over."""
        self.manifest = manifest
        self._catalog = catalog
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
    def take_over(cls, catalog: Catalog, base: Manifest, start: Start, rules: ArchiveRules) -> Owned:
        """Takes a partition over whose valid manifest is `base`, and whose log goes on so (`read_seen` says what is
        known of it). Deletes what an earlier owner left half done.

        Raises Outrun if the manifest is not valid any more, ArchiveDamaged, OSError.
        """
        left = leftovers(catalog, base)
        made = Change(catalog, base).commit(epoch=base.epoch + 1, **_continue(base, start))
        delete(catalog, left)
        return cls(catalog, made, rules)

    @property
    def is_due(self) -> bool:
        """Whether the pings that wait are of so many days that they should land."""
        return len(self._days) > MOST_DAYS

    def add(self, records: Records) -> None:
        """Takes the next records."""
        if self.next_offset is None:
            self._first_offset = records.first_offset
        batch, left_out = parse_pings(records, self._rules.late_ms, self._foreign)
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
        if next_offset is None or next_offset == self.manifest.next_offset:
            return None
        failpoints.reach("before_landing")
        table = pa.Table.from_batches(self._waiting, SCHEMA)
        for _ in range(_TRIES):
            try:
                pings = self._land(table, next_offset, now_ms)
            except (Outrun, FileNotFoundError):  # a file is missing where it was cleared away before it was whole
                self.manifest = self._newest()
                if self.manifest.next_offset != next_offset:
                    continue
                pings = 0  # it had landed, and the store's answer was lost
            failpoints.reach("after_landed")
            self._waiting, self._left_out, self._days, self.rows = [], Counter(), set(), 0
            return pings
        raise OSError(f"{self._catalog.storage.url}: the archive changes faster than records can land")

    def _land(self, table: Any, next_offset: int, now_ms: int) -> int:
        hashes = self._catalog.forgotten()
        self.manifest, _ = settle(self._catalog, self.manifest, hashes)
        base, change = self.manifest, Change(self._catalog, self.manifest)
        kept = remove_rows(self._catalog, table, hashes)
        counts = Counter(base.counts) + self._left_out + Counter({FORGOTTEN: table.num_rows - kept.num_rows})
        first = self._first_offset if base.next_offset is None else base.next_offset
        oldest, files = self._rules.oldest_day(now_ms), list[File]()
        days = kept.column("t").to_numpy() // DAY_MS
        for day in np.unique(days).tolist():
            rows = kept.filter(pa.array(days == day))
            if oldest is not None and day < oldest:
                counts[TOO_OLD] += rows.num_rows
                continue
            if files:
                failpoints.reach("within_landing")
            files.append(change.write(rows, day, base.log, first, next_offset))
        pings = sum(file.rows for file in files)
        counts["pings"] += pings
        failpoints.reach("before_landed")
        self.manifest = change.commit(
            next_offset=next_offset,
            seen=self.seen.text,
            landed_ms=now_ms,
            counts=dict(+counts),
            files=(*base.files, *files),
        )
        return pings

    def tidy(self, now_ms: int) -> bool:
        """Does one step of what is to be merged or deleted. Returns whether there was any. Raises as `land`."""
        try:
            made = tidying.tidy(self._catalog, self.manifest, now_ms, self._rules)
        except (Outrun, FileNotFoundError):
            self.manifest = self._newest()
            return True
        self.manifest = made or self.manifest
        return made is not None

    def _newest(self) -> Manifest:
        """Returns the valid manifest, which may be of `forget --archive`. Raises Fenced if it is of another owner."""
        newest = self._catalog.manifest(self.manifest.partition)
        if newest.epoch != self.manifest.epoch:
            raise Fenced(f"{newest.topic}/{newest.partition} has another owner: epoch {newest.epoch}")
        return newest


def read_seen(manifest: Manifest) -> Seen:
    """Returns what is known of the log below the manifest's offset. Earlier releases noted the topic's id alone."""
    seen = Seen.of(manifest.seen)
    topic_id = seen.history.topic_id or manifest.topic_id
    return seen._replace(history=seen.history._replace(topic_id=topic_id))


def _continue(base: Manifest, start: Start) -> dict[str, Any]:
    """Returns what a takeover changes. Rows of records that the log lacks stay, and new ones are of another log."""
    known = {"topic_id": start.seen.history.topic_id, "seen": start.seen.text}
    if base.next_offset is None:
        return known
    log = base.log + 1 if start.is_cut else base.log
    return {**known, "log": log, "lost": base.lost + start.lost, "next_offset": start.offset}
