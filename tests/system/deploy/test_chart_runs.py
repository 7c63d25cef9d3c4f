"""What the chart's pods run, as processes of this machine against a real Kafka and Redis: topics are made as the values
say, and a worker's probes turn green before it answers."""

from __future__ import annotations

import urllib.error
import urllib.request
from functools import partial
from itertools import islice
from pathlib import Path

import bus_feed
from compose_file import Machine, Service
from helm_chart import Manifest, pods, rendered
from kafka.admin import ConfigResource, ConfigResourceType
from pathcast_process import eventually, pathcast
from worker_process import READY_S, assert_all_live

from stream.kafka import admin
from stream.wire import Topics

PINGS = 200
DAY_MS = 86_400_000


def service(component: str, objects: list[Manifest], machine: Machine) -> Service:
    """The first container of a pod, as a process."""
    (container,) = pods(objects)[component]["containers"]
    variables = {one["name"]: one["value"] for one in container["env"] if "value" in one}
    words = [word.replace("$(POD_NAME)", f"{component}-0") for word in container["args"]]
    return Service(component, {"command": words, "environment": variables}, machine)


def probed(process: Service, container: Manifest, probe: str) -> bool:
    """Asks as a kubelet does."""
    get = container[f"{probe}Probe"]["httpGet"]
    (inside,) = [port["containerPort"] for port in container["ports"] if port["name"] == get["port"]]
    try:
        with urllib.request.urlopen(f"http://{process.here(f'127.0.0.1:{inside}')}{get['path']}", timeout=30) as answer:
            return bool(200 <= answer.status < 400)
    except (urllib.error.URLError, ConnectionError):
        return False


def test_topics_and_a_worker_of_the_chart_answer_pings(
    apache_kafka: str, redis_url: str, topic_prefix: str, tmp_path: Path
) -> None:
    topics, machine = Topics.of(topic_prefix), Machine(tmp_path, apache_kafka, redis_url, topic_prefix)
    objects = rendered(
        {
            "prefix": topic_prefix,
            "kafka": {"bootstrap": "kafka:9093"},
            "topics": {"partitions": 4, "replication": 1, "retention": "2d"},
        }
    )
    job = service("topics", objects, machine)
    made = pathcast(*job.command, env=job.environment)
    assert made.returncode == 0, made.stderr
    with admin.connect(apache_kafka) as client:
        (pings, latest) = admin.describe(client, [topics.pings, topics.latest])
        asked = [ConfigResource(ConfigResourceType.TOPIC, one.name, {"retention.ms": None}) for one in (pings, latest)]
        kept = client.describe_configs(asked, config_filter="all")["topic"]
    assert (pings.partitions, pings.replication, latest.partitions) == (4, 1, 4)
    assert int(kept[topics.pings]["retention.ms"]["value"]) == 2 * DAY_MS
    assert int(kept[topics.latest]["retention.ms"]["value"]) != 2 * DAY_MS, "what is compacted has no such end"

    worker = service("worker", objects, machine)
    (container,) = pods(objects)["worker"]["containers"]
    with worker.start() as process:
        for probe in ("startup", "readiness", "liveness"):
            assert eventually(partial(probed, worker, container, probe), READY_S), process.log()
        bus_feed.send(apache_kafka, topics.pings, islice(bus_feed.fleet(PINGS, seed=2), PINGS))
        bus_feed.wait_until_consumed(apache_kafka, topic_prefix, topics.pings, partial(assert_all_live, process))
        assert process.stop() == 0, process.log()
    assert sum(1 for _ in bus_feed.read(apache_kafka, topics.forecasts)) > PINGS // 2
