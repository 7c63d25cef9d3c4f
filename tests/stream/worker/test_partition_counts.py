"""A topic's partitions are counted at each assignment; a change is said once."""

from __future__ import annotations

import pytest

from stream.worker import partition_counts
from stream.worker.partition_counts import PartitionCounts


def test_a_change_is_said_once_and_with_what_follows_from_it() -> None:
    counts = PartitionCounts()
    said = [counts.describe_change(count) for count in (4, 4, 0, 4, 6, 6, 5)]
    assert [bool(line) for line in said] == [False, False, False, False, True, False, True]
    assert said[4].startswith("it had 4 partitions and has 6: keys hash to other partitions now")


class Topic:
    """A consumer of a topic whose number of partitions changes."""

    def __init__(self, *counts: int) -> None:
        self.counts = list(counts)
        self.rejoined_at: list[int] = []

    def partitions_of(self, topic: str) -> int:
        return self.counts.pop(0)

    def rejoin(self) -> None:
        self.rejoined_at.append(len(self.counts))


async def test_another_number_of_partitions_than_were_assigned_asks_for_a_new_assignment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nobody else looks where a static member that led the group was started again: a world of the simulation was left
    without any worker for a topic that was made anew (seed 299)."""
    monkeypatch.setattr(partition_counts, "LOOK_S", 0.0)
    topic = Topic(2, 2, 0, 3, 2)
    with pytest.raises(IndexError):
        await partition_counts.rejoin_when_changed(topic, "pings", lambda: 2)
    assert topic.rejoined_at == [1]


async def test_a_static_member_without_partitions_asks_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partition_counts, "LOOK_S", 0.0)
    topic = Topic(2, 2, 2)
    with pytest.raises(IndexError):
        await partition_counts.rejoin_when_changed(topic, "pings", lambda: 2, lambda: True)
    assert topic.rejoined_at == [2]
