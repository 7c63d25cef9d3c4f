"""An entity is gone from every file, whoever writes at the same time, and does not come back."""

from __future__ import annotations

from pathlib import Path

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
    through,
)

from stream.adapters.archived.catalog import FORGOTTEN
from stream.adapters.archived.manifest import DAY_MS
from stream.services.archive import forgetting
from stream.services.archive.changes import Change
from stream.services.archive.tidying import HOUR_MS

NOW = T0 + 2 * DAY_MS


def test_its_rows_go_and_what_waits_or_comes_later_is_not_stored(root: str) -> None:
    catalog = begun(root)
    log = [*day_of_buses(0, 0, 50), *day_of_buses(1, 50, 50)]
    one = owned(catalog, 100)
    follow(one, log, 60)
    one.land(NOW)
    follow(one, log, 20)  # in memory, with four of the entity
    assert forgetting.forget(catalog, "bus-1") == 12
    assert landed(catalog) == expected(log[:60], without="bus-1")
    assert one.land(NOW) == 16
    assert forgetting.forget(catalog, "bus-1") == 0
    follow(one, log)
    one.land(NOW)
    assert landed(catalog) == expected(log, without="bus-1")
    assert catalog.manifest(0).counts["forgotten"] == 8
    assert b"bus-1" not in _bytes(catalog)


def test_a_log_that_is_read_again_does_not_bring_it_back(root: str) -> None:
    catalog, log = begun(root), day_of_buses(0, 0, 50)
    one = owned(catalog, 50, topic_id="a")
    follow(one, log)
    one.land(NOW)
    forgetting.forget(catalog, "bus-1")
    again = owned(catalog, 50, topic_id="b")  # as if the topic were another: from the first record on
    follow(again, log)
    again.land(NOW)
    assert landed(catalog) == sorted(2 * expected(log, without="bus-1"))
    new = owned(catalog, 50, partition=1)  # which had no manifest when it was forgotten
    new.next_offset = 0
    follow(new, log)
    new.land(NOW)
    assert not [row for row in landed(catalog) if row[2] == "bus-1"]


def test_it_is_gone_from_files_that_were_merged_and_wait_to_be_deleted_and_from_leftovers(root: str) -> None:
    catalog, log = begun(root), day_of_buses(0, 0, 100)
    one = owned(catalog, 100)
    for _ in range(10):
        follow(one, log, 10)
        one.land(T0)
    one.tidy(T0 + DAY_MS + HOUR_MS)
    mortal, _ = through(catalog, 4, before=True)  # dies between a landing's file and its manifest
    dying = owned(mortal, 200)
    follow(dying, day_of_buses(0, 100, 50))
    with pytest.raises(Crash):
        dying.land(NOW)
    assert len(all_files(catalog)) == 12
    assert forgetting.forget(catalog, "bus-1") == 20
    assert {file.name for file in files(catalog)} == set(all_files(catalog))
    assert b"bus-1" not in _bytes(catalog)


def test_a_landing_at_the_same_time_leaves_nothing_of_it(root: str) -> None:
    """The entity is forgotten when a member has looked for such, and has not created its manifest."""
    catalog, log = begun(root), day_of_buses(0, 0, 50)
    one = owned(catalog, 50)
    follow(one, log)
    commit, done = Change.commit, []

    def late(*arguments: object, **changes: object) -> object:
        if "landed_ms" in changes and not done:
            done.append(None)
            forgetting.forget(catalog, "bus-1")
        return commit(*arguments, **changes)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Change, "commit", late)
        assert one.land(NOW) == 40
    assert done
    assert landed(catalog) == expected(log, without="bus-1")
    assert b"bus-1" not in _bytes(catalog)


def test_a_member_that_forgets_first_takes_no_file_away_from_under_the_command(root: str) -> None:
    """Both go on from the same manifest, and the member deletes a file that the command is about to read. The command
    once ended there with an error, where members were at work."""
    catalog, log = begun(root), day_of_buses(0, 0, 50)
    one = owned(catalog, 50)
    follow(one, log)
    one.land(NOW)
    read, done = forgetting.read, []

    def late(*arguments: object) -> object:
        if not done:
            done.append(None)
            forgetting.settle(catalog, catalog.manifest(0), catalog.forgotten())
        return read(*arguments)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(forgetting, "read", late)
        assert forgetting.forget(catalog, "bus-1") == 0, "the member has counted them"
    assert done
    assert landed(catalog) == expected(log, without="bus-1")
    assert b"bus-1" not in _bytes(catalog)


def test_a_command_that_died_is_ended_by_the_next_landing(root: str) -> None:
    catalog, log = begun(root), day_of_buses(0, 0, 50)
    one = owned(catalog, 60)
    follow(one, log, 40)
    one.land(NOW)
    mortal, _ = through(catalog, 1, before=False)
    with pytest.raises(Crash):
        forgetting.forget(mortal, "bus-1")
    assert len(landed(catalog)) == 40
    follow(one, log)
    one.land(NOW)
    assert landed(catalog) == expected(log, without="bus-1")


def test_a_command_that_died_before_it_deleted_is_ended_when_it_is_given_again(root: str) -> None:
    catalog, log = begun(root), day_of_buses(0, 0, 50)
    one = owned(catalog, 50)
    follow(one, log)
    one.land(NOW)
    mortal, _ = through(catalog, 3, before=False)  # the mark, a file without the entity, the manifest
    with pytest.raises(Crash):
        forgetting.forget(mortal, "bus-1")
    assert landed(catalog) == expected(log, without="bus-1")
    assert b"bus-1" in _bytes(catalog), "no manifest names that file any more, and it is there"
    assert forgetting.forget(catalog, "bus-1") == 0
    assert b"bus-1" not in _bytes(catalog)


def test_the_list_of_who_was_forgotten_has_no_ids_and_another_archive_other_hashes(tmp_path: Path) -> None:
    names = []
    for place in ("a", "b"):
        catalog = begun(tmp_path / place)
        forgetting.forget(catalog, "bus-1")
        (path,) = (tmp_path / place / TOPIC / FORGOTTEN).iterdir()
        assert "bus" not in path.name + path.read_text()
        names.append(path.name)
    assert names[0] != names[1]


def _bytes(catalog: object) -> bytes:
    """The names in all files that lie there, as Arrow reads them: pages are compressed."""
    import pyarrow.parquet as pq

    found = set()
    for name in all_files(catalog):  # type: ignore[arg-type]
        with catalog.storage.open(name) as raw:  # type: ignore[attr-defined]
            found |= set(pq.read_table(raw).column("entity_id").to_pylist())
    return " ".join(sorted(found)).encode()
