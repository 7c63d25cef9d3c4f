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
from stream.services.archive import commits, writing
from stream.services.archive.commits import Outrun
from stream.services.archive.settings import Rules
from stream.services.archive.writing import Range

HOUR_MS: Final = 3_600_000
MERGED_ROWS: Final = 2_000_000  # of a merged file at most: what a merge has in memory, some 400 MB with its copies
# So many files more than there must be, of a day and partition, and some are merged.
MANY_FILES: Final = 32  # while the day lasts
SPARE_FILES: Final = 4  # when it is over: not one, so that pings that come late do not have it rewritten one by one


def tidied(catalog: Catalog, manifest: Manifest, now_ms: int, rules: Rules) -> Manifest | None:
    """Does what is most urgent. Returns the manifest afterwards; None if there is nothing to do.

    Raises Outrun, FileNotFoundError if another process cleared our work away, ArchiveDamaged, OSError.
    """
    due = _unread(manifest, now_ms)
    if due:
        commits.delete(catalog, due)
        left = tuple(one for one in manifest.replaced if one.name not in due)
        return commits.commit(catalog, manifest, replaced=left)
    if old := _expired(manifest, now_ms, rules):
        return _instead(catalog, manifest, old, (), now_ms)
    group = _group(manifest, now_ms)
    return _merged(catalog, manifest, group, now_ms) if group else None


def is_due(manifest: Manifest, now_ms: int, rules: Rules) -> bool:
    """Returns whether there is something to do. It reads nothing."""
    return bool(_unread(manifest, now_ms) or _expired(manifest, now_ms, rules) or _group(manifest, now_ms))


def _unread(manifest: Manifest, now_ms: int) -> list[str]:
    return [one.name for one in manifest.replaced if one.since_ms <= now_ms - HOUR_MS]


def _expired(manifest: Manifest, now_ms: int, rules: Rules) -> list[File]:
    oldest = rules.oldest_day(now_ms)
    return [] if oldest is None else [file for file in manifest.files if file.day < oldest]


def _group(manifest: Manifest, now_ms: int) -> list[File]:
    return group_to_merge(manifest.files, (now_ms - HOUR_MS) // DAY_MS)


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
        last = groups[-1] if groups else None
        fits = (
            last is not None and sum(one.rows for one in last) + file.rows <= MERGED_ROWS and last[-1].log == file.log
        )
        if last is not None and fits:
            last.append(file)
        else:
            groups.append([file])
    return groups


def _merged(catalog: Catalog, manifest: Manifest, group: Sequence[File], now_ms: int) -> Manifest:
    table = writing.read(catalog.storage, group)
    of = Range(manifest.partition, group[0].log, group[0].first, group[-1].next)
    merged = writing.write(catalog.storage, table, group[0].day, of)
    failpoints.reach("before_merged")
    try:
        made = _instead(catalog, manifest, group, (merged,), now_ms)
    except Outrun:
        commits.delete(catalog, [merged.name])
        raise
    failpoints.reach("after_merged")
    return made


def _instead(catalog: Catalog, manifest: Manifest, gone: Sequence[File], new: Sequence[File], now_ms: int) -> Manifest:
    names = {file.name for file in gone}
    files = (*(file for file in manifest.files if file.name not in names), *new)
    replaced = (*manifest.replaced, *(Replaced(name, now_ms) for name in sorted(names)))
    return commits.commit(catalog, manifest, files=files, replaced=replaced)
