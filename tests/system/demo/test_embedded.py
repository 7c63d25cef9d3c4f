"""The embedded servers end with their parent, whatever ends it, and the broker does what its docstring claims."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import ProducerFenced
from kafka import KafkaProducer
from pathcast_process import PATIENCE_S, eventually, processes_of

from stream.kafka import admin
from stream.processes.child import Supervised
from stream.up import embedded

PARENT = """
import sys, time
from stream.up import embedded
with embedded.broker() as bootstrap, embedded.store() as url:
    print(bootstrap, url, flush=True)
    if sys.argv[1] == "raise":
        raise RuntimeError("as asked")
    if sys.argv[1] == "wait":
        time.sleep(600)
"""


@pytest.fixture
def broker() -> Iterator[str]:
    with embedded.broker() as bootstrap:
        yield bootstrap


def test_ports_asked_for_one_after_the_other_differ() -> None:
    """The kernel gives one that was let go of again now and then, a dozen times in as many as these.

    Half of a block: of a hundred ports, this process's own servers hold some, and those are passed over.
    """
    given = [embedded.free_port() for _ in range(2000)]
    assert all(len(set(given[start : start + 50])) == 50 for start in range(len(given) - 49))


@pytest.mark.parametrize(
    ("then", "number", "status"),
    [
        pytest.param("return", None, 0, id="normal exit"),
        pytest.param("raise", None, 1, id="exception"),
        pytest.param("wait", signal.SIGINT, -signal.SIGINT, id="ctrl-c"),
        pytest.param("wait", signal.SIGTERM, -signal.SIGTERM, id="sigterm"),
        pytest.param("wait", signal.SIGKILL, -signal.SIGKILL, id="kill -9"),
    ],
)
def test_nothing_is_left_when_the_parent_ends(
    tmp_path: Path, then: str, number: signal.Signals | None, status: int
) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    parent = subprocess.Popen([sys.executable, "-c", PARENT, then], stdout=subprocess.PIPE, text=True, env=environment)
    assert parent.stdout is not None
    ports = [_port(address) for address in parent.stdout.readline().split()]
    assert len(ports) == 2, "both servers said where they are"
    if number is not None:
        assert all(map(_listens, ports))
        assert processes_of(tmp_path), "the search below would find what is left"
        parent.send_signal(number)
    assert parent.wait(PATIENCE_S) == status
    parent.stdout.close()

    assert eventually(lambda: not any(map(_listens, ports))), "a server still listens"
    assert eventually(lambda: not processes_of(tmp_path)), processes_of(tmp_path)
    assert eventually(lambda: not any(tmp_path.iterdir())), "a directory was left"


DEAF = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("deaf", flush=True)
time.sleep(600)
"""


def test_a_server_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    server = Supervised([sys.executable, "-c", DEAF], log=tmp_path / "log")
    assert eventually(lambda: server.log_tail() == "deaf")
    assert server.stop() == -signal.SIGKILL
    with pytest.raises(ProcessLookupError):
        os.kill(server.pid, 0)


def test_a_server_that_ends_by_itself_leaves_its_last_words_until_stop(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    server = Supervised([sys.executable, "-c", "exit('no luck')"], log=home / "log", remove=home)
    assert server.wait(PATIENCE_S) == 1
    assert not server.running
    assert server.log_tail() == "no luck"
    assert server.stop() == 1
    assert not home.exists()


def test_a_server_that_cannot_be_started_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"could not start /nowhere/server: .*No such file"):
        Supervised(["/nowhere/server"], log=tmp_path / "log")


def test_a_missing_wheel_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "noida_db", None)  # as if it were not installed
    with pytest.raises(RuntimeError, match=r"noida-db: pip install 'pathcast\[demo\]'"), embedded.broker():
        pass


def test_both_listen_on_one_loopback_address_only(broker: str) -> None:
    with embedded.store() as url:
        for port in (_port(broker), _port(url)):
            assert _listens(port)
            assert not _listens(port, "127.0.0.2"), "a server bound to every address would answer here"


def test_the_store_is_a_real_valkey_with_lua() -> None:
    with embedded.store() as url, redis.Redis.from_url(url) as client:
        assert client.info("server")["server_name"] == "valkey"
        assert client.eval("return redis.call('INCRBY', KEYS[1], ARGV[1])", 1, "n", 7) == 7


async def test_two_members_of_a_group_share_the_partitions_and_offsets_survive(broker: str) -> None:
    with admin.connect(broker) as client:
        # Kept for ever: the records below are of 1970, and this broker deletes at once what is past retention.
        kept = {"num_partitions": 4, "replication_factor": 1, "configs": {"retention.ms": "-1"}}
        client.create_topics({"shared": kept})
    producer = KafkaProducer(bootstrap_servers=broker)
    sent = [producer.send("shared", value=b"%d" % n, partition=n % 4, timestamp_ms=1000 + n) for n in range(40)]
    assert [future.get(PATIENCE_S).timestamp for future in sent] == list(range(1000, 1040))
    producer.close()

    members = [_member(broker), _member(broker)]
    for member in members:
        await asyncio.wait_for(member.start(), PATIENCE_S)
    values: set[bytes | None] = set()
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        for member in members:
            for records in (await member.getmany(timeout_ms=50)).values():
                values.update(record.value for record in records)
        if len(values) == 40 and [len(member.assignment()) for member in members] == [2, 2]:
            break
    assert [len(member.assignment()) for member in members] == [2, 2]
    assert values == {b"%d" % n for n in range(40)}
    for member in members:
        await member.commit()
    for member in members:  # not one by one with the commits: this broker refuses a commit while the group rebalances
        await member.stop()

    heir = _member(broker)
    await asyncio.wait_for(heir.start(), PATIENCE_S)
    assert [await heir.committed(TopicPartition("shared", n)) for n in range(4)] == [10, 10, 10, 10]
    await heir.stop()


async def test_aborted_records_are_invisible_and_a_zombie_is_fenced(broker: str) -> None:
    with admin.connect(broker) as client:
        client.create_topics({"ledger": {"num_partitions": 1, "replication_factor": 1}})
    zombie = AIOKafkaProducer(bootstrap_servers=broker, transactional_id="one")
    await zombie.start()
    await zombie.begin_transaction()
    await zombie.send_and_wait("ledger", b"aborted")
    await zombie.abort_transaction()
    await zombie.begin_transaction()
    await zombie.send_and_wait("ledger", b"zombie")

    heir = AIOKafkaProducer(bootstrap_servers=broker, transactional_id="one")
    await heir.start()
    with pytest.raises(ProducerFenced):
        await zombie.commit_transaction()
    async with heir.transaction():
        await heir.send_and_wait("ledger", b"committed")

    consumer = AIOKafkaConsumer(
        "ledger", bootstrap_servers=broker, isolation_level="read_committed", auto_offset_reset="earliest"
    )
    await consumer.start()
    assert (await consumer.getone()).value == b"committed"
    await consumer.stop()
    await heir.stop()
    await zombie.stop()


def _member(bootstrap: str) -> AIOKafkaConsumer:
    return AIOKafkaConsumer(
        "shared",
        bootstrap_servers=bootstrap,
        group_id="members",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        heartbeat_interval_ms=200,
    )


def _port(address: str) -> int:
    port = urlsplit(address if "://" in address else f"//{address}").port
    assert port is not None
    return port


def _listens(port: int, host: str = "127.0.0.1") -> bool:
    try:
        socket.create_connection((host, port), timeout=2.0).close()
    except OSError:
        return False
    return True
