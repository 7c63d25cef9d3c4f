"""`pathcast doctor` where users have rights: what the page of rights gives is enough, what is missing is named, and
what may not be asked is said to be unknown. No secret is anywhere."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import bus_feed
import pytest
import secured_servers
from kafka import KafkaAdminClient
from kafka.admin import ACL, ACLOperation, ACLPermissionType, ResourcePattern, ResourceType
from missing_servers import skip_unless_required
from pathcast_process import environment, pathcast
from secured_servers import KAFKA_PASSWORD, MUTE, REDIS_PASSWORD, Secured

from stream.bench.harness.servers import Unavailable
from stream.wire import Topics

PREFIX = "secured"
TOPICS = Topics.of(PREFIX)


@pytest.fixture(scope="module")
def secured(say: Callable[[str], None], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    try:
        with secured_servers.running(say, tmp_path_factory.mktemp("secured")) as servers:
            bus_feed.create_topics(servers.plain, TOPICS, partitions=2)
            secured_servers.admit(servers, PREFIX)
            bus_feed.commit(servers.plain, PREFIX, TOPICS.pings, {0: 0})  # the group exists
            yield servers
    except Unavailable as reason:
        skip_unless_required(f"needs Apache Kafka and redis-server, as the embedded ones have no users: {reason}")


@pytest.fixture
def doctor(secured: Secured, tmp_path: Path) -> Callable[..., tuple[int, dict[str, dict[str, Any]]]]:
    """Runs it as a user; returns the exit code, and the worst finding of each check."""

    def run(user: str, *more: str, **other: str) -> tuple[int, dict[str, dict[str, Any]]]:
        secret = tmp_path / "password"
        secret.write_text(other.pop("password", KAFKA_PASSWORD))
        ours = {
            "BOOTSTRAP": secured.bootstrap,
            "PREFIX": PREFIX,
            "GROUP": PREFIX,
            "KAFKA_SECURITY": "SASL_SSL",
            "KAFKA_USER": user,
            "KAFKA_PASSWORD_FILE": str(secret),
            "KAFKA_CA": str(secured.ca),
            "REDIS": f"rediss://pathcast@127.0.0.1:{secured.redis_port}/0",
            "REDIS_PASSWORD": REDIS_PASSWORD,
            "REDIS_CA": str(secured.ca),
            **other,
        }
        env = environment(**{f"PATHCAST_{name}": value for name, value in ours.items()})
        ran = pathcast("doctor", "--json", "--without=weights,machine", *more, env=env)
        assert ran.returncode in (0, 1), ran.stderr.decode()
        for password in (KAFKA_PASSWORD, REDIS_PASSWORD, "secret"):
            assert password not in ran.stdout.decode() + ran.stderr.decode().replace("redis/secret", "")
        order = ["ok", "unknown", "warning", "problem"]
        found = sorted(json.loads(ran.stdout)["findings"], key=lambda one: order.index(one["level"]))
        return ran.returncode, {one["check"]: one for one in found}

    return run


def levels(found: dict[str, dict[str, Any]], level: str) -> set[str]:
    return {check for check, one in found.items() if one["level"] == level}


def test_a_worker_has_all_rights_and_what_it_may_not_ask_is_unknown(doctor: Any) -> None:
    code, found = doctor("worker", "--delivery", "exactly_once")
    assert code == 0, found
    assert levels(found, "problem") == levels(found, "warning") == set()
    assert levels(found, "unknown") == {
        *(f"topic {name}" for name in TOPICS),
        f"transactional id {PREFIX}|{TOPICS.pings}|0",
        *(f"redis {name}" for name in ("version", "maxmemory-policy", "memory", "persistence")),
    }
    assert all("DescribeConfigs" in found[f"topic {name}"]["advice"] for name in TOPICS)
    assert found["clock, by redis"]["level"] == "ok"
    assert found["kafka"]["found"].endswith("as user worker")


def test_settings_are_looked_at_where_the_user_may_read_them(doctor: Any, secured: Secured) -> None:
    client = KafkaAdminClient(bootstrap_servers=secured.plain)
    allow = [
        ACL(
            "User:worker",
            "*",
            ACLOperation.DESCRIBE_CONFIGS,
            ACLPermissionType.ALLOW,
            ResourcePattern(ResourceType.TOPIC, name),
        )
        for name in TOPICS
    ]
    client.create_acls(allow)
    try:
        code, found = doctor("worker")
    finally:
        client.delete_acls(allow)
        client.close()
    assert code == 0
    assert levels(found, "ok") >= {f"topic {name}" for name in TOPICS}
    assert "retention.ms 604800000" in found[f"topic {TOPICS.pings}"]["found"]


@pytest.mark.parametrize(
    ("user", "check", "said", "advice"),
    [
        (MUTE, f"topic {TOPICS.forecasts}", "may not know whether it exists", f"Write on Topic {TOPICS.forecasts}"),
        ("feeder", f"topic {TOPICS.pings}", "a worker may not read it as user feeder", f"Read on Topic {TOPICS.pings}"),
        ("feeder", f"group {PREFIX}", "we may not read it", f"Read on Group {PREFIX}"),
        ("operator", f"topic {TOPICS.gapfills}", "may not write it as user operator", "Write on Topic"),
        ("operator", f"group {PREFIX}", "a worker may not join it as user operator", f"Read on Group {PREFIX}"),
    ],
)
def test_a_right_that_is_missing_is_named(doctor: Any, user: str, check: str, said: str, advice: str) -> None:
    code, found = doctor(user, REDIS="redis://127.0.0.1:1/0", REDIS_CA="")
    assert code == 1
    assert found[check]["level"] == "problem"
    assert said in found[check]["found"]
    assert advice in found[check]["advice"]


def test_wrong_passwords_and_an_unknown_ca_are_refusals(doctor: Any, secured: Secured) -> None:
    code, found = doctor("worker", password="wrong", REDIS_PASSWORD="wrong, too")
    assert code == 1
    assert "refuses user worker by SCRAM-SHA-512" in found["kafka"]["found"]
    assert "PATHCAST_KAFKA_PASSWORD" in found["kafka"]["advice"]
    assert "refuses us" in found["redis"]["found"]
    assert "PATHCAST_REDIS_PASSWORD" in found["redis"]["advice"]
    code, found = doctor("worker", KAFKA_CA=str(secured.stranger), REDIS_CA=str(secured.stranger))
    assert code == 1
    assert all("not to be trusted" in found[name]["found"] for name in ("kafka", "redis"))
