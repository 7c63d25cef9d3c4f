"""What happens in a world at a time."""

from __future__ import annotations

import msgspec


class Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """Something that happens at a time."""

    at_s: float
    kind: str  # "ping", "aborted" (pings of a transaction that is aborted), or one of `plans.FAULTS`
    which: int = 0  # worker, entity or partition: taken modulo their number
    for_s: float = 0.0
    share: float = 0.0
    point: str = ""  # of `stream.config.failpoints` or `plans.OWN_POINTS`, at whose N-th time it happens
    times: int = 1
    odd: str = ""  # of a ping: how it is not as others
