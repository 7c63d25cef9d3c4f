"""Who reads forecasts from servers that ask who that is: `Forecasts`, sinks, arrivals, with the rights that SECURITY.md
lists and no more. `serve`, `latest` and the rest are in `test_secured_servers`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import arrivals_rig
import bus_feed
import postgres_server
import psycopg
import pytest
import secured_commands
from client_rig import forecast
from missing_servers import skip_unless_required
from redis import Redis
from redis.exceptions import NoPermissionError
from secured_commands import PREFIX, TOPICS, kafka, refused, settings, told
from secured_servers import REDIS_PASSWORD, Secured

from stream.client import Forecasts, GapFills
from stream.config.security import Refused
from stream.kafka import admin
from stream.wire import Ping, dumps
from stream.wire.arrivals import Arrived, loads_arrival

BUSES, STEPS = 4, 3
VANS, PINGS = 5, 40


@pytest.fixture(scope="module")
def secured(say: Callable[[str], None], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    with secured_commands.running(say, tmp_path_factory.mktemp("secured")) as servers:
        found = [forecast(f"bus-{bus}", step) for step in range(STEPS) for bus in range(BUSES)]
        bus_feed.send(servers.plain, TOPICS.forecasts, ((one.entity_id.encode(), dumps(one), ()) for one in found))
        with admin.connected(servers.plain) as client:
            admin.create_other(client, TOPICS, TOPICS.arrivals, partitions=2)
            admin.create_other(client, TOPICS, TOPICS.destinations, partitions=1)
        yield servers


@pytest.fixture
def password(tmp_path: Path) -> Path:
    return tmp_path / "password"


def test_a_subscriber_reads_forecasts_and_gap_fills_and_needs_no_group(secured: Secured) -> None:
    how = {"prefix": PREFIX, "since": "earliest", "follow": False}
    with Forecasts(secured.bootstrap, **how, security=kafka(secured, user="subscriber")) as found:
        assert sorted(one.entity_id for one in found) == sorted(
            f"bus-{bus}" for bus in range(BUSES) for _ in range(STEPS)
        )
    with GapFills(secured.bootstrap, **how, security=kafka(secured, user="subscriber")) as fills:
        assert list(fills) == []
    with (
        pytest.raises(ValueError, match=r"may not see it, as brokers hide what it has no right to"),
        Forecasts(secured.bootstrap, **how, security=kafka(secured, user="feeder")) as found,
    ):
        next(iter(found))
    with (
        pytest.raises(Refused, match="refuses user subscriber"),
        Forecasts(secured.bootstrap, **how, security=kafka(secured, user="subscriber", password="no secret")) as found,
    ):
        next(iter(found))
    with (
        pytest.raises(Refused, match="not to be trusted"),
        Forecasts(secured.bootstrap, **how, security=kafka(secured, user="subscriber", ca=secured.stranger)) as found,
    ):
        next(iter(found))


def test_an_export_has_the_rights_of_a_subscriber(secured: Secured, password: Path) -> None:
    rows = told("export", "csv", env=settings(secured, "subscriber", password)).splitlines()
    assert sum(row.startswith(b"track,bus-") for row in rows) == BUSES * STEPS
    refused("export", "csv", env=settings(secured, "feeder", password))


def test_redis_is_filled_by_a_user_who_may_touch_nothing_else(secured: Secured, password: Path) -> None:
    url = f"rediss://sink@127.0.0.1:{secured.redis_port}/0"
    ours = settings(secured, "sink", password, REDIS=url)
    told("export", "redis", "--once", env=ours)
    with secured.redis_admin() as store:
        assert store.zcard("pathcast:geo:now") == store.zcard("pathcast:geo:300s") == BUSES
    said = refused("export", "redis", "--once", "--group", "others", env=ours)
    assert "others" in said or "Group" in said
    refused("export", "redis", "--once", env=ours | {"PATHCAST_KAFKA_USER": "feeder"})
    refused("export", "redis", "--once", "--key", "elsewhere", env=ours | _anew(secured))
    with Redis("127.0.0.1", secured.redis_port, ssl=True, ssl_ca_certs=str(secured.ca), username="sink",
               password=REDIS_PASSWORD) as sink:  # fmt: skip
        for command in (("GET", "pathcast:geo:now"), ("DEL", "pathcast:geo:now"), ("ZCARD", "pathcast:other")):
            with pytest.raises(NoPermissionError):
                sink.execute_command(*command)


def _anew(secured: Secured) -> dict[str, str]:
    """So that there is something to write: the group's offsets go back to the beginning."""
    bus_feed.commit(secured.plain, f"{PREFIX}-redis", TOPICS.forecasts, {0: 0, 1: 0})
    return {}


def test_postgis_is_filled(secured: Secured, password: Path, say: Callable[[str], None]) -> None:
    try:
        with postgres_server.running(say) as url:
            ours = settings(secured, "sink", password, POSTGRES=url, REDIS="", REDIS_PASSWORD="", REDIS_CA="")
            told("export", "postgis", "--once", env=ours)
            with psycopg.connect(url) as connection:
                assert connection.execute("SELECT count(*) FROM forecasts").fetchone() == (BUSES * STEPS,)
            refused("export", "postgis", "--once", env=ours | {"PATHCAST_KAFKA_USER": "feeder"})
    except postgres_server.Unavailable as reason:
        skip_unless_required(reason)


def test_arrivals_are_told_with_what_the_topic_knows_of_earlier_tracks(secured: Secured, password: Path) -> None:
    lat, lon = arrivals_rig.place(0)
    where = ("--lat", str(lat), "--lon", str(lon), "--radius", "150")
    dispatcher = settings(secured, "dispatcher", password)
    told("arrivals", "set", "van", *where, env=dispatcher)
    one = arrivals_rig.forecast("van")
    bus_feed.send(secured.plain, TOPICS.forecasts, iter([(b"van", dumps(one), ())]))
    bus_feed.send(secured.plain, TOPICS.pings, iter(_earlier()))
    ours = settings(secured, "arrivals", password, REDIS="", REDIS_PASSWORD="", REDIS_CA="", GROUP="")
    told("beside", "arrivals", "--once", "--history", "topic", env=ours)
    shown = told("tail", "arrivals", "--from", "earliest", "--no-follow", "--json", env=dispatcher)
    (arrived,) = [loads_arrival(line) for line in shown.splitlines()]
    assert isinstance(arrived, Arrived)
    assert arrived.entity_id == "van"
    for user in ("subscriber", "dispatcher"):
        refused("beside", "arrivals", "--once", env=ours | {"PATHCAST_KAFKA_USER": user})
    refused("tail", "arrivals", "--from", "earliest", "--no-follow", env=settings(secured, "feeder", password))
    refused("arrivals", "set", "van", *where, env=settings(secured, "subscriber", password))


def _earlier() -> list[bus_feed.Raw]:
    found = []
    for van in range(VANS):
        for number in range(PINGS):
            lat, lon = arrivals_rig.place(-240.0 * number)
            ts = arrivals_rig.NOON_MS - 86_400_000 + 30_000 * number
            ping = Ping(entity_id=f"van-{van}", ts=ts, lat=lat, lon=lon)
            found.append((ping.entity_id.encode(), dumps(ping), ()))
    return found
