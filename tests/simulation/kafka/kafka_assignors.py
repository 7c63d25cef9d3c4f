"""Assigns partitions to the members of a group, as the leader among the clients does."""

from __future__ import annotations

from collections.abc import Collection, Mapping

Partition = tuple[str, int]
Assignments = dict[str, list[Partition]]


def assign_range(members: Mapping[str, Collection[str]], partitions: Mapping[str, int]) -> Assignments:
    """Returns the partitions of each member (`members` has their topics): of each topic, the first members in the order
    of their ids get the first partitions, so that topics of the same size are shared alike."""
    assignments: Assignments = {member: [] for member in members}
    for topic in sorted({topic for topics in members.values() for topic in topics}):
        readers = sorted(member for member, topics in members.items() if topic in topics)
        share, more = divmod(partitions.get(topic, 0), len(readers))
        begin = 0
        for at, member in enumerate(readers):
            end = begin + share + (at < more)
            assignments[member] += [(topic, number) for number in range(begin, end)]
            begin = end
    return assignments


def assign_round_robin(members: Mapping[str, Collection[str]], partitions: Mapping[str, int]) -> Assignments:
    """Returns the partitions of each member: partition by partition to the next member that reads the topic."""
    assignments: Assignments = {member: [] for member in members}
    order, at = sorted(members), 0
    for topic in sorted({topic for topics in members.values() for topic in topics}):
        for number in range(partitions.get(topic, 0)):
            while topic not in members[order[at % len(order)]]:
                at += 1
            assignments[order[at % len(order)]].append((topic, number))
            at += 1
    return assignments
