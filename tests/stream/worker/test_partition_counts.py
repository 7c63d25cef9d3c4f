"""A topic's partitions are counted at each assignment; a change is said once."""

from __future__ import annotations

from stream.worker.partition_counts import PartitionCounts


def test_a_change_is_said_once_and_with_what_follows_from_it() -> None:
    counts = PartitionCounts()
    said = [counts.describe_change(count) for count in (4, 4, 0, 4, 6, 6, 5)]
    assert [bool(line) for line in said] == [False, False, False, False, True, False, True]
    assert said[4].startswith("it had 4 partitions and has 6: keys hash to other partitions now")
