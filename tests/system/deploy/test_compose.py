"""deploy/compose.yaml without Docker: the command of each service runs as a process, against a real Kafka and Redis."""

from __future__ import annotations

import json
import tomllib
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import bus_feed
import compose_file
import pytest
import schema_registry
import yaml
from compose_file import DEPLOY, Machine, Service, absent
from missing_servers import skip_unless_required
from pathcast_process import eventually, pathcast
from worker_process import Worker, assert_all_live

from stream.bench.harness.servers import Unavailable
from stream.services.avro.cli import avro_topic
from stream.wire import Topics, loads_forecast

OURS = compose_file.ours()
WORKERS = ("worker-1", "worker-2")
TOKEN = "a-token-of-a-test-only"
PINGS = 400
START_S = 600.0  # a bound on waiting: ten processes start at once, and the kernels may have to be compiled meanwhile
VAN = {"ident": "van-7", "position.timestamp": 1_700_000_000, "position.latitude": 30.29, "position.longitude": -97.74}


@pytest.mark.parametrize("name", sorted(OURS))
def test_pathcast_knows_the_command_and_its_options(name: str) -> None:
    if name == "map" and absent(["map"]) is not None:
        pytest.skip("this version of pathcast has no map yet")
    assert absent(OURS[name]["command"]) is None


@pytest.fixture
def schemas(apache_kafka: str, say: Callable[[str], None]) -> Iterator[str]:
    """The registry of schemas as compose sets it up, which keeps them in Kafka."""
    variables = compose_file.services()["schema-registry"]["environment"]
    settings = {name: value.replace("kafka:9093", apache_kafka) for name, value in variables.items()}
    try:
        with schema_registry.running(say, settings) as url:
            yield url
    except Unavailable as reason:
        skip_unless_required(reason)


def test_all_services_become_healthy_and_a_forecast_comes_out(
    apache_kafka: str, redis_url: str, topic_prefix: str, tmp_path: Path, schemas: str
) -> None:
    topics, machine = Topics.of(topic_prefix), Machine(tmp_path, apache_kafka, redis_url, topic_prefix, schemas)
    here = {
        name: Service(name, how, machine, PATHCAST_INGEST_TOKEN=TOKEN)
        for name, how in OURS.items()
        if absent(how["command"]) is None
    }
    made = pathcast(*here["topics"].command, env=here.pop("topics").environment)
    assert made.returncode == 0, made.stderr
    with ExitStack() as stack:
        running: dict[str, Worker] = {}
        for names in (
            WORKERS,
            sorted(here.keys() - set(WORKERS)),
        ):  # workers compile the kernels
            running |= {name: stack.enter_context(here[name].start()) for name in names}
            check = partial(assert_all_live, *running.values())
            for name in names:
                at = partial(at_work, here[name], check)
                assert eventually(at, START_S), running[name].log()

        door = f"http://127.0.0.1:{here['ingest'].port('8080')}/webhook/flespi"
        assert answered(door, [VAN], TOKEN) == 200
        bus_feed.send(apache_kafka, topics.pings, islice(bus_feed.fleet(PINGS, seed=3), PINGS))
        bus_feed.wait_until_consumed(apache_kafka, topic_prefix, topics.pings, check)
        said = [loads_forecast(one.value or b"") for one in bus_feed.read(apache_kafka, topics.forecasts)]
        assert len(said) > PINGS // 2
        assert {one.entity_id for one in said} >= {"van-7"}, "what came in by HTTP is answered, too"
        bus_feed.wait_until_consumed(apache_kafka, f"{topic_prefix}-latest", topics.forecasts, check)
        assert eventually(partial(knows, here["serve"], "van-7"))
        for name in ("arrivals", "avro"):
            bus_feed.wait_until_consumed(apache_kafka, f"{topic_prefix}-{name}", topics.forecasts, check)
        assert sum(1 for _ in bus_feed.read(apache_kafka, avro_topic(topics.forecasts))) == len(said)

        for process in running.values():
            process.stop()
        assert {name: process.status for name, process in running.items()} == dict.fromkeys(running, 0)


def at_work(service: Service, check: Any) -> bool:
    check()
    return service.healthy()


def answered(url: str, body: object, token: str) -> int:
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return int(answer.status)


def knows(serve: Service, entity_id: str) -> bool:
    """Returns whether the HTTP API has the entity's newest forecast."""
    try:
        with urllib.request.urlopen(f"http://{serve.here('127.0.0.1:9480')}/v1/entities/{entity_id}", timeout=60) as it:
            return entity_id in it.read().decode()
    except urllib.error.HTTPError:
        return False


@pytest.mark.parametrize("name", sorted(OURS))
def test_no_container_of_ours_may_more_than_it_must(name: str) -> None:
    how = OURS[name]
    assert (how["read_only"], how["user"], how["cap_drop"]) == (True, "10001:10001", ["ALL"])
    assert how["security_opt"] == ["no-new-privileges:true"]
    assert [mount.partition(":")[0] for mount in how["tmpfs"]] == ["/tmp"]


@pytest.mark.parametrize("name", sorted(compose_file.services()))
def test_nothing_is_open_to_other_machines(name: str) -> None:
    how = compose_file.services()[name]
    assert all(port.startswith("127.0.0.1:") for port in how.get("ports", []))
    assert "network_mode" not in how
    assert how["security_opt"] == ["no-new-privileges:true"]


def test_workers_only_read_what_others_make() -> None:
    for name in WORKERS:
        made_elsewhere = [one for one in OURS[name]["volumes"] if not one.startswith("kernels:")]
        assert all(one.endswith(":ro") for one in made_elsewhere)


def test_without_a_profile_little_is_started() -> None:
    started = {name for name, how in compose_file.services().items() if "profiles" not in how}
    assert started == {"kafka", "redis", "topics", "worker-1", "worker-2", "atlas", "map"}
    images = {compose_file.services()[name]["image"] for name in started & OURS.keys()}
    assert images == {"pathcast:worker"}, "only one image has to be built for it"
    assert all("all" in how["profiles"] for how in compose_file.services().values() if "profiles" in how)


def test_each_worker_has_a_name_of_its_own() -> None:
    names = [word for name in WORKERS for word in OURS[name]["command"] if "--instance" in word]
    assert names == ["--instance=worker-1", "--instance=worker-2"]


def test_what_is_built_and_mounted_is_in_the_recipe_of_the_images() -> None:
    recipe = (DEPLOY / "Dockerfile").read_text()
    for how in OURS.values():
        target = how["build"]["target"]
        assert f" AS {target}\n" in recipe
        assert how["image"] == f"pathcast:{target}"
        for mount in how.get("volumes", []):
            folder = mount.split(":")[1]
            assert folder == "/var/tmp" or folder in recipe, f"{folder} would belong to root"
    extras = tomllib.loads((DEPLOY.parent / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    installed = {target: set(extras_of(recipe, target)) for target in ("worker", "tools", "trainer")}
    assert set().union(*installed.values()) <= extras.keys()
    needs = {
        "archive": {"readers"},
        "avro": {"contracts"},
        "scores": {"scores"},
        "ingest": {"ingest"},
        "refresh": {"train", "readers"},
    }
    for name, needed in needs.items():
        assert needed <= installed[OURS[name]["build"]["target"]]


@pytest.mark.parametrize("name", ["prometheus", "grafana"])
def test_what_is_mounted_from_this_folder_is_there(name: str) -> None:
    mounts = [one.split(":")[0] for one in compose_file.services()[name]["volumes"]]
    if name == "grafana" and not (DEPLOY / "grafana").exists():
        pytest.skip("this version has no dashboard yet")
    assert [one for one in mounts if not (DEPLOY / one).exists()] == []


def extras_of(recipe: str, target: str) -> list[str]:
    (line,) = [line for line in recipe.splitlines() if line.startswith(f"ARG {target.upper()}_EXTRAS=")]
    return [one for one in line.split('"')[1].split(",") if one]


def test_the_file_follows_the_compose_specification() -> None:
    assert set(parsed(compose_file.whole())) == compose_file.services().keys()


@pytest.mark.parametrize(("name", "value"), [("depends_on", 7), ("healthchek", {}), ("ports", ["x:y:z"])])
def test_a_fault_of_the_file_would_be_found(name: str, value: Any) -> None:
    whole = compose_file.whole()
    whole["services"]["map"][name] = value
    with pytest.raises(ValueError, match=f"services.map.*{name}"):
        parsed(whole)


def parsed(whole: dict[str, Any]) -> list[str]:
    """Returns the names of the services, as a parser of the specification reads them. Raises ValueError."""
    compose_spec = pytest.importorskip("compose_spec", reason="compose-spec is not installed")
    names: list[str] = compose_spec.PyCompose.from_yaml(yaml.safe_dump(whole)).service_names()
    return names
