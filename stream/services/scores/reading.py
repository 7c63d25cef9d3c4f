"""Reads the scores topic up to its present end, for people."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

import msgspec

from stream.config.security import KafkaSecurity
from stream.kafka.reading import to_end
from stream.wire import Drift, Score, Topics, loads_scored

log: Final = logging.getLogger(__name__)


def read(bootstrap: str, prefix: str, security: KafkaSecurity, since_ms: int | None) -> list[Score | Drift]:
    """Returns what was published since then, or all: partition by partition.

    Raises ConnectionError if no broker answers, Refused if one denies access, ValueError if there is no scores topic.
    """
    return asyncio.run(_read(bootstrap, Topics.of(prefix).scores, security, since_ms))


async def _read(bootstrap: str, topic: str, security: KafkaSecurity, since_ms: int | None) -> list[Score | Drift]:
    scores, unreadable = list[Score | Drift](), 0
    async for chunk in to_end(bootstrap, topic, security, since_ms=since_ms):
        for value in chunk.records.values.each():
            try:
                scores.append(loads_scored(value or b""))
            except msgspec.DecodeError:
                unreadable += 1
    if unreadable:
        log.warning("%d records of %s are no scores", unreadable, topic)
    return scores
