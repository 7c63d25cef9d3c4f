"""The pages of `pathcast beside guard` and `train refresh`, as processes: when they live, are ready, and hang."""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pathcast_process import COMMAND, environment, eventually, pathcast
from worker_process import Worker

from stream.up.embedded import free_port

# Each is otherwise as it is; only what counts as hanging is shorter, and the first round never ends.
HANGS = {
    "guard": """
import time
from stream.commands.models import guarding
guarding.HANG_S = 0.5
guarding.pending = lambda *given: time.sleep(10_000)
""",
    "refresh": """
from train.refresh.live import serving
serving.HANG_S = 0.5
HANGS = "import time; champion.publish_init = lambda *given: time.sleep(10_000); "
serving.PROGRAM = f"from train.refresh.live import champion; {HANGS}{serving.PROGRAM}"
""",
}
MAIN = "from stream.commands.main import main\nmain()\n"
START_S = 600.0  # a bound on waiting: a refresh lets everybody else go first, and may have to compile the kernels


class Watched:
    """A process, and what its pages say."""

    def __init__(self, process: Worker, port: int) -> None:
        self.process, self._base = process, f"http://127.0.0.1:{port}"

    def page(self, path: str) -> tuple[int, str]:
        """Its status and its text; 0 while nobody listens."""
        try:
            with urllib.request.urlopen(self._base + path, timeout=30) as answer:
                return int(answer.status), answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError:
            assert self.process.running(), self.process.log()
            return 0, ""

    def says(self, path: str, status: int) -> bool:
        return self.page(path)[0] == status

    def reasons(self, path: str) -> list[str]:
        found: list[str] = json.loads(self.page(path)[1])["reasons"]
        return found

    def metric(self, name: str) -> float:
        lines = self.page("/metrics")[1].splitlines()
        found = [line.rsplit(" ", 1)[1] for line in lines if line.startswith(f"{name} ")]
        return float(found[0]) if found else 0.0


class Scene:
    def __init__(self, kafka: str, prefix: str, folder: Path) -> None:
        self.kafka, self.prefix, self.folder = kafka, prefix, folder

    @contextmanager
    def running(self, name: str, patch: str = "", **other: str) -> Iterator[Watched]:
        folder, port = self.folder, free_port()
        commands = {
            "guard": ["beside", "guard", "--guard-every", "1s", "--registry", str(folder / "registry")],
            "refresh": [
                "train",
                "refresh",
                "--every",
                "24h",
                "--registry",
                str(folder / "registry"),
                "--dir",
                str(folder / "r"),
            ],
        }
        ours = environment(**{"PATHCAST_BOOTSTRAP": self.kafka, "PATHCAST_PREFIX": self.prefix, **other})
        how = {"command": [*commands[name], "--metrics", str(port)], "environment": ours}
        program = [sys.executable, "-c", patch + MAIN] if patch else COMMAND
        with Worker(folder / f"{name}.log", program=program, **how) as process:
            yield Watched(process, port)


@pytest.fixture
def scene(kafka: str, topic_prefix: str, tmp_path: Path) -> Scene:
    where = ("--bootstrap", kafka, "--prefix", topic_prefix)
    made = pathcast("dev", "topics", "--create", "--partitions", "2", "--replication", "1", *where)
    assert made.returncode == 0, made.stderr
    return Scene(kafka, topic_prefix, tmp_path)


def test_a_guard_that_looks_is_ready_and_its_looks_are_counted(scene: Scene) -> None:
    with scene.running("guard") as guard:
        done = 'pathcast_guard_rounds_total{outcome="done"}'
        assert eventually(lambda: guard.metric(done) >= 2, START_S), guard.process.log()
        assert guard.says("/healthz", 200)
        assert guard.says("/readyz", 200)
        assert guard.metric("pathcast_guard_round_interval_seconds") == 1
        assert guard.metric("pathcast_ready") == 1
        assert guard.process.stop() == 0, guard.process.log()


def test_a_guard_without_kafka_is_not_ready_and_not_dead(scene: Scene) -> None:
    with scene.running("guard", PATHCAST_BOOTSTRAP=f"127.0.0.1:{free_port()}") as guard:
        failed = 'pathcast_guard_rounds_total{outcome="failed"}'
        assert eventually(lambda: guard.metric(failed) >= 1, START_S), guard.process.log()
        assert guard.reasons("/readyz") == ["nothing can be judged now, as the log says"]
        assert guard.says("/healthz", 200)
        assert guard.metric("pathcast_guard_last_round_ok") == 0


def test_a_refresh_whose_round_fails_lives_on_and_counts_it(scene: Scene) -> None:
    """The topic has no ping."""
    with scene.running("refresh") as refresh:
        failed = 'pathcast_refresh_rounds_total{outcome="failed"}'
        assert eventually(lambda: refresh.metric(failed) == 1, START_S), refresh.process.log()
        assert "holds no ping that is new enough" in refresh.process.log()
        assert refresh.says("/healthz", 200)
        assert refresh.says("/readyz", 200)
        assert refresh.metric("pathcast_refresh_round_interval_seconds") == 86_400
        assert refresh.process.stop() == 0, refresh.process.log()


def test_a_refresh_without_kafka_is_not_ready_and_not_dead(scene: Scene) -> None:
    with scene.running("refresh", PATHCAST_BOOTSTRAP=f"127.0.0.1:{free_port()}") as refresh:
        assert eventually(lambda: refresh.says("/readyz", 503), START_S), refresh.process.log()
        assert refresh.reasons("/readyz") == ["Kafka or the registry cannot be reached"]
        assert refresh.says("/healthz", 200)


@pytest.mark.parametrize("name", ["guard", "refresh"])
def test_their_logs_tell_the_time_as_those_of_workers_do(name: str, scene: Scene) -> None:
    with scene.running(name, TZ="Asia/Kolkata") as process:
        assert eventually(lambda: process.says("/healthz", 200), START_S), process.process.log()
        said = process.process.log().splitlines()[0]
    said_at = datetime.strptime(said.split(" ")[0], "%Y-%m-%dT%H:%M:%S.%f%z")
    assert abs(datetime.now(UTC) - said_at).total_seconds() < START_S, said


@pytest.mark.parametrize("name", ["guard", "refresh"])
def test_one_that_hangs_is_told_to_be_dead(name: str, scene: Scene) -> None:
    with scene.running(name, HANGS[name]) as process:
        assert eventually(lambda: process.says("/healthz", 503), START_S), process.process.log()
        (reason,) = process.reasons("/healthz")
        assert reason.startswith(f"nothing was heard of {name} for ")
