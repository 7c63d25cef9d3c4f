"""Earlier tracks: which pings of all are kept, and what `--history` may name."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from model.arrivals.believing import Fleet, believe
from model.arrivals.passages import Passages
from model.arrivals.times import PRIOR
from stream.services.arrivals.history import History, Renewing, history_of, renewing
from stream.services.arrivals.history.pings import Columns, Newest
from stream.services.arrivals.history.topic import Live

LIVE = Live("127.0.0.1:9", "fleet.pings.v1")


def columns(entity: list[int], ts_ms: list[int]) -> Columns:
    place = np.arange(len(ts_ms)) * 1e-3
    return Columns(np.array(entity), np.array(ts_ms), 30.0 + place, -97.0 + place)


def test_only_the_newest_are_kept_however_they_come() -> None:
    minute = 60_000
    whole, parts = Newest(5), Newest(5)
    whole.add(columns([1, 2, 1, 2, 1, 2, 1, 2], [minute * n for n in range(8)]))
    for at in (slice(4, 8), slice(0, 4)):
        parts.add(Columns(*(one[at] for one in columns([1, 2, 1, 2, 1, 2, 1, 2], [minute * n for n in range(8)]))))
    for found in (whole, parts):
        made = found.passages()
        kept = {int(ts) for ts in made.ts_ms} & {minute * n for n in range(8)}
        assert kept == {minute * n for n in range(3, 8)}


def test_more_than_twice_the_wanted_are_never_in_memory() -> None:
    newest = Newest(10)
    for number in range(100):
        newest.add(columns([number % 3] * 3, [number * 3_000 + n for n in range(3)]))
        assert sum(len(part.ts_ms) for part in newest._parts) <= 20 + 3


def test_two_pings_of_one_time_are_one_and_entities_are_tracks_of_their_own() -> None:
    newest = Newest(100)
    newest.add(columns([2, 1, 1, 2, 1], [0, 0, 0, 120_000, 120_000]))
    made = newest.passages()
    assert set(made.entity.tolist()) == {1, 2}
    assert len(set(made.track.tolist())) == 2


def test_no_pings_are_no_passages() -> None:
    assert len(Newest(10).passages()) == 0


def test_a_folder_is_an_archive_if_it_has_one_or_nothing(tmp_path: Path) -> None:
    assert history_of(str(tmp_path), LIVE).source == f"archive:{tmp_path}"
    assert len(history_of(str(tmp_path), LIVE).read()) == 0
    (tmp_path / "pings").mkdir()
    (tmp_path / "pings" / ".archive.json.writing").touch()
    assert len(history_of(f"archive:{tmp_path}?since=7d", LIVE).read()) == 0, "what is being written is not there yet"
    (tmp_path / "letter.txt").touch()
    with pytest.raises(ValueError, match="nothing that shows its format"):
        history_of(str(tmp_path), LIVE)
    with pytest.raises(FileNotFoundError, match="no archive of pings"):
        history_of(f"archive:{tmp_path}", LIVE)


def test_what_later_knows_more_is_read_again() -> None:
    assert history_of("topic", LIVE).grows
    assert history_of("topic:other", LIVE).grows


def test_a_recording_is_read_once(tmp_path: Path) -> None:
    file = tmp_path / "fleet.csv"
    file.write_text("entity_id,t,lat,lon\n" + "".join(f"a,{60_000 * n},30.{n},-97.0\n" for n in range(5)))
    found = history_of(str(file), LIVE)
    assert not found.grows
    assert len(found.read()) > 0


async def test_what_is_known_is_replaced_when_more_is_and_stays_when_it_cannot_be_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(renewing, "SOON_S", 0.0)
    answers: list[object] = [0, OSError("away"), 3, ValueError("damaged"), 4]
    told, done = list[int](), asyncio.Event()

    def read() -> Passages:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        newest = Newest(100)
        newest.add(columns([1] * int(str(answer)), [60_000 * n for n in range(int(str(answer)))]))
        return newest.passages()

    def renewed(fleet: Fleet) -> None:
        told.append(len(fleet.passages))
        if len(told) == 2:
            done.set()

    known = Renewing(History("topic", read, grows=True), every_s=0.0)
    assert known.fleet is not None
    assert len(known.fleet.passages) == 0
    running = asyncio.create_task(known.run(renewed))
    await done.wait()
    running.cancel()
    assert told[0] < told[1]
    assert len(known.fleet.passages) == told[1]


async def test_a_history_that_does_not_grow_is_not_read_again() -> None:
    reads = []
    known = Renewing(History("a.csv", lambda: reads.append(1) or Newest(1).passages(), grows=False), every_s=0.0)
    await known.run(lambda fleet: None)
    assert len(reads) == 1
    assert Renewing(None, 1.0).fleet is None


async def test_what_is_read_is_asked_how_far_it_is_to_be_believed_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renewing, "SOON_S", 0.0)
    reads, told = iter([0, 200, 400]), list[Fleet]()

    def read() -> Passages:
        newest, hours = Newest(10_000), next(reads)
        newest.add(columns([n // 400 for n in range(4 * hours)], [60_000 * n for n in range(4 * hours)]))
        return newest.passages()

    known, done = Renewing(History("topic", read, grows=True), every_s=0.0), asyncio.Event()
    assert known.fleet is not None
    assert (known.fleet.belief.alone == PRIOR.alone).all()
    running = asyncio.create_task(known.run(lambda fleet: told.append(fleet) or (len(told) == 2 and done.set())))
    await done.wait()
    running.cancel()
    for one in told:
        assert (one.belief.alone == believe(one.passages).alone).all()
        assert (one.belief.alone != PRIOR.alone).any()
