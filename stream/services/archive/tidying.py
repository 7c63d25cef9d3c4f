"""Merges the small files of a day, and deletes days that are too old and files that were replaced, one step at a time.

Files of a day are merged when the day is over by an hour, and before that when there are many. Those that were merged
are there for an hour more, for whoever may be reading them.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Final

from stream.adapters.archived.catalog import Catalog
from stream.adapters.archived.manifest import DAY_MS, File, Manifest, Replaced
from stream.config import failpoints
from stream.services.archive.changes import Change, delete, read
from stream.services.archive.settings import ArchiveRules

HOUR_MS: Final = 3_600_000
MERGED_ROWS: Final = 2_000_000  # of a merged file at most: what a merge has in memory, some 400 MB with its copies
# So many files more than there must be, of a day and partition, and some are merged.
MANY_FILES: Final = 32  # while the day lasts
SPARE_FILES: Final = 4  # when it is over: not one, so that pings that come late do not have it rewritten one by one


def tidy(catalog: Catalog, manifest: Manifest, now_ms: int, rules: ArchiveRules) -> Manifest | None:
    """Does what is most urgent. Returns the manifest afterwards; None if there is nothing to do, for which nothing is
    read.

    Raises Outrun, FileNotFoundError if another process cleared our work away, ArchiveDamaged, OSError.
    """
    change = Change(catalog, manifest)
    if unread := {one.name for one in manifest.replaced if one.since_ms <= now_ms - HOUR_MS}:
        delete(catalog, sorted(unread))
        return change.commit(replaced=tuple(one for one in manifest.replaced if one.name not in unread))
    oldest, new = rules.oldest_day(now_ms), list[File]()
    gone = [] if oldest is None else [file for file in manifest.files if file.day < oldest]
    if not gone:
        gone = group_to_merge(manifest.files, (now_ms - HOUR_MS) // DAY_MS)
        if not gone:
            return None
        first = gone[0]
        new.append(change.write(read(catalog, gone), first.day, first.log, first.first, gone[-1].next))
        failpoints.reach("before_merged")
    left = [file for file in manifest.files if file not in gone]
    replaced = (*manifest.replaced, *(Replaced(file.name, now_ms) for file in gone))
    made = change.commit(files=(*left, *new), replaced=replaced)
    if new:
        failpoints.reach("after_merged")
    return made


def group_to_merge(files: Sequence[File], today: int) -> list[File]:
    """Returns files of one day that should become one, neighbours in the log; none if there is nothing to merge."""
    for day, of_day in groupby(sorted(files, key=lambda file: file.order), key=lambda file: file.day):
        some = list(of_day)
        groups = _groups(some)
        if len(some) - len(groups) >= (SPARE_FILES if day < today else MANY_FILES):
            return max(groups, key=len)
    return []


def _groups(files: Sequence[File]) -> list[list[File]]:
    """Returns runs of neighbours of MERGED_ROWS rows at most; offsets of two logs are not of one file."""
    groups: list[list[File]] = []
    for file in files:
        last = groups[-1] if groups else []
        fits = sum(one.rows for one in (*last, file)) <= MERGED_ROWS
        if last and fits and last[-1].log == file.log:
            last.append(file)
        else:
            groups.append([file])
    return groups
