"""The recipes of stream/client/README.md, each run as it stands there, with the real client, against a real worker.

Only the address is another one. Records of aborted transactions lie before and after the forecasts: whoever shows
one does not read committed records alone.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import bus_feed
import pytest
from client_rig import forecast
from kafka import KafkaProducer
from missing_servers import skip_unless_required
from worker_process import Worker, assert_all_live

import stream.client
from stream.kafka import admin
from stream.wire import Topics, dumps, loads_forecast

README = Path(stream.client.__file__).with_name("README.md")
ADDRESS = "localhost:9092"
PREFIX = "pathcast"  # as the recipes have it
PINGS = 150
PATIENCE_S = 120.0


class Scene(NamedTuple):
    bootstrap: str
    lines: list[tuple[str, float, float, float]]  # what each recipe has to show: entity, h_s, lat, lon; sorted


@pytest.fixture(scope="module")
def scene(kafka: str, redis_base_url: str, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Forecasts of one worker in the topics that the recipes name, between two that were aborted."""
    topics = Topics.of(PREFIX)
    bus_feed.create_topics(kafka, topics, partitions=2)
    log = tmp_path_factory.mktemp("worker") / "log"
    where = {"bootstrap": kafka, "redis": redis_base_url, "prefix": PREFIX, "group": "recipes", "weights": weights}
    abort(kafka, topics.forecasts)
    with Worker(log, **where, delivery="exactly_once") as worker:
        bus_feed.send(kafka, topics.pings, islice(bus_feed.fleet(PINGS, seed=35), PINGS))
        bus_feed.wait_until_consumed(kafka, "recipes", topics.pings, partial(assert_all_live, worker))
        assert worker.stop() == 0, worker.log()
    abort(kafka, topics.forecasts)
    found = [loads_forecast(record.value or b"") for record in bus_feed.read(kafka, topics.forecasts)]
    said = [one for one in found if not one.entity_id.startswith("aborted")]
    assert len(said) > PINGS / 2
    lines = sorted((one.entity_id, ahead.h_s, ahead.lat, ahead.lon) for one in said for ahead in one.horizons[:1])
    yield Scene(kafka, lines)
    with admin.connected(kafka) as client:  # other tests may want topics of these names
        client.delete_topics([name for name in topics if name in client.list_topics()])


def abort(bootstrap: str, topic: str) -> None:
    producer = KafkaProducer(bootstrap_servers=bootstrap, transactional_id="aborts")
    producer.init_transactions()
    producer.begin_transaction()
    for partition in range(2):
        one = forecast(f"aborted-{partition}")
        producer.send(topic, dumps(one), key=one.entity_id.encode(), partition=partition)
    producer.flush()
    producer.abort_transaction()
    producer.close()


def recipe(section: str, language: str, bootstrap: str) -> list[str]:
    """The blocks of this language in a section of the page, with another address."""
    text = README.read_text()
    found = re.search(rf"^### {section}\n(.*?)(?=^##)", text, re.MULTILINE | re.DOTALL)
    assert found is not None, section
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", found[1], re.MULTILINE | re.DOTALL)
    assert blocks, f"no {language} in {section}"
    return [block.replace(ADDRESS, bootstrap) for block in blocks]


def file_of_page(name: str, bootstrap: str) -> str:
    """A program that the page links to, with another address."""
    path = README.with_name("recipes") / name
    assert f"](recipes/{name})" in README.read_text()
    return path.read_text().replace(ADDRESS, bootstrap)


@contextmanager
def running(command: list[str] | str, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A program that would go on until Ctrl-C, in a folder of its own, whose output is a file there."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PATHCAST_")}
    with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
        shell = isinstance(command, str)
        process = subprocess.Popen(
            ["bash", "-c", f"exec {command}"] if shell else command, cwd=folder, stdout=out, stderr=err, env=env
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def shown(line: str) -> tuple[str, float, float, float]:
    """What a line of any recipe says: entity, h_s, lat, lon. Two of them show whole records."""
    head, _, rest = line.partition(" ")
    if rest.startswith("{"):
        record = json.loads(rest)
        assert record["entity_id"] == head
        ahead = record["horizons"][0]
        return head, ahead["h_s"], ahead["lat"], ahead["lon"]
    h_s, lat, lon = map(float, rest.split())
    return head, h_s, lat, lon


def check(command: list[str] | str, folder: Path, scene: Scene, group: str = "") -> None:
    """The program shows every forecast, and nothing else. Ctrl-C takes it out of its group, if it has one: the next one
    would get nothing until its session expires, 45 s later."""
    deadline = time.monotonic() + PATIENCE_S
    with running(command, folder) as process:
        while True:
            text = (folder / "out").read_text()
            lines = text[: text.rfind("\n") + 1].splitlines()
            if len(lines) >= len(scene.lines) or time.monotonic() > deadline or process.poll() is not None:
                break
            time.sleep(0.05)
        # Whoever shows what was aborted last shows it now; the committed ones alone are not enough to wait for.
        time.sleep(0.5)
        if group:
            with admin.connected(scene.bootstrap) as client:
                assert len(client.describe_groups([group])[group]["members"]) == 1
                process.send_signal(signal.SIGINT)
                process.wait(PATIENCE_S)
                assert not client.describe_groups([group])[group]["members"]
    found = [shown(line) for line in (folder / "out").read_text().splitlines() if line]
    assert sorted(found) == scene.lines, (folder / "err").read_text()[-3_000:]


def needs(*programs: str) -> None:
    for program in programs:
        if shutil.which(program) is None:
            skip_unless_required(f"no {program} on PATH")


def installed(commands: list[str], folder: Path) -> None:
    """Runs what a section says is to be installed. A registry that cannot be reached is no fault of the recipe."""
    for command in commands:
        told = subprocess.run(
            ["bash", "-c", command], cwd=folder, capture_output=True, text=True, timeout=300, check=False
        )
        if told.returncode != 0:
            skip_unless_required(f"{command} failed: {(told.stderr or told.stdout)[-500:]}")


@pytest.mark.promise("the recipes in kcat and Python show every forecast")
def test_kcat(scene: Scene, tmp_path: Path) -> None:
    needs("kcat")
    (command,) = recipe("kcat", "sh", scene.bootstrap)
    check(command.strip(), tmp_path, scene)


@pytest.mark.promise("the recipes in kcat and Python show every forecast")
@pytest.mark.parametrize("section", ["Python", "aiokafka", "kafka-python"])
def test_python(scene: Scene, tmp_path: Path, section: str) -> None:
    (program,) = recipe(section, "python", scene.bootstrap)
    (tmp_path / "subscribe.py").write_text(program)
    check([sys.executable, "subscribe.py"], tmp_path, scene)


def test_node(scene: Scene, tmp_path: Path) -> None:
    needs("node", "npm")
    installed([line for block in recipe("Node", "sh", scene.bootstrap) for line in block.splitlines()], tmp_path)
    (tmp_path / "subscribe.js").write_text(file_of_page("subscribe.js", scene.bootstrap))
    assert "`node subscribe.js`" in README.read_text()
    check("node subscribe.js", tmp_path, scene, group="my-program-in-node")


def test_java(scene: Scene, tmp_path: Path) -> None:
    needs("java", "javac", "mvn")
    installed([line for block in recipe("Java", "sh", scene.bootstrap) for line in block.splitlines()], tmp_path)
    (tmp_path / "Subscribe.java").write_text(file_of_page("Subscribe.java", scene.bootstrap))
    assert "`java -cp 'lib/*' Subscribe.java`" in README.read_text()
    check("java -cp 'lib/*' Subscribe.java", tmp_path, scene, group="my-program-in-java")


def test_the_longer_example_runs(scene: Scene, tmp_path: Path) -> None:
    """The section on `Forecasts` has one more program, which asks for entities that this feed does not have."""
    text = README.read_text()
    (program, *_) = re.findall(r"^```python\n(.*?)^```$", text[text.index("## Forecasts in Python") :], re.M | re.S)
    entity = scene.lines[0][0]
    program = (
        program.replace(ADDRESS, scene.bootstrap)
        .replace('"5004"', f'"{entity}"')
        .replace('since="10m"', 'since="1d"')  # the other recipes came before, and may have taken long
        .replace("timeout_s=30", "timeout_s=10")  # a slow broker is quiet at the beginning, too
    )
    told = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert told.returncode == 0, told.stderr
    count = sum(line[0] == entity for line in scene.lines)
    assert told.stdout.count(f"{entity} will be at ") == min(count, 100)
