"""What a command is told of traces (stream.tracing). Where they go to, OpenTelemetry's own variables say."""

from __future__ import annotations

from typing import Final, NamedTuple


class Traces(NamedTuple):
    """States which entities are traced, and how spans name them."""

    share: float = 0.0  # of the entities; 0: nothing is
    entity_ids: bool = False  # in spans; else a keyed hash stands for the entity


NO_TRACES: Final = Traces()
