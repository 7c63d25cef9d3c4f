"""Decides whether a partition's log is the one that the group answered: where it was truncated, and what retention
deleted. Pure.

It shares no code with `stream.delivery.ownership.takeover`, which decides the same for a worker and is judged here.
"""

from __future__ import annotations

from typing import NamedTuple

from stream.kafka.log import CommittedOffset, Log
from stream.wire import Outgoing, Record, Topics, context_of, loads_forecast, loads_gapfill


class Past(NamedTuple):
    """Holds what happened to one partition's log. `due` is the group's offset in the present log: all records below it
    must have answers.
    """

    due: int = 0
    cut: int | None = None  # answers to this offset or a later one may belong to records that are gone
    why: str = ""  # why we think that it was truncated
    lost: int = 0  # offsets that retention deleted before they were answered
    lost_now: str = ""  # a text about those between the committed offset and the log's beginning


def past(committed: CommittedOffset | None, log: Log) -> Past:
    """Returns what follows from the group's last commit and the brokers' answers."""
    if committed is None:
        return Past()
    offset, before, lost = committed.offset, committed.history.cut, committed.history.lost
    if (now := _find_cut(committed, log)) is not None:
        at, why = now
        return Past(min(offset, at), at if before < 0 else min(before, at), why, lost)
    gone = max(0, log.begin - offset)
    found = Past(offset, lost=lost + gone)
    if gone:
        found = found._replace(lost_now=f"the offsets from {offset} to {log.begin} were deleted unanswered")
    if before >= 0:
        found = found._replace(cut=before, why=f"the log was shortened to {before}, and the group went on from there")
    return found


def _find_cut(committed: CommittedOffset, log: Log) -> tuple[int, str] | None:
    """Returns where the log was truncated below the committed offset, and why we think so; None if it was not."""
    offset, history = committed.offset, committed.history
    if history.topic_id and log.topic_id and history.topic_id != log.topic_id:
        return log.begin, f"the topic was made anew after the group had answered up to {offset}"
    if log.kept is not None and log.kept < offset:
        return log.kept, f"the log was shortened to {log.kept} after the group had answered up to {offset}"
    if log.kept is None and offset > log.end:
        return log.begin, f"the group has answered up to {offset}, and the log ends at {log.end}"
    return None


def is_orphan(due: Outgoing, published: Record, topics: Topics) -> bool:
    """Returns whether a published answer belongs to another record than `due`, by what both contain of the record."""
    if published.key != due.key:
        return True
    if due.topic == topics.dead_letters:
        # Equal values came at two moments where a sender repeats itself: the letter says when its record did.
        return published.value != due.value or _timestamp_of(published) != _timestamp_of(due)
    if due.topic == topics.gapfills:
        fill, other = loads_gapfill(due.value or b""), loads_gapfill(published.value or b"")
        return (fill.start, fill.end, fill.issued_ts) != (other.start, other.end, other.issued_ts)
    return loads_forecast(due.value or b"").anchor != loads_forecast(published.value or b"").anchor


def _timestamp_of(letter: Outgoing | Record) -> str | None:
    """Returns the timestamp of the record that a dead letter is about."""
    return context_of(letter.headers).get("timestamp")
