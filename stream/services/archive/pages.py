"""The metrics of a member of the archive, beside those that every member has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from stream.members.pages import PARTITION, counter, gauge

if TYPE_CHECKING:
    from stream.services.archive.landing import Owned
    from stream.services.archive.member import Runner


def _each(read: Callable[[Owned], Any]) -> Callable[[Runner], Mapping[int, Any]]:
    """Returns what reads a value of each partition."""
    return lambda member: {number: read(one) for number, one in member.standings().items()}


def _records(member: Runner) -> Mapping[tuple[int, str], int]:
    owned = member.standings()
    return {(number, outcome): count for number, one in owned.items() for outcome, count in one.manifest.counts.items()}


def _landed_s(owned: Owned) -> float | None:
    return owned.manifest.landed_ms / 1000 or None


ROWS: Final = (
    counter("pings_landed", "Pings that this member has landed.", lambda one: one.landed),
    counter("records", "Records, by what became of them, whoever landed them.", _records, "partition", "outcome"),
    gauge("waiting_pings", "Pings in memory that have not landed yet.", _each(lambda one: one.rows), *PARTITION),
    gauge(
        "landed_offset",
        "The offset after the records that landed.",
        _each(lambda one: one.manifest.next_offset),
        *PARTITION,
    ),
    gauge("landed_timestamp_seconds", "When the last records landed.", _each(_landed_s), *PARTITION),
)
