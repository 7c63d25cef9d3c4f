"""What was found and done in each place."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Outcome(StrEnum):
    REMOVED = "removed"
    ABSENT = "absent"  # there was nothing
    FOUND = "found"  # and not touched: a dry run
    SENT = "sent"  # workers are told
    WAITS = "waits"  # nobody has done it yet; it will be done
    STAYS = "stays"  # until the place forgets it by itself
    FAILED = "failed"  # the place was not reached, or did not do it


class Finding(msgspec.Struct, frozen=True):
    """One place."""

    place: str
    outcome: Outcome
    found: str  # what was there
    note: str = ""  # what follows from it, or until when it stays

    @property
    def is_good(self) -> bool:
        return self.outcome not in (Outcome.FAILED, Outcome.WAITS)


def failed(place: str, error: Exception) -> Finding:
    """Returns the finding of a place that was not reached."""
    return Finding(place, Outcome.FAILED, "", " ".join(str(error).split()) or type(error).__name__)
