"""The offsets that groups have committed, and those that transactions will commit when they end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from kafka_errors import UnstableOffsetCommit

Partition = tuple[str, int]


class Committed(NamedTuple):
    offset: int
    metadata: str = ""
    leader_epoch: int = -1


class _Entry(NamedTuple):
    committed: Committed
    order: int  # its place in the coordinator's own log


class Offsets:
    """The offsets of one group. Of two commits that one wins which was written later into the coordinator's log: a
    transaction's is written when it is sent, and not when its transaction ends."""

    def __init__(self) -> None:
        self._stable: dict[Partition, _Entry] = {}
        self._pending: dict[int, dict[Partition, _Entry]] = {}  # by producer
        self._order = 0

    def commit(self, offsets: Mapping[Partition, Committed]) -> None:
        for partition, one in offsets.items():
            self._stable[partition] = self._entry(one)

    def commit_pending(self, producer_id: int, offsets: Mapping[Partition, Committed]) -> None:
        pending = self._pending.setdefault(producer_id, {})
        for partition, one in offsets.items():
            pending[partition] = self._entry(one)

    def end_transaction(self, producer_id: int, commit: bool) -> None:
        for partition, entry in self._pending.pop(producer_id, {}).items():
            stable = self._stable.get(partition)
            if commit and (stable is None or stable.order < entry.order):
                self._stable[partition] = entry

    def fetch(self, partitions: Iterable[Partition], require_stable: bool) -> dict[Partition, Committed]:
        """Returns what is committed, without partitions that have nothing. Raises UnstableOffsetCommit."""
        wanted = list(partitions)
        if require_stable and any(one in pending for pending in self._pending.values() for one in wanted):
            raise UnstableOffsetCommit(str(wanted))
        return {one: self._stable[one].committed for one in wanted if one in self._stable}

    def forget_topic(self, topic: str) -> None:
        for some in (self._stable, *self._pending.values()):
            for partition in [one for one in some if one[0] == topic]:
                del some[partition]

    def _entry(self, one: Committed) -> _Entry:
        self._order += 1
        return _Entry(one, self._order)
