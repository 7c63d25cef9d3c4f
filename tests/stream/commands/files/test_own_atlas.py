"""The atlas that `pathcast fill` and `pathcast forecast` make of the file itself: what it is worth, and what it may
know."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from files_rig import by_time, filled, run, track

from model.api import Predictor
from stream.adapters.files import RecordedRow, row_of
from stream.adapters.recorded import recording
from stream.atlas.building import Built
from stream.atlas.own import LEAST_PINGS, for_fills, for_forecasts, read_own
from stream.commands.files.answering import gap_policy
from stream.demo.run import SAMPLE

HIDDEN_MS, EVERY_MS = 600_000, 2_400_000  # ten minutes in each forty of a bus
M_PER_DEG = 111_195.0
POLICY = gap_policy(64)


class Pings(NamedTuple):
    """The pings of one bus, in the order of their times."""

    ts_ms: np.ndarray[Any, Any]
    lat: np.ndarray[Any, Any]
    lon: np.ndarray[Any, Any]


def by_entity(rows: Sequence[dict[str, str]]) -> Iterator[tuple[str, Pings]]:
    for name in sorted({row["entity_id"] for row in rows}):
        mine = [row for row in rows if row["entity_id"] == name]
        yield name, Pings(*(np.array([float(row[column]) for row in mine]) for column in ("t", "lat", "lon")))


def hide(folder: Path) -> tuple[Path, dict[str, list[dict[str, str]]]]:
    """Writes the bundled sample without some minutes of each bus, and returns what it lacks."""
    with gzip.open(SAMPLE, "rt", newline="") as file:
        rows = list(csv.DictReader(file))
    names = sorted({row["entity_id"] for row in rows})
    hidden: dict[str, list[dict[str, str]]] = {}
    path = folder / "holes.csv"
    with path.open("w", newline="") as out:
        sink = csv.DictWriter(out, rows[0].keys())
        sink.writeheader()
        for row in rows:
            shifted_ms = int(row["t"]) + 61_000 * names.index(row["entity_id"])
            if shifted_ms % EVERY_MS < HIDDEN_MS:
                hidden.setdefault(row["entity_id"], []).append(row)
            else:
                sink.writerow(row)
    return path, hidden


def errors_m(out: Path, hidden: dict[str, list[dict[str, str]]]) -> np.ndarray[Any, Any]:
    """How far the filled path is from each hidden ping that lies in a filled gap, in an order that is always the
    same."""
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    filled_ms = {
        name: {int(row["t"]) for row in rows if row["entity_id"] == name and row["filled"] == "true"} for name in hidden
    }
    found = []
    for name, path in by_entity(rows):
        if name not in hidden:
            continue
        truth = next(pings for _, pings in by_entity(hidden[name]))
        at = np.searchsorted(path.ts_ms, truth.ts_ms)
        inside = [
            0 < one < len(path.ts_ms) and bool({int(t) for t in path.ts_ms[one - 1 : one + 1]} & filled_ms[name])
            for one in at
        ]
        north = (np.interp(truth.ts_ms, path.ts_ms, path.lat) - truth.lat) * M_PER_DEG
        east = (np.interp(truth.ts_ms, path.ts_ms, path.lon) - truth.lon) * M_PER_DEG * np.cos(np.radians(truth.lat))
        found.append(np.hypot(north, east)[inside])
    return np.concatenate(found)


def test_fills_of_a_fleet_that_repeats_itself_come_nearer(tmp_path: Path, say: Callable[[str], None]) -> None:
    path, hidden = hide(tmp_path)
    before, of_model = filled(path, "small", "--no-own-atlas", "--out", tmp_path / "alone.csv")
    after, of_file = filled(path, "small", "--out", tmp_path / "own.csv")
    assert (of_model["gaps_along_passages"], of_model["gaps"]) == (0, of_file["gaps"])
    assert of_file["gaps_along_passages"] > of_file["gaps"] / 4
    alone_m, own_m = errors_m(before, hidden), errors_m(after, hidden)
    assert len(alone_m) == len(own_m) > 500
    say(
        f"{len(own_m)} pings that were hidden: {own_m.mean():.0f} m off with an atlas of the file, "
        f"{alone_m.mean():.0f} m without; {of_file['seconds']:.1f} s, {of_model['seconds']:.1f} s"
    )
    assert own_m.mean() < 0.9 * alone_m.mean()


def test_one_line_says_what_it_did(tmp_path: Path) -> None:
    path, _ = hide(tmp_path)
    result = run("fill", path, "--out", tmp_path / "own.csv")
    assert result.exit_code == 0, result.output
    (line,) = [line for line in result.stderr.splitlines() if "atlas" in line]
    pings = sum(1 for _ in path.open()) - 1
    assert line.startswith(f"an atlas of {pings:,} pings of 36 entities of this file; ")
    assert " gaps of " in line


def test_where_nothing_repeats_nothing_changes(weights: str, tmp_path: Path) -> None:
    path = tmp_path / "few.csv"
    far = [one._replace(lat=one.lat + 5.0) for one in track("b")]
    lines = [f"{one.entity_id},{one.ts},{one.lat:.6f},{one.lon:.6f}\n" for one in by_time(track("a"), far)]
    path.write_text("entity_id,t,lat,lon\n" + "".join(lines))
    one, _ = filled(path, weights, "--out", tmp_path / "one.csv")
    other, _ = filled(path, weights, "--out", tmp_path / "other.csv", "--no-own-atlas")
    assert one.read_bytes() == other.read_bytes()
    said = [run("forecast", path, "--weights", weights, *more) for more in ((), ("--no-own-atlas",))]
    assert said[0].stdout == said[1].stdout
    assert "no atlas of this file" in said[0].stderr
    assert "atlas" not in said[1].stderr


def straight(entity: str, seconds: Sequence[int]) -> list[RecordedRow]:
    """A thing that goes north at 10 m/s, and is silent where no second is named."""
    return [
        row_of({"entity_id": entity, "ts": 1_700_000_000_000 + 1000 * s, "lat": 30 + 10 * s / M_PER_DEG, "lon": 0.0})
        for s in seconds
    ]


def test_the_line_over_a_gap_is_no_passage() -> None:
    """Else a gap would be filled along itself. Without one, ways lead through the same place."""
    whole, gap = list(range(0, 3_000, 20)), [s for s in range(0, 3_000, 20) if not 1_000 < s < 1_200]

    def reached_s(seconds: Sequence[int]) -> float:
        """How long after the ping before the gap a passage that begins before it is still known."""
        own = for_fills(read_own(straight("a", seconds), POLICY, lambda rows: None))
        passages = own.atlases[0].passages
        before = passages.lat_e7 / 1e7 < 30 + 10 * 1_000 / M_PER_DEG
        on_m = 2.0 * passages.on[before][:, :, 1] * (np.arange(22) < passages.known[before][:, None])
        start_m = (passages.lat_e7[before] / 1e7 - 30) * M_PER_DEG
        return float((start_m[:, None] + on_m).max() / 10)

    assert reached_s(whole) > 1_200
    assert reached_s(gap) <= 1_001


def before(rows: Sequence[RecordedRow]) -> Callable[[int], Built]:
    return lambda until_ms: read_own([one for one in rows if (one.ts_ms or 0) < until_ms], POLICY, lambda done: None)


def rows_until(until_ms: int, then: Callable[[dict[str, Any]], dict[str, Any]]) -> list[RecordedRow]:
    """The sample's day, of which each ping from some time on is changed."""
    found = []
    for row in recording(SAMPLE).rows():
        ping = json.loads(row.value or b"")
        found.append(row if (row.ts_ms or 0) < until_ms else row_of(then(ping)))
    return found


def test_what_comes_later_changes_nothing_of_what_a_forecast_asks() -> None:
    times = np.array([row.ts_ms for row in recording(SAMPLE).rows()])
    anchor_ms = int(times[len(times) * 3 // 4])
    predictor = Predictor.load("small")

    def version(then: Callable[[dict[str, Any]], dict[str, Any]]) -> str:
        own = for_forecasts(before(rows_until(anchor_ms, then)), np.array([anchor_ms]), times, predictor)
        assert own.starts_ms.tolist() == [anchor_ms]
        return [part.tobytes() for part in (*own.atlases[0].passages[:-1], *own.atlases[0].belief)]  # without marks

    same = version(lambda ping: ping)
    assert version(lambda ping: {**ping, "lat": ping["lat"] + 0.004}) == same
    assert version(lambda ping: {**ping, "lon": -ping["lon"]}) == same


def test_few_pings_before_make_no_version() -> None:
    rows = list(recording(SAMPLE).rows())
    times = np.array([row.ts_ms for row in rows])
    early = for_forecasts(before(rows), times[LEAST_PINGS - 1 : LEAST_PINGS], times, Predictor.load("small"))
    assert not early.atlases
    each = for_forecasts(before(rows), times, times, Predictor.load("small"))
    assert 0 < len(each.atlases) <= 12
    choice = each.choose(times, 100)
    which, late = choice.of(0, np.arange(100, 100 + len(times)))
    assert not late.any()
    assert (which == -1).sum() >= LEAST_PINGS, "before the first version, none is asked"
    assert (each.starts_ms[which[which >= 0]] <= times[which >= 0]).all()
