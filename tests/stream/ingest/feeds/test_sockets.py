"""Lines over real sockets, with a Kafka that can be away."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial

import feeds_rig
import pytest
from feeds_rig import SinkInMemory
from live_rig import GGA, RMC, ais_lines, of_another_ship, sentence, tagged

from stream.adapters.live.formats import nmea
from stream.adapters.live.parsed import Piece
from stream.config.http_access import Address
from stream.ingest.feeds import sockets
from stream.ingest.feeds.holding import MAX_BYTES, HoldingQueue
from stream.ingest.feeds.lines import MAX_LINE_BYTES, ReceivedBytes
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


async def closed(reader: asyncio.StreamReader) -> bool:
    """Waits until the other side has let go."""
    async with asyncio.timeout(feeds_rig.PATIENCE_S):
        with suppress(ConnectionError):
            return await reader.read() == b""
    return True


async def test_a_sender_that_never_ends_a_line_is_let_go_and_costs_one_letter(at: Address, listens: Listens) -> None:
    sink = SinkInMemory()
    async with feeds_rig.running(sockets.tcp_server(at, read, sink, Source("nmea"))):  # type: ignore[arg-type]
        await listens()
        reader, writer = await asyncio.open_connection(at.host, at.port)
        with suppress(ConnectionError):
            for _ in range(200):  # 2 MB
                writer.write(b"x" * 10_000)
                await writer.drain()
        assert await closed(reader)
        assert [len(raw) for _, raw in sink.letters] == [MAX_LINE_BYTES]
        _, other = await asyncio.open_connection(at.host, at.port)
        other.write(line(1))
        await feeds_rig.until(lambda: sink.pings)
        other.close()


async def test_who_is_silent_or_ends_no_line_makes_room(
    at: Address, listens: Listens, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "QUIET_S", 1.0)
    monkeypatch.setattr(sockets, "MAX_CLIENTS", 2)
    sink = SinkInMemory()
    async with feeds_rig.running(sockets.tcp_server(at, read, sink, Source("nmea"))):  # type: ignore[arg-type]
        await listens()
        silent, slow = [await asyncio.open_connection(at.host, at.port) for _ in range(2)]
        refused, _ = await asyncio.open_connection(at.host, at.port)
        assert await closed(refused), "there is room for two"
        for _ in range(8):  # bytes alone keep no place
            slow[1].write(b"x")
            await asyncio.sleep(0.1)
        assert await closed(silent[0])
        assert await closed(slow[0])
        _, other = await asyncio.open_connection(at.host, at.port)
        sink.go_away()
        other.write(line(1))
        await asyncio.sleep(1.5)  # Kafka is away for longer than a sender may be silent
        sink.come_back()
        await feeds_rig.until(lambda: sink.pings)
        other.write(line(2))
        await feeds_rig.until(lambda: len(sink.pings) == 2)
        other.close()


async def test_a_tracker_that_connects_for_each_report_is_logged_once(
    at: Address, listens: Listens, caplog: pytest.LogCaptureFixture
) -> None:
    sink = SinkInMemory()
    async with feeds_rig.running(sockets.tcp_server(at, read, sink, Source("nmea"))):  # type: ignore[arg-type]
        await listens()
        for number in range(5):
            _, writer = await asyncio.open_connection(at.host, at.port)
            writer.write(line(number))
            writer.close()
            await feeds_rig.until(lambda number=number: len(sink.pings) == number + 1)
    assert len([one for one in caplog.records if one.levelno >= logging.INFO and "connected" in one.message]) == 1


def fix(second: int, minute: int = 6) -> bytes:
    return sentence(RMC.replace("080638.00", f"08{minute:02}{second:02}.00"))


async def test_trackers_that_send_nmea_here_are_told_apart_by_their_addresses(at: Address, listens: Listens) -> None:
    sink, named = SinkInMemory(), nmea.Receivers({"127.0.0.2": "van-2", "127.0.0.3": "van-3"})

    def hear(came: ReceivedBytes) -> Iterable[Piece]:
        return [named.hear(came.raw, came.ms, came.via)]

    async with feeds_rig.running(sockets.tcp_server(at, hear, sink, Source("nmea"))):  # type: ignore[arg-type]
        await listens()
        for host in ("127.0.0.2", "127.0.0.3", "127.0.0.4"):
            _, writer = await asyncio.open_connection(at.host, at.port, local_addr=(host, 0))
            writer.write(sentence(GGA)[:30])
            await writer.drain()
            writer.write(sentence(GGA)[30:] + fix(39) + tagged(fix(40), b"s:van-9"))
            writer.close()
        await feeds_rig.until(lambda: len(sink.pings) == 5)
    seconds = Counter((ping.entity_id, ping.ts // 1000 % 60, ping.sats) for ping in sink.pings)
    named_ones = {(name, second, 8) for name in ("van-2", "van-3") for second in (39, 40)}
    assert set(seconds) == named_ones | {("van-9", 40, None)}, "a GGA is of its own receiver"
    ((letter, raw),) = sink.letters
    assert (letter.code, raw) == ("missing_field", fix(39).strip())
    assert "--entity 127.0.0.4=NAME" in letter.message


async def test_a_boats_multiplexer_is_followed_over_udp(at: Address, sender: socket.socket, listens: Listens) -> None:
    sink, boat = SinkInMemory(), nmea.Receivers({}, "boat")

    def hear(came: ReceivedBytes) -> Iterable[Piece]:
        return [boat.hear(came.raw, came.ms, came.via)]

    async with feeds_rig.running(sockets.udp(at, hear, sink, Source("nmea"), most=100)):  # type: ignore[arg-type]
        await listens()
        sender.sendto(sentence(GGA) + sentence("GPGSV,1,1,00") + fix(39), at)
        sender.sendto(of_another_ship(ais_lines()[0]), at)
        await feeds_rig.until(lambda: len(sink.pings) == 2)
    assert [ping.entity_id for ping in sink.pings] == ["boat", "366123456"]
    assert not sink.letters


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


def test_what_waits_of_datagrams_is_bounded_in_bytes_too() -> None:
    source = Source("nmea")
    held = HoldingQueue(source, most=100_000)
    for _ in range(3_000):
        held.put(b"x" * 64_000)
    assert len(held) * 64_000 <= MAX_BYTES < (len(held) + 1) * 64_000
    assert source.lost == 3_000 - len(held)


async def test_an_address_that_is_taken_is_an_error(at: Address) -> None:
    with socket.create_server(at), pytest.raises(OSError, match="in use"):
        await sockets.tcp_server(at, read, SinkInMemory(), Source("ais"))  # type: ignore[arg-type]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
        own.bind(at)
        with pytest.raises(OSError, match="in use"):
            await partial(sockets.udp, most=1)(at, read, SinkInMemory(), Source("ais"))  # type: ignore[arg-type]
