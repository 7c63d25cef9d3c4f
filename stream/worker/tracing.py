"""Makes the tracer of a worker, if it is to have one."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING

from stream.config.security import secret
from stream.config.settings import DeliveryGuarantee, Settings

if TYPE_CHECKING:
    from stream.tracing.tracer import Tracer

log = logging.getLogger(__name__)

KEY_BYTES = 32  # of a key that is made here


def tracer(settings: Settings, ends: list[Callable[[], None]]) -> Tracer | None:
    """Returns a tracer; None for a share of 0. Adds to `ends` what sends its last spans.

    Raises ModuleNotFoundError without the extra `otel`, ValueError for a key that cannot be read.
    """
    if not settings.trace_share:
        return None
    from stream.tracing.exporting import Exporter
    from stream.tracing.tracer import Tracer

    key = secret("TRACE_KEY")
    if key is None and not settings.trace_entity_ids:
        log.info("PATHCAST_TRACE_KEY is not set: the hashes of entities in traces are of this process alone")
    exporter = Exporter()
    ends.append(exporter.close)
    log.info("traces: of %g of the entities, to %s", settings.trace_share, exporter.endpoint)
    return Tracer(
        settings.trace_share,
        exporter.export,
        key=secrets.token_bytes(KEY_BYTES) if key is None else key.encode(),
        entity_ids=settings.trace_entity_ids,
        once=settings.delivery is DeliveryGuarantee.EXACTLY_ONCE,
    )
