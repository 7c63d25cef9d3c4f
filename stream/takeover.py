"""Where a new owner of a partition starts. Pure: offsets in, a plan out."""

from __future__ import annotations

from typing import NamedTuple

from stream.source import Bounds

# How far before the committed offset to start when no stored state can be used, or when the store has lost some: enough
# for the windows of 300 entities per partition, in some 5 s. Rarer entities start anew, as the status "warmup" of their
# forecasts tells.
REBUILD_RECORDS = 64_000


class Plan(NamedTuple):
    """Fold [start, stop) into the states without publishing, then go on from `stop` with output."""

    start: int
    stop: int
    anew: bool  # the stored states are of another past: forget them first
    why: str  # for the log; empty when nothing is out of the ordinary


def plan(checkpoint: int | None, committed: int | None, log: Bounds, *, evicted: int = 0) -> Plan:
    """What to do, given the checkpoint's offset, the group's committed offset and what the log still holds.

    If the store has lost the states of some entities (`evicted`), the replay starts as far back as it does without a
    checkpoint. It rebuilds those states. The others skip what their own records include already.

    A checkpoint is written after the commit that it belongs to, so it cannot be ahead of it, unless somebody moved the
    committed offset back (or it expired, or the topic was made again). Then the stored states have seen records that
    are now to be answered afresh, and their "already folded" marks would skip them: states start anew.
    """
    if committed is None or not log.begin <= committed <= log.end:
        # aiokafka goes to the earliest record here, by auto_offset_reset; so do we.
        why = "" if committed is None else f"the committed offset {committed} is not in the log {tuple(log)}"
        anew = checkpoint is not None and checkpoint > log.begin
        if anew:
            why = f"no usable committed offset ({committed}) for a checkpoint at {checkpoint}: reading from the start"
        return Plan(log.begin, log.begin, anew, why)
    rebuild = max(log.begin, committed - REBUILD_RECORDS)
    if checkpoint is None:
        why = f"no checkpoint: rebuilding from the last {committed - rebuild} records" if rebuild < committed else ""
        return Plan(rebuild, committed, anew=False, why=why)
    if checkpoint > committed:
        why = f"the committed offset {committed} was moved back behind the checkpoint {checkpoint}: states start anew"
        return Plan(rebuild, committed, anew=True, why=why)
    if checkpoint < log.begin:
        why = f"the log begins at {log.begin}, after the checkpoint {checkpoint}: what is between cannot be replayed"
        return Plan(log.begin, committed, anew=False, why=why)
    if evicted:
        why = f"{evicted} stored states are gone: rebuilding them from the last {committed - rebuild} records"
        return Plan(min(checkpoint, rebuild), committed, anew=False, why=why)
    return Plan(checkpoint, committed, anew=False, why="")
