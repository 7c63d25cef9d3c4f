"""The metrics of a member that counts, beside those that every member has.

Only the member with partition 0 makes versions, so that only it has those of versions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from stream.members.pages import PARTITION, counter, gauge

if TYPE_CHECKING:
    from stream.atlas.counting.making import Announced
    from stream.atlas.counting.member import Runner


def _last(read: Callable[[Announced], float]) -> Callable[[Runner], float | None]:
    """Returns what reads a value of the last version; None before the first."""
    return lambda member: None if member.announced is None else read(member.announced)


ROWS: Final = (
    gauge("waiting_passages", "Found, and not in Redis yet.", lambda one: one.waiting(), *PARTITION),
    counter("versions", "Versions that were announced.", lambda one: _last(lambda last: last.versions)(one) or 0),
    gauge("version_timestamp_seconds", "When the last version was announced.", _last(lambda last: last.at_s)),
    gauge("version_pings", "Pings that it was counted from.", _last(lambda last: last.made.contains["pings"])),
    gauge("version_passages", "Passages that it has.", _last(lambda last: last.made.passages)),
    gauge("version_bytes", "Size of its file.", _last(lambda last: last.made.bytes)),
)
