"""A real Prometheus (Debian's package `prometheus`) with the project's own configuration and alerts, of which an hour
is a minute here. Tests import this; it tests nothing itself.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from pathcast_process import eventually

from stream.processes.child import Supervised
from stream.up.embedded import free_port

DEPLOY = Path(__file__).parents[3] / "deploy"
HASTE = 60  # every duration of a rule is divided by it
FEWER = 100  # and every number of 1,000 records or more by this
SCRAPE_S = 2  # a process that is slow on a busy machine has as long to answer
PATIENCE_S = 240.0  # a bound on waiting, not a claim about speed
ANSWER_S = 30.0
UNITS_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


class Unavailable(Exception):
    """There is no Prometheus here; the message gives the reason."""


def hastened(rules: dict[str, Any]) -> dict[str, Any]:
    """The rules with `for`, ranges and offsets divided by HASTE, and thresholds of 1,000 and more by FEWER. What a rule
    looks at, and how, stays as it is.
    """
    for rule in (rule for group in rules["groups"] for rule in group["rules"]):
        if "for" in rule:
            rule["for"] = _sooner(rule["for"])
        expr = re.sub(r"(?<=\[)\d+[smhd](?=\])|(?<=offset )\d+[smhd]\b", lambda one: _sooner(one[0]), rule["expr"])
        rule["expr"] = re.sub(r"(?<=> )\d{4,}\b", lambda one: str(int(one[0]) // FEWER), expr)
    return rules


def _sooner(duration: str) -> str:
    return f"{int(duration[:-1]) * UNITS_S[duration[-1]] * 1_000 // HASTE}ms"


class Prometheus:
    """A running one."""

    def __init__(self, url: str, home: Path, server: Supervised) -> None:
        self.url = url
        self._home = home
        self._server = server
        self._targets: dict[str, dict[str, str]] = {}  # labels, by address

    def watch(self, process: str, base: str, **labels: str) -> str:
        """Scrapes a process at this URL from now on, until there are samples; its `instance`. The labels are more of
        its series; `__scrape_interval__` and `__scrape_timeout__` are its own."""
        instance = base.removeprefix("http://")
        self._targets[instance] = {"process": process, **labels}
        self._write()
        self.wait(f"{process} is scraped", lambda: bool(self.query(f'up{{instance="{instance}"}} == 1')))
        return instance

    def forget(self, instance: str) -> None:
        del self._targets[instance]
        self._write()

    def _write(self) -> None:
        groups = [{"targets": [address], "labels": labels} for address, labels in self._targets.items()]
        (self._home / "new").write_text(yaml.dump(groups))
        (self._home / "new").rename(self._home / "targets.yaml")

    def wait(self, what: str, holds: Any) -> None:
        assert eventually(holds, PATIENCE_S), f"not in {PATIENCE_S:g} s: {what}; alerts: {self.alerts()}"

    def query(self, expr: str) -> list[dict[str, Any]]:
        """The series of an instant query. Raises AssertionError if Prometheus refuses it."""
        found: list[dict[str, Any]] = self._get("query", query=expr)["result"]
        return found

    def known(self) -> set[str]:
        """The names of all series."""
        return set(self._get("label/__name__/values"))

    def described(self) -> set[str]:
        """The names of which a process has said what they are, also without a series."""
        return set(self._get("metadata"))

    def alerts(self, state: str | None = None) -> list[dict[str, str]]:
        """The labels of alerts, pending or firing."""
        found = self._get("alerts")["alerts"]
        return [{**one["labels"], "state": one["state"]} for one in found if state in (None, one["state"])]

    def is_firing(self, name: str, **labels: str) -> bool:
        return any({"alertname": name, **labels}.items() <= one.items() for one in self.alerts("firing"))

    def wait_until_fires(self, name: str, **labels: str) -> None:
        self.wait(f"{name} fires", lambda: self.is_firing(name, **labels))

    def wait_until_over(self, name: str, **labels: str) -> None:
        """Until it does not fire any more."""
        self.wait(f"{name} ends", lambda: not self.is_firing(name, **labels))

    def _get(self, path: str, **parameters: str) -> Any:
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=ANSWER_S) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(f"{parameters}: {error.read().decode()}") from error


@contextmanager
def running() -> Iterator[Prometheus]:
    """Raises Unavailable."""
    binary = shutil.which("prometheus")
    if binary is None:
        raise Unavailable("no prometheus on PATH (Debian's package prometheus has it)")
    home = Path(tempfile.mkdtemp(prefix="pathcast-prometheus-"))
    _configure(home)
    port = free_port()
    where = [f"--config.file={home}/prometheus.yaml", f"--storage.tsdb.path={home}/data", "--log.level=warn"]
    command = [binary, *where, f"--web.listen-address=127.0.0.1:{port}"]
    server = Supervised(command, log=home / "log", remove=home)
    try:
        found = Prometheus(f"http://127.0.0.1:{port}", home, server)
        if not eventually(lambda: not server.running or _is_up(found), PATIENCE_S) or not server.running:
            raise Unavailable(f"Prometheus did not come up: {server.log_tail(5)}")
        yield found
    finally:
        server.stop()


def _configure(home: Path) -> None:
    """Its files: those of deploy/, sped up, and without the name that only compose knows."""
    config = yaml.safe_load((DEPLOY / "prometheus.yaml").read_text())
    every = f"{SCRAPE_S}s"
    config["global"] = {"scrape_interval": every, "scrape_timeout": every, "evaluation_interval": "1s"}
    (job,) = config["scrape_configs"]
    del job["dns_sd_configs"]
    job["file_sd_configs"][0]["refresh_interval"] = "1s"
    (home / "prometheus.yaml").write_text(yaml.dump(config))
    (home / "alerts").mkdir()
    rules = yaml.safe_load((DEPLOY / "alerts" / "pathcast.rules.yaml").read_text())
    (home / "alerts" / "pathcast.rules.yaml").write_text(yaml.dump(hastened(rules)))


def _is_up(prometheus: Prometheus) -> bool:
    try:
        with urllib.request.urlopen(f"{prometheus.url}/-/ready", timeout=ANSWER_S) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
