"""The services of deploy/compose.yaml, and each as a process of this machine. Tests import this; it tests nothing.

What differs from a container: Kafka and Redis are those of the tests, folders of volumes lie in a folder of the test,
and each process has ports of its own, as all share one machine.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import typer
import yaml
from pathcast_process import COMMAND, environment
from worker_process import Worker

from stream.commands.main import build
from stream.up.embedded import free_port

DEPLOY: Final = Path(__file__).parents[3] / "deploy"
HEALTH_S: Final = 30.0  # a bound on one check
SCHEMAS: Final = "http://schema-registry:8080/apis/ccompat/v7"
_SERVED = re.compile(r"\b(?:0\.0\.0\.0|127\.0\.0\.1):(\d+)\b")


def whole() -> dict[str, Any]:
    """The file, with what its anchors stand for."""
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return found


def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = whole()["services"]
    return found


def ours() -> dict[str, dict[str, Any]]:
    """Those that run a command of pathcast."""
    return {name: one for name, one in services().items() if str(one["image"]).startswith("pathcast:")}


def absent(command: list[str]) -> str | None:
    """Returns the first word that names no command or option of this version; None if all are known."""
    at, words = typer.main.get_command(build()), list(command)
    while subcommands := getattr(at, "commands", None):
        word = words.pop(0)
        if word not in subcommands:
            return f"pathcast {' '.join(command[: len(command) - len(words)])}"
        at = subcommands[word]
    known = {name for parameter in at.params for name in (*parameter.opts, *parameter.secondary_opts)}
    return next((one for word in words if word.startswith("--") and (one := word.partition("=")[0]) not in known), None)


class Machine:
    """Where all services run: the servers, a prefix for topics and groups, and a folder for volumes and logs."""

    def __init__(self, folder: Path, kafka: str, redis_url: str, prefix: str, schemas: str = "") -> None:
        self.folder, self.kafka, self.redis_url, self.prefix = folder, kafka, redis_url, prefix
        self.schemas = schemas  # URL of the registry of schemas
        for volume in ("archive", "atlases", "refresh", "registry"):  # as deploy/Dockerfile makes them
            (folder / volume).mkdir()


class Service:
    """One service as a process."""

    def __init__(self, name: str, how: Mapping[str, Any], machine: Machine, **given: str) -> None:
        """`given` are variables of the caller, for those that the file takes from him."""
        self.name, self._how, self._machine, self._given = name, how, machine, given
        self._ports: dict[str, int] = {}

    def here(self, text: str) -> str:
        """Returns the text with the places of this machine."""
        text = _SERVED.sub(lambda found: f"127.0.0.1:{self.port(found[1])}", text)
        text = text.replace("kafka:9093", self._machine.kafka).replace("redis://redis:6379/0", self._machine.redis_url)
        text = text.replace(SCHEMAS, self._machine.schemas)
        return text.replace("/var/lib/pathcast", str(self._machine.folder))

    def port(self, inside: str) -> int:
        """Returns the port of this machine for one of the container."""
        if inside not in self._ports:
            self._ports[inside] = free_port()
        return self._ports[inside]

    @cached_property
    def environment(self) -> dict[str, str]:
        said = {name: self._given.get(name) if value is None else str(value) for name, value in self._variables.items()}
        # Compiled kernels and temporary files stay where the tests have theirs.
        here = {name: self.here(value) for name, value in said.items() if value is not None}
        here = {name: value for name, value in here.items() if name not in ("NUMBA_CACHE_DIR", "TMPDIR")}
        prefix = self._machine.prefix
        return environment(**{**here, "PATHCAST_PREFIX": prefix, "PATHCAST_GROUP": prefix})

    @property
    def _variables(self) -> Mapping[str, Any]:
        variables: Mapping[str, Any] = self._how.get("environment", {})
        return variables

    @property
    def command(self) -> list[str]:
        return [self.here(word) for word in self._how["command"]]

    def start(self) -> Worker:
        log = self._machine.folder / f"{self.name}.log"
        return Worker(log, program=COMMAND, command=self.command, environment=self.environment)

    def healthy(self) -> bool:
        """Runs the container's own health check."""
        kind, program, *rest = self._how["healthcheck"]["test"]
        assert (kind, program) == ("CMD", "python")
        command = [sys.executable, *map(self.here, rest)]
        return subprocess.run(command, capture_output=True, timeout=HEALTH_S, check=False).returncode == 0
