"""Every command against a Kafka with SASL_SSL and ACLs and a Redis with TLS and ACLs: with the rights that SECURITY.md
lists all goes well; without, one clear line, exit 1, and no secret anywhere."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import bus_feed
import pytest
import scores_rig
import secured_commands
import secured_servers
import worker_pages
from dead_members import bury
from map_process import MAP, base_of
from map_rig import forecast
from missing_servers import skip_unless_required
from pathcast_process import COMMAND, environment, eventually, pathcast
from secured_commands import PREFIX, PROMPT_S, TOPICS, assert_secret, kafka, settings, told
from secured_servers import REDIS_PASSWORD, Client, Secured
from worker_process import Worker, assert_all_live

from model.config import ModelConfig
from model.network.checkpoint import save_pretrained
from model.network.network import build
from stream.adapters.live.parsed import reject
from stream.bench.harness.servers import Unavailable, apache_kafka, java_command
from stream.config.security import RedisSecurity, Refused
from stream.config.settings import Settings
from stream.ingest.publishing.sink import Sink
from stream.kafka import admin
from stream.kafka.producer import Publisher
from stream.services.avro.cli import avro_topic
from stream.store.redis_store import RedisStore
from stream.versions.announcement_reader import AnnouncementReader
from stream.versions.announcing import Announcer
from stream.wire import Ping
from train.data.topic import snapshot

PINGS = 300
API_TOKEN = "a-token-of-16-or-more"
BAD_PING = b'{"entity_id":"1","ts":1490094006000,"lat":91,"lon":0}\n'


@pytest.fixture(scope="module")
def secured(say: Callable[[str], None], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    with secured_commands.running(say, tmp_path_factory.mktemp("secured")) as servers:
        yield servers


@pytest.fixture(autouse=True)
def nobody_is_waited_for(secured: Secured) -> Iterator[None]:
    """The workers of all tests are of one group, and many of them end in an error, without leaving it."""
    yield
    bury(secured.plain, PREFIX)


@pytest.mark.promise("all commands run with the rights that the page lists, over TLS and SCRAM, and no secret is seen")
def test_all_goes_well_with_the_rights_that_the_page_lists_and_no_more(
    secured: Secured, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret_file = tmp_path / "password"
    feeder, operator = (settings(secured, user, secret_file) for user in ("feeder", "operator"))
    verifier = settings(secured, "operator", secret_file, REDIS="")
    for name, value in settings(secured, "worker", secret_file).items():
        monkeypatch.setenv(name, value)
    options = {"weights": weights, "workers": 2, "session_timeout_s": 6, "delivery": "exactly_once"}
    with Worker(tmp_path / "worker.log", **options) as worker:
        lives = partial(assert_all_live, worker)
        fed = json.loads(told("feed", bus_feed.SAMPLE, "--speedup=0", f"--limit={PINGS}", "--json", env=feeder))
        assert fed["sent"] == PINGS
        told("feed", "-", "--speedup=0", env=feeder, stdin=BAD_PING)
        bus_feed.wait_until_consumed(secured.plain, PREFIX, TOPICS.pings, lives)
        listed = json.loads(told("dlq", "list", "--json", env=operator))
        assert [(row["code"], row["count"]) for row in listed["counts"]] == [("lat_out_of_range", 1)]
        assert json.loads(told("dlq", "replay", "--yes", "--json", env=operator))["replayed"] == 1
        bus_feed.wait_for_records(secured.plain, TOPICS.dead_letters, 2, lives)  # it is still bad
        processes = subprocess.run(["ps", "-axww", "-o", "command="], capture_output=True, check=True).stdout
        assert b"--workers=1" in processes
        assert_secret(processes)
        assert worker.stop() == 0, worker.log()
        assert_secret(worker.log())
    forecasts = told("tail", "forecasts", "--from=earliest", "--no-follow", "--json", env=operator).splitlines()
    assert len(forecasts) == PINGS
    known = {row["name"]: row["partitions"] for row in json.loads(told("dev", "topics", "--json", env=operator))}
    assert known[TOPICS.pings] == 2
    redis_url = f"--redis=rediss://verifier@127.0.0.1:{secured.redis_port}/0"
    how = (redis_url, f"--weights={weights}", "--numbers=close", "--delivery=exactly_once")
    report = json.loads(told("verify", *how, "--json", env=verifier))
    assert report["ok"], report["examples"]
    assert (report["total"]["forecasts"], report["total"]["dead_letters"]) == (PINGS, 2)
    assert report["total"]["states"] > 10
    kept = snapshot(TOPICS.pings, secured.bootstrap, tmp_path, lambda share: None, kafka(secured))
    assert kept.exists()


async def test_an_atlas_is_announced_and_heard_of_with_the_rights_that_the_page_lists(secured: Secured) -> None:
    with admin.connect(secured.plain) as client:
        admin.create_models(client, TOPICS)
    version = "0" * 16
    async with Announcer.open(secured.bootstrap, TOPICS, kafka(secured, user="atlas"), sample_s=0.1) as announcer:
        await announcer.announce(version, includes={}, contains={})
    async with AnnouncementReader.open(secured.bootstrap, TOPICS, kafka(secured, user="worker")) as announcements:
        await announcements.look()
        assert [record.version for record in announcements.ledger.serving] == [version]
    for user in ("worker", "feeder"):
        with pytest.raises(Refused, match=rf"does not let user {user} do that"):
            async with Announcer.open(secured.bootstrap, TOPICS, kafka(secured, user=user)):
                raise AssertionError("it may announce")


async def test_other_systems_come_in_with_the_rights_that_the_page_lists_and_no_more(secured: Secured) -> None:
    found = [Ping(entity_id="brought-in", ts=1_490_094_006_000, lat=30.0, lon=-97.0), reject("null_island", "no fix")]
    async with Sink(secured.bootstrap, TOPICS, "test", security=kafka(secured, user="ingest")) as sink:
        await sink.take(found, b"a message", "test:1")
        assert sink.taken.pings == 1
    with pytest.raises(ValueError, match=f"no topic {TOPICS.dead_letters}"):  # brokers hide what a user may not see
        async with Sink(secured.bootstrap, TOPICS, "test", security=kafka(secured, user="feeder")):
            raise AssertionError("it may write dead letters")


def test_an_atlas_is_counted_with_the_rights_that_the_page_lists_and_no_more(secured: Secured, tmp_path: Path) -> None:
    with admin.connect(secured.plain) as client:
        admin.create_models(client, TOPICS)
    secret_file, redis_url = tmp_path / "password", f"rediss://atlas@127.0.0.1:{secured.redis_port}/0"
    told("feed", bus_feed.SAMPLE, "--speedup=0", f"--limit={PINGS}", env=settings(secured, "feeder", secret_file))
    ours = settings(secured, "atlas", secret_file, REDIS=redis_url, ATLASES=str(tmp_path / "atlases"))
    for _ in range(2):  # the second finds what the first has left in Redis
        told("beside", "atlas", "--once", env=ours)
    told("beside", "atlas", "--once", "--anew", env=ours)
    assert len(list((tmp_path / "atlases").iterdir())) == 1
    for other in ({"KAFKA_USER": "feeder"}, {"REDIS": redis_url.replace("atlas@", "verifier@")}):
        refused = pathcast(
            "beside", "atlas", "--once", env=environment(**ours | {f"PATHCAST_{k}": v for k, v in other.items()})
        )
        assert refused.returncode == 1
        assert b"Traceback" not in refused.stderr
        assert b"SECURITY.md" in refused.stderr
        assert_secret(refused.stderr)


def test_pings_are_archived_with_the_rights_that_the_page_lists_and_no_more(secured: Secured, tmp_path: Path) -> None:
    secret_file = tmp_path / "password"
    told("feed", bus_feed.SAMPLE, "--speedup=0", f"--limit={PINGS}", env=settings(secured, "feeder", secret_file))
    ours = settings(secured, "archive", secret_file, ARCHIVE=str(tmp_path / "pings"), REDIS="", REDIS_PASSWORD="")
    told("beside", "archive", "--once", "--late=forever", "--archive-retention=forever", env=ours)
    days = json.loads(told("dev", "archive", "--days", "--json", env=ours))
    assert sum(day["pings"] for day in days) >= PINGS
    refused = pathcast("beside", "archive", "--once", env=environment(**ours | {"PATHCAST_KAFKA_USER": "feeder"}))
    assert refused.returncode == 1
    assert b"Traceback" not in refused.stderr
    assert b"SECURITY.md" in refused.stderr
    assert_secret(refused.stderr)


def test_forecasts_are_scored_with_the_rights_that_the_page_lists_and_no_more(secured: Secured, tmp_path: Path) -> None:
    with admin.connect(secured.plain) as client:
        admin.create_scores(client, TOPICS, partitions=2)
    log = scores_rig.records(1, minutes=240)
    bus_feed.send(secured.plain, TOPICS.forecasts, ((b"e", raw, ()) for raw in log))
    secret_file = tmp_path / "password"

    def scores(user: str, *command: str) -> subprocess.CompletedProcess[str]:
        ours = settings(secured, user, secret_file)
        program = [*COMMAND, *command]
        return subprocess.run(
            program, env=environment(**ours), capture_output=True, text=True, timeout=PROMPT_S, check=False
        )

    ran, shown = scores("scorer", "beside", "scores", "--once"), scores("operator", "models", "scores", "--json")
    assert ran.returncode == 0, ran.stderr
    assert shown.returncode == 0, shown.stderr
    assert sum(row["n"] for row in json.loads(shown.stdout)["scores"] if row["model"] == "m1") > 100
    assert_secret(ran.stderr, ran.stdout, shown.stderr)
    for refused in (scores("worker", "beside", "scores", "--once"), scores("scorer", "models", "scores")):
        assert refused.returncode == 1
        assert "SECURITY.md" in refused.stderr
        assert "Traceback" not in refused.stderr
        assert_secret(refused.stderr)


def test_questions_are_answered_with_the_rights_that_the_page_lists_and_no_more(
    secured: Secured, weights: Path, tmp_path: Path
) -> None:
    """An entity that nobody knows is looked for in all partitions, with every command that the API uses."""
    redis_url = f"rediss://api@127.0.0.1:{secured.redis_port}/0"
    ours = settings(secured, "api", tmp_path / "password", REDIS=redis_url, SERVE_TOKEN=API_TOKEN)
    how = {"command": ("serve",), "environment": environment(**ours), "weights": weights, "listen": 0}
    with Worker(tmp_path / "serve.log", **how) as api:
        api.wait_for("listening at http://", PROMPT_S)
        found = re.search(r"listening at (http://[^,]+),", api.log())
        assert found is not None
        assert eventually(lambda: worker_pages.ask(f"{found[1]}/readyz")[0] == 200), api.log()
        status, said = worker_pages.ask(f"{found[1]}/v1/entities/nobody/forecast", token=API_TOKEN)
        assert (status, json.loads(said)["type"]) == (404, "urn:pathcast:problem:unknown_entity")
        assert api.stop() == 0, api.log()
        assert_secret(api.log())
        assert API_TOKEN not in api.log()
    refused = pathcast(
        "serve", "--listen=0", f"--weights={weights}", env=environment(**ours | {"PATHCAST_KAFKA_USER": "feeder"})
    )
    assert refused.returncode == 1
    assert b"Traceback" not in refused.stderr
    assert_secret(refused.stderr)


def test_a_map_is_shown_with_the_rights_that_the_page_lists_and_no_more(secured: Secured, tmp_path: Path) -> None:
    with admin.connect(secured.plain) as client:
        admin.create_models(client, TOPICS)
    now_ms = int(time.time() * 1000)
    bus_feed.send(secured.plain, TOPICS.forecasts, iter([(b"shown", forecast("shown", now_ms), ())]))
    ours = settings(secured, "map", tmp_path / "password", REDIS="", REDIS_PASSWORD="", MAP_TOKEN=API_TOKEN)
    how = {"program": MAP, "command": (), "listen": 0, "atlases": tmp_path, "source": "forecasts"}
    with Worker(tmp_path / "map.log", environment=environment(**ours), **how) as server:
        base = base_of(server)
        status, said = worker_pages.ask(f"{base}/map/search?q=shown", token=API_TOKEN)
        assert (status, json.loads(said)) == (200, {"ids": ["shown"]})
        assert server.stop() == 0, server.log()
        assert "WARNING" not in server.log(), "it may ask all that it asks"
        assert_secret(server.log())
        assert API_TOKEN not in server.log()
    feeder = environment(**ours | {"PATHCAST_KAFKA_USER": "feeder"})
    with Worker(tmp_path / "refused.log", environment=feeder, **how) as refused:
        assert refused.wait(PROMPT_S) == 1
        assert f"no topic {TOPICS.forecasts} at" in refused.log(), "brokers hide what a user may not see"
        assert "Traceback" not in refused.log()
        assert_secret(refused.log())


def test_what_serves_is_refreshed_with_the_rights_that_the_page_lists_and_no_more(
    secured: Secured, tmp_path: Path
) -> None:
    with admin.connect(secured.plain) as client:
        admin.create_models(client, TOPICS)
    secret_file = tmp_path / "password"
    told("feed", bus_feed.SAMPLE, "--speedup=0", f"--limit={PINGS}", env=settings(secured, "feeder", secret_file))
    weights = tmp_path / "tiny"
    save_pretrained(build(ModelConfig(name="tiny", d=16, heads=2, window=16), 0), weights, "a card")
    ours = settings(secured, "refresher", secret_file, REGISTRY=str(tmp_path / "registry"), REDIS="", REDIS_PASSWORD="")
    command = ("train", "refresh", f"--init={weights}", "--steps=1", f"--dir={tmp_path / 'rounds'}")
    # The sample is of one hour, of which nothing is left to train on: all its rights but that to announce are used.
    ended = pathcast(*command, env=environment(**ours))
    assert ended.returncode == 1, ended.stderr.decode()
    assert b"no track to train on before the newest hours" in ended.stderr
    assert_secret(ended.stderr)
    asyncio.run(announce(secured, "refresher"))
    refused = pathcast(*command, env=environment(**ours | {"PATHCAST_KAFKA_USER": "feeder"}))
    assert refused.returncode == 1
    assert b"Traceback" not in refused.stderr
    assert b"SECURITY.md" in refused.stderr
    assert_secret(refused.stderr)


async def announce(secured: Secured, user: str) -> None:
    async with Announcer.open(secured.bootstrap, TOPICS, kafka(secured, user=user), sample_s=0.1) as announcer:
        await announcer.announce_weights("1" * 16, "tiny", role="canary", parts=500, reason="the test says so")


def refusal(secured: Secured, password_file: Path, *command: object, **other: str) -> str:
    """The one line of a command that must fail; `other` is what is wrong with its settings."""
    user = other.pop("user", "worker")
    given = settings(secured, user, password_file, **other)
    run = pathcast(*command, env=environment(**given), stdin=BAD_PING)
    assert run.returncode == 1, run.stdout
    assert_secret(run.stdout, run.stderr)
    said = run.stderr.decode().splitlines()
    (line,) = [one for one in said if " INFO " not in one]  # a worker says first who it is and what it was told
    assert line.startswith("error: ")
    assert line == said[-1]
    return line


@pytest.mark.parametrize("command", ["worker", "dev topics"])
def test_a_wrong_kafka_password_is_one_line(secured: Secured, command: str, tmp_path: Path) -> None:
    wrong = {"KAFKA_PASSWORD_FILE": "", "KAFKA_PASSWORD": "no secret"}
    line = refusal(secured, tmp_path / "password", *command.split(), **wrong)
    assert f"Kafka at {secured.bootstrap} refuses user worker by SCRAM-SHA-512" in line
    assert "PATHCAST_KAFKA_PASSWORD right?" in line


def test_a_trainer_with_a_wrong_kafka_password_is_told_so(secured: Secured, tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"refuses user operator.*PATHCAST_KAFKA_PASSWORD right\?"):
        snapshot(TOPICS.pings, secured.bootstrap, tmp_path, lambda share: None, kafka(secured, password="wrong"))


async def test_a_new_producer_of_a_worker_whose_password_was_changed_is_told_so(secured: Secured) -> None:
    publisher = Publisher(secured.bootstrap, f"{PREFIX}|{TOPICS.pings}|0", security=kafka(secured, password="old"))
    with pytest.raises(Refused, match=r"refuses user operator.*PATHCAST_KAFKA_PASSWORD right\?"):
        await publisher.start()
    await publisher.close()


def test_a_worker_whose_password_is_changed_ends_when_it_has_to_connect_again(
    secured: Secured, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in settings(secured, "worker", tmp_path / "password", BOOTSTRAP=secured.brief_bootstrap).items():
        monkeypatch.setenv(name, value)
    with Worker(tmp_path / "log", weights=weights, session_timeout_s=6) as worker:
        worker.wait_until_ready()
        told("feed", "-", "--speedup=0", env=settings(secured, "feeder", tmp_path / "password"), stdin=BAD_PING)
        time.sleep(3 * secured_servers.BRIEF_S)
        assert worker.running(), f"it should connect anew as often as it must: {worker.log()}"
        secured_servers.set_passwords(secured, "worker", password="another")
        try:
            assert worker.wait(PROMPT_S) == 1, worker.log()
        finally:
            secured_servers.set_passwords(secured, "worker")
        last = worker.log().splitlines()[-1]
        assert f"Kafka at {secured.brief_bootstrap} refuses user worker by SCRAM-SHA-512" in last
        assert "PATHCAST_KAFKA_PASSWORD right?" in last
        assert_secret(worker.log())


def by_certificate(secured: Secured, shown: Client | None) -> dict[str, str]:
    """What differs in a worker's settings where it shows a certificate; None: where it should, and has none."""
    given = {
        "BOOTSTRAP": secured.mutual_bootstrap,
        "KAFKA_SECURITY": "SSL",
        "KAFKA_USER": "",
        "KAFKA_PASSWORD_FILE": "",
    }
    return given | ({} if shown is None else {"KAFKA_CERT": str(shown.certificate), "KAFKA_KEY": str(shown.key)})


def test_a_worker_that_shows_a_certificate_is_who_that_says(
    secured: Secured, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = settings(secured, "", tmp_path / "password", **by_certificate(secured, secured.worker))
    for name, value in ours.items():
        monkeypatch.setenv(name, value)
    with Worker(tmp_path / "log", weights=weights, session_timeout_s=6) as worker:
        worker.wait_until_ready()
        assert worker.stop() == 0
    assert json.loads(told("dev", "topics", "--json", env=ours))


@pytest.mark.parametrize("signed", [False, True], ids=["none", "of an unknown CA"])
def test_a_worker_without_a_certificate_that_the_brokers_trust_is_told_so(
    secured: Secured, signed: bool, tmp_path: Path
) -> None:
    wrong = by_certificate(secured, secured.unknown if signed else None)
    line = refusal(secured, tmp_path / "password", "worker", **wrong)
    assert f"no TLS with Kafka at {secured.mutual_bootstrap}" in line
    assert "want a certificate of ours?" in line


@pytest.mark.promise("a broker whose CA is unknown is not trusted, in one line and with exit code 1")
@pytest.mark.parametrize("command", [("worker",), ("feed", "-")])
def test_a_broker_whose_ca_is_unknown_is_not_trusted(
    secured: Secured, command: tuple[str, ...], tmp_path: Path
) -> None:
    line = refusal(secured, tmp_path / "password", *command, KAFKA_CA=str(secured.stranger))
    assert f"the certificate of Kafka at {secured.bootstrap} is not to be trusted" in line
    assert "is --kafka-ca the CA that signed it?" in line


def test_a_broker_whose_certificate_has_expired_is_not_trusted(secured: Secured, tmp_path: Path) -> None:
    line = refusal(secured, tmp_path / "password", "worker", BOOTSTRAP=secured.expired_bootstrap)
    assert f"Kafka at {secured.expired_bootstrap}" in line
    assert "certificate has expired" in line


def test_a_feeder_without_the_right_to_write_is_told_which_user_and_topic(secured: Secured, tmp_path: Path) -> None:
    line = refusal(secured, tmp_path / "password", "feed", "-", user="worker")
    assert "does not let user worker do that (TopicAuthorizationFailedError" in line
    assert TOPICS.pings in line
    assert "SECURITY.md" in line


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"REDIS_PASSWORD": "no secret"}, "PATHCAST_REDIS_PASSWORD right?"),
        ({"REDIS_CA": "{stranger}"}, "is --redis-ca the CA that signed it?"),
        ({"REDIS": "rediss://pathcast@127.0.0.1:{expired_redis_port}/0"}, "certificate has expired"),
        ({"REDIS": "rediss://pathcast:no%20secret@127.0.0.1:{redis_port}/0", "REDIS_PASSWORD": ""}, "pathcast:***@127"),
    ],
    ids=["wrong password", "unknown CA", "expired", "wrong password in the URL"],
)
def test_a_redis_that_will_not_have_us_or_that_we_will_not_have_is_one_line(
    secured: Secured, wrong: dict[str, str], said: str, tmp_path: Path
) -> None:
    filled = {name: value.format(**secured._asdict()) for name, value in wrong.items()}
    assert said in refusal(secured, tmp_path / "password", "worker", **filled)


def test_a_redis_user_who_may_not_write_ends_the_worker(
    secured: Secured, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    redis_url = f"rediss://verifier@127.0.0.1:{secured.redis_port}/0"
    with secured.redis_admin() as admin:
        admin.execute_command("ACL", "SETUSER", "verifier", "+ping")
    text = ended(settings(secured, "worker", tmp_path / "password", REDIS=redis_url), weights, tmp_path, monkeypatch)
    assert "Redis at rediss://verifier@127" in text
    assert "lets us in, but not do that" in text


async def test_a_right_that_is_missing_among_many_commands_at_once_is_a_refusal(secured: Secured) -> None:
    url = f"rediss://pathcast@127.0.0.1:{secured.redis_port}/0"
    store = RedisStore(Settings(redis_url=url, redis=RedisSecurity(REDIS_PASSWORD, secured.ca)))
    with secured.redis_admin() as admin:
        assert await store.get_many((TOPICS.pings, 0), ["nobody"]) == [None]
        admin.execute_command("ACL", "SETUSER", "pathcast", "-mget")
        try:
            with pytest.raises(Refused, match="lets us in, but not do that"):
                await store.get_many((TOPICS.pings, 0), ["nobody"])
        finally:
            admin.execute_command("ACL", "SETUSER", "pathcast", "+mget")
    await store.close()


def test_a_redis_user_who_may_not_write_any_more_ends_a_worker_at_work(
    secured: Secured, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in settings(secured, "worker", tmp_path / "password").items():
        monkeypatch.setenv(name, value)
    with Worker(tmp_path / "log", weights=weights, session_timeout_s=6) as worker, secured.redis_admin() as admin:
        worker.wait_until_ready()
        admin.execute_command("ACL", "SETUSER", "pathcast", "-hset", "-set", "-evalsha")
        try:
            told("feed", "-", "--speedup=0", env=settings(secured, "feeder", tmp_path / "password"), stdin=BAD_PING)
            assert worker.wait(PROMPT_S) == 1, worker.log()
        finally:
            admin.execute_command("ACL", "SETUSER", "pathcast", "+hset", "+set", "+evalsha")
        assert "lets us in, but not do that" in worker.log().splitlines()[-1]


def test_a_worker_that_may_not_write_forecasts_ends(
    secured: Secured, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    feeder = settings(secured, "feeder", tmp_path / "password")
    told("feed", bus_feed.SAMPLE, "--speedup=0", "--limit=10", env=feeder)
    text = ended(settings(secured, "mute", tmp_path / "password"), weights, tmp_path, monkeypatch)
    assert "does not let user mute do that (TopicAuthorizationFailedError" in text
    assert TOPICS.forecasts in text


def ended(given: dict[str, str], weights: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The last line of a worker that must end by itself with exit code 1."""
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with Worker(folder / "log", weights=weights, session_timeout_s=6) as worker:
        assert worker.wait(PROMPT_S) == 1, worker.log()
        assert_secret(worker.log())
        assert "Traceback" not in worker.log()
        last = worker.log().splitlines()[-1]
    assert last.startswith("error: ")
    return last


def test_a_configuration_that_kafka_refuses_is_told_by_its_reason(say: Callable[[str], None]) -> None:
    """Not by the end of the stack, which says nothing."""
    try:
        java_command()
    except Unavailable as reason:
        skip_unless_required(f"needs Apache Kafka: {reason}")
    twice = "listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{port}\n"
    with pytest.raises(Unavailable, match="two listeners on the same port"), apache_kafka(say, more=twice):
        pass


def test_services_beside_the_workers_run_with_the_rights_that_the_page_lists_and_no_more(
    secured: Secured, tmp_path: Path
) -> None:
    log = [(b"e", raw, ()) for raw in scores_rig.records(2, minutes=30)]
    bus_feed.send(secured.plain, TOPICS.forecasts, iter(log))
    with admin.connect(secured.plain) as client:
        for name in (TOPICS.latest, *(avro_topic(topic) for topic in (TOPICS.forecasts, TOPICS.gapfills))):
            admin.create_other(client, TOPICS, name, partitions=2)
    secret_file = tmp_path / "password"

    def service(name: str, user: str) -> subprocess.CompletedProcess[str]:
        ours = settings(secured, user, secret_file, GROUP="", SCHEMA_REGISTRY=f"http://127.0.0.1:{ids.server_port}")
        program = [*COMMAND, "beside", name, "--once"]
        return subprocess.run(
            program, env=environment(**ours), capture_output=True, text=True, timeout=PROMPT_S, check=False
        )

    ids = HTTPServer(("127.0.0.1", 0), Ids)
    threading.Thread(target=ids.serve_forever, daemon=True).start()
    try:
        for name, topic in (("latest", TOPICS.latest), ("avro", avro_topic(TOPICS.forecasts))):
            ran = service(name, name)
            assert ran.returncode == 0, ran.stderr
            assert len(list(bus_feed.read(secured.plain, topic))) > 0
            assert_secret(ran.stderr, ran.stdout)
            refused = service(name, "worker")
            assert refused.returncode == 1
            assert "SECURITY.md" in refused.stderr
            assert "Traceback" not in refused.stderr
    finally:
        ids.shutdown()


class Ids(BaseHTTPRequestHandler):
    """What stands for a schema registry here, where only Kafka's rights are looked at: every schema has the id 1."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"id": 1}')

    def log_message(self, *_: object) -> None:
        pass
