"""Lines over real sockets, with a Kafka that can be away."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import Awaitable, Callable, Iterable, Iterator
from functools import partial

import feeds_rig
import pytest
from feeds_rig import SinkInMemory

from stream.adapters.live.parsed import Piece
from stream.config.http_access import Address
from stream.ingest.feeds import sockets
from stream.ingest.feeds.lines import ReceivedBytes
from stream.ingest.source import Source
from stream.tracks.clean import parse
from stream.up.embedded import free_port
from stream.wire import Record

T0 = 1_700_000_000_000


def line(number: int) -> bytes:
    return json.dumps({"entity_id": "a", "ts": T0 + number, "lat": 1.0, "lon": 2.0}).encode() + b"\n"


def read(came: ReceivedBytes) -> Iterable[Piece]:
    record = Record("", 0, 0, came.ms, b"a", came.raw)
    return [Piece(parse(record), came.raw)]


def numbers(sink: SinkInMemory) -> list[int]:
    return [ping.ts - T0 for ping in sink.pings]


@pytest.fixture
def at() -> Address:
    return Address("127.0.0.1", free_port())


Listens = Callable[[], Awaitable[None]]


@pytest.fixture
def listens(caplog: pytest.LogCaptureFixture) -> Listens:
    """Waits until a server says that it listens: a connection would be refused before that, and a datagram lost."""
    caplog.set_level(logging.INFO)
    return lambda: feeds_rig.until(lambda: "listening on" in caplog.text)


class Peer:
    """A receiver that others connect to."""

    def __init__(self) -> None:
        self.writers: list[asyncio.StreamWriter] = []

    async def serve(self, at: Address) -> asyncio.Server:
        async def came(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.writers.append(writer)

        return await asyncio.start_server(came, at.host, at.port)


async def test_a_client_takes_lines_however_they_are_cut(at: Address) -> None:
    sink, source, peer = SinkInMemory(), Source("ais"), Peer()
    async with await peer.serve(at), feeds_rig.running(sockets.tcp_client(at, read, sink, source)):  # type: ignore[arg-type]
        await feeds_rig.until(lambda: peer.writers)
        for byte in line(1) + b"\r\n" + line(2):
            peer.writers[0].write(bytes([byte]))
            await peer.writers[0].drain()
        await feeds_rig.until(lambda: len(sink.pings) == 2)
    assert numbers(sink) == [1, 2]
    assert sink.origins == {f"tcp:{at}"}


async def test_a_client_connects_again(at: Address) -> None:
    sink, source, peer = SinkInMemory(), Source("ais"), Peer()
    async with feeds_rig.running(sockets.tcp_client(at, read, sink, source)):  # type: ignore[arg-type]
        await feeds_rig.until(lambda: source.is_away)
        async with await peer.serve(at):
            for number in range(2):
                await feeds_rig.until(lambda number=number: len(peer.writers) > number)
                peer.writers[number].write(line(number))
                await feeds_rig.until(lambda number=number: len(sink.pings) > number)
                assert not source.is_away
                peer.writers[number].close()
                await feeds_rig.until(lambda: source.is_away)
    assert numbers(sink) == [0, 1]


async def test_tcp_is_not_read_while_kafka_is_away_and_nothing_is_lost(at: Address) -> None:
    sink, source, peer = SinkInMemory(), Source("ais"), Peer()
    count = 30_000  # 2 MB: more than all buffers on the way
    async with await peer.serve(at), feeds_rig.running(sockets.tcp_client(at, read, sink, source)):  # type: ignore[arg-type]
        await feeds_rig.until(lambda: peer.writers)
        (writer,) = peer.writers
        own = writer.get_extra_info("socket")
        own.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)
        sink.go_away()
        for number in range(count):
            writer.write(line(number))
        drained = asyncio.create_task(writer.drain())
        await feeds_rig.until(lambda: sink.refused)
        await asyncio.sleep(0.3)
        held = writer.transport.get_write_buffer_size()
        assert held > 200_000, "the peer has it still"
        assert sink.pings == []
        sink.come_back()
        await drained
        await feeds_rig.until(lambda: len(sink.pings) == count)
    assert numbers(sink) == list(range(count))


async def test_a_server_takes_several_receivers(at: Address, listens: Listens) -> None:
    sink = SinkInMemory()
    async with feeds_rig.running(sockets.tcp_server(at, read, sink, Source("ais"))):  # type: ignore[arg-type]
        await listens()
        writers = [(await asyncio.open_connection(at.host, at.port))[1] for _ in range(3)]
        for number, writer in enumerate(writers):
            writer.write(line(number)[:20])
        for number, writer in enumerate(writers):
            writer.write(line(number)[20:].strip())  # nothing ends the last line but the connection
            writer.close()
        await feeds_rig.until(lambda: len(sink.pings) == 3)
    assert sorted(numbers(sink)) == [0, 1, 2]
    assert len(sink.origins) == 3


async def test_a_broken_reader_ends_the_server_and_not_one_connection_alone(at: Address, listens: Listens) -> None:
    def broken(came: ReceivedBytes) -> Iterable[Piece]:
        raise RuntimeError("our own bug")

    async with feeds_rig.running(sockets.tcp_server(at, broken, SinkInMemory(), Source("ais"))) as server:  # type: ignore[arg-type]
        await listens()
        _, writer = await asyncio.open_connection(at.host, at.port)
        writer.write(line(1))
        with pytest.raises(RuntimeError, match="our own bug"):
            await asyncio.wait_for(server, feeds_rig.PATIENCE_S)
        writer.close()


@pytest.fixture
def sender() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
        yield own


async def test_a_datagram_may_hold_several_lines(at: Address, sender: socket.socket, listens: Listens) -> None:
    sink = SinkInMemory()
    async with feeds_rig.running(sockets.udp(at, read, sink, Source("ais"), most=100)):  # type: ignore[arg-type]
        await listens()
        sender.sendto(line(1) + line(2), at)
        sender.sendto(line(3).strip(), at)
        await feeds_rig.until(lambda: len(sink.pings) == 3)
    assert numbers(sink) == [1, 2, 3]


async def test_what_is_lost_of_udp_is_counted_and_said(
    at: Address, sender: socket.socket, listens: Listens, caplog: pytest.LogCaptureFixture
) -> None:
    sink, source = SinkInMemory(), Source("ais")
    async with feeds_rig.running(sockets.udp(at, read, sink, source, most=50)):  # type: ignore[arg-type]
        await listens()
        sink.go_away()
        sender.sendto(line(0), at)
        await feeds_rig.until(lambda: sink.refused)  # it waits for Kafka, outside of what is held
        for number in range(1, 201):
            sender.sendto(line(number), at)
            if number % 20 == 0:
                await asyncio.sleep(0.01)  # the kernel's buffer is not what is tested
        await feeds_rig.until(lambda: source.lost == 150)
        sink.come_back()
        await feeds_rig.until(lambda: len(sink.pings) == 51)
    assert numbers(sink) == [0, *range(151, 201)], "the oldest are lost"
    assert "messages lost so far" in caplog.text


async def test_an_address_that_is_taken_is_an_error(at: Address) -> None:
    with socket.create_server(at), pytest.raises(OSError, match="in use"):
        await sockets.tcp_server(at, read, SinkInMemory(), Source("ais"))  # type: ignore[arg-type]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
        own.bind(at)
        with pytest.raises(OSError, match="in use"):
            await partial(sockets.udp, most=1)(at, read, SinkInMemory(), Source("ais"))  # type: ignore[arg-type]
