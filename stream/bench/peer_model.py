"""What the peers run: our weights over the full window for every ping, no cache. Knows the model; knows no framework.

This is how a stream job serves a sequence model when nobody keeps its keys and values: remember each entity's pings,
and run the whole window again for each new one. The window is the model's own (W pings), not the longer history that
exactness over a whole stream needs: less work for the peer, so the comparison leans its way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec
import numpy as np

from model.api import FIX, Predictor
from stream.clean import parse
from stream.render import Answered, forecasts
from stream.settings import DEFAULT_HORIZONS_S
from stream.track import FIX_BYTES, first_ts_ms, last_fix, pack
from stream.wire import ModelRef, Outgoing, Ping, Record, Topics, Window

READY: Final = "peer is ready"


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """What each peer's program is told, as JSON."""

    bootstrap: str
    prefix: str
    group: str
    weights: str
    home: str  # a directory for whatever the framework writes
    take: int = 1  # pings that go through the model together, where the framework can

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

    def __init__(self, weights: str, topics: Topics, capacity: int) -> None:
        self._predictor = Predictor.load(weights, capacity=capacity, threads=1)
        self._slots = self._predictor.acquire(capacity)
        self._model = ModelRef(self._predictor.name, self._predictor.version)
        self._topics = topics
        self._bytes = self._predictor.config.window * FIX_BYTES

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
        rows = [_row(one) for one in asked]
        return forecasts(rows, said, DEFAULT_HORIZONS_S, self._model, self._topics, (0.0, 0.0, 0.0))


def _row(one: Asked) -> Answered:
    anchor = last_fix(one.window)
    seen = Window(len(one.window) // FIX_BYTES, first_ts_ms(one.window), anchor.ts_ms)
    return Answered(one.record, one.entity_id, anchor, seen, False, "none")
