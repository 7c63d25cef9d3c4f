"""What an archive's readers get: which pings, in which order, in how much memory, and what is damaged."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from archive_rig import T0, TOPIC, begun, day_of_buses, files, follow, owned, record

from stream.adapters.archived import reading
from stream.adapters.archived.manifest import DAY_MS, ArchiveDamaged
from stream.adapters.recorded import recording
from stream.adapters.sources import parse
from stream.tracks.clean import parse as cleaned
from stream.wire import Ping, Record

NOW = T0 + 3 * DAY_MS


def filled(root: Path) -> list[Record]:
    """Three days of five buses, in nine landings, of which the second day's last one comes late."""
    log = [one for day in range(3) for one in day_of_buses(day, day * 30, 30)]
    one = owned(begun(root), 90)
    for _ in range(9):
        follow(one, log, 10)
        one.land(NOW)
    return log


def test_rows_come_in_the_order_of_their_times_and_are_the_pings_that_landed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = filled(tmp_path)
    late = [
        record(90, T0 + 100, "bus-9", published_ms=T0 + DAY_MS, trip_id="t", category="bus", heading_deg=12.5),
        record(91, T0, "bus-0", published_ms=T0 + DAY_MS),  # at the time of another of this bus
    ]
    one = owned(begun(tmp_path), 92)
    follow(one, late)
    one.land(NOW)
    pings = sorted([(cleaned(each).ts, each.offset, cleaned(each)) for each in (*log, *late)])  # type: ignore[union-attr]
    for rows_of_slice in (1_000_000, 7):  # a slice is a third of a day then
        monkeypatch.setattr(reading, "SLICE_ROWS", rows_of_slice)
        rows = recording(f"archive:{tmp_path}").in_order()
        got = [cleaned(Record("", 0, 0, -1, row.key, row.value)) for row in rows]
        assert got == [ping for *_, ping in pings]
        assert len(rows) == 92
    assert isinstance(got[0], Ping)


def test_columns_are_those_of_the_pings_by_entity_and_time(tmp_path: Path) -> None:
    log = filled(tmp_path)
    shares: list[float] = []
    table = parse(f"archive:{tmp_path / TOPIC}").read(shares.append)
    assert table.names == tuple(f"bus-{n}" for n in range(5))
    assert len(table.ts_ms) == 90
    assert shares[-1] == 1.0
    assert shares == sorted(shares)
    by_entity = sorted(log, key=lambda one: (one.key, one.offset))
    np.testing.assert_array_equal(table.ts_ms, [cleaned(one).ts for one in by_entity])  # type: ignore[union-attr]
    np.testing.assert_allclose(table.lat, [cleaned(one).lat for one in by_entity])  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("since", "until", "days"),
    [
        ("2d", None, 2),
        ("0d", None, 0),
        ("2024-10-05", "2024-10-06", 1),
        (None, "2024-10-06", 2),
        ("2024-10-04", None, 3),
    ],
)
def test_a_span_of_days_is_read_alone(tmp_path: Path, since: str | None, until: str | None, days: int) -> None:
    filled(tmp_path)
    span = "&".join(f"{name}={day}" for name, day in (("since", since), ("until", until)) if day)
    url, found = reading.open_days(f"{tmp_path}?{span}", NOW)
    assert url == str(tmp_path)
    assert len(found.rows()) == len(list(found.rows())) == 30 * days
    assert len(found.table(lambda share: None).ts_ms) == 30 * days


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        *((wrong, r"since=7d|date like") for wrong in ("since=yesterday", "since=7", "since=1d&since=2d")),
        ("until=2024-13-01", r"since=7d|date like"),
        ("since=2024-10-06&until=2024-10-05", "since is not before until"),
    ],
)
def test_a_span_that_is_none_is_named(tmp_path: Path, wrong: str, said: str) -> None:
    filled(tmp_path)
    with pytest.raises(ValueError, match=said):
        parse(f"archive:{tmp_path}?{wrong}")


def test_what_no_manifest_names_is_not_read(tmp_path: Path) -> None:
    filled(tmp_path)
    named = files(begun(tmp_path))
    folder = tmp_path / TOPIC / "day=2024-10-04"
    (folder / "p00000-000000000090-000000000099-00000000.parquet").write_bytes(
        (tmp_path / TOPIC / named[0].name).read_bytes()
    )
    (folder / ".p00000-half.writing").write_bytes(b"PAR1")
    assert len(parse(f"archive:{tmp_path}").read(lambda share: None).ts_ms) == 90


@pytest.mark.parametrize("how", ["flipped", "cut", "another", "gone"])
def test_a_file_that_is_not_what_was_written_is_named_and_never_read_in_part(tmp_path: Path, how: str) -> None:
    filled(tmp_path)
    found = parse(f"archive:{tmp_path}")
    first, *_, last = files(begun(tmp_path))
    path = tmp_path / TOPIC / first.name
    raw = path.read_bytes()
    if how == "flipped":
        path.write_bytes(raw[:60] + bytes([raw[60] ^ 255]) + raw[61:])
    elif how == "cut":
        path.write_bytes(raw[:-1])
    elif how == "another":
        path.write_bytes((tmp_path / TOPIC / last.name).read_bytes()[: len(raw)].ljust(len(raw), b"\0"))
    else:
        path.unlink()
    with pytest.raises((ArchiveDamaged, OSError), match=first.name.rpartition("/")[2]):
        found.read(lambda share: None)
    with pytest.raises((ArchiveDamaged, OSError), match=first.name.rpartition("/")[2]):
        list(found.pings.rows())  # type: ignore[union-attr]


def test_no_flipped_byte_of_a_page_is_read_as_another_value(tmp_path: Path) -> None:
    """Without the pages' checksums, some of these flips are."""
    filled(tmp_path)
    (file, *_) = files(begun(tmp_path))
    found, path = begun(tmp_path), tmp_path / TOPIC / file.name
    raw = path.read_bytes()
    as_written = [batch.to_pylist() for batch in reading.read_batches(found.storage, file)]
    refused = 0
    for at in range(4, len(raw) - 8 - int.from_bytes(raw[-8:-4], "little"), 3):
        path.write_bytes(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :])
        try:
            assert [batch.to_pylist() for batch in reading.read_batches(found.storage, file)] == as_written, at
        except (ArchiveDamaged, OSError):
            refused += 1
    assert refused > 100


def test_which_archive_is_meant_must_be_clear(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no archive of pings"):
        parse(f"archive:{tmp_path}")
    filled(tmp_path)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "archive.json").write_bytes((tmp_path / TOPIC / "archive.json").read_bytes())
    with pytest.raises(ValueError, match=r"archives of other, t\.pings\.v1: say which"):
        parse(f"archive:{tmp_path}")
    assert str(parse(f"archive:{tmp_path / TOPIC}")) == f"archive:{tmp_path / TOPIC}"


def test_a_corpus_is_kept_until_more_has_landed(tmp_path: Path) -> None:
    filled(tmp_path)
    before = parse(f"archive:{tmp_path}").pings
    again = parse(f"archive:{tmp_path}").pings
    one = owned(begun(tmp_path), 91)
    follow(one, [record(90, T0 + 5)])
    one.land(NOW)
    after = parse(f"archive:{tmp_path}").pings
    assert before.fingerprint == again.fingerprint != after.fingerprint  # type: ignore[union-attr]


def test_rows_of_many_days_need_the_memory_of_one_slice(tmp_path: Path) -> None:
    """Python's own objects, of which rows consist; Arrow's are bounded by the same slices."""

    def peak(days: int) -> int:
        root = tmp_path / str(days)
        one = owned(begun(root), days * 3_000)
        for day in range(days):
            follow(one, day_of_buses(day, day * 3_000, 3_000))
            one.land(NOW)
        rows = parse(f"archive:{root}").pings.rows()  # type: ignore[union-attr]
        tracemalloc.start()
        assert sum(1 for _ in rows) == days * 3_000
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    assert peak(8) < 1.5 * peak(1)
