"""Warns if Redis would delete states when its memory is full. It writes nothing to Redis."""

from __future__ import annotations

import logging
from typing import Any, Final

from redis import Redis, RedisError

from stream.config.security import shown

log = logging.getLogger(__name__)

KEEPS: Final = "noeviction"


def warn_of_eviction(client: Redis, url: str) -> None:
    """Logs a warning of one line if this Redis would evict states. Logs none if we may not ask (`+info`)."""
    try:
        memory: Any = client.info("memory")
    except RedisError as error:
        log.debug("whether Redis would evict states is unknown (%s)", error)
        return
    limit, policy = memory.get("maxmemory", 0), memory.get("maxmemory_policy", KEEPS)
    if limit and policy != KEEPS:
        log.warning(
            "Redis at %s evicts states when %.0f MB are full (maxmemory-policy %s): set maxmemory-policy noeviction",
            shown(url),
            limit / 1e6,
            policy,
        )
