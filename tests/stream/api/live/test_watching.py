"""A client that puts together what it is sent has, whenever it is up to date, exactly the entities of its box with
their newest forecasts: however slow it is, and however often it comes back."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.api.live import newest as table
from stream.api.live import sending, watching
from stream.api.live.newest import Box, Newest, Published
from stream.api.live.watching import Message, Watch

SERVER = "00c0ffee"
BOX = Box(0.0, 0.0, 10.0, 10.0)
KEEP_MS = 10_000


def forecast(entity_id: str, ts: int, lon: float, status: str = "ok") -> bytes:
    anchor = {"ts": ts, "lat": 5.0, "lon": lon}
    return msgspec.json.encode(
        {
            "entity_id": entity_id,
            "anchor": anchor,
            "status": status,
            "src": {"topic": "t", "partition": 3, "offset": ts},
        }
    )


class Client:
    """Puts messages together, as a subscriber would."""

    def __init__(self) -> None:
        self.has: dict[str, Any] = {}
        self.last_id: str | None = None
        self.live = False
        self.snapshots = 0

    def take(self, watch: Watch) -> bool:
        """Takes one page; returns whether there was one."""
        messages = watch.next()
        assert len(messages) <= watching.PAGE + 2
        for message in messages:
            said = msgspec.json.decode(message.body)
            assert said["type"] == message.kind
            assert said.get("id", "") == message.id
            if message.kind == "snapshot":
                self.has, self.live = {}, False
                self.snapshots += 1
            elif message.kind == "forecast":
                self.has[said["forecast"]["entity_id"]] = said["forecast"]
            elif message.kind == "gone":
                self.has.pop(said["entity_id"], None)
            else:
                self.live = True
            self.last_id = message.id or self.last_id
        return bool(messages)

    def take_all(self, watch: Watch) -> None:
        while self.take(watch):
            pass


def due(newest: Newest, box: Box | None, entities: tuple[str, ...]) -> dict[str, Any]:
    """What a client must have: told by a plain loop."""
    found = {}
    for row in range(newest.rows):
        if not newest.changes[row]:
            continue
        entity_id, _, lat, lon = newest.position(row)
        inside = box is None or (box.west <= lon <= box.east and box.south <= lat <= box.north)
        if inside and (not entities or entity_id in entities):
            found[entity_id] = msgspec.json.decode(newest.message(row))
    return found


Step = st.one_of(
    st.tuples(st.just("hear"), st.sampled_from("abcdef"), st.sampled_from([1.0, 5.0, 50.0])),
    st.tuples(st.just("pass"), st.integers(1, 12_000)),
    st.tuples(st.just("take")),
    st.tuples(st.just("all")),
    st.tuples(st.just("leave")),
)


@settings(max_examples=300)
@given(
    st.lists(Step, max_size=60),
    st.sampled_from([None, BOX]),
    st.sampled_from([(), ("a", "c")]),
    st.integers(1, 3),
    st.integers(0, 3),
    st.integers(2, 6),
)
def test_a_client_has_what_the_table_has(
    steps: list[Any], box: Box | None, entities: tuple[str, ...], page: int, most_gone: int, most: int
) -> None:
    """Small pages, few remembered departures and a small table, so that every edge is met."""
    before = watching.PAGE, watching.LOOK, table.MAX_GONE
    watching.PAGE, watching.LOOK, table.MAX_GONE = page, page + 1, most_gone  # type: ignore[misc]
    try:
        now_ms, newest, client = 1_000_000, Newest(most, KEEP_MS), Client()
        watch = Watch(newest, SERVER, box, entities)
        for step in steps:
            if step[0] == "hear":
                now_ms += 1
                newest.update([Published(forecast(step[1], now_ms, step[2]), now_ms)], now_ms)
            elif step[0] == "pass":
                now_ms += step[1]
                newest.expire(now_ms)
            elif step[0] == "take":
                client.take(watch)
            elif step[0] == "leave":
                watch = Watch(newest, SERVER, box, entities, client.last_id)
            else:
                client.take_all(watch)
                assert client.live
                assert client.has == due(newest, box, entities)
        client.take_all(watch)
        assert client.has == due(newest, box, entities)
    finally:
        watching.PAGE, watching.LOOK, table.MAX_GONE = before  # type: ignore[misc]


def test_a_client_that_comes_back_gets_what_has_changed_and_no_snapshot() -> None:
    newest, client = Newest(100, KEEP_MS), Client()
    newest.update([Published(forecast(f"e{n}", n, 1.0), 1_000) for n in range(10)], 1_000)
    client.take_all(Watch(newest, SERVER))
    newest.update([Published(forecast("e3", 50, 2.0), 1_000)], 1_000)
    again = Watch(newest, SERVER, last_id=client.last_id)
    assert again.is_resumed
    assert [message.kind for message in again.next()] == ["forecast", "live"]
    assert client.snapshots == 1


def test_a_snapshot_looks_through_the_table_a_few_times_and_not_for_each_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """For 100,000 entities each look takes milliseconds, in which nobody else is answered; there are 1,600 pages."""
    newest, client, looks = Newest(10_000, KEEP_MS), Client(), 0
    newest.update([Published(forecast(f"e{n}", n, 1.0), 1_000) for n in range(5_000)], 1_000)
    inside = Newest.inside

    def counted(table: Newest, box: Box | None) -> Any:
        nonlocal looks
        looks += 1
        return inside(table, box)

    monkeypatch.setattr(Newest, "inside", counted)
    watch = Watch(newest, SERVER)
    for n in range(20):  # what comes meanwhile is sent in its turn
        assert client.take(watch)
        newest.update([Published(forecast(f"e{n}", 9_000, 1.0), 1_000)], 1_000)
    client.take_all(watch)
    assert client.has == due(newest, None, ())
    assert looks <= 8


async def test_clients_whose_sockets_take_all_get_their_snapshots_side_by_side() -> None:
    """A write that need not wait would let nobody else work: 260 streams that began at once left /healthz without an
    answer."""
    newest, turns = Newest(10_000, KEEP_MS), list[str]()
    newest.update([Published(forecast(f"e{n}", n, 1.0), 1_000) for n in range(1_000)], 1_000)

    def follow(name: str) -> asyncio.Task[None]:
        async def beat() -> None:
            pass

        async def send(messages: list[Message]) -> None:
            turns.append(name)

        return asyncio.create_task(sending.follow(newest, Watch(newest, SERVER), send, beat))

    tasks = [follow("a"), follow("b")]
    for _ in range(100):
        await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    assert turns[:10] == ["a", "b"] * 5


def test_an_id_of_another_server_or_of_nothing_begins_with_a_snapshot() -> None:
    newest = Newest(100, KEEP_MS)
    newest.update([Published(forecast("e", 1, 1.0), 1_000)], 1_000)
    for other in (None, "", "00c0ffee", "00c0ffee-x", "0badc0de-1", "00c0ffee-99", "00c0ffee--1", "9" * 64):
        assert [message.kind for message in Watch(newest, SERVER, last_id=other).next()] == [
            "snapshot",
            "forecast",
            "live",
        ]


def test_a_slow_client_gets_the_newest_forecast_alone() -> None:
    newest, client = Newest(100, KEEP_MS), Client()
    watch = Watch(newest, SERVER)
    client.take_all(watch)
    for ts in range(1_000):
        newest.update([Published(forecast("e", ts, 1.0), 1_000)], 1_000)
    messages = watch.next()
    assert [msgspec.json.decode(message.body)["forecast"]["anchor"]["ts"] for message in messages] == [999]


async def test_streams_take_turns_page_by_page_so_that_a_request_waits_for_one_of_them() -> None:
    """A hundred that connect at once, as after a restart, each made a page in every turn of the loop."""
    streams, pages = 10, 20
    newest = Newest(2 * pages * watching.PAGE, KEEP_MS)
    newest.update([Published(forecast(f"e{n}", n, 1.0), 1_000) for n in range(pages * watching.PAGE)], 1_000)
    turn, full = 0, list[int]()

    class Counted(Watch):
        def next(self) -> list[Message]:
            messages = super().next()
            full.extend([turn] * (len(messages) >= watching.PAGE))
            return messages

    async def send(messages: list[Message]) -> None:  # the socket takes it at once
        assert messages

    async def beat() -> None:
        raise AssertionError("nothing is silent for so long")

    tasks = [asyncio.create_task(sending.follow(newest, Counted(newest, SERVER), send, beat)) for _ in range(streams)]
    while len(full) < streams * pages:
        turn += 1
        await asyncio.sleep(0)
        assert turn < 10 * streams * pages
    for task in tasks:
        task.cancel()
    assert max(map(full.count, set(full))) == 1
