"""The pages of a member that counts: the metrics that every member has (`stream.members.pages`), and

    waiting_passages               by `partition`: found, and not written to Redis yet
    versions_total                 versions that this member brought into service, since its start
    version_timestamp_seconds      when the last of them was; absent before the first
    version_pings, version_passages, version_bytes  what it was made of, and how large it is

Only the member with partition 0 makes versions, so that only it has the last four.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

from prometheus_client.metrics_core import Metric

from stream.atlas.counting.making import Announced
from stream.members import pages
from stream.members.pages import MemberPages


class Watched(pages.Watched, Protocol):
    """States which attributes of a member its pages read."""

    @property
    def announced(self) -> Announced | None: ...

    def waiting(self) -> Mapping[int, int]: ...


class Pages(MemberPages):
    """Renders the pages of a member."""

    def __init__(self, member: Watched) -> None:
        self._member = member
        super().__init__("atlas", member)

    def collect(self) -> Iterator[Metric]:
        """Yields every metric of both tables."""
        yield from super().collect()
        yield self._by_partition("waiting_passages", "Found, and not in Redis yet.", self._member.waiting())
        last = self._member.announced
        made = None if last is None else last.made
        yield self._counter("versions", "Versions that were announced.", 0 if last is None else last.versions)
        at_s = None if last is None else last.at_s
        yield self._gauge("version_timestamp_seconds", "When the last version was announced.", at_s)
        pings = None if made is None else float(made.contains["pings"])
        yield self._gauge("version_pings", "Pings that it was counted from.", pings)
        yield self._gauge("version_passages", "Passages that it has.", None if made is None else made.passages)
        yield self._gauge("version_bytes", "Size of its file.", None if made is None else made.bytes)
