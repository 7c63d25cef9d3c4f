"""Members of consumer groups that were killed, and whom the broker still waits for. Tests import this; it tests nothing
itself.

A broker notices a death when the member's session has passed: ten seconds of most of our commands, in which a group has
nobody for its partitions. Where a test kills one process after the other, that is most of its time, and it says nothing
about us. Takeovers after a session that passed are what tests/chaos and test_worker_kill.py look at.
"""

from __future__ import annotations

from collections.abc import Collection

from kafka import KafkaAdminClient
from kafka.admin import MemberToRemove
from kafka.errors import KafkaError


def members_of(bootstrap: str, group: str) -> set[str]:
    """The ids of all members that the broker takes for alive. They stay the same over rebalances."""
    with KafkaAdminClient(bootstrap_servers=bootstrap) as client:
        found = client.describe_groups([group])[group]
    return {member["member_id"] for member in found.get("members", ())}


def bury(bootstrap: str, group: str, *, but: Collection[str] = ()) -> None:
    """Lets all members of a group leave it, `but` those that live. A broker that cannot do that waits, as ever."""
    try:
        dead = members_of(bootstrap, group) - set(but)
        if dead:
            with KafkaAdminClient(bootstrap_servers=bootstrap) as client:
                client.remove_group_members(group, [MemberToRemove(member_id=one) for one in sorted(dead)])
    except KafkaError as error:
        print(f"nobody was buried in {group}: {error!r}")
