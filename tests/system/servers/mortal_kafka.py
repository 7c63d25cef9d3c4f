"""One Apache Kafka that can be killed and started again, with its log, at the same address. Tests import this; it tests
nothing itself."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kafka import KafkaConsumer, TopicPartition
from missing_servers import skip_unless_required

from stream.bench.harness import servers
from stream.bench.harness.servers import JVM_QUICK, PROPERTIES, Say, Unavailable
from stream.kafka.admin import wait_until_up
from stream.processes.child import Supervised
from stream.up.embedded import HOST, free_port

PATIENCE_S = 180.0  # a bound on waiting; the start takes 4 s on two idle cores


class MortalKafka:
    """Use `running`."""

    def __init__(self, home: Path, java: str, jars: Path, more: str = "") -> None:
        self._home = home
        self._config = home / "server.properties"
        self._run = [java, "-cp", f"{jars}/*", *JVM_QUICK, "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"]
        port = free_port()
        self.bootstrap = f"{HOST}:{port}"
        properties = PROPERTIES.format(port=port, controller=free_port(), data=home / "data")
        self._config.write_text(f"{properties}\n{more}\n")
        command = ["kafka.tools.StorageTool", "format", "-t", uuid.uuid4().hex[:22], "-c", str(self._config)]
        done = subprocess.run([*self._run, *command], capture_output=True, text=True, timeout=PATIENCE_S, check=False)
        if done.returncode != 0:
            raise servers.storage_error(done.stderr or done.stdout)
        self._server: Supervised | None = None

    def start(self) -> None:
        """Returns when it answers."""
        self._server = Supervised([*self._run, "kafka.Kafka", str(self._config)], log=self._home / "server.log")
        if not wait_until_up(self.bootstrap, timeout_s=PATIENCE_S):
            raise Unavailable(f"Apache Kafka did not come up: {self._server.log_tail(5)}")

    def kill(self) -> None:
        """kill -9."""
        assert self._server is not None
        os.kill(self._server.pid, signal.SIGKILL)
        self._server.stop()
        self._server = None

    def cut_log(self, topic: str, number: int) -> None:
        """Half of a partition is gone. It must be dead."""
        cut_log(self._home / "data", topic, number)

    def ensure_up(self) -> None:
        if self._server is None:
            self.start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop()


def cut_log(data: Path, topic: str, number: int) -> None:
    """Half of what a broker has of a partition is gone, as after a power cut before its disk had it. The broker must be
    dead, and there must be one segment."""
    folder = data / f"{topic}-{number}"
    (log,) = folder.glob("*.log")
    with log.open("r+b") as file:
        file.truncate(log.stat().st_size // 2)
    for derived in (*folder.glob("*index"), *folder.glob("*.snapshot")):
        derived.unlink()
    (data / ".kafka_cleanshutdown").unlink(missing_ok=True)


@contextmanager
def running(say: Say, more: str = "") -> Iterator[MortalKafka]:
    """A broker with these further lines of properties. Skips the test, or fails it where the real Kafka is demanded, if
    it cannot run here."""
    home = Path(tempfile.mkdtemp(prefix="pathcast-mortal-kafka-"))
    try:
        try:
            kafka = MortalKafka(home, servers.java_command(), servers.kafka_jars(say), more)
            kafka.start()
        except Unavailable as reason:
            skip_unless_required(f"needs an Apache Kafka of its own: {reason}")
        try:
            yield kafka
        finally:
            kafka.stop()
    finally:
        shutil.rmtree(home, ignore_errors=True)


def values_of(bootstrap: str, topic: str) -> list[tuple[bytes | None, bytes]]:
    """Key and value of every record that the topic holds now."""
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest", enable_auto_commit=False)
    tps = [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic) or ())]
    ends = consumer.end_offsets(tps)
    consumer.assign(tps)
    consumer.seek_to_beginning(*tps)
    found = []
    while any(consumer.position(tp) < ends[tp] for tp in tps):
        for records in consumer.poll(timeout_ms=1_000).values():
            found += [(one.key, one.value) for one in records]
    consumer.close()
    return found
