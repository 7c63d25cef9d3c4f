"""Histories that chance makes: the same seed asks both sides the same, as long as they answer the same."""

from __future__ import annotations

from random import Random
from typing import Any

from kafka_group_histories import enter
from kafka_histories import RANGE, look, some, topic
from kafka_log import EARLIEST, LATEST, READ_COMMITTED
from kafka_members import Joined
from kafka_offsets import Committed
from kafka_sides import Failure, Side
from kafka_transactions import ProducerId


async def transactions_by_chance(side: Side, seed: int) -> None:
    """Two transactional ids, an idempotent and a plain producer write to two partitions, each as it likes."""
    chance = Random(seed)
    p = await topic(side, f"chance{seed}", 2)
    group, tids = side.name(f"chance{seed}-group"), [side.name(f"chance{seed}-{one}") for one in "ab"]
    known: list[tuple[str | None, ProducerId]] = [(None, await side.ask("init_producer_id"))]
    sequences: dict[tuple[ProducerId, int], int] = {}
    for step in range(90):
        partition = (p[0], chance.randrange(2))
        tid, producer = chance.choice(known[-4:])
        what = chance.choices(("produce", "init", "add", "offsets", "commit", "end", "look", "delete", "plain"),
                              (9, 2, 5, 2, 3, 3, 2, 1, 2))[0]  # fmt: skip
        if what == "produce":
            at = (producer, partition[1])
            sequence = max(0, sequences.get(at, 0) - chance.choice((0, 0, 0, 0, 1, 2)))
            count = chance.randint(1, 2)
            answer = await side.ask("produce", partition, some(count, step), producer, sequence, tid)
            if not isinstance(answer, Failure):
                sequences[at] = max(sequences.get(at, 0), sequence + count)
        elif what == "init":
            tid = chance.choice(tids)
            known.append((tid, await side.ask("init_producer_id", tid)))
        elif what == "plain":
            await side.ask("produce", partition, some(1, step))
        elif what == "look":
            await look(side, partition, (await side.ask("list_offsets", partition, EARLIEST))[1])
            await side.ask("offset_fetch", group, [partition])
        elif what == "delete":
            end = (await side.ask("list_offsets", partition, LATEST, READ_COMMITTED))[1]
            await side.ask("delete_records", partition, chance.randint(0, end + 1))
        elif tid is None:
            await side.ask("offset_commit", group, -1, "", {partition: Committed(step)})
        elif what == "add":
            await side.ask("add_partitions", tid, producer, [partition])
        elif what == "offsets":
            await side.ask("add_offsets", tid, producer, group)
        elif what == "commit":
            await side.ask("txn_offset_commit", group, tid, producer, {partition: Committed(step, f"{step}")})
        elif what == "end":
            await side.ask("end_txn", tid, producer, chance.random() < 0.7)
    for number in range(2):
        await look(side, (p[0], number), (await side.ask("list_offsets", (p[0], number), EARLIEST))[1])
        await side.ask("offset_fetch", group, [(p[0], number)])


async def groups_by_chance(side: Side, seed: int) -> None:
    """Members come, go, join again and commit, each as it likes; nobody's session ends."""
    chance = Random(seed)
    p, group = await topic(side, f"members{seed}"), side.name(f"members{seed}")
    waits: dict[str, Any] = {}  # joins without an answer, by client
    syncs: dict[str, Any] = {}
    ids: dict[str, str] = {}
    generations: dict[str, Joined] = {}
    for step in range(60):
        client = chance.choice("abc")
        what = chance.choice(("join", "join", "sync", "sync", "heartbeat", "commit", "commit", "leave", "old"))
        member, joined = ids.get(client), generations.get(client)
        busy = client in waits or client in syncs
        if what == "join" and not busy:
            if member is None:
                ids[client] = member = await enter(side, group, client)
            waits[client] = await side.begin("join_group", group, member, RANGE, client_id=client)
        elif what == "sync" and joined is not None and not busy:
            shares = {one: b"share %d" % step for one, _, _ in joined.members}
            arguments = (group, joined.generation, joined.member_id, shares)
            syncs[client] = await side.begin("sync_group", *arguments, client_id=client)
        elif member is not None and what == "leave" and not busy and len(ids) > 1 and not leads(joined):
            await side.ask("leave_group", group, member)
            del ids[client]
            generations.pop(client, None)
        elif member is not None and what in ("heartbeat", "commit", "old"):
            generation = (joined.generation if joined is not None else 0) - (what == "old")
            if what == "commit":
                await side.ask("offset_commit", group, generation, member, {p: Committed(step, client)})
            else:
                await side.ask("heartbeat", group, generation, member)
        for name in await side.answered({**waits, **syncs}):  # a client waits for one answer at a time
            if name in syncs:
                await side.finish("sync_group", syncs.pop(name))
                continue
            answer = await side.finish("join_group", waits.pop(name))
            if isinstance(answer, Failure):
                ids.pop(name, None)
                generations.pop(name, None)
            else:
                generations[name] = answer
    for task in (*waits.values(), *syncs.values()):
        task.cancel()
    await side.ask("offset_fetch", group, [p])


def leads(joined: Joined | None) -> bool:
    """Who leads does not leave by chance: which member leads then is open."""
    return joined is not None and joined.leader == joined.member_id
