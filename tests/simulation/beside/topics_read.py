"""Reads the topics of a world, as readers of committed records do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stream.wire import Record

if TYPE_CHECKING:
    from stage import Stage


def read(stage: Stage, topic: str, number: int) -> list[Record]:
    """Returns what readers of committed records get of a partition; nothing of a topic that is not there."""
    if topic not in stage.kafka.cluster.topics:
        return []
    log = stage.kafka.protocol.log((topic, number))
    return [
        Record(topic, number, one.offset, one.timestamp_ms, one.key, one.value, tuple(one.headers))
        for batch in log.batches
        if not batch.aborted and batch.control is None
        for one in batch.records
        if log.start <= one.offset < log.last_stable_offset
    ]
