"""A forecast of which a test says only what it is about. Tests import this; it tests nothing itself."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from stream.wire import Anchor, Forecast, Horizon, Latency, ModelRef, NextStep, Src, Window


def forecast_of(entity_id: str, at: Anchor, step: NextStep, horizons: Iterable[Horizon] = (), **more: Any) -> Forecast:
    """A forecast from this place on; `more` are fields that are not as usual."""
    usual: dict[str, Any] = {
        "forecast_id": f"{entity_id}-{at.ts}",
        "model": ModelRef("made-up", "0" * 16),
        "status": "ok",
        "window": Window(8, at.ts - 480_000, at.ts),
        "cache": "hit",
        "latency_ms": Latency(1.0, 1.0, 1.0),
        "src": Src("pathcast.pings.v1", 0, 0),
    }
    return Forecast(entity_id=entity_id, anchor=at, next=step, horizons=tuple(horizons), **(usual | more))
