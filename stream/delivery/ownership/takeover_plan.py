"""Decides where a new owner of a partition starts, and whether the log is still the one that was answered.

It computes a plan from offsets, without input or output.

A log can get shorter: a broker loses its power and the tail that it had not synced, an unclean election makes a broker
the leader that had not copied the tail, or somebody deletes the topic and makes it again. Then different records come
at offsets that are answered already. A comparison of offsets alone would take them for the old records.

    evidence                                                  where the log was cut
    the topic has another id                                  at its beginning
    the records of our last leader's epoch end before us      where they end
    neither is known, and the log ends before us              unknown: all of it is answered again
"""

from __future__ import annotations

from typing import NamedTuple

from stream.kafka.log import UNKNOWN, CommittedOffset, History, Log, find_cut

# How far before the committed offset to start when no stored state can be used, or when the store has lost some: enough
# for the windows of 300 entities per partition, in some 5 s. Entities that report less often start anew, which the
# status "warmup" of their forecasts shows.
REBUILD_RECORDS = 64_000


class Plan(NamedTuple):
    """Fold [start, stop) into the states without publishing, then continue from `stop` with output."""

    start: int
    stop: int
    anew: bool  # the stored states belong to another history: delete them first
    why: str  # for the log; empty in the ordinary case
    cut: bool = False  # the log is not the one that was answered, so the consumer's position is wrong, too
    lost: int = 0  # offsets that retention deleted before their records were answered; the records may be fewer


def plan(
    checkpoint: int | None,
    committed: CommittedOffset | None,
    log: Log,
    *,
    evicted: int = 0,
    is_older: bool = False,
) -> Plan:
    """Returns what to do, given the checkpoint's offset, the committed offset and what the log still holds.

    If the store has lost the states of some entities (`evicted`), the replay starts as far back as it does without a
    checkpoint. It rebuilds those states. The other states skip the records that they already include.

    A store that does not know the last claim of which the commit knows is an older copy (`is_older`). If the log was
    ever shortened, its states may include records that were cut off since it was made: states start anew.

    A checkpoint is written after the commit that it belongs to, so it cannot be ahead of the committed offset, unless
    somebody moved that offset back (or it expired, or the topic was made again). Then the stored states include records
    that must now be answered again, and would skip them as already folded: states start anew.
    """
    if committed is None:
        return _first(checkpoint, log)
    cut, offset = find_cut(committed.offset, committed.history, log), committed.offset
    if cut is not None:
        # All states are deleted: a checkpoint is written in parts, and a part may include records above its own offset.
        why = f"the log was shortened to {cut}, and all below {offset} was answered: records from {cut} on are new"
        return Plan(cut, cut, anew=True, why=why, cut=True)
    if offset < log.begin:
        why = f"retention deleted the offsets from {offset} to {log.begin} before their records were answered"
        anew = checkpoint is not None and checkpoint > log.begin
        return Plan(log.begin, log.begin, anew, why, lost=log.begin - offset)
    rebuild = max(log.begin, offset - REBUILD_RECORDS)
    if checkpoint is None:
        why = f"no checkpoint: rebuilding from the last {offset - rebuild} records" if rebuild < offset else ""
        return Plan(rebuild, offset, anew=False, why=why)
    if checkpoint > offset:
        why = f"the committed offset {offset} was moved back behind the checkpoint {checkpoint}: states start anew"
        return Plan(rebuild, offset, anew=True, why=why)
    if is_older and committed.history.cut >= 0:
        why = f"Redis is an older copy, and the log was shortened to {committed.history.cut}: states start anew"
        return Plan(rebuild, offset, anew=True, why=why)
    if checkpoint < log.begin:
        why = f"the log begins at {log.begin}, after the checkpoint {checkpoint}: what is between cannot be replayed"
        return Plan(log.begin, offset, anew=False, why=why)
    if evicted:
        why = f"{evicted} stored states are gone: rebuilding them from the last {offset - rebuild} records"
        return Plan(min(checkpoint, rebuild), offset, anew=False, why=why)
    return Plan(checkpoint, offset, anew=False, why="")


def _first(checkpoint: int | None, log: Log) -> Plan:
    """Returns the plan when nothing is committed.

    aiokafka goes to the earliest record then, by auto_offset_reset; so do we.
    """
    if checkpoint is None or checkpoint <= log.begin:
        return Plan(log.begin, log.begin, anew=False, why="")
    # Brokers delete a group's offsets together with their topic, so the log may be another one.
    why = f"nothing is committed for a checkpoint at {checkpoint} (was the topic made anew?): reading from the start"
    return Plan(log.begin, log.begin, anew=True, why=why, cut=True)


def history_after(todo: Plan, committed: CommittedOffset | None, log: Log) -> History:
    """Returns what to commit of the log's history together with the plan's `stop`."""
    before = UNKNOWN if committed is None else committed.history
    history = before._replace(topic_id=log.topic_id or before.topic_id, lost=before.lost + todo.lost)
    if not todo.cut:
        return history
    cut = todo.stop if before.cut < 0 else min(todo.stop, before.cut)
    return history._replace(cut=cut, leader_epoch=log.kept_epoch if log.kept == todo.stop else -1)
