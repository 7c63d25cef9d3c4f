"""Says which version of the atlas answers which ping: a function of the models topic alone. Pure.

A version answers a partition's pings from an offset on, which lies ahead of the log when the version is announced. Of
the versions that serve and begin at or before a ping's offset, the one whose record is last in the topic answers it.

A worker can know this answer although the topic goes on, because a version is brought in by two records:

    1. The announcer reads the ends of the pings topic's partitions, takes MIN_MARGIN offsets or more beyond them as
       `from`, and publishes the version as "announced".
    2. When that is in the log, it reads the ends again. If each of them is still KNOWN_AHEAD or more before `from`, it
       publishes the version as "serving"; else it withdraws it, and tries again.

Take a worker that sees the end E of a partition, and then reads the models topic to its end (a look). A version of
which it finds nothing was announced after the look, so that its second step comes later still and finds an end of at
least E: if it ever serves, then from E + KNOWN_AHEAD on. So all offsets below are certain (`certain_below`), but for
versions that it finds announced and not yet serving: `undecided_from` says from where on these might answer.

It follows that one announcer at a time may write (`announcing` sees to it), and that a version retires only when no
ping that may still be asked for is its own (`superseded`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream.wire import VERSION_KEY, VersionRecord, loads_version

I64 = NDArray[np.int64]
# Offsets from the end of a partition to the first that a new version may answer. More only delays it: where pings come
# once a minute, 16 of them are a quarter of an hour.
MIN_MARGIN: Final = 16
# That must be left of it once the announcement is in the log, and by which a look is good for longer than its moment.
KNOWN_AHEAD: Final = 8


class Answering(NamedTuple):
    """Which version answers which offset of one partition."""

    starts: I64  # S: the first offset of each, rising
    versions: tuple[str, ...]  # S

    def at(self, offsets: I64) -> I64:
        """Returns for each offset the index of its version, or -1 for none."""
        return np.searchsorted(self.starts, offsets, side="right").astype(np.int64) - 1

    def one(self, offset: int) -> str | None:
        index = int(np.searchsorted(self.starts, offset, side="right")) - 1
        return None if index < 0 else self.versions[index]


class Ledger:
    """Holds what the models topic says of one pings topic's atlases, up to some record."""

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self._records: dict[str, VersionRecord] = {}  # in the order of their records in the log
        self._in_state: dict[str, list[VersionRecord]] = {}
        self._answering: dict[int, Answering] = {}

    def add(self, key: bytes | None, value: bytes | None) -> None:
        """Takes the next record of the topic. Only a version's last record counts, so a compacted log says the same as
        the whole one: a value that cannot be read, or is for another pings topic, withdraws the version as null does.
        """
        version, record = self.parse_record(key, value)
        if version is None:
            return
        self._records.pop(version, None)
        if record is not None:
            self._records[version] = record
        self._in_state.clear()
        self._answering.clear()

    def parse_record(self, key: bytes | None, value: bytes | None) -> tuple[str | None, VersionRecord | None]:
        """Returns of which version a record of the topic is, None if of none, and what `add` holds of it from then
        on."""
        name = (key or b"").decode(errors="replace")
        if not name.startswith(VERSION_KEY):
            return None, None
        version = name.removeprefix(VERSION_KEY)
        try:
            record = None if value is None else loads_version(value)
        except ValueError:
            record = None
        if record is not None and (record.topic != self._topic or record.version != version):
            record = None
        return version, record

    @property
    def serving(self) -> Sequence[VersionRecord]:
        """The versions that serve, the first announced first. It is the same object until a record comes."""
        return self._those("serving")

    @property
    def announced(self) -> Sequence[VersionRecord]:
        """The versions of which is not known yet whether they will serve."""
        return self._those("announced")

    def _those(self, state: str) -> Sequence[VersionRecord]:
        if state not in self._in_state:
            self._in_state[state] = [record for record in self._records.values() if record.state == state]
        return self._in_state[state]

    def get(self, version: str) -> VersionRecord | None:
        return self._records.get(version)

    def answering(self, number: int) -> Answering:
        """Returns which version answers which offset of the partition of this number."""
        if number not in self._answering:
            self._answering[number] = _answering(self.serving, number)
        return self._answering[number]

    def version_at(self, number: int, offset: int) -> str | None:
        """Returns the version that answers the ping at this offset, or None for none."""
        return self.answering(number).one(offset)

    def first_undecided(self, number: int) -> int | None:
        """Returns the first offset that a version might answer of which is not known yet whether it will serve; None
        if there is no such version."""
        return min((record.first[number] for record in self.announced if number in record.first), default=None)

    def list_superseded(self, begins: Mapping[int, int]) -> list[str]:
        """Returns the versions that answer no ping at or after `begins`, which names every partition: these may retire
        when no log has earlier pings any more, or nobody will ask for them.
        """
        needed = {
            answering.versions[index]
            for number, begin in begins.items()
            for answering in [self.answering(number)]
            for index in range(max(int(answering.at(np.array([begin]))[0]), 0), len(answering.versions))
        }
        return [record.version for record in self.serving if record.version not in needed]


def _answering(serving: Sequence[VersionRecord], number: int) -> Answering:
    starts: list[int] = []
    versions: list[str] = []
    for record in reversed(serving):  # the last of those that begin at or before an offset answers it
        first = record.first.get(number)
        if first is not None and (not starts or first < starts[-1]):
            starts.append(first)
            versions.append(record.version)
    return Answering(np.array(starts[::-1], np.int64), tuple(versions[::-1]))


def certain_below(end: int) -> int:
    """Returns below which offset a partition's answers are certain after a look, if its end was seen before it."""
    return end + KNOWN_AHEAD


def first_offsets(ends: Mapping[int, int], in_lead: Mapping[int, float]) -> dict[int, int]:
    """Returns from which offsets on a new version may answer, by partition: `in_lead` pings after its end, which is
    what a worker has to load the file."""
    return {number: end + max(MIN_MARGIN, ceil(in_lead.get(number, 0))) for number, end in ends.items()}


def is_in_time(first: Mapping[int, int], ends: Mapping[int, int]) -> bool:
    """Returns whether what is announced from these offsets on may serve, given the ends of the partitions after it was
    published."""
    return all(number in ends and ends[number] + KNOWN_AHEAD <= offset for number, offset in first.items())
