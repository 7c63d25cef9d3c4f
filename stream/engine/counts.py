"""What the engine has counted of one partition: since the process began, or of one batch."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Counts:
    """The accounts of one partition. records_in = forecasts + rejects + duplicates + folded, always."""

    records_in: int = 0
    forecasts: int = 0  # late pings included
    rejects: int = 0  # all dead letters
    duplicates: int = 0
    folded: int = 0  # records that came again after this process had answered them
    late: int = 0
    quarantined: int = 0  # pings that are impossible jumps
    step_failed: int = 0  # pings whose step raised; each put its entity in quarantine
    entity_quarantined: int = 0  # later pings of such entities
    restarts: int = 0
    gap_fills: int = 0
    replayed: int = 0  # folded silently, by a takeover; not in records_in
    rebuilt: int = 0  # states that were refused and rebuilt from the window
    moved: int = 0  # states that other weights rebuilt from the window, as these were due
    damaged: int = 0  # stored records that were refused: the entity started anew
    evicted: int = 0  # stored states that the store lost before they expired
    misplaced: int = 0  # entities that came into memory, and whose key murmur2 puts into another partition
    over_quota: int = 0  # pings of new entities that exceed the quota of stored entities
    # Dropped optional fields of pings, by name. Never changed in place, because copies of this object share it.
    fields_dropped: Counter[str] = field(default_factory=Counter)
    late_atlas: int = 0  # forecasts for which another version of the atlas may have been due
    late_weights: int = 0  # forecasts for which other weights may have been due
    unread: int = 0  # forecasts without the entity's stored state, which could not be read in time

    def copy(self) -> Counts:
        return Counts(**vars(self))

    def since(self, before: Counts) -> Counts:
        """Returns what has been counted since `before` was copied."""
        return Counts(**{name: count - getattr(before, name) for name, count in vars(self).items()})
