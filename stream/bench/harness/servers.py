"""Gets, starts and stops a real Apache Kafka and a real Redis on loopback, for benchmarks and tests.

    with servers(say, bootstrap=None, redis_url=None) as found: ...

Kafka is `org.apache.kafka:kafka_2.13`, in KRaft mode on this machine's Java; Maven resolves its jars once into the
user's cache. Redis is the `redis-server` on PATH. Each runs under `stream.processes`, in a directory that is
removed at the end, and ends with this process however that ends. `stream.up.embedded` has smaller servers in their
place: what a user of the demo runs, and nobody else. So they are used only when asked for, and the results name them.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from stream.kafka.admin import wait_until_up
from stream.processes.child import Supervised
from stream.up import embedded

KAFKA: Final = "4.1.1"  # the newest of 4.1; runs on Java 17, which Debian 12 has
JAVA_AT_LEAST: Final = 17
START_S: Final = 60.0  # the start takes 4 s on two idle cores
MAVEN_SILENCE_S: Final = 20.0  # without any answer from the repository for so long, we are offline
MAVEN_STALL_S: Final = 90.0  # since the last file that arrived: the largest jar has 10 MB
MAVEN_TOTAL_S: Final = 600.0

Say = Callable[[str], None]

# A small heap and only the first compiler, so that the broker starts fast; it need not be fastest after minutes.
JVM_QUICK: Final = ("-Xms128m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
# The options of Kafka's own start script, except the collector: one thread of it fits two cores better than many.
JVM_STEADY: Final = ("-Xms512m", "-Xmx1g", "-XX:+UseSerialGC")


class Unavailable(Exception):
    """This server cannot be started here; the message gives the reason."""


class Servers(NamedTuple):
    """The addresses of the servers, a text about them for the results, and the broker's process id."""

    bootstrap: str
    redis_url: str
    what: str
    broker_pid: int | None  # None: somebody else started the broker, on whatever machine


@contextmanager
def servers(say: Say, *, bootstrap: str | None, redis_url: str | None) -> Iterator[Servers]:
    """Yields running servers if their addresses are given, and otherwise our own, which are stopped at the end.

    Raises RuntimeError, in one line, if one cannot be started; ConnectionError if a given one does not answer.
    """
    with ExitStack() as stack:
        try:
            kafka, kafka_name, pid = _kafka(stack, say, bootstrap)
            redis, redis_name = _redis(stack, say, redis_url)
        except Unavailable as reason:
            raise RuntimeError(f"{reason} (or give the address of a running one: --bootstrap, --redis)") from reason
        yield Servers(kafka, redis, f"{kafka_name}; {redis_name}", pid)


@contextmanager
def start_embedded(say: Say) -> Iterator[Servers]:
    """Yields the demo's servers, which are stopped at the end. Raises RuntimeError if one cannot be started."""
    say("starting the embedded servers")
    with embedded.broker_process() as broker, embedded.store() as redis_url:
        yield Servers(broker.address, redis_url, "; ".join(embedded.names()), broker.pid)


def _kafka(stack: ExitStack, say: Say, given: str | None) -> tuple[str, str, int | None]:
    if given is not None:
        if not wait_until_up(given, timeout_s=5.0):
            raise ConnectionError(f"no Kafka broker answers at {given}: is it up, and is --bootstrap right?")
        return given, "the Kafka of --bootstrap", None
    say("starting Apache Kafka")
    bootstrap, pid = stack.enter_context(kafka_process(say, JVM_STEADY))
    return bootstrap, f"Apache Kafka {KAFKA}, one node", pid


def _redis(stack: ExitStack, say: Say, given: str | None) -> tuple[str, str]:
    from redis import Redis, RedisError

    if given is None:
        say("starting Redis")
        url = stack.enter_context(embedded.redis_server(redis_binary()))
    else:
        url = given
    try:
        with Redis.from_url(url, socket_connect_timeout=5.0, socket_timeout=5.0) as client:
            version = client.info("server")["redis_version"]
    except (RedisError, OSError, ValueError) as error:
        raise ConnectionError(f"no Redis answers at {url} ({error}): is it running, and is --redis right?") from error
    return url, f"Redis {version}"


def redis_binary() -> Path:
    """Returns the path of `redis-server` on PATH. Raises Unavailable."""
    found = shutil.which("redis-server")
    if found is None:
        raise Unavailable("no redis-server on PATH")
    return Path(found)


@contextmanager
def apache_kafka(say: Say, jvm: Sequence[str] = JVM_QUICK, more: str = "") -> Iterator[str]:
    """Yields the bootstrap address of our own Apache Kafka. `more` are properties in addition to PROPERTIES or instead
    of some, with the same placeholders. Raises Unavailable."""
    with kafka_process(say, jvm, more) as (bootstrap, _):
        yield bootstrap


@contextmanager
def kafka_process(say: Say, jvm: Sequence[str], more: str = "") -> Iterator[tuple[str, int]]:
    """Does the same and yields the broker's process id, too, for who counts its CPU time."""
    java = java_command()
    with ExitStack() as stack:
        server, port = stack.enter_context(_kraft(java, kafka_jars(say), jvm, more))
        if not _up(server, port):
            raise Unavailable(f"Apache Kafka did not come up within {START_S:.0f} s: {server.log_tail(3)}")
        yield f"{embedded.HOST}:{port}", server.pid


def java_command() -> str:
    """Returns the path of this machine's Java. Raises Unavailable if there is none, or an old one."""
    home = os.environ.get("JAVA_HOME")
    java = f"{home}/bin/java" if home else shutil.which("java")
    if java is None or not Path(java).exists():
        raise Unavailable("no java on PATH and no JAVA_HOME")
    version = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=10, check=False).stderr
    match = re.search(r'version "(?:1\.)?(\d+)', version)
    if match is None or int(match[1]) < JAVA_AT_LEAST:
        raise Unavailable(
            f"{java} is not Java {JAVA_AT_LEAST} or newer: {(version.splitlines() or ['it said nothing'])[0]}"
        )
    return java


def kafka_jars(say: Say) -> Path:
    """Returns the folder of Apache Kafka's jars, which Maven fills once. Raises Unavailable."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pathcast"
    jars = cache / f"kafka-{KAFKA}"
    if jars.is_dir():
        return jars
    if shutil.which("mvn") is None:
        raise Unavailable("no mvn on PATH to resolve Kafka's jars")
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        pom = Path(scratch) / "pom.xml"
        pom.write_text(POM)
        arrived = Path(scratch) / "jars"
        goal = ["dependency:copy-dependencies", f"-DoutputDirectory={arrived}", "-DincludeScope=runtime"]
        _maven(["mvn", "-B", "-f", str(pom), *goal], Path(scratch) / "maven.log", say)
        try:
            arrived.rename(jars)  # the folder appears whole or not at all
        except OSError:
            if not jars.is_dir():  # if it exists, another run was faster
                raise
    return jars


def _maven(command: list[str], log: Path, say: Say) -> None:
    say(f"kafka: resolving the jars of Apache Kafka {KAFKA} with Maven (40 MB, once per machine)")
    maven = Supervised(command, log=log)
    began = moved = shown = time.monotonic()
    seen = 0
    try:
        while maven.running:
            time.sleep(0.1)
            now = time.monotonic()
            files = len(re.findall(r"\] Downloaded from ", log.read_text(errors="replace")))
            if files > seen:
                seen, moved = files, now
            if now - shown > 5.0:
                say(f"kafka: {seen} files have arrived")
                shown = now
            if now - moved > (MAVEN_STALL_S if seen else MAVEN_SILENCE_S) or now - began > MAVEN_TOTAL_S:
                raise Unavailable(f"Maven stalled after {now - began:.0f} s and {seen} files: {maven.log_tail(1)}")
    finally:
        status = maven.stop()
    if status != 0:
        errors = [line for line in log.read_text(errors="replace").splitlines() if "ERROR" in line]
        raise Unavailable(f"Maven failed: {(errors or ['it gave no reason'])[0][:300]}")


@contextmanager
def _kraft(java: str, jars: Path, jvm: Sequence[str], more: str) -> Iterator[tuple[Supervised, int]]:
    home = Path(tempfile.mkdtemp(prefix="pathcast-kafka-"))
    port, controller = embedded.free_port(), embedded.free_port()
    config = home / "server.properties"
    config.write_text((PROPERTIES + more).format(port=port, controller=controller, data=home / "data"))
    run = [java, "-cp", f"{jars}/*", *jvm, "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"]
    storage = ["kafka.tools.StorageTool", "format", "-t", uuid.uuid4().hex[:22], "-c", str(config)]
    formatted = subprocess.run([*run, *storage], capture_output=True, text=True, timeout=60, check=False)
    if formatted.returncode != 0:
        shutil.rmtree(home, ignore_errors=True)
        raise storage_error(formatted.stderr or formatted.stdout)
    server = Supervised([*run, "kafka.Kafka", str(config)], log=home / "server.log", remove=home)
    try:
        yield server, port
    finally:
        server.stop()


def storage_error(said: str) -> Unavailable:
    """Returns the error for the output of Kafka's failed StorageTool: its exception, not the end of its stack trace."""
    lines = said.strip().splitlines() or ["it said nothing"]
    why = next((line for line in lines if "Exception" in line), lines[-1])
    return Unavailable(f"formatting Kafka's storage failed: {why[:500]}")


def _up(server: Supervised, port: int) -> bool:
    deadline = time.monotonic() + START_S
    while server.running and time.monotonic() < deadline:
        if wait_until_up(f"127.0.0.1:{port}", timeout_s=1.0):
            return True
    return False


# All other properties have Kafka's defaults. One node cannot replicate, and to create 50 + 50 internal partitions would
# take a second.
PROPERTIES: Final = """
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
log.dirs={data}
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
"""

POM: Final = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>pathcast</groupId><artifactId>local-broker</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{KAFKA}</version></dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version></dependency>
  </dependencies>
</project>
"""
