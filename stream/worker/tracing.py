"""Makes the tracer of a worker, if it is to have one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from stream.config.settings import DeliveryGuarantee, Settings, Traces

if TYPE_CHECKING:
    from stream.tracing.tracer import Tracer


def tracer(settings: Settings, ends: list[Callable[[], None]]) -> Tracer | None:
    """Returns a tracer; None for a share of 0. Adds to `ends` what sends its last spans.

    Raises ModuleNotFoundError without the extra `otel`, ValueError for a key that cannot be read.
    """
    if not settings.trace_share:
        return None
    from stream.tracing.spans import open_sender
    from stream.tracing.tracer import Tracer

    sender = open_sender(Traces(settings.trace_share, settings.trace_entity_ids), "pathcast-worker")
    ends.append(sender.close)
    return Tracer(settings.trace_share, sender, once=settings.delivery is DeliveryGuarantee.EXACTLY_ONCE)
