"""The settings of `pathcast beside archive`."""

from __future__ import annotations

from dataclasses import dataclass

from stream.adapters.archived.manifest import DAY_MS
from stream.members.inputs import MemberSettings


@dataclass(frozen=True)
class ArchiveRules:
    """Says which pings are stored, and for how long. None: any, for ever."""

    # How much older than its record's timestamp a ping may be: a receiver with a wrong clock would open a file for each
    # of its days. Recorded pings that are fed again are older.
    late_ms: int | None = 7 * DAY_MS
    retention_days: int | None = 400
    map: str | None = None  # a preset or a file with a map, as the workers have it (stream.adapters.live.on_topic)

    def oldest_day(self, now_ms: int) -> int | None:
        """Returns the first day that is kept, counted from 1970."""
        return None if self.retention_days is None else now_ms // DAY_MS - self.retention_days


@dataclass(frozen=True)
class ArchiveSettings(MemberSettings):
    """The settings of one member."""

    archive: str  # a path or a URL of fsspec
    every_s: float = 600.0  # between two landings
    rows: int = 500_000  # pings in memory, which land at once then: some 100 bytes each
    rules: ArchiveRules = ArchiveRules()

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.topics.pings,)
