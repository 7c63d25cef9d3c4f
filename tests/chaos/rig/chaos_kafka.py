"""Three Apache Kafka brokers on this machine, each of which can be killed and started again by its number. Knows
processes and listeners; knows no fault and no worker.

Each broker is its own controller, too: with three of them any one may die. Every topic has three replicas, and a write
needs two, so nothing that was acknowledged hangs on one broker. Clients come through either of two listeners:

    direct    127.0.0.1:port              the feed, the verifier, and the brokers among themselves
    proxied   127.0.0.1:port of a Proxy   workers whose way to the brokers is to be cut or slowed
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from fault_proxy import Proxies, Proxy
from kafka.errors import KafkaError

from stream.bench.harness.servers import Say, Unavailable, java_command, kafka_jars, storage_error
from stream.kafka import admin
from stream.processes.child import Supervised
from stream.up.embedded import HOST, free_port

NUMBERS: Final = (1, 2, 3)
PATIENCE_S: Final = 120.0  # for a start or a recovery; 10 s on two idle cores
HEAL_S: Final = 60.0  # of that, before all are started anew
TAIL: Final = 30  # lines of each broker's log in an error: a stack and what it was about
JVM: Final = ("-Xms96m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
CLUSTER_ID: Final = uuid.uuid4().hex[:22]

# Internal topics with few partitions, so that a recovery does not go through 100 of them. A dead broker is noticed
# after 6 s instead of 9.
PROPERTIES: Final = """
process.roles=broker,controller
node.id={number}
controller.quorum.voters={voters}
listeners=PLAINTEXT://127.0.0.1:{port},PROXIED://127.0.0.1:{behind},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},PROXIED://127.0.0.1:{proxied}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs={data}
num.network.threads=2
num.io.threads=2
default.replication.factor=3
min.insync.replicas=2
offsets.topic.replication.factor=3
offsets.topic.num.partitions=3
transaction.state.log.replication.factor=3
transaction.state.log.min.isr=2
transaction.state.log.num.partitions=3
share.coordinator.state.topic.replication.factor=3
group.initial.rebalance.delay.ms=0
broker.heartbeat.interval.ms=1000
broker.session.timeout.ms=6000
auto.create.topics.enable=false
"""


class Cluster:
    """Three brokers. Use `running`."""

    def __init__(self, home: Path, jars: Path, java: str, proxies: Proxies) -> None:
        self._home = home
        self._run = [java, "-cp", f"{jars}/*", *JVM, "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"]
        self._alive: dict[int, Supervised] = {}
        ports = {number: (free_port(), free_port(), free_port()) for number in NUMBERS}
        self.proxies: dict[int, Proxy] = {number: proxies.to(ports[number][1]) for number in NUMBERS}
        self._ports = [port for port, _, _ in ports.values()]
        self.direct = ",".join(f"{HOST}:{ports[number][0]}" for number in NUMBERS)
        self.proxied = ",".join(f"{HOST}:{self.proxies[number].port}" for number in NUMBERS)
        voters = ",".join(f"{number}@{HOST}:{ports[number][2]}" for number in NUMBERS)
        for number, (port, behind, controller) in ports.items():
            self._config(number).write_text(
                PROPERTIES.format(
                    number=number,
                    voters=voters,
                    port=port,
                    behind=behind,
                    controller=controller,
                    proxied=self.proxies[number].port,
                    data=self.data(number),
                )
            )
        self._format()

    def data(self, number: int) -> Path:
        """Where the broker has its logs."""
        return self._home / f"data{number}"

    def _config(self, number: int) -> Path:
        return self._home / f"server{number}.properties"

    def _format(self) -> None:
        """All three at once: each is a second of JVM."""
        storage = ["kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c"]
        started = [
            subprocess.Popen(
                [*self._run, *storage, str(self._config(number))],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            for number in NUMBERS
        ]
        for process in started:
            said, _ = process.communicate(timeout=PATIENCE_S)
            if process.returncode != 0:
                raise storage_error(said.decode(errors="replace"))

    def start(self, number: int) -> None:
        log = self._home / f"server{number}.log"
        self._alive[number] = Supervised([*self._run, "kafka.Kafka", str(self._config(number))], log=log)

    def kill(self, number: int) -> None:
        """As a machine that loses its power: kill -9."""
        broker = self._alive.pop(number)
        with suppress(ProcessLookupError):
            os.kill(broker.pid, signal.SIGKILL)
        broker.stop()

    def stop(self, number: int) -> None:
        """As an upgrade does it: SIGTERM, and it hands its partitions over."""
        self._alive.pop(number).stop()

    def kill_all(self) -> None:
        for number in list(self._alive):
            self.kill(number)

    def heal(self) -> None:
        """Every broker runs, every way to it is open, and every partition has all of its replicas."""
        for number in NUMBERS:
            self.proxies[number].heal()
            if number not in self._alive or not self._alive[number].running:
                self.start(number)
        try:
            self.wait_until_whole(HEAL_S)
        except Unavailable as error:
            # Once in some 140 a broker had ended by itself, and a replica of its stayed behind when it was back. That
            # is no finding about us, but the next fault must not begin with it.
            print(f"all brokers are started anew: {error}")
            self.kill_all()
            for number in NUMBERS:
                self.start(number)
            self.wait_until_whole()

    def wait_until_whole(self, patience_s: float = PATIENCE_S) -> None:
        deadline = time.monotonic() + patience_s
        while (lacking := self._lacking()) != "":
            if time.monotonic() > deadline:
                raise Unavailable(f"the cluster is not whole after {patience_s:.0f} s: {lacking}; {self._tails()}")
            time.sleep(0.3)

    def _lacking(self) -> str:
        try:
            for port in self._ports:  # cheap first: a Kafka client would back off and come back late
                socket.create_connection((HOST, port), timeout=1.0).close()
            with admin.connect(self.direct) as client:
                alive = len(client.describe_cluster()["brokers"])
                if alive < len(NUMBERS):
                    return f"{alive} brokers"
                for topic in client.describe_topics(None):
                    for part in topic["partitions"]:
                        if len(part["isr_nodes"]) < len(part["replica_nodes"]) or part["leader_id"] < 0:
                            return f"{topic['name']}/{part['partition_index']} has in-sync replicas {part['isr_nodes']}"
        except (KafkaError, OSError) as error:
            return repr(error)
        return ""

    def leader_of(self, topic: str, partition: int) -> int:
        with admin.connect(self.direct) as client:
            (described,) = client.describe_topics([topic])
        return int(next(p["leader_id"] for p in described["partitions"] if p["partition_index"] == partition))

    def _tails(self) -> str:
        return "; ".join(f"broker {number}: {broker.log_tail(TAIL)}" for number, broker in self._alive.items())


@contextmanager
def running(say: Say, proxies: Proxies) -> Iterator[Cluster]:
    """Raises Unavailable. The brokers end with this process, however that ends."""
    java, jars = java_command(), kafka_jars(say)
    home = Path(tempfile.mkdtemp(prefix="pathcast-chaos-kafka-"))
    # Removes the folder if we are killed. It outlives the brokers: they get 8 s to end.
    guard = Supervised(["sh", "-c", "trap 'sleep 9' TERM; while :; do sleep 1; done"], log=home / "guard", remove=home)
    cluster = Cluster(home, jars, java, proxies)
    try:
        for number in NUMBERS:
            cluster.start(number)
        cluster.wait_until_whole()
        yield cluster
    finally:
        cluster.kill_all()
        os.kill(guard.pid, signal.SIGKILL)
        guard.stop()
        shutil.rmtree(home, ignore_errors=True)
