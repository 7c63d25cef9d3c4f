"""What the peers run: our weights over the full window for every ping, no cache. Knows the model; knows no framework.

This is how a stream job serves a sequence model when nobody keeps its keys and values: remember each entity's pings,
and run the whole window again for each new one. The window is the model's own (W pings), not the longer history that
exactness over a whole stream needs: less work for the peer, so the comparison leans its way.
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
from stream.kafka.encoded_batches import Answers
from stream.kafka.record_columns import Records
from stream.tracks.clean import parse
from stream.tracks.fix import FIX_BYTES, first_ts_ms, last_fix, pack
from stream.wire import ModelRef, Outgoing, Ping, Record, Topics

READY: Final = "peer is ready"


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """What each peer's program is told, as JSON."""

    bootstrap: str
    prefix: str
    group: str
    weights: str
    home: str  # a directory for whatever the framework writes
    take: int = 1  # pings that go through the model together, where the framework can
    entities: int  # of the workload, and of it the rounds that are in the windows already when the peer starts
    primed_rounds: int
    data: str | None = None

    @property
    def topics(self) -> Topics:
        return Topics.of(self.prefix)


class Asked(NamedTuple):
    """A ping, its record, and its entity's window with it."""

    record: Record
    entity_id: str
    window: bytes


class FullWindow:
    """Forecasts by rebuilding every window."""

    def __init__(self, peer: Peer) -> None:
        self._predictor = Predictor.load(peer.weights, capacity=peer.take, threads=1)
        self._slots = self._predictor.acquire(peer.take)
        model = ModelRef(self._predictor.name, self._predictor.version)
        self._writer = Writer(DEFAULT_HORIZONS_S, model, peer.topics)
        self._bytes = self._predictor.config.window * FIX_BYTES

    def windows(self, peer: Peer) -> dict[str, bytes]:
        """Every entity's window after the workload's first rounds, as if they had come through the topic."""
        found: dict[str, bytes] = {}
        workload = Workload(peer.entities, None if peer.data is None else Path(peer.data))
        for ping in workload.rounds(peer.primed_rounds):
            record = Record("", 0, 0, NEVER_MS, ping.entity_id.encode(), ping.value)
            if (asked := self.asked(record, found.get(ping.entity_id))) is not None:
                found[ping.entity_id] = asked.window
        return found

    def asked(self, record: Record, window: bytes | None) -> Asked | None:
        """The entity's window grown by this record's ping; None if it is no ping, or not newer than the last one."""
        ping = parse(record)
        if not isinstance(ping, Ping) or (window and last_fix(window).ts_ms >= ping.ts):
            return None
        return Asked(record, ping.entity_id, ((window or b"") + pack(ping))[-self._bytes :])

    def answers(self, asked: Sequence[Asked]) -> list[Outgoing]:
        slots = self._slots[: len(asked)]
        self._predictor.rebuild(slots, [np.frombuffer(one.window, FIX) for one in asked])
        said = self._predictor.forecast(slots, DEFAULT_HORIZONS_S)
        records = Records.of([one.record for one in asked])
        pages = self._writer.written(records, [_answered(asked, said)], (0.0, 0.0, 0.0))
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
        said,
    )
