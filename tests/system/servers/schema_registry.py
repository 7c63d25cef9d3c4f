"""A real schema registry for the tests: Apicurio Registry on this machine's Java, in memory. Tests import this; it
tests nothing itself.

Maven gets its distribution, which is unpacked once into the user's cache. 3.0.9 is the newest that runs on Java 17.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

from stream.bench.harness.servers import Unavailable, java_command
from stream.processes.child import Supervised
from stream.up.embedded import free_port

VERSION = "3.0.9"
ARTIFACT = f"io.apicurio:apicurio-registry-app:{VERSION}:tar.gz:all"
# Version 2.8 of the plugin, and not `unpack`: newer ones want the parent of the artifact, which not every release has.
GET = "org.apache.maven.plugins:maven-dependency-plugin:2.8:get"
MAVEN_S = 600.0  # a bound on waiting: 109 MB have to come
START_S = 240.0  # a bound, too: 8 s on an idle machine
JVM = ("-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")


@contextmanager
def running(say: Callable[[str], None], settings: Mapping[str, str] = MappingProxyType({})) -> Iterator[str]:
    """The URL of the registry's Confluent-compatible API. `settings` are its variables. Raises Unavailable."""
    java, home = java_command(), _distribution(say)
    port = free_port()
    where = (f"-Dquarkus.http.port={port}", "-Dquarkus.http.host=127.0.0.1", "-Dquarkus.log.level=WARN")
    log = Path(tempfile.mkdtemp(prefix="pathcast-registry-"))
    jar = home / f"apicurio-registry-app-{VERSION}-runner.jar"
    command, env = [java, *JVM, *where, "-jar", str(jar)], {**os.environ, **settings}
    server = Supervised(command, log=log / "log", remove=log, env=env)
    url = f"http://127.0.0.1:{port}/apis/ccompat/v7"
    try:
        if not _up(server, url):
            raise Unavailable(f"Apicurio Registry did not come up within {START_S:.0f} s: {server.log_tail(3)}")
        say(f"schema registry: Apicurio Registry {VERSION} at {url}")
        yield url
    finally:
        server.stop()


def _distribution(say: Callable[[str], None]) -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pathcast"
    home = cache / f"apicurio-registry-{VERSION}"
    if home.is_dir():
        return home
    if shutil.which("mvn") is None:
        raise Unavailable("no mvn on PATH to get Apicurio Registry")
    say(f"schema registry: getting Apicurio Registry {VERSION} with Maven (109 MB, once per machine)")
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        arrived = Path(scratch) / "unpacked"
        command = ["mvn", "-B", "-q", GET, f"-Dartifact={ARTIFACT}", "-Dtransitive=false"]
        done = subprocess.run(
            command, cwd=scratch, capture_output=True, text=True, timeout=MAVEN_S, check=False, stdin=subprocess.DEVNULL
        )
        if done.returncode:
            errors = [line for line in done.stdout.splitlines() if "ERROR" in line]
            raise Unavailable(f"Maven failed: {(errors or ['it gave no reason'])[0][:300]}")
        archive = Path.home() / f".m2/repository/io/apicurio/apicurio-registry-app/{VERSION}"
        try:
            with tarfile.open(archive / f"apicurio-registry-app-{VERSION}-all.tar.gz") as packed:
                packed.extractall(arrived, filter="data")
        except OSError as error:
            raise Unavailable(f"Maven's own repository has no Apicurio Registry: {error}") from error
        try:
            arrived.rename(home)  # the folder appears whole or not at all
        except OSError:
            if not home.is_dir():  # if it exists, another run was faster
                raise
    return home


def _up(server: Supervised, url: str) -> bool:
    deadline = time.monotonic() + START_S
    while server.running and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{url}/subjects", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            time.sleep(0.2)
    return False
