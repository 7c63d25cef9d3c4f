"""What must hold of the archive: it has each ping of the log once, and nothing of whom it was asked to forget."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from plans import CUTS
from topics_read import read

from stream.adapters.archived.catalog import Catalog
from stream.kafka.records.record_columns import Records
from stream.services.archive import changes
from stream.services.archive.landing import parse_pings

if TYPE_CHECKING:
    from stage import Stage

COLUMNS: Final = ("entity_id", "t", "offset")
Row = tuple[int, int, int, str]  # log, offset, time, entity


def find_unlanded(stage: Stage) -> list[str]:
    """Returns which partitions have not landed up to their ends, in words."""
    catalog, pings = _catalog(stage), stage.settings.topics.pings
    found = []
    for number in range(stage.plan.partitions):
        done, end = catalog.manifest(number).next_offset or 0, stage.kafka.last_record_end((pings, number))
        is_former = done > stage.kafka.log_end((pings, number))  # nobody has noticed yet that it was cut
        if (done < end or is_former) and read(stage, pings, number):
            found.append(f"archive: {pings}/{number} has landed up to {done}, and ends at {end}")
    return found


def judge_archive(stage: Stage, number: int) -> list[str]:
    """Returns what is wrong with the archive of a partition, after a look at each of its rows."""
    catalog, records = _catalog(stage), read(stage, stage.settings.topics.pings, number)
    landed = _rows(catalog, number)
    stage.world.count("landed", len(landed))
    many = Counter((log, offset) for log, offset, _, _ in landed)
    found = [
        f"twice: {many[one]} rows of partition {number} are of log and offset {one}" for one in many if many[one] > 1
    ]
    forgotten = {catalog.hash_of(one) for one in stage.members.forgotten}
    rows = [row for row in _pings(records) if catalog.hash_of(row[2]) not in forgotten]
    there = {row[1:] for row in landed}
    found += [f"archive: {row} of partition {number} is missing" for row in rows if row not in there]
    if not stage.plan.kinds & (CUTS | {"retain"}):
        known = set(rows)
        found += [f"archive: {row} of partition {number} is of no ping" for row in there if row not in known]
    found += [f"forgotten: {row} is there" for row in sorted(there) if catalog.hash_of(row[2]) in forgotten]
    return found[:3]


def _catalog(stage: Stage) -> Catalog:
    assert stage.archive is not None
    return stage.archive.catalog()


def _rows(catalog: Catalog, number: int) -> list[Row]:
    rows: list[Row] = []
    for file in catalog.manifest(number).files:
        table: Any = changes.read(catalog, [file], COLUMNS)
        names, times, offsets = (table.column(name).to_pylist() for name in COLUMNS)
        rows += [(file.log, *row) for row in zip(offsets, times, names, strict=True)]
    return rows


def _pings(records: list[Any]) -> list[tuple[int, int, str]]:
    if not records:
        return []
    batch, _ = parse_pings(Records.of(records), None)
    names, times, offsets = (batch.column(name).to_pylist() for name in COLUMNS)
    return list(zip(offsets, times, names, strict=True))
