"""Cleans a compacted log: of each key only the newest record stays (LogCleaner)."""

from __future__ import annotations

from kafka_log import Batch, PartitionLog

TOMBSTONES_MS = 86_400_000  # how long a tombstone or a marker stays after it was cleaned first: delete.retention.ms


def compact(log: PartitionLog, until: int | None, now_ms: int) -> None:
    """Cleans the batches below `until`. The newest batch is in the active segment, which is never cleaned, and nothing
    from the last stable offset on is touched."""
    if not log.batches:
        return
    bound = min(log.last_stable_offset, log.batches[-1].base, log.end if until is None else until)
    dirty = [one for one in log.batches if one.last < bound and one.last >= log.start]
    newest: dict[bytes | None, int] = {}
    for batch in dirty:
        if not batch.aborted:
            newest.update((one.key, one.offset) for one in batch.records)
    for batch in dirty:
        _clean(batch, newest, now_ms)


def _clean(batch: Batch, newest: dict[bytes | None, int], now_ms: int) -> None:
    if batch.aborted:
        batch.records = []
        return
    tombstones = any(one.value is None for one in batch.records)
    over = batch.horizon_ms is not None and now_ms >= batch.horizon_ms
    batch.records = [one for one in batch.records if newest[one.key] == one.offset and not (one.value is None and over)]
    if tombstones and batch.horizon_ms is None:
        batch.horizon_ms = now_ms + TOMBSTONES_MS
