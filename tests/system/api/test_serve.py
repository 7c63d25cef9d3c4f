"""`pathcast serve` beside the shared worker, its Kafka and Redis: the commands of its page as they stand, the published
numbers to the bit, and a ping that comes to those who listen."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import aiohttp
import bus_feed
import pytest
from missing_servers import skip_unless_required
from pathcast_process import COMMAND, environment, eventually
from shared_stack import Stack
from worker_process import READY_S, Worker

from stream.config.http_access import SERVE_TOKEN
from stream.wire import Topics

PAGE = Path(bus_feed.SAMPLE).parents[2] / "api" / "README.md"
SECRET = "0123456789abcdef"
PINGS = 300
ENTITY = "5007"


class Scene(NamedTuple):
    base: str
    stack: Stack
    published: dict[str, Any]  # by entity: its last forecast


@pytest.fixture(scope="module")
def scene(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """`pathcast serve` beside a worker that has just answered some pings."""
    stack.send(PINGS)
    published = {}
    for record in bus_feed.read(stack.kafka, stack.topics.forecasts):
        said = json.loads(record.value or b"")
        published[said["entity_id"]] = said
    log, env = tmp_path_factory.mktemp("serve") / "log", environment(**{SERVE_TOKEN: SECRET})
    with Worker(log, program=COMMAND, command=("serve",), environment=env, listen=0, **stack.states) as api:
        api.wait_for("listening at http://", READY_S)
        found = re.search(r"listening at (http://[^,]+),", api.log())
        assert found is not None
        assert eventually(lambda: _status(f"{found[1]}/readyz") == 200), api.log()
        yield Scene(found[1], stack, published)
        assert api.stop() == 0, api.log()
        assert "Traceback" not in api.log()


def _status(url: str) -> int:
    try:
        with urllib.request.urlopen(url) as said:
            return int(said.status)
    except urllib.error.HTTPError as error:
        return error.code


def ask(scene: Scene, path: str) -> Any:
    request = urllib.request.Request(scene.base + path, headers={"Authorization": f"Bearer {SECRET}"})
    with urllib.request.urlopen(request) as said:
        return json.load(said)


def blocks() -> list[str]:
    """The page's commands, but for the one that starts it."""
    return [
        one for one in re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL) if not one.startswith("pathcast")
    ]


@pytest.mark.promise("the HTTP API answers with the published numbers, by the commands of its page")
def test_the_commands_of_the_page_run_as_they_stand(scene: Scene, tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        skip_unless_required("needs curl")
    setting, *commands = (one.replace("http://127.0.0.1:9480", scene.base) for one in blocks())
    assert len(commands) >= 9
    said = []
    for command in commands:
        script = f"set -euo pipefail\n{setting}{command}"
        run = subprocess.run(
            ["bash", "-c", script],
            cwd=tmp_path,
            env=environment(**{SERVE_TOKEN: SECRET}),
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert run.returncode == 0, (command, run.stdout, run.stderr)
        said.append(run.stdout.decode())
    asked, newest, listed, eta, filled, feature, vehicles, events, by_ticket = said
    assert [one["h_s"] for one in json.loads(asked)["horizons"]] == [600.0, 1800.0]
    assert json.loads(newest)["forecast"] == scene.published[ENTITY]
    assert len(json.loads(listed)["entities"]) == 5
    assert json.loads(eta)["travel_low_s"] < json.loads(eta)["travel_high_s"]
    assert [one["filled"] for one in json.loads(filled)["points"]].count(True) == 9
    assert json.loads(feature)["properties"]["filled"].count(True) == 9
    assert json.loads(vehicles)["header"]["gtfs_realtime_version"] == "2.0"
    assert (tmp_path / "trip-updates.pb").read_bytes(), "a header, where no trip is under way"
    for told in (events, by_ticket):
        kinds = re.findall(r"^event: (\w+)$", told, re.MULTILINE)
        assert (kinds[0], kinds[-1]) == ("snapshot", "live")


@pytest.mark.promise("the HTTP API answers with the published numbers, by the commands of its page")
def test_every_entity_has_the_published_numbers_to_the_bit(scene: Scene) -> None:
    def answered() -> dict[str, Any]:
        return {one: ask(scene, f"/v1/entities/{quote(one, safe='')}/forecast") for one in scene.published}

    assert eventually(lambda: all(one["state"]["behind_s"] == 0 for one in answered().values())), "a checkpoint later"
    for entity_id, said in answered().items():
        due = scene.published[entity_id]
        if due["status"] == "stale":
            continue  # its last answer was to a late ping
        for name in ("forecast_id", "anchor", "next", "horizons", "model", "status", "window"):
            assert said[name] == due[name], (entity_id, name)


async def test_a_ping_comes_to_those_who_listen(scene: Scene) -> None:
    headers = {"Authorization": f"Bearer {SECRET}"}
    async with aiohttp.ClientSession(headers=headers) as client, client.ws_connect(f"{scene.base}/v1/ws") as socket:
        while (await socket.receive_json(timeout=60))["type"] != "live":
            pass
        await asyncio.to_thread(scene.stack.send, 3)
        said = [await socket.receive_json(timeout=60) for _ in range(3)]
    assert {one["type"] for one in said} == {"forecast"}


def test_a_signal_ends_it_at_once_while_it_compiles(
    kafka: str, redis_url: str, topic_prefix: str, tmp_path: Path
) -> None:
    """It compiled on for half a minute, until `pathcast up` killed it, and told its user that it did not end well."""
    bus_feed.create_topics(kafka, Topics.of(topic_prefix), partitions=1)
    how = {"bootstrap": kafka, "redis": redis_url, "prefix": topic_prefix, "listen": 0}
    compiles = environment(NUMBA_CACHE_DIR=str(tmp_path / "machine_code"))
    with Worker(tmp_path / "serve.log", program=COMMAND, command=("serve",), environment=compiles, **how) as api:
        api.wait_for("loading weights", READY_S)
        assert api.stop() == -signal.SIGTERM, api.log()
