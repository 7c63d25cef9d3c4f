"""Histories of consumer groups: rebalances, commits in each of their states, static members, sessions."""

from __future__ import annotations

import asyncio
from typing import Any

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


async def static_members(side: Side) -> None:
    """A second process of an instance takes its place: the group goes on, and the first process is out."""
    p, group = await topic(side, "static"), side.name("static")
    first = await side.begin("join_group", group, "", RANGE, client_id="one", instance_id="i1", **SHORT)
    joined = await side.finish("join_group", first)
    await side.ask("sync_group", group, joined.generation, joined.member_id, {joined.member_id: b"all"})
    old = joined.member_id
    second = await side.begin("join_group", group, "", RANGE, client_id="two", instance_id="i1", **SHORT)
    again = await side.finish("join_group", second)
    await side.ask("sync_group", group, again.generation, again.member_id, instance_id="i1")
    await side.ask("heartbeat", group, again.generation, again.member_id)
    await side.ask("heartbeat", group, again.generation, old)
    await side.ask("offset_commit", group, again.generation, old, {p: Committed(1, "old")})
    await side.ask("offset_commit", group, again.generation, again.member_id, {p: Committed(2, "new")})
    await side.ask("sync_group", group, again.generation, old, instance_id="i1")
    await side.ask("join_group", group, old, RANGE, client_id="one", instance_id="i1", **SHORT)
    await side.ask("join_group", group, "never", RANGE, client_id="one", instance_id="i2", **SHORT)
    # Another member comes, and the static one is replaced while it has not joined again.
    third = await enter(side, group, "three", **SHORT)
    waits = await side.begin("join_group", group, third, RANGE, client_id="three", **SHORT)
    await side.ask("heartbeat", group, again.generation, again.member_id)
    newest = await side.begin("join_group", group, "", RANGE, client_id="four", instance_id="i1", **SHORT)
    answers = {"three": await side.finish("join_group", waits), "four": await side.finish("join_group", newest)}
    await agree(side, group, answers)
    await side.ask("offset_fetch", group, [p])
    await side.wait(7.0)  # both sessions are over
    await side.ask("heartbeat", group, answers["three"].generation, answers["three"].member_id)
    await side.ask("heartbeat", group, answers["four"].generation, answers["four"].member_id)
    await side.ask("offset_commit", group, -1, "", {p: Committed(7, "by an operator")})


async def sessions_end(side: Side) -> None:
    """A member that is silent longer than its session is removed, and one that waits for an answer is not."""
    p, group = await topic(side, "session"), side.name("session")
    generation, ids = await form(side, group, "a", "b", **SHORT)
    for _ in range(2):
        await side.wait(3.5)
        await side.ask("heartbeat", group, generation, ids["a"])
    await side.ask("heartbeat", group, generation, ids["b"])
    await side.ask("offset_commit", group, generation, ids["b"], {p: Committed(1)})
    await side.ask("offset_commit", group, generation, ids["a"], {p: Committed(2)})
    joined = await side.finish(
        "join_group", await side.begin("join_group", group, ids["a"], RANGE, client_id="a", **SHORT)
    )
    await agree(side, group, {"a": joined})
    await side.ask("join_group", group, ids["b"], RANGE, client_id="b", **SHORT)
    for _ in range(2):  # commits keep a session alive, too
        await side.wait(3.5)
        await side.ask("offset_commit", group, joined.generation, ids["a"], {p: Committed(3)})
    await side.ask("heartbeat", group, joined.generation, ids["a"])
    await side.ask("leave_group", group, ids["a"])
    await side.ask("heartbeat", group, joined.generation, ids["a"])
    await side.ask("join_group", group, "", RANGE, session_s=5.0)
    await side.ask("join_group", group, "", [])


async def slow_members(side: Side) -> None:
    """Who does not join again within the rebalance timeout is out, although it sends heartbeats; so is who does not
    sync."""
    p, group = await topic(side, "slow"), side.name("slow")
    generation, ids = await form(side, group, "a", "b", session_s=10.0, rebalance_s=3.0)
    options = {"session_s": 10.0, "rebalance_s": 3.0}
    await side.ask("leave_group", group, await enter(side, group, "c", **options))  # it never joined
    await side.ask("heartbeat", group, generation, ids["a"])
    c = await enter(side, group, "c", **options)
    waits = {"c": await side.begin("join_group", group, c, RANGE, client_id="c", **options)}
    await side.ask("heartbeat", group, generation, ids["b"])
    waits["a"] = await side.begin("join_group", group, ids["a"], RANGE, client_id="a", **options)
    await side.wait(4.0)
    joined = {one: await side.finish("join_group", task) for one, task in waits.items()}
    await side.ask("offset_commit", group, generation, ids["b"], {p: Committed(1)})
    await side.ask("heartbeat", group, generation, ids["b"])
    await side.ask("heartbeat", group, joined["a"].generation, ids["a"])
    await side.wait(4.0)  # the leader never assigns
    await side.ask("heartbeat", group, joined["a"].generation, ids["a"])
    await side.ask("heartbeat", group, joined["c"].generation, c)
    await side.ask("sync_group", group, joined["c"].generation, c)


async def members_with_an_id_only(side: Side) -> None:
    """Who was given an id holds a rebalance back until it joins, leaves or its session is over; only the first
    rebalance of a group does not wait for it."""
    p, group = await topic(side, "ids"), side.name("ids")
    ids = {one: await enter(side, group, one, **SHORT) for one in "abc"}
    waits: dict[str, asyncio.Task[Any]] = {}
    joined: dict[str, Any] = {}

    async def join(client: str) -> None:
        waits[client] = await side.begin("join_group", group, ids[client], RANGE, client_id=client, **SHORT)
        await take()

    async def take() -> None:
        """Takes the answers that are there."""
        names = await side.answered(waits)
        side.note(f"answered: {names}")
        for name in names:
            joined[name] = await side.finish("join_group", waits.pop(name))

    await join("a")
    await join("b")
    await join("a")  # c is awaited
    await side.ask("heartbeat", group, 1, ids["a"])
    await side.ask("leave_group", group, ids["c"])
    await take()
    await agree(side, group, joined)
    await side.ask("heartbeat", group, 2, ids["b"])
    ids["d"] = await enter(side, group, "d", **SHORT)
    await side.ask("heartbeat", group, 2, ids["b"])
    await side.ask("offset_commit", group, 2, ids["b"], {p: Committed(1)})
    await side.ask("leave_group", group, ids["d"])  # a rebalance begins although it never joined
    await side.ask("heartbeat", group, 2, ids["b"])
    await side.ask("offset_commit", group, 2, ids["b"], {p: Committed(2)})
    await join("a")
    ids["e"] = await enter(side, group, "e", **SHORT)
    await join("b")  # e is awaited, for six seconds
    await side.wait(3.0)
    await take()
    await side.wait(4.0)
    await take()
    await agree(side, group, joined)
    await side.ask("join_group", group, ids["e"], RANGE, client_id="e", **SHORT)
    await side.ask("heartbeat", group, 3, ids["a"])
    await side.ask("heartbeat", group, 3, ids["b"])


ALL = (commits_in_each_state, static_members, sessions_end, slow_members, members_with_an_id_only)
