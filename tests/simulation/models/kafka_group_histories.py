"""Histories of consumer groups: rebalances, commits in each of their states, static members, sessions."""

from __future__ import annotations

from kafka_histories import RANGE, agree, enter, form, topic
from kafka_offsets import Committed
from kafka_sides import Side

SHORT = {"session_s": 6.0, "rebalance_s": 8.0}


async def commits_in_each_state(side: Side) -> None:
    """A member of the present generation may commit until the next begins, and not while it is being formed."""
    p, group = await topic(side, "commits"), side.name("commits")
    at = iter(range(100, 200))
    await side.ask("heartbeat", group, 1, "nobody")
    generation, ids = await form(side, group, "a", "b")
    a, b = ids["a"], ids["b"]

    async def commit(generation: int, member: str) -> None:
        await side.ask("offset_commit", group, generation, member, {p: Committed(next(at), f"{member == a}")})
        await side.ask("heartbeat", group, generation, member)

    await commit(generation, a)
    await commit(generation, b)
    await commit(generation - 1, a)
    await commit(generation + 1, a)
    await commit(generation, "nobody")
    await side.ask("offset_commit", group, -1, "", {p: Committed(next(at))})
    # preparing: a third member waits for the others
    c = await enter(side, group, "c")
    third = await side.begin("join_group", group, c, RANGE, client_id="c")
    await commit(generation, a)
    await commit(generation, b)
    await side.ask("sync_group", group, generation, a)
    await side.ask("offset_commit", group, -1, "", {p: Committed(next(at))})
    first = await side.begin("join_group", group, a, RANGE, client_id="a")
    await commit(generation, a)
    await commit(generation, b)
    second = await side.begin("join_group", group, b, RANGE, client_id="b")
    # completing: all have joined, and the leader has not assigned
    joined = {
        "c": await side.finish("join_group", third),
        "a": await side.finish("join_group", first),
        "b": await side.finish("join_group", second),
    }
    await commit(generation, a)
    await commit(generation + 1, a)
    await commit(generation + 1, c)
    await side.ask("sync_group", group, generation, a)
    await side.ask("join_group", group, a, RANGE, client_id="a")  # it asks again, and nothing has changed
    await agree(side, group, joined)
    await commit(generation, a)
    await commit(generation + 1, a)
    await commit(generation + 1, c)
    await side.ask("sync_group", group, generation + 1, b, client_id="b")
    await side.ask("offset_fetch", group, [p])
    await side.ask("leave_group", group, "nobody")
    await side.ask("leave_group", group, b)
    await commit(generation + 1, b)
    await commit(generation + 1, a)


ALL = (commits_in_each_state,)


async def groups_by_chance(side: Side, seed: int) -> None:
    p = await topic(side, "g")
    for _ in range(12):
        await side.ask("offset_fetch", "g", [p])
