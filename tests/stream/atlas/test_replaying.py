"""A replay's atlas knows the past alone: what is known at a full hour or later is not in the version of that hour."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from stream.adapters.files import RecordedRow, row_of
from stream.atlas.building import Rules, of_rows
from stream.atlas.replaying import Growing, atlas_of
from stream.kafka.records.record_columns import Records
from stream.wire import MAX_TS_MS, Record

HOUR_MS = 3_600_000
HOUR = 1_700_000_000_000 // HOUR_MS * HOUR_MS
ANY = Rules(min_entities=1)


def row(entity_id: str, ts_ms: int) -> RecordedRow:
    return row_of({"entity_id": entity_id, "ts": ts_ms, "lat": 30 + (ts_ms - HOUR) / 1e9, "lon": -97.0})


def walked(
    rows: Sequence[RecordedRow], most: int = 1000, every_ms: int = HOUR_MS
) -> list[tuple[RecordedRow, str | None]]:
    """Each row with the version that it asks."""
    growing, found = Growing(every_ms, ANY), list[tuple[RecordedRow, str | None]]()
    for batch in growing.batches(rows, most):
        version = growing.choice.atlas and growing.choice.atlas.version
        found += [(one, version) for one in batch]
        start = len(found) - len(batch)
        growing.add(Records.of([Record("t", 0, start + n, -1, one.key, one.value) for n, one in enumerate(batch)]))
    return found


def made_of(rows: Sequence[RecordedRow]) -> str:
    return atlas_of(of_rows(rows), ANY).version


ROWS = [row("bus", ts_ms) for ts_ms in range(HOUR - 1_200_000, HOUR + 2 * HOUR_MS, 60_000)]


@pytest.mark.parametrize("most", [1, 7, 1000])
def test_the_version_of_an_hour_is_made_of_what_was_known_before_it(most: int) -> None:
    found = walked(ROWS, most)
    assert [one for one, _ in found] == ROWS
    for begin in (HOUR - HOUR_MS, HOUR, HOUR + HOUR_MS):
        before = [one for one in ROWS if (one.ts_ms or 0) < begin]
        versions = {version for one, version in found if begin <= (one.ts_ms or 0) < begin + HOUR_MS}
        assert versions == {made_of(before) if before else None}


@pytest.mark.parametrize(("late_ms", "is_in_it"), [(-1, True), (0, False), (1, False)])
def test_one_passage_that_is_known_at_the_full_hour_is_not_in_its_version(late_ms: int, is_in_it: bool) -> None:
    """The second ping is a passage, of which the last one shows where it was 18 minutes later: then it is known."""
    last = HOUR + late_ms
    rows = [row("bus", last - second * 1_000) for second in (1_140, *range(1_080, -1, -60))]
    atlas, without = atlas_of(of_rows(rows), ANY), atlas_of(of_rows(rows[:-1]), ANY)
    assert (len(atlas.passages.known), len(without.passages.known)) == (1, 0)
    assert walked([*rows, row("other", HOUR + 1)])[-1][1] == (atlas if is_in_it else without).version


def test_hours_without_a_ping_make_no_version_and_the_next_one_has_all_before() -> None:
    rows = [*ROWS[:30], row("bus", HOUR + 50 * HOUR_MS)]
    versions = [version for _, version in walked(rows)]
    assert len(set(versions)) == 3
    assert versions[-1] == made_of(rows[:-1])


def test_times_that_no_ping_can_have_begin_no_hour() -> None:
    rows = [row("bus", 0), *ROWS[:5], RecordedRow(b"bus", b"{", None), row("bus", MAX_TS_MS + 1)]
    assert {version for _, version in walked(rows)} == {None}


def test_minutes_are_spans_too() -> None:
    found = [version for _, version in walked(ROWS[:20], every_ms=120_000)]
    assert len(set(found)) == 10
    assert np.array_equal(found[0::2], found[1::2])
