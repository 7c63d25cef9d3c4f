"""Small files become few, old days go, and no ping is lost or doubled by it."""

from __future__ import annotations

import os
import random
from collections import Counter
from pathlib import Path

import pytest
from archive_rig import T0, all_files, begun, day_of_buses, expected, files, follow, landed, owned, record, through

from stream.adapters.archived.manifest import DAY_MS, File
from stream.adapters.archived.reading import read_batches
from stream.services.archive import tidying
from stream.services.archive.settings import ArchiveRules
from stream.services.archive.tidying import HOUR_MS, MANY_FILES, SPARE_FILES, group_to_merge

LATER = T0 + DAY_MS + HOUR_MS


def file(first: int, rows: int = 10, day: int = 0, log: int = 0) -> File:
    return File(f"{day}-{log}-{first}", day, log, first, first + rows, rows, 1, 0, 0, "")


def test_a_day_that_is_over_keeps_few_files_and_today_some_more() -> None:
    few = [file(10 * n) for n in range(SPARE_FILES + 1)]
    assert group_to_merge(few, today=1) == few
    assert group_to_merge(few[1:], today=1) == []
    assert group_to_merge(few, today=0) == []
    many = [file(10 * n) for n in range(MANY_FILES + 1)]
    assert group_to_merge(list(reversed(many)), today=0) == many


def test_a_merged_file_is_never_larger_than_memory_allows_nor_of_two_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tidying, "MERGED_ROWS", 35)
    some = [file(10 * n) for n in range(8)]
    assert group_to_merge(some, today=1) == some[:3]
    assert group_to_merge([file(0, 35), *(file(100 + n, 1) for n in range(5))], today=1)[0].first == 100
    assert group_to_merge([file(10 * n, 30) for n in range(40)], today=1) == [], "none would become fewer"
    two = [file(n, 1, log=n % 2) for n in range(12)]
    assert {one.log for one in group_to_merge(two, today=1)} == {0}


def test_merged_files_have_the_same_pings_in_order_and_the_others_stay_an_hour(root: str) -> None:
    catalog, log = begun(root), day_of_buses(0, 0, 100)
    one = owned(catalog, 100)
    for _ in range(10):
        follow(one, log, 10)
        one.land(T0)
    assert not one.tidy(LATER - 1)
    assert one.tidy(LATER)
    (merged,) = files(catalog)
    assert (merged.first, merged.next, merged.rows) == (0, 100, 100)
    assert landed(catalog) == expected(log)
    (batch,) = read_batches(catalog.storage, merged)
    keys = list(zip(batch.column("entity_id").to_pylist(), batch.column("t").to_pylist(), strict=True))
    assert keys == sorted(keys)
    assert len(all_files(catalog)) == 11
    assert not one.tidy(LATER + HOUR_MS - 1)
    assert one.tidy(LATER + HOUR_MS)
    assert all_files(catalog) == [merged.name]
    assert not one.tidy(LATER + HOUR_MS)


def test_days_before_the_retention_go(root: str) -> None:
    catalog = begun(root)
    log = [one for day in range(4) for one in day_of_buses(day, day * 10, 10)]
    one = owned(catalog, 40, ArchiveRules(retention_days=2))
    follow(one, log)
    one.land(T0 + 2 * DAY_MS)
    now = T0 + 4 * DAY_MS
    while one.tidy(now):
        pass
    assert landed(catalog) == expected(log[20:])
    one.tidy(now + HOUR_MS)
    assert set(all_files(catalog)) == {file.name for file in files(catalog)}
    if not root.startswith("memory:"):  # which has folders of their own
        assert len([name for name in catalog.storage.folders() if name.startswith("day=")]) == 2


@pytest.mark.slow
def test_thirty_days_of_late_pings_restarts_and_deaths_leave_few_files_and_every_ping_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A month, with a landing every three hours, of two partitions; late pings every day, one receiver with a wrong
    clock, and an owner that dies at some write of every day."""
    monkeypatch.setattr(os, "fsync", lambda number: None)
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    rng = random.Random(seed)
    days, every, pings = 30, 8, 40
    rules = ArchiveRules(retention_days=21)
    catalog = begun(tmp_path)
    logs = {partition: [] for partition in range(2)}  # type: ignore[var-annotated]
    most_files, most_waiting, died = 0, 0, 0
    owners = {}
    turns = Counter[int]()  # since the last landing of a partition: what came in them waits
    for turn in range(days * every):
        now = T0 + (turn + 1) * DAY_MS // every
        for partition, log in logs.items():
            for _ in range(pings):
                late_ms = rng.choice([0] * 8 + [rng.randrange(6 * DAY_MS), 40 * DAY_MS])
                ts = max(T0, now - 1 - rng.randrange(DAY_MS // every)) - late_ms
                log.append(record(len(log), ts, f"bus-{rng.randrange(9)}", partition, published_ms=now))
            turns[partition] += 1
            dies_at = rng.randrange(1, 12) if rng.random() < 0.15 else None
            try:
                if partition not in owners or dies_at is not None:
                    mortal, _ = through(catalog, dies_at, before=rng.random() < 0.5)
                    owners[partition] = owned(mortal, len(log), rules, partition)
                follow(owners[partition], log)
                most_waiting = max(most_waiting, owners[partition].rows / (turns[partition] * pings))
                owners[partition].land(now)
                turns[partition] = 0
                while owners[partition].tidy(now):
                    pass
            except BaseException as error:
                assert type(error).__name__ == "Crash"  # noqa: PT017 - a BaseException, as a death is
                died += 1
                owners.pop(partition, None)
        most_files = max(most_files, len(all_files(catalog)))
    for partition, log in logs.items():
        heir = owned(catalog, len(log), rules, partition)
        follow(heir, log)
        heir.land(now)
        while heir.tidy(now):
            pass
    oldest = rules.oldest_day(now)
    assert oldest is not None
    kept, counted = [], Counter[str]()
    for partition, log in logs.items():
        counted += Counter(catalog.manifest(partition).counts)
        kept += [(partition, one.offset, (one.key or b"").decode()) for one in log if _ts(one) >= oldest * DAY_MS]
    late = [one for log in logs.values() for one in log if _ts(one) < one.timestamp_ms - 7 * DAY_MS]
    kept = sorted(set(kept) - {(one.partition, one.offset, (one.key or b"").decode()) for one in late})
    assert landed(catalog) == kept
    assert counted["pings"] + counted["too_late"] == sum(len(log) for log in logs.values()), "each record counts once"
    assert counted["too_late"] == len(late)
    assert died > 5
    # A day of a partition has 1 + SPARE_FILES files at most when it is over, and today's and those that were merged in
    # the last hour besides.
    bound = 2 * ((rules.retention_days or 0) + 3) * (1 + SPARE_FILES) + 2 * MANY_FILES
    assert most_files <= bound, (most_files, bound)
    assert most_waiting <= 1, "what came since the last landing"
    assert len(catalog.storage.files("landed")) <= 2 * 6


def _ts(one: object) -> int:
    import json

    return int(json.loads(one.value)["ts"])  # type: ignore[attr-defined]
