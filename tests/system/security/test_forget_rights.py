"""`pathcast forget` as the user `forgetter` of deploy/SECURITY.md, against a real Kafka and a real Redis with rights:
what the page lists suffices, and without any one of these rights it says which place it could not reach, and why."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import bus_feed
import pytest
import secured_commands
from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.admin import (
    ACL,
    ACLFilter,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    ResourcePattern,
    ResourcePatternFilter,
    ResourceType,
)
from pathcast_process import environment, eventually, pathcast
from secured_commands import PREFIX, TOPICS, assert_secret, settings
from secured_servers import Secured, kafka_rights
from worker_process import Worker, assert_all_live

from stream.kafka import admin
from stream.wire import Ping, dumps

USER, WHO = "forgetter", "bus-7"
GROUP, WORKERS = f"{PREFIX}-latest", PREFIX
DESCRIBED = GROUP, TOPICS.forecasts, TOPICS.gapfills
T0 = 1_700_000_000_000
PINGS = 20
PATIENCE_S = 300  # a bound on waiting


@pytest.fixture(scope="module")
def secured(say: Callable[[str], None], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    with secured_commands.running(say, tmp_path_factory.mktemp("secured")) as servers:
        with admin.connect(servers.plain) as client:
            admin.create_other(client, TOPICS, TOPICS.latest, partitions=2)
        yield servers


def rows() -> list[tuple[str, str]]:
    """The rights of the page: a topic or a group, and an operation on it."""
    return [(PREFIX + name.removeprefix("pathcast"), one) for user, _, name, one in kafka_rights() if user == USER]


def forget(secured: Secured, folder: Path, *more: str, **others: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """Its exit code, and what it says of each place. In Redis it is who `verify` is, which may only read."""
    redis = f"rediss://verifier@127.0.0.1:{secured.redis_port}/0"
    ours = settings(secured, USER, folder / "password", **{"REDIS": redis, **others})
    run = pathcast("forget", WHO, "--json", *more, env=environment(**ours))
    assert_secret(run.stdout, run.stderr)
    assert b"Traceback" not in run.stderr
    return run.returncode, {one["place"]: one for one in json.loads(run.stdout)["places"]}


def put_newest(secured: Secured) -> None:
    """Gives the entity a newest forecast; what it says does not matter here."""
    bus_feed.send(secured.plain, TOPICS.latest, iter([(WHO.encode(), b"{}", ())]))


@contextmanager
def without(secured: Secured, name: str, operation: str) -> Iterator[None]:
    """Takes one right away, and gives it back."""
    resource_type = ResourceType.GROUP if name in (GROUP, WORKERS) else ResourceType.TOPIC
    kind = ACLOperation[re.sub("(?<=[a-z])(?=[A-Z])", "_", operation).upper()]
    with KafkaAdminClient(bootstrap_servers=secured.plain) as client:
        pattern = ResourcePatternFilter(resource_type, name, ACLResourcePatternType.LITERAL)
        right = ACLFilter(f"User:{USER}", "*", kind, ACLPermissionType.ALLOW, pattern)

        def there() -> bool:
            return bool(client.describe_acls(right)[0])  # of the broker's authorizer, which hears of changes later

        (taken,) = client.delete_acls([right])
        assert len(taken[1]) == 1, taken
        assert eventually(lambda: not there())
        try:
            yield
        finally:
            resource = ResourcePattern(resource_type, name)
            made = client.create_acls([ACL(f"User:{USER}", "*", kind, ACLPermissionType.ALLOW, resource)])
            assert not made["failed"]
            assert eventually(there)


def test_an_entity_is_forgotten_with_the_rights_that_the_page_lists_and_no_more(
    secured: Secured, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in settings(secured, "worker", tmp_path / "worker").items():
        monkeypatch.setenv(name, value)
    with Worker(tmp_path / "log", weights=weights, session_timeout_s=6) as worker:
        worker.wait_until_ready()
        pings = (Ping(entity_id=WHO, ts=T0 + 10_000 * n, lat=30 + n / 10_000, lon=-97.0) for n in range(PINGS))
        bus_feed.send(secured.plain, TOPICS.pings, ((WHO.encode(), dumps(one), ()) for one in pings))
        bus_feed.wait_until_consumed(secured.plain, PREFIX, TOPICS.pings, partial(assert_all_live, worker))
        put_newest(secured)
        for name in DESCRIBED:  # asked for only where the workers have forgotten it
            with without(secured, name, "Describe"):
                code, said = forget(secured, tmp_path, f"--wait-s={PATIENCE_S}")
            assert (code, said["newest forecasts"]["outcome"]) == (1, "failed")
            assert re.search(
                "AuthorizationFailed.*SECURITY.md|no right to see.*SECURITY.md", said["newest forecasts"]["note"]
            )
        with KafkaConsumer(bootstrap_servers=secured.plain) as asked:
            ends = asked.end_offsets([TopicPartition(TOPICS.forecasts, number) for number in range(2)])
        read = {tp.partition: end for tp, end in ends.items()}
        bus_feed.commit(secured.plain, GROUP, TOPICS.forecasts, read)
        code, said = forget(secured, tmp_path, f"--wait-s={PATIENCE_S}")
        assert code == 0, said
        assert said["newest forecasts"]["outcome"] == "removed"
        assert TOPICS.pings in said["records in Kafka"]["found"], "how long Kafka keeps them"
        assert worker.stop() == 0, worker.log()
    newest = [one.value for one in bus_feed.read(secured.plain, TOPICS.latest) if one.key == WHO.encode()]
    assert newest == [b"{}", None]


@pytest.mark.parametrize(
    ("topic", "operation", "place", "says"),
    [
        (TOPICS.pings, "Write", "Kafka", f"there is no topic {TOPICS.pings} at "),
        (TOPICS.latest, "Read", "newest forecasts", f"TopicAuthorizationFailedError: .*{TOPICS.latest}"),
        (TOPICS.latest, "Write", "newest forecasts", f"TopicAuthorizationFailedError: .*{TOPICS.latest}"),
    ],
    ids=lambda value: value.rpartition(f"{PREFIX}.")[2],
)
def test_without_one_of_these_rights_the_place_is_named_and_the_page(
    secured: Secured, topic: str, operation: str, place: str, says: str, tmp_path: Path
) -> None:
    assert (topic, operation) in rows()
    put_newest(secured)
    with without(secured, topic, operation):
        code, said = forget(secured, tmp_path, "--wait-s=0")
    assert code == 1
    assert said[place]["outcome"] == "failed"
    assert re.search(says, said[place]["note"])
    assert "SECURITY.md" in said[place]["note"]


def test_where_redis_has_nothing_the_group_is_asked_whether_it_worked_there(
    secured: Secured, redis_url: str, tmp_path: Path
) -> None:
    empty = {"REDIS": redis_url, "REDIS_PASSWORD": "", "REDIS_CA": ""}
    with without(secured, WORKERS, "Describe"):
        code, said = forget(secured, tmp_path, "--wait-s=0", **empty)
    assert (code, said["states in Redis"]["outcome"]) == (1, "failed")
    assert re.search("GroupAuthorizationFailedError.*SECURITY.md", said["states in Redis"]["note"])
    bus_feed.commit(secured.plain, WORKERS, TOPICS.pings, {0: 1})
    _, said = forget(secured, tmp_path, "--wait-s=0", **empty)
    assert said["states in Redis"]["outcome"] == "waits"
    assert re.match("partition 0.*: the workers have not come to it", said["states in Redis"]["note"])


def test_a_topic_that_may_not_be_seen_is_not_taken_for_one_that_is_not_there(secured: Secured, tmp_path: Path) -> None:
    """Kafka lists no topic of which the user has no right at all. The entity's newest forecast would stay, and nobody
    would hear of it."""
    with without(secured, TOPICS.latest, "Read"), without(secured, TOPICS.latest, "Write"):
        code, said = forget(secured, tmp_path, "--wait-s=0")
    assert code == 1
    assert said["newest forecasts"]["outcome"] == "failed"
    assert f"no right to see whether there is a topic {TOPICS.latest}" in said["newest forecasts"]["note"]
    assert "SECURITY.md" in said["newest forecasts"]["note"]


def test_without_the_right_to_read_settings_only_their_age_is_unknown(secured: Secured, tmp_path: Path) -> None:
    assert (TOPICS.pings, "DescribeConfigs") in rows()
    with without(secured, TOPICS.pings, "DescribeConfigs"):
        _, said = forget(secured, tmp_path, "--wait-s=0")
    assert said["records in Kafka"]["found"] == "of unknown age"
    assert {one["outcome"] for one in said.values()} <= {"sent", "absent", "removed", "stays", "waits"}


def test_these_are_all_the_rights_of_the_page() -> None:
    assert sorted(rows()) == sorted(
        [
            (TOPICS.pings, "Write"),
            (TOPICS.pings, "DescribeConfigs"),
            (TOPICS.latest, "Read"),
            (TOPICS.latest, "Write"),
            (WORKERS, "Describe"),
            *((name, "Describe") for name in DESCRIBED),
        ]
    )
