"""What a fleet drove before, in a real Redis beside what is counted of its topic."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from model.atlas.passages import entity_ids
from stream.adapters.files import RecordedRow
from stream.adapters.recorded import recording
from stream.atlas.building import of_rows
from stream.atlas.counting.history import HISTORY, History, HistoryReader, forget_in_history
from stream.atlas.counting.making import make, read_stored_days
from stream.atlas.counting.owned import Owned
from stream.atlas.counting.settings import RunSettings
from stream.demo.run import SAMPLE
from stream.kafka.log import Log, Seen, Start, start_of
from stream.kafka.records.record_columns import Records
from stream.store.days_store import DaysStore
from stream.wire import Record

SETTINGS = RunSettings(Path("unused"), group="pathcast-atlas")
TOPIC = SETTINGS.topics.pings
PLACE = TOPIC, HISTORY


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[DaysStore]:
    made = DaysStore(redis_url, SETTINGS.group, 60)
    yield made
    await made.close()


async def bring_in(store: DaysStore, history: History, settings: RunSettings = SETTINGS) -> HistoryReader:
    reader = HistoryReader(history, store, settings)
    while await reader.read({0}) is None:
        assert reader._reading is not None
        await asyncio.wait([reader._reading])
    return reader


async def version(store: DaysStore, folder: Path) -> tuple[str, dict[str, Any]]:
    made = make(await read_stored_days(store, TOPIC, 1), SETTINGS.rules, folder)
    return made.version, dict(made.contains)


def built(rows: Sequence[RecordedRow], folder: Path) -> str:
    return make(of_rows(rows).days, SETTINGS.rules, folder).version


async def count(store: DaysStore, rows: Sequence[RecordedRow]) -> None:
    """Counts rows as those of the topic."""
    records = [Record(TOPIC, 0, at, row.ts_ms or 0, row.key, row.value) for at, row in enumerate(rows)]

    async def start(stored: int | None, seen: Seen) -> Start:
        return start_of(stored, seen, Log(0, len(rows)))

    owned, _ = await Owned.take_over(store, (TOPIC, 0), start)
    await owned.add(Records.of(records))
    await owned.write(SETTINGS.retention_days)


async def test_a_version_has_what_was_driven_before_and_what_is_driven_now(store: DaysStore, tmp_path: Path) -> None:
    rows = list(recording(SAMPLE).rows())
    await bring_in(store, History.of(str(SAMPLE), None))
    assert (await version(store, tmp_path))[0] == built(rows, tmp_path), "that of the recording"
    days = await read_stored_days(store, TOPIC, 1)
    assert not days.includes, "workers are told of the topic alone"
    later = [
        RecordedRow(one.key, (one.value or b"").replace(b'"ts":1490', b'"ts":1491'), (one.ts_ms or 0) + 1_000_000_000)
        for one in rows
    ]
    await count(store, later)
    _, contains = await version(store, tmp_path)
    assert contains["pings"] == 2 * len(rows)
    assert (await read_stored_days(store, TOPIC, 1)).includes == {0: len(rows)}


async def test_it_is_read_once_and_another_takes_its_place(
    store: DaysStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    await bring_in(store, History.of(str(SAMPLE), None))
    writes = (await store.read_held(PLACE)).writes
    await bring_in(store, History.of(str(SAMPLE), None))
    assert (await store.read_held(PLACE)).writes == writes
    assert f"history: {SAMPLE} is known already" in caplog.text
    some = tmp_path / "some.csv"
    some.write_text("entity_id,t,lat,lon\n" + "".join(f"a,{1_490_000_000_000 + at},30.0,0.0\n" for at in (0, 1, 2, 3)))
    await bring_in(store, History.of(str(some), None))
    assert (await version(store, tmp_path))[1]["pings"] == 4


async def test_what_is_written_by_half_is_no_history(
    store: DaysStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put, calls = store.put, 0

    async def breaks(*given: Any, **more: Any) -> Any:
        nonlocal calls
        calls += 1
        if more.get("seen"):
            raise ConnectionError("Redis is away")
        return await put(*given, **more)

    monkeypatch.setattr(store, "put", breaks)
    with pytest.raises(ConnectionError):
        await bring_in(store, History.of(str(SAMPLE), None))
    assert calls == 2
    assert (await store.read_held(PLACE)).parts
    assert (await version(store, tmp_path))[1]["pings"] == 0
    monkeypatch.setattr(store, "put", put)
    await bring_in(store, History.of(str(SAMPLE), None))
    assert (await version(store, tmp_path))[1]["pings"] == 6_724


async def test_who_is_to_be_forgotten_is_in_it_no_more(store: DaysStore, tmp_path: Path) -> None:
    rows = list(recording(SAMPLE).rows())
    gone = str((rows[0].key or b"").decode())
    reader = HistoryReader(History.of(str(SAMPLE), None), store, SETTINGS)
    assert await reader.read({0}) is None
    reader.forget(entity_ids([gone]))  # while it is read
    assert reader._reading is not None
    await asyncio.wait([reader._reading])
    assert await reader.read({0})
    at_once = await version(store, tmp_path)
    await store.discard(PLACE)
    await bring_in(store, History.of(str(SAMPLE), None))
    assert await version(store, tmp_path) != at_once
    await forget_in_history(store, TOPIC, entity_ids([gone]))
    assert await version(store, tmp_path) == at_once
    assert at_once[1]["entities"] == 35
    assert (await store.read_held(PLACE)).seen, "it is still known, and not read again"


async def test_without_names_is_read_without(store: DaysStore, tmp_path: Path) -> None:
    settings = replace(SETTINGS, without=frozenset({"5004"}))
    await bring_in(store, History.of(str(SAMPLE), None), settings)
    assert (await version(store, tmp_path))[1]["entities"] == 35


async def test_of_a_damaged_history_nothing_stays_and_the_rest_serves(
    store: DaysStore, redis_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await bring_in(store, History.of(str(SAMPLE), None))
    async with Redis.from_url(redis_url) as client:
        await client.set(f"pathcast:{{{SETTINGS.group}|{TOPIC}|{HISTORY}}}:growth", b"of another program")
    assert (await version(store, tmp_path))[1]["pings"] == 0
    assert "give --atlas-history again" in caplog.text
    await bring_in(store, History.of(str(SAMPLE), None))
    assert (await version(store, tmp_path))[1]["pings"] == 6_724


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("entity_id,t,lat,lon\n", "it has no rows"),
        ("entity_id,t,lat,lon\na,1,2,3\n", r"none of 1 rows is a ping; the first: .* \(--columns maps names"),
    ],
)
def test_a_file_without_pings_is_told_at_once(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "odd.csv"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        History.of(str(path), None)


async def test_a_file_that_cannot_be_read_to_its_end_stops_nothing(
    store: DaysStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "fleet.ndjson"
    path.write_text('{"entity_id":"a","ts":1490000000000,"lat":30,"lon":0}\n')
    history = History.of(str(path), None)
    path.unlink()
    await bring_in(store, history)
    assert "versions are made without it" in caplog.text
    assert not (await store.read_held(PLACE)).parts


async def test_an_early_version_has_what_is_known_of_passages_that_are_not_over(store: DaysStore) -> None:
    begin_ms = (next(iter(recording(SAMPLE).rows())).ts_ms or 0) + 600_000
    await count(store, [row for row in recording(SAMPLE).rows() if (row.ts_ms or 0) < begin_ms])
    early, hourly = [await read_stored_days(store, TOPIC, 1, so_far=one) for one in (True, False)]
    (day,) = hourly
    assert len(early.day(day).passages) > 100 > len(hourly.day(day).passages)
    assert early.day(day).pings == hourly.day(day).pings
