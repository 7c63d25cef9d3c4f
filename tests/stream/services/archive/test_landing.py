"""What lands, once, whoever dies and whoever comes too late."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from archive_rig import (
    T0,
    TOPIC,
    Crash,
    all_files,
    begun,
    day_of_buses,
    expected,
    files,
    follow,
    landed,
    owned,
    record,
    through,
)
from msgspec.structs import replace

from stream.adapters.archived.manifest import DAY_MS, KEPT, ArchiveDamaged, manifest_name
from stream.kafka.log import History, Seen
from stream.services.archive import forgetting, tidying
from stream.services.archive.changes import Change, Outrun
from stream.services.archive.landing import MOST_DAYS, Fenced, read_seen
from stream.services.archive.settings import ArchiveRules
from stream.wire import Record

NOW = T0 + 5 * DAY_MS


def test_what_lands_is_what_a_worker_takes_for_a_ping_and_the_rest_is_counted(root: str) -> None:
    catalog = begun(root)
    log = [
        record(0, T0, speed_mps=7.25, heading_deg=90.0, trip_id="t9", category="bus"),
        Record(TOPIC, 0, 1, T0, b"bus-1", b"not JSON"),
        Record(TOPIC, 0, 2, T0, b"bus-1", b'{"entity_id":"bus-1","ts":1,"lat":91,"lon":0}'),
        Record(TOPIC, 0, 3, T0, b"bus-1", b'{"entity_id":"bus-1","ts":1728000001,"lat":30.5,"lon":-97}'),  # seconds
        record(4, T0 - 8 * DAY_MS, published_ms=T0),
        record(6, T0 + 1, "bus-2"),
    ]
    one = owned(catalog, 7)
    follow(one, log)
    one.next_offset = 8  # beyond the last record lies a transaction's end
    assert one.land(NOW) == 3
    manifest = catalog.manifest(0)
    assert manifest.next_offset == 8
    assert manifest.counts == {"pings": 3, "invalid_json": 1, "lat_out_of_range": 1, "too_late": 1}
    (file,) = files(catalog)
    assert file.name.startswith("day=2024-10-04/p00000-000000000000-000000000008-")
    rows = {row["offset"]: row for row in _rows(catalog)}
    assert list(rows) == [0, 3, 6], "by entity and time"
    assert rows[0] == {
        "entity_id": "bus-1",
        "t": T0,
        "lat": 30.0,
        "lon": -97.7,
        "speed_mps": 7.25,
        "heading_deg": 90.0,
        "trip_id": "t9",
        "category": "bus",
        "partition": 0,
        "offset": 0,
    }
    assert (rows[3]["t"], rows[3]["lat"], rows[3]["speed_mps"]) == (1_728_000_001_000, 30.5, None)


def _rows(catalog: object) -> list[dict[str, object]]:
    from stream.adapters.archived.reading import read_batches

    storage = catalog.storage  # type: ignore[attr-defined]
    return [row for file in files(catalog) for batch in read_batches(storage, file) for row in batch.to_pylist()]  # type: ignore[arg-type]


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
def test_a_death_at_any_write_loses_nothing_and_lands_nothing_twice(
    near_root: str, before: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Takeover, landings of three days, merges, an expired day and an entity that is forgotten: each write in turn is
    the last of its process, and the next owner goes on."""
    log = [one for day in range(3) for one in day_of_buses(day, day * 60, 60)]
    rules = ArchiveRules(retention_days=2)
    monkeypatch.setattr(tidying, "SPARE_FILES", 1)
    monkeypatch.setattr(os, "fsync", lambda number: None)  # 130 lives; no disk fails here

    def life(place: str, dies_at: int | None) -> int:
        """Returns how many writes there were."""
        catalog = begun(place)
        mortal_catalog, mortal = through(catalog, dies_at, before=before)
        try:
            _live(mortal_catalog, log, rules)
            assert dies_at is None
        except Crash:
            _live(catalog, log, rules)
        old = expected(log[:60])
        assert landed(catalog) == [one for one in expected(log, without="bus-1") if one not in old], dies_at
        manifest = catalog.manifest(0)
        assert set(all_files(catalog)) <= manifest.names, "leftovers"
        assert manifest.next_offset == 180
        assert all(catalog.storage.files(file.name.partition("/")[0]) for file in manifest.files)
        return mortal.changes

    writes = life(f"{near_root}/0", None)
    assert writes > 30
    for dies_at in range(1, writes + 1):
        life(f"{near_root}/{dies_at}", dies_at)


def _live(catalog: object, log: list[Record], rules: ArchiveRules) -> None:
    one = owned(catalog, 180, rules)  # type: ignore[arg-type]
    while (one.next_offset or 0) < 180:
        follow(one, log, 30)
        one.land(T0 + 2 * DAY_MS)
    if not catalog.forgotten() or any(row[2] == "bus-1" for row in landed(catalog)):  # type: ignore[arg-type, attr-defined]
        forgetting.forget(catalog, "bus-1")  # type: ignore[arg-type]
    now = T0 + 3 * DAY_MS + 7_200_000
    for _ in range(20):
        one.tidy(now)
        now += 3_700_000
    again = owned(catalog, 180, rules)  # type: ignore[arg-type]
    assert not again.tidy(now)


def test_a_zombie_that_wrote_its_files_before_the_takeover_cannot_name_them_after_it(root: str) -> None:
    """The files are deleted by the heir: a manifest that named them would have lost pings."""
    catalog, log = begun(root), day_of_buses(0, 0, 100)
    zombie = owned(catalog, 100)
    follow(zombie, log, 50)
    heirs = []
    commit = Change.commit

    def late(*arguments: object, **changes: object) -> object:
        if "landed_ms" in changes and not heirs:
            assert len(all_files(catalog)) == 1, "the zombie's"
            heirs.append(owned(catalog, 100))
            assert not all_files(catalog)
        return commit(*arguments, **changes)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Change, "commit", late)
        with pytest.raises(Fenced, match="another owner"):
            zombie.land(NOW)
    with pytest.raises(Fenced):
        zombie.land(NOW)
    follow(heirs[0], log)
    heirs[0].land(NOW)
    with pytest.raises(Fenced):
        zombie.land(NOW)
    assert landed(catalog) == expected(log)
    assert set(all_files(catalog)) == catalog.manifest(0).names


def test_a_manifest_in_the_place_of_one_that_is_long_gone_counts_for_nothing(root: str) -> None:
    catalog, log = begun(root), day_of_buses(0, 0, 100)
    zombie_base = catalog.manifest(0)
    one = owned(catalog, 100)
    for _ in range(KEPT + 1):
        follow(one, log, 10)
        one.land(NOW)
    assert 1 not in catalog.numbers(0)
    with pytest.raises(Outrun, match="long over"):
        Change(catalog, zombie_base).commit(next_offset=77)
    assert catalog.manifest(0).next_offset == 10 * (KEPT + 1)
    follow(one, log, 10)
    one.land(NOW)
    assert len(catalog.numbers(0)) <= KEPT + 1
    assert 1 not in catalog.numbers(0)


def test_a_disk_that_is_full_costs_nothing_and_the_next_try_lands_all(
    root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog = begun(root)
    log = [*day_of_buses(0, 0, 50), *day_of_buses(1, 50, 50)]
    one = owned(catalog, 100)
    follow(one, log)
    write, calls = pq.write_table, []

    def full(*arguments: object, **options: object) -> None:
        calls.append(arguments)
        if len(calls) in (2, 3):
            raise OSError(28, "No space left on device")
        write(*arguments, **options)

    monkeypatch.setattr(pq, "write_table", full)
    for _ in range(2):
        with pytest.raises(OSError, match="No space"):
            one.land(NOW)
        assert not all_files(catalog), "what was written before the disk was full"
    assert one.land(NOW) == 100
    assert landed(catalog) == expected(log)


def test_a_commit_whose_answer_was_lost_lands_nothing_twice(root: str) -> None:
    catalog, log = begun(root), day_of_buses(0, 0, 10)
    one = owned(catalog, 10)
    follow(one, log)
    create = catalog.storage.create

    def lost(name: str, raw: bytes) -> None:
        create(name, raw)
        raise TimeoutError("the answer was lost")

    catalog.storage.create = lost  # type: ignore[method-assign]
    with pytest.raises(TimeoutError):
        one.land(NOW)
    catalog.storage.create = create  # type: ignore[method-assign]
    one.land(NOW)
    assert landed(catalog) == expected(log)
    assert set(all_files(catalog)) == catalog.manifest(0).names


def test_days_before_the_retention_are_counted_and_not_stored(root: str) -> None:
    catalog = begun(root)
    log = [record(n, T0 + n * DAY_MS) for n in range(6)]
    one = owned(catalog, 6, ArchiveRules(late_ms=None, retention_days=2))
    follow(one, log)
    assert one.land(T0 + 5 * DAY_MS) == 3
    assert catalog.manifest(0).counts == {"pings": 3, "too_old": 3}


def test_wrong_clocks_land_early_so_that_open_days_are_bounded(root: str) -> None:
    one = owned(begun(root), 100, ArchiveRules(late_ms=None, retention_days=None))
    for n in range(MOST_DAYS + 1):
        assert not one.is_due
        follow(one, [record(n, T0 - n * 3 * DAY_MS, published_ms=T0)])
    assert one.is_due
    one.land(NOW)
    assert not one.is_due


def test_a_topic_that_was_created_again_lands_beside_the_first(root: str) -> None:
    catalog, log = begun(root), day_of_buses(0, 0, 10)
    one = owned(catalog, 10, topic_id="a")
    follow(one, log)
    one.land(NOW)
    for topic_id, end in (("b", 20), ("c", 20), ("", 2)):  # others as long, which their ids tell; and a shorter one
        other = owned(catalog, end, topic_id=topic_id)
        assert other.next_offset == 0
        follow(other, log[: min(end, 3)])
        other.land(NOW)
    assert landed(catalog) == sorted(expected(log) + 2 * expected(log[:3]) + expected(log[:2]))
    assert {file.log for file in files(catalog)} == {0, 1, 2, 3}


def test_after_a_cut_new_records_land_and_none_of_those_that_stayed_lands_twice(root: str) -> None:
    """The log had grown past what had landed, so that offsets alone did not tell: new records were skipped. The rows of
    those that the log lost stay."""
    catalog, log = begun(root), day_of_buses(0, 0, 10)
    one = owned(catalog, 10, topic_id="a", leader_epoch=1)
    follow(one, log)
    one.seen = one.seen.after(10, 1)
    one.land(NOW)
    new = day_of_buses(1, 6, 20)
    other = owned(catalog, 26, topic_id="a", kept=6, kept_epoch=1, leader_epoch=2)
    assert other.next_offset == 6
    follow(other, new)
    other.land(NOW)
    assert landed(catalog) == sorted(expected(log) + expected(new))
    assert {file.log for file in files(catalog)} == {0, 1}, "which are not merged with each other"
    assert owned(catalog, 26, topic_id="a", kept=26, kept_epoch=2).next_offset == 26


def test_a_manifest_of_an_earlier_release_knows_its_topic(root: str) -> None:
    catalog, log = begun(root), day_of_buses(0, 0, 10)
    one = owned(catalog, 10, topic_id="a")
    follow(one, log)
    one.land(NOW)
    assert read_seen(replace(catalog.manifest(0), seen="")) == Seen(-1, History("a"))


def test_what_kafka_deleted_before_it_landed_is_counted(root: str) -> None:
    catalog, log = begun(root), day_of_buses(0, 0, 100)
    one = owned(catalog, 100)
    follow(one, log, 10)
    one.land(NOW)
    other = owned(catalog, 100, begin=30)
    assert other.next_offset == 30
    assert catalog.manifest(0).lost == 20


def test_a_damaged_manifest_is_an_error_and_never_passed_over(tmp_path: Path) -> None:
    catalog, log = begun(tmp_path), day_of_buses(0, 0, 10)
    one = owned(catalog, 10)
    follow(one, log)
    one.land(NOW)
    path = tmp_path / TOPIC / manifest_name(0, catalog.numbers(0)[-1])
    raw = path.read_bytes()
    path.write_bytes(raw.replace(b'"next_offset":10', b'"next_offset":11'))
    with pytest.raises(ArchiveDamaged, match="its hash is another"):
        owned(catalog, 10)
    other = raw.partition(b"\n")[0].replace(b'"version":1', b'"version":2')
    from stream.adapters.archived.manifest import digest_of

    path.write_bytes(other + b"\n" + digest_of(other).encode() + b"\n")
    with pytest.raises(ArchiveDamaged, match="expected pathcast-archive 1"):
        catalog.manifests()
    assert json.loads(other)["version"] == 2
