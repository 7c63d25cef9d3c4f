"""`pathcast export` into Redis and PostgreSQL with PostGIS: what is there at the end, whatever was killed."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import bus_feed
import postgres_server
import psycopg
import pytest
from client_rig import T0, forecast
from command_here import Refusal, assert_refused
from dead_members import bury
from kafka import KafkaProducer
from missing_servers import skip_unless_required
from pathcast_process import PATIENCE_S, environment, eventually, pathcast
from redis import Redis
from worker_process import Worker

from stream.config.failpoints import OF_SINKS, VARIABLE
from stream.wire import Forecast, Topics, dumps

BUSES = 40
STEPS = 60
# Batches have 2,000 forecasts at most, and these are of two.
FLEET = [
    forecast(f"bus-{bus}", step, lat=round(30.0 + bus / 100 + step / 10_000, 7))
    for step in range(STEPS)
    for bus in range(BUSES)
]
NEWEST = {one.entity_id: one for one in FLEET}
WITHIN = ("within_write", "within_write:2")  # of the first batch, and of the second


@pytest.fixture(scope="module")
def topics(kafka: str) -> Topics:
    """One topic for all sinks: each reads it as a group of its own. Some of it came twice."""
    made = Topics.of(f"sinks{os.getpid()}")
    bus_feed.create_topics(kafka, made, partitions=2)
    publish(kafka, made, FLEET + FLEET[500:700])
    return made


def publish(bootstrap: str, topics: Topics, records: list[Forecast], **more: Any) -> None:
    producer = KafkaProducer(bootstrap_servers=bootstrap, linger_ms=20)
    for one in records:
        producer.send(topics.forecasts, dumps(one), key=one.entity_id.encode(), **more)
    producer.flush()
    producer.close()


@pytest.fixture(scope="module")
def postgres(say: Callable[[str], None]) -> Iterator[str]:
    try:
        with postgres_server.running(say) as url:
            yield url
    except postgres_server.Unavailable as reason:
        skip_unless_required(reason)


def sink(kafka: str, topics: Topics, *store: object, kill: str = "", group: str) -> None:
    """Runs one to the present end; with `kill`, to that place, where it must have died."""
    options = ("--once", "--bootstrap", kafka, "--prefix", topics.prefix, "--group", group)
    told = pathcast("export", *store, *options, env=environment(**({VARIABLE: kill} if kill else {})))
    assert told.returncode == (-signal.SIGKILL if kill else 0), told.stderr.decode()
    if kill:
        bury(kafka, group)


def killed_and_then_whole(kafka: str, topics: Topics, *store: object, points: Sequence[str], group: str) -> None:
    """Kills one at each of these places, and lets another go up to the present end. Only the last place may be one in
    the second batch, because the first one may be committed then."""
    for point in points:
        sink(kafka, topics, *store, kill=point, group=group)
    sink(kafka, topics, *store, group=group)


def rows(url: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(query).fetchall()  # type: ignore[arg-type]  # ours


# -- PostGIS


def test_postgis_has_every_forecast_once_wherever_the_sink_was_killed(
    kafka: str, topics: Topics, postgres: str
) -> None:
    """What reads and commits is the same for all stores, so that all places are tried here, and one of Redis."""
    where = ("postgis", "--postgres", postgres, "--schema", "killed")
    points = [*OF_SINKS, "within_write:2"]
    killed_and_then_whole(kafka, topics, *where, points=points, group="killed")
    found = rows(postgres, "SELECT forecast_id, entity_id, ST_Y(position), ST_X(position) FROM killed.forecasts")
    assert sorted(found) == sorted((one.forecast_id, one.entity_id, one.anchor.lat, one.anchor.lon) for one in FLEET)
    ahead = rows(postgres, "SELECT forecast_id, h_s, ST_Y(position), cov_nn_m2 FROM killed.forecast_positions")
    assert sorted(ahead) == sorted((one.forecast_id, h.h_s, h.lat, h.cov_m2[2]) for one in FLEET for h in one.horizons)


def test_postgis_views_have_the_newest_and_its_horizons(kafka: str, topics: Topics, postgres: str) -> None:
    sink(kafka, topics, "postgis", "--postgres", postgres, "--schema", "Of us", group="views")
    newest = dict(rows(postgres, 'SELECT entity_id, forecast_id FROM "Of us".forecasts_newest'))
    assert newest == {entity: one.forecast_id for entity, one in NEWEST.items()}
    near = rows(
        postgres,
        'SELECT entity_id, extract(epoch FROM ts) FROM "Of us".positions_newest WHERE h_s = 300'
        " ORDER BY position <-> ST_SetSRID(ST_MakePoint(-96.994, 30.00), 4326), entity_id LIMIT 1",
    )
    assert near == [("bus-0", T0 / 1000 + 60 * (STEPS - 1) + 300)]
    assert rows(postgres, 'SELECT ST_SRID(position), GeometryType(next_position) FROM "Of us".forecasts LIMIT 1') == [
        (4326, "POINT")
    ]
    rows(postgres, 'DELETE FROM "Of us".forecasts RETURNING 1')
    assert rows(postgres, 'SELECT count(*) FROM "Of us".forecast_positions') == [(0,)]


def test_a_database_that_is_away_is_waited_for(kafka: str, topic_prefix: str, postgres: str, tmp_path: Path) -> None:
    """It ends the sink's connection, as at a restart."""
    topics, schema = Topics.of(topic_prefix), topic_prefix
    bus_feed.create_topics(kafka, topics, partitions=1)
    store = ("postgis", "--postgres", postgres, "--schema", schema)
    where = {"bootstrap": kafka, "prefix": topic_prefix, "group": topic_prefix}
    steps = count()

    def written() -> int:
        publish(kafka, topics, [forecast("bus", next(steps))])
        return int(rows(postgres, f"SELECT count(*) FROM {schema}.forecasts")[0][0])

    with Worker(tmp_path / "log", command=("export", *store), **where) as running:
        assert eventually(lambda: tables(postgres, schema) == 2)
        assert eventually(lambda: written() > 0)
        ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pathcast sink'"
        assert rows(postgres, ended) == [(True,)]
        before = written()
        assert eventually(lambda: written() > before + 1)
        running.wait_for("answers again", PATIENCE_S)
        assert running.stop() == 0
    sink(kafka, topics, *store, group=topic_prefix)
    assert rows(postgres, f"SELECT count(*) FROM {schema}.forecasts") == [(next(steps),)]


def tables(url: str, schema: str) -> int:
    found = rows(
        url,
        f"SELECT count(*) FROM information_schema.tables WHERE table_schema = '{schema}' AND table_type = 'BASE TABLE'",
    )
    return int(found[0][0])


def test_a_user_whom_the_database_does_not_know_is_one_line(kafka: str, topics: Topics, postgres: str) -> None:
    places = {"url": postgres.replace("postgres@", "nobody@"), "kafka": kafka, "prefix": topics.prefix}
    command = "export postgis --postgres {url} --bootstrap {kafka} --prefix {prefix}"
    assert_refused(Refusal(command, 1, "does not exist"), places)


# -- Redis


@pytest.mark.promise("a sink has the newest of each entity, although it was killed")
def test_redis_has_the_newest_of_each_although_the_sink_was_killed(kafka: str, topics: Topics, redis_url: str) -> None:
    where = ("redis", "--redis", redis_url)
    killed_and_then_whole(kafka, topics, *where, points=WITHIN, group="redis")
    with Redis.from_url(redis_url, decode_responses=True) as client:
        assert client.smembers("pathcast:geo:places") == {"now", "next", "60s", "300s", "900s"}
        assert client.zcard("pathcast:geo:now") == BUSES
        for name, place in {"now": lambda one: one.anchor, "900s": lambda one: one.horizons[2]}.items():
            at = client.geopos(f"pathcast:geo:{name}", *NEWEST)
            for one, (lon, lat) in zip(NEWEST.values(), at, strict=True):
                assert (lat, lon) == pytest.approx((place(one).lat, place(one).lon), abs=1e-5)
        near = client.geosearch("pathcast:geo:300s", longitude=-96.994, latitude=30.0, radius=2, unit="km", sort="ASC")
        assert near[0] == "bus-0"
        assert client.zscore("pathcast:geo:ts", "bus-0") == T0 + 60_000 * (STEPS - 1)
        assert 3_000_000 < client.pttl("pathcast:geo:now") <= 3_600_000


def test_an_older_forecast_moves_nothing_and_a_pole_is_left_out(kafka: str, topic_prefix: str, redis_url: str) -> None:
    topics = Topics.of(topic_prefix)
    bus_feed.create_topics(kafka, topics, partitions=1)
    publish(kafka, topics, [forecast("bus", 5, lat=40.0), forecast("pole", 1, lat=85.05)])
    sink(kafka, topics, "redis", "--redis", redis_url, group=topic_prefix)
    publish(kafka, topics, [forecast("bus", 4, lat=50.0), forecast("pole", 2, lat=89.0)])
    sink(kafka, topics, "redis", "--redis", redis_url, group=topic_prefix)
    with Redis.from_url(redis_url, decode_responses=True) as client:
        (bus, pole) = client.geopos("pathcast:geo:now", "bus", "pole")
        assert bus == pytest.approx((-97.0, 40.0), abs=1e-5)
        assert pole is None, "its former place is gone, too"


def test_a_silent_entity_is_removed_while_others_stay(
    kafka: str, topic_prefix: str, redis_url: str, tmp_path: Path
) -> None:
    topics = Topics.of(topic_prefix)
    bus_feed.create_topics(kafka, topics, partitions=1)
    steps = iter(range(10_000))
    command = ("export", "redis", "--redis", redis_url, "--expire", "5s")
    with (
        Worker(tmp_path / "log", command=command, bootstrap=kafka, prefix=topic_prefix, group=topic_prefix) as running,
        Redis.from_url(redis_url, decode_responses=True) as client,
    ):

        def placed(*who: str) -> set[str]:
            """Who has a place while these speak."""
            publish(kafka, topics, [forecast(one, next(steps)) for one in who])
            return set(client.zrange("pathcast:geo:now", 0, -1))

        assert eventually(lambda: placed("silent", "speaks") == {"silent", "speaks"})  # whenever the sink has begun
        assert eventually(lambda: placed("speaks") == {"speaks"})
        for name in ("next", "60s", "300s", "900s", "ts", "heard"):
            assert client.zrange(f"pathcast:geo:{name}", 0, -1) == ["speaks"]
        assert running.stop() == 0
        assert re.search(r"[1-9]\d* silent entities removed", running.log())
