"""A broker for the tests. Tries four sources in order and says why each earlier one fell through; never hangs.

1. PATHCAST_TEST_KAFKA=host:port: a broker that somebody runs already.
2. Docker, through testcontainers, if a daemon answers within DOCKER_S.
3. Apache Kafka in KRaft mode on this machine's Java, its jars resolved once by Maven into the user's cache.
4. The embedded broker (stream.up.embedded).

PATHCAST_REQUIRE_KAFKA=apache refuses everything that is not Apache Kafka, so that CI cannot quietly test less.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

from stream.bench.harness import servers
from stream.bench.harness.servers import KAFKA, PROPERTIES, START_S, Say, Unavailable
from stream.kafka.admin import wait_until_up
from stream.up import embedded

DOCKER_IMAGE = f"apache/kafka:{KAFKA}"
DOCKER_S = 2.0


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
    java = servers.java_command()
    with servers.apache_kafka(say) as bootstrap:
        yield Broker(bootstrap, f"Apache Kafka {KAFKA}, KRaft, on {java}", apache=True)


@contextmanager
def _embedded(say: Say) -> Iterator[Broker]:
    with ExitStack() as stack:
        try:
            bootstrap = stack.enter_context(embedded.broker())
        except RuntimeError as error:
            raise Unavailable(str(error)) from error
        yield Broker(bootstrap, embedded.names()[0], apache=False)
