"""Histories for both sides: what was promised, case by case, and what chance makes of it."""

from __future__ import annotations

import time
from typing import Any

from kafka_log import EARLIEST, LATEST, READ_COMMITTED, READ_UNCOMMITTED, NewRecord
from kafka_offsets import Committed
from kafka_sides import Side
from kafka_transactions import ProducerId

T0 = int(time.time() * 1000) - 600_000
RANGE = [("range", b"all")]


def some(count: int, at: int = 0, key: bytes | None = b"k") -> list[NewRecord]:
    return [NewRecord(key, b"%d" % (at + one), [("h", b"x")], T0 + (at + one) * 1000) for one in range(count)]


async def look(side: Side, partition: tuple[str, int], offset: int = 0) -> None:
    """Reads all from an offset on, as both kinds of readers."""
    for isolation in (READ_COMMITTED, READ_UNCOMMITTED):
        await side.ask("fetch", partition, offset, isolation)
        await side.ask("list_offsets", partition, LATEST, isolation)


async def topic(side: Side, name: str, partitions: int = 1, compacted: bool = False) -> tuple[str, int]:
    await side.ask("create_topic", side.name(name), partitions, compacted)
    return side.name(name), 0


async def open_transaction(side: Side, tid: str, partition: tuple[str, int], *groups: str) -> ProducerId:
    producer = await side.ask("init_producer_id", tid)
    await side.ask("add_partitions", tid, producer, [partition])
    for group in groups:
        await side.ask("add_offsets", tid, producer, group)
    return producer


async def enter(side: Side, group: str, client: str, **options: Any) -> str:
    """Returns the member id that a new member is given."""
    named = await side.ask("join_group", group, "", RANGE, client_id=client, **options)
    return str(named.member_id)


async def form(side: Side, group: str, *clients: str, **options: Any) -> tuple[int, dict[str, str]]:
    """Forms a stable group of these clients, and returns its generation and the member ids. They come one by one, as
    the first rebalance of a group waits for nobody here."""
    ids: dict[str, str] = {}
    joined: dict[str, Any] = {}
    for newcomer in clients:
        ids[newcomer] = await enter(side, group, newcomer, **options)
        asked = {}
        for client in reversed(ids):  # those who are there already come after the new one
            asked[client] = await side.begin("join_group", group, ids[client], RANGE, client_id=client, **options)
        joined = {client: await side.finish("join_group", task) for client, task in asked.items()}
    await agree(side, group, joined)
    return joined[clients[0]].generation, ids


async def agree(side: Side, group: str, joined: dict[str, Any]) -> None:
    """Lets all members sync: the leader last."""
    leads = {client: one.leader == one.member_id for client, one in joined.items()}
    asked = {}
    for client in sorted(joined, key=lambda one: leads[one]):
        one = joined[client]
        shares = {member: b"share of " + data for member, _, data in one.members}
        asked[client] = await side.begin("sync_group", group, one.generation, one.member_id, shares, client_id=client)
    for task in asked.values():
        await side.finish("sync_group", task)


# -- logs and producers


async def duplicates_and_gaps(side: Side) -> None:
    """Repeated batches keep their offsets as long as they are among the last five; a gap is refused."""
    p = await topic(side, "seq")
    producer = await side.ask("init_producer_id")
    for at in range(7):
        await side.ask("produce", p, some(2, at * 2), producer, at * 2)
    for at in (6, 4, 2, 1, 0):
        await side.ask("produce", p, some(2, at * 2), producer, at * 2)
    await side.ask("produce", p, some(1), producer, 13)  # a part of the last
    await side.ask("produce", p, some(3, 12), producer, 12)  # longer than the last
    await side.ask("produce", p, some(2), producer, 20)
    await side.ask("produce", p, some(2, 14), producer, 14)
    await side.ask("produce", p, some(1), ProducerId(producer.producer_id, 1), 3)  # a new epoch begins at 0
    await side.ask("produce", p, some(1), ProducerId(producer.producer_id, 1), 0)
    await side.ask("produce", p, some(1), producer, 16)  # the old epoch
    other = await side.ask("init_producer_id")
    await side.ask("produce", p, some(1), other, 5)  # nothing is known of it here
    await side.ask("produce", p, some(1), other, 7)
    await side.ask("produce", p, some(1))
    await look(side, p)
    await look(side, p, 5)


async def transactions_end(side: Side) -> None:
    """What readers see while a transaction is open, and after each end; markers take offsets."""
    p, tid, q = await topic(side, "end"), side.name("end"), (side.name("end"), 9)
    producer = await open_transaction(side, tid, p)
    await side.ask("add_partitions", tid, producer, [q])
    await side.ask("produce", p, some(1))
    await side.ask("produce", p, some(2, 10), producer, 0, tid)
    await side.ask("produce", p, some(1, 20))
    await look(side, p)
    await side.ask("end_txn", tid, producer, True)
    await look(side, p)
    await side.ask("end_txn", tid, producer, True)
    await side.ask("end_txn", tid, producer, False)
    await side.ask("produce", p, some(2, 30), producer, 2, tid)  # no transaction is open
    await side.ask("add_partitions", tid, producer, [p])
    await side.ask("produce", p, some(2, 40), producer, 2, tid)
    await side.ask("produce", p, some(2, 40), producer, 2, tid)
    await side.ask("produce", p, some(1, 50))
    await side.ask("end_txn", tid, producer, False)
    await look(side, p)
    for offset in range(3, 10):
        await side.ask("fetch", p, offset, READ_COMMITTED, 1)
    await side.ask("produce", p, some(2, 40), producer, 2, tid)  # again, after its end
    await side.ask("end_txn", tid, producer, True)
    await side.ask("end_txn", tid, ProducerId(producer.producer_id + 1, 0), True)
    await side.ask("end_txn", side.name("nobody"), producer, True)


async def fencing(side: Side) -> None:
    """A second producer of a transactional id aborts what the first has open, and the first is fenced everywhere."""
    p, tid, group = await topic(side, "fence"), side.name("fence"), side.name("fence-group")
    first = await open_transaction(side, tid, p, group)
    await side.ask("produce", p, some(2), first, 0, tid)
    await side.ask("txn_offset_commit", group, tid, first, {p: Committed(1, "first")})
    second = await side.ask("init_producer_id", tid)
    await look(side, p)
    await side.ask("offset_fetch", group, [p])
    await side.ask("produce", p, some(1), first, 2, tid)
    await side.ask("add_partitions", tid, first, [p])
    await side.ask("add_offsets", tid, first, group)
    await side.ask("txn_offset_commit", group, tid, first, {p: Committed(2, "first")})
    await side.ask("end_txn", tid, first, True)
    await side.ask("end_txn", tid, second, True)
    await side.ask("add_partitions", tid, second, [p])
    await side.ask("produce", p, some(1), first, 2, tid)
    await side.ask("produce", p, some(2), second, 0, tid)
    await side.ask("end_txn", tid, second, True)
    third = await side.ask("init_producer_id", tid)  # nothing is open: the epoch is the next
    await side.ask("produce", p, some(1), second, 2, tid)
    await side.ask("add_partitions", tid, third, [p])
    await side.ask("end_txn", tid, third, False)  # a marker without a record
    await look(side, p)
    await side.ask("init_producer_id", tid, 901.0)
    await side.ask("init_producer_id", "", 10.0)


async def offsets_of_transactions(side: Side) -> None:
    """Offsets of a transaction appear when it commits; of two commits the one that was sent later stays."""
    p, tid, group = await topic(side, "off"), side.name("off"), side.name("off-group")
    producer = await open_transaction(side, tid, p)
    await side.ask("txn_offset_commit", group, tid, producer, {p: Committed(5, "not added")})
    await side.ask("add_offsets", tid, producer, group)
    await side.ask("txn_offset_commit", group, tid, producer, {p: Committed(5, "five")})
    await side.ask("offset_fetch", group, [p])
    await side.ask("end_txn", tid, producer, True)
    await side.ask("offset_fetch", group, [p])
    await side.ask("add_offsets", tid, producer, group)
    await side.ask("txn_offset_commit", group, tid, producer, {p: Committed(6, "six")})
    await side.ask("offset_commit", group, -1, "", {p: Committed(3, "plain, later")})
    await side.ask("offset_fetch", group, [p])
    await side.ask("end_txn", tid, producer, True)
    await side.ask("offset_fetch", group, [p])
    await side.ask("add_offsets", tid, producer, group)
    await side.ask("txn_offset_commit", group, tid, producer, {p: Committed(7, "seven")})
    await side.ask("end_txn", tid, producer, False)
    await side.ask("offset_fetch", group, [p])
    await side.ask("txn_offset_commit", group, tid, producer, {p: Committed(8, "after the end")})
    await side.ask("offset_commit", group, -1, "", {p: Committed(9, "x" * 5000)})
    await side.ask("offset_commit", group, -1, "", {(side.name("none"), 0): Committed(9)})
    await side.ask("offset_commit", group, 1, "nobody", {p: Committed(9)})
    await side.ask("offset_commit", group, 1, "nobody", {(side.name("none"), 0): Committed(9)})
    await side.ask("offset_commit", side.name("unknown"), 1, "nobody", {p: Committed(9)})
    await side.ask("txn_offset_commit", side.name("unknown"), tid, producer, {p: Committed(9)})
    await side.ask("offset_fetch", side.name("unknown"), [p])


async def bounds(side: Side) -> None:
    """Retention, offsets that are gone or not there yet, times, and leader epochs."""
    p = await topic(side, "bounds")
    producer = await side.ask("init_producer_id")
    for at in range(5):
        await side.ask("produce", p, some(2, at * 2), producer, at * 2)
    for wanted in (T0, T0 + 2_500, T0 + 9_000, T0 + 9_001, EARLIEST, LATEST):
        await side.ask("list_offsets", p, wanted)
    for asked in (-1, 0, 1, 7):
        await side.ask("offset_for_leader_epoch", p, asked)
        await side.ask("offset_for_leader_epoch", p, 0, asked)
        await side.ask("fetch", p, 0, READ_UNCOMMITTED, 3, asked)
    for before in (3, 1, 11, 4):
        await side.ask("delete_records", p, before)
        await side.ask("fetch", p, before)
    await side.ask("fetch", p, 0)
    await side.ask("fetch", p, 10)
    await side.ask("fetch", p, 11)
    await side.ask("list_offsets", p, EARLIEST)
    await side.ask("list_offsets", p, T0)
    await side.ask("delete_records", p, -1)
    await side.ask("offset_for_leader_epoch", p, 0)
    await side.ask("produce", p, some(1, 8), producer, 8)  # a part of what is deleted
    await side.ask("produce", p, some(2, 8), producer, 8)  # what is deleted stays known
    await side.ask("produce", p, some(2, 10), producer, 10)
    await look(side, p, 10)
    await side.ask("fetch", (p[0], 5), 0)
    await side.ask("produce", p, [NewRecord(b"k", b"late", (), T0 + 600_000 + 7_200_000)])
    keyed = await topic(side, "keyed", compacted=True)
    await side.ask("produce", keyed, some(1, key=None))
    await side.ask("produce", keyed, some(1))
    await side.ask("delete_records", keyed, 1)


async def topic_made_anew(side: Side) -> None:
    """A topic that is deleted takes along what groups have committed of it, also in open transactions."""
    p, other = await topic(side, "anew"), await topic(side, "stays")
    tid, group = side.name("anew"), side.name("anew-group")
    await side.ask("create_topic", p[0], 1)
    producer = await side.ask("init_producer_id")
    await side.ask("produce", p, some(3), producer, 0)
    await side.ask("offset_commit", group, -1, "", {p: Committed(2, "old"), other: Committed(4, "kept")})
    owner = await open_transaction(side, tid, p, group)
    await side.ask("produce", p, some(2), owner, 0, tid)
    await side.ask("txn_offset_commit", group, tid, owner, {p: Committed(3, "open"), other: Committed(5, "open")})
    await side.ask("delete_topic", p[0])
    await side.ask("delete_topic", p[0])
    await side.ask("fetch", p, 0)
    await side.ask("offset_fetch", group, [p])
    await side.ask("create_topic", p[0], 1)
    await side.ask("offset_fetch", group, [p])
    await side.ask("end_txn", tid, owner, True)
    await side.ask("offset_fetch", group, [p])
    await side.ask("offset_fetch", group, [other])
    await look(side, p)
    await side.ask("produce", p, some(1), producer, 3)  # it goes on where it was
    await side.ask("produce", p, some(1), producer, 5)
    await look(side, p)


async def late_abort(side: Side) -> None:
    """A transaction that is too old is aborted, and its producer is fenced; it takes up to ten seconds more."""
    p, tid, group = await topic(side, "late"), side.name("late"), side.name("late-group")
    producer = await side.ask("init_producer_id", tid, 1.0)
    await side.ask("add_partitions", tid, producer, [p])
    await side.ask("add_offsets", tid, producer, group)
    await side.ask("produce", p, some(2), producer, 0, tid)
    await side.ask("txn_offset_commit", group, tid, producer, {p: Committed(1, "late")})
    await side.wait(12.5)
    await look(side, p)
    await side.ask("offset_fetch", group, [p])
    await side.ask("produce", p, some(1), producer, 2, tid)
    await side.ask("end_txn", tid, producer, True)
    await side.ask("add_partitions", tid, producer, [p])
    again = await side.ask("init_producer_id", tid, 1.0)
    await side.ask("add_partitions", tid, again, [p])
    await side.ask("produce", p, some(1), again, 0, tid)
    await side.ask("end_txn", tid, again, True)
    await look(side, p)


ALL = (
    duplicates_and_gaps,
    transactions_end,
    fencing,
    offsets_of_transactions,
    bounds,
    topic_made_anew,
    late_abort,
)
