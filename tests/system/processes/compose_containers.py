"""deploy/compose.yaml as containers of a Docker engine. Tests import this; it tests nothing.

What differs from the file: the published ports are free ones of this machine, and what is named relative to the file is
named by its whole path, so that the copy may lie elsewhere.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import yaml
from compose_file import DEPLOY, whole

from stream.bench.harness.servers import Unavailable
from stream.up.embedded import free_port

BROKER: Final = "9092"  # where the file publishes the broker
ASK_S: Final = 30.0  # a bound on what only asks the engine
RUN_S: Final = 3_600.0  # a bound on what builds, pulls or starts


def compose_command() -> list[str]:
    """Returns the command of Docker's compose. Raises Unavailable if there is none, or no engine answers."""
    if shutil.which("docker") is None:
        raise Unavailable("no docker on PATH")
    if error := _fails(["docker", "version"]):
        raise Unavailable(f"no Docker engine: {error}")
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]) is not None and not _fails([*command, "version"]):
            return command
    raise Unavailable("neither `docker compose` nor docker-compose is installed")


def _fails(command: list[str]) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=ASK_S, check=False)
    except subprocess.TimeoutExpired:
        return f"{command[0]} did not answer within {ASK_S:.0f} s"
    return None if done.returncode == 0 else (done.stderr.strip().splitlines() or ["it gave no reason"])[-1]


class Containers:
    """All services of the file, of every profile, but those in `without`."""

    def __init__(self, command: list[str], project: str, folder: Path, without: Sequence[str] = ()) -> None:
        self.ports: dict[str, int] = {}  # by the file's own; the broker's is BROKER
        said = whole()
        self.services = {name: self._here(how) for name, how in said["services"].items() if name not in without}
        file = folder / "compose.yaml"
        file.write_text(yaml.safe_dump({**said, "services": self.services}))
        self._command = [*command, "-p", project, "-f", str(file), "--profile", "all"]

    def _here(self, how: dict[str, Any]) -> dict[str, Any]:
        how = dict(how)
        if "build" in how:
            how["build"] = {**how["build"], "context": str(DEPLOY.parent)}
        published = [one.split(":") for one in how.get("ports", ())]
        how["ports"] = [f"{host}:{self._port(port)}:{inside}" for host, port, inside in published]
        how["volumes"] = [f"{DEPLOY}{one[1:]}" if one.startswith("./") else one for one in how.get("volumes", ())]
        variables = dict(how.get("environment", {}))
        if listeners := variables.get("KAFKA_ADVERTISED_LISTENERS"):
            variables["KAFKA_ADVERTISED_LISTENERS"] = listeners.replace(
                f"localhost:{BROKER}", f"localhost:{self._port(BROKER)}"
            )
        return {**how, "environment": variables}

    def _port(self, published: str) -> int:
        return self.ports.setdefault(published, free_port())

    @contextmanager
    def up(self, environment: dict[str, str]) -> Iterator[None]:
        """Builds the images that are missing, and starts all. At the end nothing of it is left but the images."""
        self._environment = environment
        try:
            self.run("up", "--detach")
            yield
        finally:
            self.run("down", "--volumes", "--timeout", "30")

    def run(self, *words: str) -> str:
        """Returns what a command of compose prints. Raises AssertionError if it fails."""
        done = subprocess.run(
            [*self._command, *words], capture_output=True, text=True, timeout=RUN_S, check=False, env=self._environment
        )
        assert done.returncode == 0, f"{' '.join(words)}: {done.stdout[-3_000:]}\n{done.stderr[-3_000:]}"
        return done.stdout

    def address(self, published: str) -> str:
        """Returns where a port is that the file publishes."""
        return f"127.0.0.1:{self.ports[published]}"

    def state(self, service: str) -> dict[str, Any]:
        """Returns what the engine says of a service's container: `State`, `RestartCount`, ..."""
        (container,) = self.run("ps", "--all", "--quiet", service).split()
        said = subprocess.run(
            ["docker", "inspect", container], capture_output=True, timeout=ASK_S, check=True, env=self._environment
        )
        (found,) = json.loads(said.stdout)
        return dict(found)

    def health(self, service: str) -> str:
        return str(self.state(service)["State"].get("Health", {}).get("Status"))

    def python(self, service: str, program: str) -> str:
        """Runs a program in a service's container, as its user, and returns what it prints."""
        return self.run("exec", "-T", service, "python", "-c", program)
