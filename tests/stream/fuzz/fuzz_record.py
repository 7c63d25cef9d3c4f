"""Any bytes as a stored record, as they are and with right checksums over them: refused by name, or good for a worker
to go on from. Who can write to the store can write a right checksum. See fuzzing.py."""

from __future__ import annotations

import asyncio
import json
import math
import struct
from pathlib import Path
from typing import Any
from zlib import crc32

import fuzzing
import numpy as np

CORPUS = Path(__file__).parent / "corpus" / "record"
WHO = "bus-1"
OFFSET = 1_000  # of the first record that is now to be answered
T0 = 1_700_000_000_000
WATCHED = {
    "stream.engine.entities.stored_entity": "loads fronts odd_of _possible _track",
    "stream.engine.entities.quarantine": "loads _texts",
    "stream.engine.entities.restore": "Restorer.admit Restorer._load_singly Restorer._load Restorer._caught_up",
    "stream.tracks.track": "observe _close_gap _aged _describe_gaps _gap _restart _handle_jump _out_of_order",
    "model.serving.state_codec": "loads whole _sane _finite",
    "model.kinematics.motion": "possible",
}
STEPS = ((10.0, 0.0), (5.0, 0.0), (10.0, 0.0), (20.0, 9.0), (200.0, 0.001), (210.0, 0.002), (220.0, 0.003))  # s, deg


def checker() -> fuzzing.Check:
    from model.api import ModelConfig, Predictor
    from stream.config.settings import Settings
    from stream.engine.engine import Engine
    from stream.engine.entities.stored_entity import RecordError, dumps, fronts, loads
    from stream.store.base import MemoryStore
    from stream.tracks.track import Policy
    from stream.tracks.track_table import TrackTable

    predictor = Predictor.untrained(ModelConfig(name="tiny", d=16, blocks=2, heads=2, window=8), capacity=4)
    loop = asyncio.new_event_loop()

    def check(data: bytes) -> None:
        for raw in (data, sealed(data, predictor.fingerprint)):
            try:
                stored = loads(WHO, raw)
            except RecordError:
                stored = None
            same_width = len(raw) > 8 and int.from_bytes(raw[6:8], "little") == predictor.history
            assert fronts([WHO], [raw], predictor.history).sound[0] == (stored is not None and same_width)
            if stored is not None and same_width:
                tracks = TrackTable(Policy(predictor.history))
                tracks.clear(np.arange(1))
                tracks.write(0, stored.track)
                again = dumps([WHO], tracks, np.arange(1), [stored.state])[0]
                assert loads(WHO, again) == stored._replace(behind=0)
        store = MemoryStore()
        engine = Engine(predictor, store, Settings(), clock_ms=lambda: 0.0)
        loop.run_until_complete(_lived_through(engine, store, raw, stored))

    return check


async def _lived_through(engine: Any, store: Any, raw: bytes, stored: Any) -> None:
    """A worker finds this record: every ping has its one outcome, in finite numbers, and a checkpoint is written."""
    from stream.tracks.fix import last_fix
    from stream.wire import E7, Ping, Record, Topics, dumps

    a = ("pathcast.pings.v1", 0)
    epoch, _ = await store.claim(a)
    await store.put_many(a, epoch, OFFSET, {WHO: raw})
    last = last_fix(stored.track.window) if stored is not None else None
    ts, lat, lon = (last.ts_ms, last.lat_e7 / E7, last.lon_e7 / E7) if last else (T0, 30.0, -97.0)
    records = []
    for n, (after_s, north) in enumerate(STEPS):
        one = Ping(entity_id=WHO, ts=ts + int(after_s * 1000), lat=min(lat + north, 90.0), lon=lon)
        records.append(Record(*a, OFFSET + n, one.ts, WHO.encode(), dumps(one)))
    answers = await engine.process(records, started_ms=0.0, fetched_ms=0.0)
    counts = engine.counts[a]
    assert counts.records_in == len(records) == counts.forecasts + counts.rejects + counts.duplicates + counts.folded
    assert counts.folded == 0
    assert sum(answer.topic != Topics.of().gapfills for answer in answers) == counts.forecasts + counts.rejects
    for answer in answers:
        if answer.topic != Topics.of().dead_letters:
            _assert_numbers(json.loads(answer.value or b"", parse_constant=_refuse))
    await engine.checkpoint(a, epoch, OFFSET + len(records))
    engine.drop(a)
    engine._table.sweep()  # the predictor is the next input's, too


def _assert_numbers(item: Any) -> None:
    if isinstance(item, dict):
        for name, inner in item.items():
            assert name != "cov_m2" or (inner[0] >= 0 <= inner[2]), inner
            _assert_numbers(inner)
    elif isinstance(item, list):
        for inner in item:
            _assert_numbers(inner)
    else:
        assert item is not None
        assert not isinstance(item, float) or math.isfinite(item)


def _refuse(text: str) -> None:
    raise AssertionError(f"{text} is not JSON")


def sealed(data: bytes, fingerprint: bytes) -> bytes:
    """With right checksums of the record and of its state, which becomes one of this model: as an intruder would."""
    from stream.engine.entities import quarantine
    from stream.engine.entities.stored_entity import HEAD, MAGIC, VERSION, _checksums
    from stream.tracks.fix import FIX_BYTES

    if quarantine.is_one(data) and len(data) >= 16:
        return data[:12] + struct.pack("<I", quarantine._checksum(WHO, data[:12] + bytes(4) + data[16:])) + data[16:]
    if len(data) < HEAD.itemsize:
        return data
    raw = bytearray(data)
    raw[:6] = MAGIC + struct.pack("<H", VERSION)
    end = HEAD.itemsize + int.from_bytes(raw[6:8], "little") * FIX_BYTES
    if len(raw) < end:
        return bytes(raw)
    head, ring = np.frombuffer(raw[: HEAD.itemsize], HEAD), np.frombuffer(raw[HEAD.itemsize : end], "<u4")[None]
    raw[8:16] = _checksums([WHO], head, ring)[0].tobytes()
    if len(raw) - end > 20:
        raw[end + 8 : end + 16] = fingerprint
        raw[-4:] = struct.pack("<I", crc32(raw[end:-4]))
    return bytes(raw)


if __name__ == "__main__":
    fuzzing.run(checker, CORPUS, [f"{module}:{name}" for module, names in WATCHED.items() for name in names.split()])
