"""Messages of another system as records of the pings topic: one record, one ping."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stream.adapters.live.mapping import MapReader, parse
from stream.adapters.live.on_topic import one_by, reader_of
from stream.atlas.follower import Follower
from stream.engine.pings import Pings
from stream.kafka.records.record_columns import Records
from stream.services.archive.landing import parse_pings
from stream.tracks import clean
from stream.wire import NO_TIME_MS, Ping, Record, Reject, dumps

TS = 1_796_029_450_000
MAP = """
name = "mine"
only = {kind = "position"}
[fields]
entity_id = "id"
ts = "t"
lat = {path = "y", unit = "1e-7 deg"}
lon = {path = "x", unit = "1e-7 deg"}
speed_mps = {path = "kn", unit = "knots"}
"""
FOREIGN = one_by(MapReader(parse(MAP.encode(), "a map")), "mine")
OURS = Ping(entity_id="v", ts=TS, lat=47.5, lon=8.25)
THEIRS = {"kind": "position", "id": "v", "t": TS, "y": 475000000, "x": 82500000, "kn": 10}


def record(value: Any, key: bytes | None = b"v", timestamp_ms: int = TS) -> Record:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return Record("pathcast.pings.v1", 0, 7, timestamp_ms, key, raw)


def rejected(value: Any, key: bytes | None = b"v") -> Reject:
    found = clean.parse(record(value, key), FOREIGN)
    assert isinstance(found, Reject), found
    assert found.stage == "clean"
    return found


def test_a_message_of_the_map_is_a_ping_and_without_the_map_a_reject() -> None:
    found = clean.parse(record(THEIRS), FOREIGN)
    assert isinstance(found, Ping)
    assert (found.entity_id, found.ts, found.lat, found.lon) == ("v", TS, 47.5, 8.25)
    assert found.speed_mps == pytest.approx(10 * 1852 / 3600)
    assert isinstance(clean.parse(record(THEIRS)), Reject)
    assert isinstance(clean.parse(record(THEIRS, timestamp_ms=NO_TIME_MS), FOREIGN), Ping)


def test_a_ping_of_ours_is_never_read_by_the_map() -> None:
    def asked(value: bytes, published_ms: int) -> Ping | Reject | None:
        raise AssertionError(f"asked for {value!r}")

    for ours in (OURS, Ping(entity_id="v", ts=TS, lat=95.0, lon=8.25), Ping(entity_id="v", ts=TS, lat=0.0, lon=0.0)):
        clean.parse(record(dumps(ours)), asked)
    clean.parse(record(dumps(OURS), key=b"another"), asked)
    clean.parse(record(b""), asked)
    clean.parse(record(b"\0\0\0\0\1" + dumps(OURS)), asked)
    with pytest.raises(AssertionError):
        clean.parse(record({"entity_id": "v", "lat": 47.5, "lon": 8.25}), asked)


@pytest.mark.parametrize(
    ("value", "key", "code", "said"),
    [
        (THEIRS, b"12", "key_mismatch", "`pathcast ingest` publishes under the entity's id"),
        (THEIRS, None, "key_mismatch", "no key"),
        ([THEIRS, THEIRS], b"v", "several_positions", "2 positions; `pathcast ingest` takes them apart"),
        ({**THEIRS, "kind": "battery"}, b"v", "no_position", "holds no position"),
        ({**THEIRS, "y": 955000000}, b"v", "lat_out_of_range", "as mine: lat is 95.5"),
        ({"neither": 1}, b"v", "missing_field", "it has neither; as mine: there is no kind"),
        (b"{", b"v", "invalid_json", "not JSON"),
    ],
)
def test_what_is_no_ping_by_the_map_says_why(value: Any, key: bytes | None, code: str, said: str) -> None:
    found = rejected(value, key)
    assert (found.code, said in found.message) == (code, True), found


def test_a_batch_asks_the_map_for_what_the_compiled_path_leaves_alone() -> None:
    records = [record(dumps(OURS)), record(THEIRS), record({"neither": 1}), record([THEIRS, THEIRS])]
    read = Pings.read(Records.of(records), FOREIGN)
    assert read.of.tolist() == [0, 0, -1, -1]
    assert np.array_equal(read.fixes["lat_e7"][:2], [475000000, 475000000])
    assert read.fixes["speed_cms"][1] == 514
    assert {row: one.code for row, one in read.rejects.items()} == {2: "missing_field", 3: "several_positions"}
    assert Pings.read(Records.of(records)).of.tolist() == [0, -1, -1, -1]


def test_presets_are_named_by_the_reject_of_what_they_take() -> None:
    fixtures = Path(__file__).parent / "fixtures"
    for name in ("samsara", "motive", "flespi"):
        value = json.loads((fixtures / f"{name}{'_snapshot' if name == 'samsara' else ''}.json").read_bytes())
        found = clean.parse(record(value[0] if isinstance(value, list) else value))
        assert isinstance(found, Reject)
        assert f"--map {name} takes it" in found.message
        assert len(found.message) < 250
        assert reader_of(name) is not None
    assert reader_of(None) is None


def test_an_archive_and_an_atlas_with_the_map_have_what_a_worker_has() -> None:
    records = [record(dumps(OURS)), record(THEIRS), record({"neither": 1})]
    batch, left_out = parse_pings(records, None, FOREIGN)
    assert (batch.num_rows, dict(left_out)) == (2, {"missing_field": 1})
    assert parse_pings(records, None)[0].num_rows == 1
    columns = Records.of([record(THEIRS)])
    assert len(Follower().fold(columns, FOREIGN).fixes) == 1
    assert len(Follower().fold(columns).fixes) == 0
