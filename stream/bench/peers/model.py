"""Forecasts for the peers: our weights over the full window for every ping, without a key/value cache.

A stream job without a key/value cache serves a sequence model like this: it stores each entity's pings, and runs the
whole window again for each new one. The window is the model's own (W pings), not the longer history that exactness over
a whole stream needs. This is less work for the peer, so the comparison favours the peer.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import numpy as np

from model.api import FIX, Forecasts, Predictor
from stream.bench.harness.workload import NEVER_MS, Workload
from stream.config.settings import DEFAULT_HORIZONS_S
from stream.engine.answers import Answered, Writer
from stream.kafka.records.encoded_batches import Answers
from stream.kafka.records.record_columns import Records
from stream.tracks.clean import parse
from stream.tracks.fix import FIX_BYTES, first_ts_ms, last_fix, pack
from stream.wire import ModelRef, Outgoing, Ping, Record, Topics

READY: Final = "peer is ready"


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """The arguments of each peer's program, as JSON."""

    bootstrap: str
    prefix: str
    group: str
    weights: str
    home: str  # a directory for everything that the framework writes
    take: int = 1  # pings that go through the model together, if the framework can do that
    entities: int  # of the workload
    primed_rounds: int  # rounds of the workload that are in the windows when the peer starts
    data: str | None = None

    @property
    def topics(self) -> Topics:
        return Topics.of(self.prefix)


class Asked(NamedTuple):
    """A ping's record, and its entity's window, which includes the ping."""

    record: Record
    entity_id: str
    window: bytes


class FullWindow:
    """Forecasts by rebuilding every window."""

    def __init__(self, peer: Peer) -> None:
        self._predictor = Predictor.load(peer.weights, capacity=peer.take)
        self._slots = self._predictor.acquire(peer.take)
        self._models = [ModelRef(self._predictor.name, self._predictor.version)]
        self._writer = Writer(DEFAULT_HORIZONS_S, peer.topics)
        self._bytes = self._predictor.config.window * FIX_BYTES

    def windows(self, peer: Peer) -> dict[str, bytes]:
        """Returns every entity's window after the workload's first rounds, as if these had come through the topic."""
        found: dict[str, bytes] = {}
        workload = Workload(peer.entities, None if peer.data is None else Path(peer.data))
        for ping in workload.rounds(peer.primed_rounds):
            record = Record("", 0, 0, NEVER_MS, ping.entity_id.encode(), ping.value)
            if (asked := self.asked(record, found.get(ping.entity_id))) is not None:
                found[ping.entity_id] = asked.window
        return found

    def asked(self, record: Record, window: bytes | None) -> Asked | None:
        """Returns the entity's window with this record's ping; None if it is not a ping, or not newer than the last."""
        ping = parse(record)
        if not isinstance(ping, Ping) or (window and last_fix(window).ts_ms >= ping.ts):
            return None
        return Asked(record, ping.entity_id, ((window or b"") + pack(ping))[-self._bytes :])

    def answers(self, asked: Sequence[Asked]) -> list[Outgoing]:
        slots = self._slots[: len(asked)]
        self._predictor.rebuild(slots, [np.frombuffer(one.window, FIX) for one in asked])
        said = self._predictor.forecast(slots, DEFAULT_HORIZONS_S)
        records = Records.of([one.record for one in asked])
        pages = self._writer.written(records, [_answered(asked, said)], self._models, (0.0, 0.0, 0.0))
        return list(Answers(records, pages))


def _answered(asked: Sequence[Asked], said: Forecasts) -> Answered:
    n = len(asked)
    return Answered(
        np.arange(n),
        np.frombuffer(b"".join(one.window[-FIX_BYTES:] for one in asked), FIX),
        np.array([len(one.window) // FIX_BYTES for one in asked]),
        np.array([first_ts_ms(one.window) for one in asked]),
        np.zeros(n, np.bool_),
        np.zeros(n, np.int8),
        np.zeros(n, np.int64),
        said,
    )
