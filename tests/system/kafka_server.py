"""A broker for the tests. Tries four sources in order and says why each earlier one fell through; never hangs.

1. PATHCAST_TEST_KAFKA=host:port: a broker that somebody runs already.
2. Docker, through testcontainers, if a daemon answers within DOCKER_S.
3. Apache Kafka in KRaft mode on this machine's Java, its jars resolved once by Maven into the user's cache.
4. The embedded broker (stream.embedded).

PATHCAST_REQUIRE_KAFKA=apache refuses everything that is not Apache Kafka, so that CI cannot quietly test less.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from stream import embedded
from stream.admin import wait_until_up
from stream.supervisor import Supervised

KAFKA = "4.1.1"  # the newest of 4.1; runs on Java 17, which Debian 12 has
DOCKER_IMAGE = f"apache/kafka:{KAFKA}"
JAVA_AT_LEAST = 17
DOCKER_S = 2.0
START_S = 60.0  # 4 s on two idle cores
MAVEN_SILENCE_S = 20.0  # without a single answer from the repository: we are offline
MAVEN_STALL_S = 90.0  # since the last file that arrived: the largest jar has 10 MB
MAVEN_TOTAL_S = 600.0

Say = Callable[[str], None]


class Unavailable(Exception):
    """This source has no broker here; the text says why."""


class Broker(NamedTuple):
    bootstrap: str
    what: str  # for people
    apache: bool


@contextmanager
def running(say: Say) -> Iterator[Broker]:
    """The first broker of the four that works. Raises Unavailable if PATHCAST_REQUIRE_KAFKA refuses it."""
    with ExitStack() as stack:
        for source in (_given, _docker, _apache, _embedded):
            try:
                broker = stack.enter_context(source(say))
                break
            except Exception as reason:  # whatever Docker, Java or Maven come up with: the next source may still work
                say(f"kafka: not {source.__name__.lstrip('_')}: {' '.join(str(reason).split()) or repr(reason)}")
        else:
            raise Unavailable("no Kafka broker of any kind could be started; the reasons are above")
        say(f"kafka: {broker.what} at {broker.bootstrap}")
        required = os.environ.get("PATHCAST_REQUIRE_KAFKA", "")
        if required not in ("", "apache"):
            raise Unavailable(f"PATHCAST_REQUIRE_KAFKA={required} is unknown; the only value is 'apache'")
        if required and not broker.apache:
            raise Unavailable(f"PATHCAST_REQUIRE_KAFKA=apache, but only this was found: {broker.what}")
        yield broker


@contextmanager
def _given(say: Say) -> Iterator[Broker]:
    bootstrap = os.environ.get("PATHCAST_TEST_KAFKA", "")
    if not bootstrap:
        raise Unavailable("PATHCAST_TEST_KAFKA is not set")
    if not wait_until_up(bootstrap, timeout_s=5.0):
        raise Unavailable(f"PATHCAST_TEST_KAFKA={bootstrap} does not answer")
    # What answers there is the caller's word: a wire protocol does not tell Apache Kafka from its imitations.
    yield Broker(bootstrap, "the broker of PATHCAST_TEST_KAFKA", apache=True)


@contextmanager
def _docker(say: Say) -> Iterator[Broker]:
    _ask_docker_daemon()
    try:
        from testcontainers.core.container import DockerContainer
    except ImportError as error:
        raise Unavailable(f"testcontainers is not installed ({error})") from error
    say(f"kafka: starting {DOCKER_IMAGE} in Docker (its first download takes a while)")
    # Not testcontainers' own KafkaContainer: it runs scripts that only Confluent's images have.
    port = embedded.free_port()
    container = DockerContainer(DOCKER_IMAGE).with_bind_ports(9092, port).with_envs(**_docker_settings(port))
    try:
        container.start()
        if not wait_until_up(f"127.0.0.1:{port}", timeout_s=START_S):
            raise Unavailable(f"the container did not answer within {START_S:.0f} s")
        yield Broker(f"127.0.0.1:{port}", f"Apache Kafka {KAFKA} in Docker", apache=True)
    finally:
        container.stop()


def _docker_settings(port: int) -> dict[str, str]:
    """PROPERTIES as the image takes them: KAFKA_ and the name in capitals, underscores for dots."""
    lines = PROPERTIES.format(port=9092, controller=9093, data="/tmp/kafka").split()
    settings = dict(line.split("=", 1) for line in lines)
    settings["listeners"] = "PLAINTEXT://0.0.0.0:9092,CONTROLLER://127.0.0.1:9093"
    settings["advertised.listeners"] = f"PLAINTEXT://127.0.0.1:{port}"
    settings["listener.security.protocol.map"] = "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT"
    return {"KAFKA_" + name.upper().replace(".", "_"): value for name, value in settings.items()}


def _ask_docker_daemon() -> None:
    if shutil.which("docker") is None:
        raise Unavailable("no docker command on PATH")
    try:
        asked = subprocess.run(["docker", "version"], capture_output=True, text=True, timeout=DOCKER_S, check=False)
    except subprocess.TimeoutExpired:
        raise Unavailable(f"no docker daemon answered within {DOCKER_S:.0f} s") from None
    if asked.returncode != 0:
        raise Unavailable((asked.stderr.strip().splitlines() or ["docker version failed"])[-1])


@contextmanager
def _apache(say: Say) -> Iterator[Broker]:
    java = _java()
    jars = _jars(say)
    with ExitStack() as stack:
        server, port = stack.enter_context(_kraft(java, jars))
        if not _up(server, port):
            raise Unavailable(f"Apache Kafka did not come up within {START_S:.0f} s: {server.log_tail(3)}")
        yield Broker(f"127.0.0.1:{port}", f"Apache Kafka {KAFKA}, KRaft, on {java}", apache=True)


def _java() -> str:
    home = os.environ.get("JAVA_HOME")
    java = f"{home}/bin/java" if home else shutil.which("java")
    if java is None or not Path(java).exists():
        raise Unavailable("no java on PATH and no JAVA_HOME")
    told = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=10, check=False).stderr
    match = re.search(r'version "(?:1\.)?(\d+)', told)
    if match is None or int(match[1]) < JAVA_AT_LEAST:
        raise Unavailable(
            f"{java} is not Java {JAVA_AT_LEAST} or newer: {(told.splitlines() or ['it said nothing'])[0]}"
        )
    return java


def _jars(say: Say) -> Path:
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
            arrived.rename(jars)  # whole or not at all
        except OSError:
            if not jars.is_dir():  # else another run was faster
                raise
    return jars


def _maven(command: list[str], log: Path, say: Say) -> None:
    say(f"kafka: resolving the jars of Apache Kafka {KAFKA} with Maven (40 MB, once per machine)")
    maven = Supervised(command, log=log)
    began = moved = told = time.monotonic()
    seen = 0
    try:
        while maven.running:
            time.sleep(0.1)
            now = time.monotonic()
            files = len(re.findall(r"\] Downloaded from ", log.read_text(errors="replace")))
            if files > seen:
                seen, moved = files, now
            if now - told > 5.0:
                say(f"kafka: {seen} files have arrived")
                told = now
            if now - moved > (MAVEN_STALL_S if seen else MAVEN_SILENCE_S) or now - began > MAVEN_TOTAL_S:
                raise Unavailable(f"Maven stalled after {now - began:.0f} s and {seen} files: {maven.log_tail(1)}")
    finally:
        status = maven.stop()
    if status != 0:
        errors = [line for line in log.read_text(errors="replace").splitlines() if "ERROR" in line]
        raise Unavailable(f"Maven failed: {(errors or ['it gave no reason'])[0][:300]}")


@contextmanager
def _kraft(java: str, jars: Path) -> Iterator[tuple[Supervised, int]]:
    home = Path(tempfile.mkdtemp(prefix="pathcast-kafka-"))
    port, controller = embedded.free_port(), embedded.free_port()
    config = home / "server.properties"
    config.write_text(PROPERTIES.format(port=port, controller=controller, data=home / "data"))
    run = [java, "-cp", f"{jars}/*", *JVM]
    storage = ["kafka.tools.StorageTool", "format", "-t", uuid.uuid4().hex[:22], "-c", str(config)]
    formatted = subprocess.run([*run, *storage], capture_output=True, text=True, timeout=60, check=False)
    if formatted.returncode != 0:
        shutil.rmtree(home, ignore_errors=True)
        raise Unavailable(f"formatting Kafka's storage failed: {(formatted.stderr or formatted.stdout).strip()[-300:]}")
    server = Supervised([*run, "kafka.Kafka", str(config)], log=home / "server.log", remove=home)
    try:
        yield server, port
    finally:
        server.stop()


def _up(server: Supervised, port: int) -> bool:
    deadline = time.monotonic() + START_S
    while server.running and time.monotonic() < deadline:
        if wait_until_up(f"127.0.0.1:{port}", timeout_s=1.0):
            return True
    return False


@contextmanager
def _embedded(say: Say) -> Iterator[Broker]:
    with ExitStack() as stack:
        try:
            bootstrap = stack.enter_context(embedded.broker())
        except RuntimeError as error:
            raise Unavailable(str(error)) from error
        yield Broker(bootstrap, embedded.names()[0], apache=False)


# A small heap, and only the first compiler: the tests want a broker that is up soon, not one that peaks after minutes.
JVM = [
    "-Xms128m",
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
]

# Everything else as Kafka ships it. One node cannot replicate, and 50 + 50 internal partitions take a second to make.
PROPERTIES = """
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

POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>pathcast</groupId><artifactId>test-broker</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{KAFKA}</version></dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version></dependency>
  </dependencies>
</project>
"""
