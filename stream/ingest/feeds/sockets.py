"""Reads lines over TCP, as a client or a server, and over UDP.

TCP is not read while Kafka is away: the peer's window fills, and it waits or gives up. UDP cannot be held back
(`holding`). A client connects again when the peer has closed; nothing is asked for again, as these peers send only
what is new.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

from stream.adapters.live.parsed import Piece
from stream.config.http_access import Address
from stream.ingest.feeds.holding import HoldingQueue
from stream.ingest.feeds.lines import Lines, Read, ReceivedBytes
from stream.ingest.publishing.delivering import deliver_pieces
from stream.ingest.publishing.sink import Sink
from stream.ingest.source import Source

log: Final = logging.getLogger(__name__)

CHUNK_BYTES: Final = 64 << 10
CONNECT_S: Final = 10.0
MAX_PAUSE_S: Final = 30.0  # between two tries to connect
MAX_CLIENTS: Final = 100  # of the server; each holds 200 KB at most
QUIET_S: Final = 900.0  # a client of the server that ends no line for so long makes room for others
UNENDED_BYTES: Final = 64 << 10  # of one line, after which a peer is known to send none
SAY_EVERY_S: Final = 10.0  # while clients are turned away
MAX_HOSTS: Final = 1_000  # of clients whose first connection is logged; those of others, and later ones, are not
TCP_BUFFER_BYTES: Final = 256 << 10  # a second of a busy receiver
UDP_BUFFER_BYTES: Final = 4 << 20  # the kernel's, which it cuts to net.core.rmem_max


Connect = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]
Hear = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def keep_connected(what: str, connect: Connect, hear: Hear, source: Source, max_pause_s: float) -> None:
    """Connects and hears what comes, for ever, with longer and longer pauses while nothing answers."""
    failures = 0
    while True:
        try:
            async with asyncio.timeout(CONNECT_S):
                reader, writer = await connect()
        except (OSError, ValueError, TimeoutError) as error:  # pyserial raises ValueError, too
            source.away(f"{what}: {str(error) or 'no answer'}")
            failures += 1
        else:
            source.back()
            failures = 0
            try:
                await hear(reader, writer)
                source.away(f"{what} closed the connection")
            except OSError as error:
                source.away(f"{what}: {error}")
            finally:
                writer.close()
        await asyncio.sleep(min(max_pause_s, 2.0**failures))


async def tcp_client(address: Address, read: Read, sink: Sink, source: Source) -> None:
    """Reads a server for ever. Raises Refused if a broker denies access."""

    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _prepare(writer)
        await relay(reader, read, sink, f"tcp:{address}")

    def connect() -> Any:
        return asyncio.open_connection(address.host, address.port, limit=CHUNK_BYTES)

    await keep_connected(str(address), connect, hear, source, MAX_PAUSE_S)


async def tcp_server(address: Address, read: Read, sink: Sink, source: Source) -> None:
    """Listens for ever. Raises OSError if the address cannot be used, Refused if a broker denies access."""
    clients: set[asyncio.Task[None]] = set()
    hosts: set[str] = set()
    told_s = -SAY_EVERY_S
    failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal told_s
        at = _peer(writer)
        peer = str(at)
        if len(clients) >= MAX_CLIENTS:
            if time.monotonic() - told_s >= SAY_EVERY_S:
                told_s = time.monotonic()
                log.warning("%s is turned away: %d are connected", peer, MAX_CLIENTS)
            writer.close()
            return
        task = asyncio.current_task()
        assert task is not None
        clients.add(task)
        is_new = at.host not in hosts and len(hosts) < MAX_HOSTS
        hosts.update([at.host] if is_new else [])
        log.log(logging.INFO if is_new else logging.DEBUG, "%s is connected", peer)
        try:
            _prepare(writer)
            await relay(reader, read, sink, f"tcp:{peer}", via=peer, quiet_s=QUIET_S)
        except OSError as error:
            log.log(logging.INFO if is_new else logging.DEBUG, "%s: %s", peer, error)
        except Exception as error:  # such as Refused: it ends all of us, and not this connection alone
            if not failed.done():
                failed.set_exception(error)
        finally:
            clients.discard(task)
            writer.close()

    server = await asyncio.start_server(serve, address.host, address.port, limit=CHUNK_BYTES)
    _say_listening("TCP", server.sockets[0], address)
    try:
        await failed
    finally:
        server.close()
        for client in clients:
            client.cancel()


async def relay(
    reader: asyncio.StreamReader, read: Read, sink: Sink, origin: str, via: str = "", quiet_s: float | None = None
) -> None:
    """Sends the lines of one connection, until its end. It reads on only when Kafka has what it read before.

    Raises ConnectionError if the peer ends no line for `quiet_s`, or sends too much of one.
    """
    lines, loop = Lines(), asyncio.get_running_loop()
    try:
        async with asyncio.timeout(quiet_s) as patience:
            while data := await reader.read(CHUNK_BYTES):
                if whole := lines.push(data):
                    patience.reschedule(None)  # Kafka may be away for longer
                    await _send(whole, read, sink, origin, via)
                    patience.reschedule(None if quiet_s is None else loop.time() + quiet_s)
                if lines.unended_bytes > UNENDED_BYTES:
                    raise ConnectionError(f"more than {UNENDED_BYTES} bytes without the end of a line: let go")
    except TimeoutError:  # or the kernel's, of a peer that has gone without a word
        if not patience.expired():
            raise
        raise ConnectionError(f"no line for {quiet_s:g} s: let go") from None
    await _send(lines.end(), read, sink, origin, via)


async def _send(lines: list[bytes], read: Read, sink: Sink, origin: str, via: str) -> None:
    came_ms = time.time_ns() // 1_000_000
    await deliver_pieces(sink, [piece for line in lines for piece in read(ReceivedBytes(line, came_ms, via))], origin)


async def udp(address: Address, read: Read, sink: Sink, source: Source, most: int) -> None:
    """Receives datagrams of whole lines for ever. Raises as `tcp_server`."""
    held = HoldingQueue(source, most)

    def lines(came: ReceivedBytes) -> Iterable[Piece]:
        for line in came.raw.split(b"\n"):
            if line := line.strip():
                yield from read(came._replace(raw=line))

    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: _Datagrams(held), (address.host, address.port)
    )
    try:
        own = transport.get_extra_info("socket")
        own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, UDP_BUFFER_BYTES)
        _say_listening("UDP", own, address)
        await held.send(lines, sink, f"udp:{address}")
    finally:
        transport.close()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, held: HoldingQueue) -> None:
        self._held = held

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._held.put(data, via=f"{addr[0]}:{addr[1]}")


def _say_listening(what: str, own: socket.socket, address: Address) -> None:
    at = address._replace(port=own.getsockname()[1])
    log.info("listening on %s %s", what, at)
    if not address.loopback:
        log.warning("anybody who reaches %s may send vehicles: neither TCP nor UDP asks who it is", at)


def _prepare(writer: asyncio.StreamWriter) -> None:
    """Lets the kernel notice a peer that has gone without a word, for which we would wait for ever. And bounds what the
    kernel takes for us while we do not read: it may be 32 MB, all of which is lost if we are killed."""
    own = writer.get_extra_info("socket")
    own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, TCP_BUFFER_BYTES)
    own.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, seconds in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4)):
        if (option := getattr(socket, name, None)) is not None:  # macOS has other names
            own.setsockopt(socket.IPPROTO_TCP, option, seconds)


def _peer(writer: asyncio.StreamWriter) -> Address:
    return Address(*writer.get_extra_info("peername")[:2])
