"""`pathcast up`: all of one machine under one parent. A killed worker comes back, and at the end nothing is left."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import time
import urllib.request
import zipfile
from collections.abc import Callable, Mapping
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import bus_feed
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import worker_pages
from google.transit.gtfs_realtime_pb2 import FeedMessage
from pathcast_process import COMMAND, eventually, pathcast, processes_of
from pathcast_process import environment as plain_environment
from trips_rig import AUSTIN
from worker_process import Worker, assert_all_live

from stream.demo.atlas import DAY
from stream.wire import Forecast, Topics, loads_forecast
from stream.wire.ids import forecast_id

PINGS = 6_000
SEED = 5
FIRST_S = 300.0  # a bound on waiting for what takes less than a minute on an idle machine
PARTITIONS = 4


def pids(up: Worker, name: str) -> list[int]:
    """Of this part's processes so far; the last may live."""
    return [int(pid) for pid in re.findall(rf"^{name} \| is process (\d+)$", up.log(), re.MULTILINE)]


def log(home: Path, name: str) -> str:
    path = home / "logs" / f"{name}.log"
    return path.read_text(errors="replace") if path.exists() else ""


def ready(home: Path, name: str) -> bool:
    """Whether its newest process has taken over partitions."""
    return "ready: partitions" in log(home, name).rpartition("INFO pathcast ")[2]


def stopped(up: Worker) -> list[str]:
    """The parts in the order of their ends."""
    return re.findall(r"^(\S+) \| has stopped$", up.log(), re.MULTILINE)


def ids(said: list[Forecast]) -> list[str]:
    """Without the version of the atlas that was asked: at a full hour one is made, and is part of an id."""
    return [forecast_id(one.entity_id, one.anchor.ts, one.model.version) for one in said]


PARTS = ("beside", "serve", "ingest")
POSITION = {
    "ident": "352625333222111",
    "timestamp": 1_490_094_006,
    "position.latitude": 30.2672,
    "position.longitude": -97.7431,
}


def listening(up: Worker, name: str) -> str:
    """Where a part says that it listens, as soon as it does."""
    said = re.compile(rf"^{name} \| listens at (http://\S+):", re.MULTILINE)
    assert eventually(lambda: said.search(up.log()) is not None), up.log()
    return said.findall(up.log())[0]


def posted(url: str, body: object) -> dict[str, Any]:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as said:
        answer: dict[str, Any] = json.loads(said.read())
    return answer


def start(tmp_path: Path, home: Path, environment: Mapping[str, str], **options: Any) -> Worker:
    """With an API that yields to nobody: on a busy machine it would not end in the time that it has for it."""
    return Worker(
        tmp_path / "said",
        program=COMMAND,
        command=("up",),
        environment={
            "PATHCAST_SESSION_TIMEOUT_S": "6",
            "PATHCAST_SERVE_NICE": "0",
            **environment,
        },
        dir=home,
        metrics=0,
        serve=0,
        ingest=0,
        without="refresh",
        **options,
    )


@pytest.mark.promise("`up` runs every part, starts a dead worker again, and leaves nothing at its end")
def test_a_killed_worker_comes_back_and_ctrl_c_leaves_nothing(
    apache_kafka: str, redis_url: str, topic_prefix: str, weights: Path, tmp_path: Path
) -> None:
    home, topics = tmp_path / "data", Topics.of(topic_prefix)
    servers = {"bootstrap": apache_kafka, "redis": redis_url, "prefix": topic_prefix}
    records = bus_feed.fleet(PINGS, seed=SEED)
    running = start(tmp_path, home, {"PATHCAST_WEIGHTS": str(weights)}, **servers, workers=2, partitions=PARTITIONS)
    with running as up:
        check = partial(assert_all_live, up)
        for name in ("worker-1", "worker-2"):
            assert eventually(lambda name=name: check() or ready(home, name), 300.0), up.log()  # type: ignore[misc]
        bus_feed.send(apache_kafka, topics.pings, islice(records, PINGS // 2))
        bus_feed.wait_for_records(apache_kafka, topics.forecasts, 1, check)

        os.kill(pids(up, "worker-1")[0], signal.SIGKILL)
        bus_feed.send(apache_kafka, topics.pings, records)
        assert eventually(lambda: len(pids(up, "worker-1")) == 2 and ready(home, "worker-1")), up.log()
        assert "worker-1 | ended with signal 9 (Killed) after" in up.log()
        bus_feed.wait_until_consumed(apache_kafka, topic_prefix, topics.pings, check)
        bus_feed.wait_until_consumed(apache_kafka, f"{topic_prefix}-scores", topics.forecasts, check)

        entity = loads_forecast(next(bus_feed.read(apache_kafka, topics.forecasts)).value or b"").entity_id
        assert eventually(lambda: worker_pages.ask(f"{listening(up, 'serve')}/readyz")[0] == 200), up.log()
        status, said = worker_pages.ask(f"{listening(up, 'serve')}/v1/entities/{entity}/forecast?horizon_s=600")
        assert (status, json.loads(said)["entity_id"]) == (200, entity), said
        status, said = worker_pages.ask(f"{listening(up, 'serve')}/map/search?q={entity}")
        assert (status, json.loads(said)["ids"][0]) == (200, entity), said
        assert posted(f"{listening(up, 'ingest')}/webhook/flespi", [POSITION])["pings"] == 1
        bus_feed.wait_until_consumed(apache_kafka, f"{topic_prefix}-latest", topics.forecasts, check)
        bus_feed.wait_until_consumed(apache_kafka, f"{topic_prefix}-arrivals", topics.forecasts, check)
        assert {record.key for record in bus_feed.read(apache_kafka, topics.latest)} >= {entity.encode()}

        for name in ("worker-2", *PARTS):
            assert len(pids(up, name)) == 1, f"{name} went on: {up.log()}"
        assert len(processes_of(home)) >= 5, "the search below would find what is left"
        free = ("--metrics", "", "--serve", 0, "--ingest", 0)
        refused = pathcast("up", "--dir", home, *free, "--bootstrap", apache_kafka, "--redis", redis_url)
        assert refused.returncode == 1
        assert b"error: another pathcast up, process" in refused.stderr

        up.send_signal(signal.SIGINT)
        assert up.wait() == 0, up.log()
        everybody = [pid for name in ("worker-1", "worker-2", *PARTS) for pid in pids(up, name)]
        assert not processes_of(home)
        assert not [pid for pid in everybody if Path(f"/proc/{pid}").exists()]
        assert up.log().splitlines()[-1] == "stopped; nothing is left running"
        assert set(stopped(up)[:2]) == {"worker-1", "worker-2"}, "they drain first"

    sent = list(bus_feed.read(apache_kafka, topics.pings))
    assert [one.key for one in sent].count(POSITION["ident"].encode()) == 1
    said = [loads_forecast(record.value or b"") for record in bus_feed.read(apache_kafka, topics.forecasts)]
    due = bus_feed.expected(sent, window_fixes=10**6, version=said[0].model.version)
    assert set(ids(said)) == due.windows.keys()
    manifests = sorted((home / "archive" / topics.pings / "landed").iterdir())  # of a partition, the last one counts
    ends = {one.name[:6]: json.loads(one.read_text().splitlines()[0])["next_offset"] for one in manifests}
    assert sum(ends.values()) == PINGS + 1, "the archive landed before it stopped"


def test_embedded_servers_keep_what_they_have_over_a_restart_and_kill_9_leaves_nothing(
    topic_prefix: str, weights: Path, tmp_path: Path
) -> None:
    home, topics = tmp_path / "data", Topics.of(topic_prefix)
    settings = {"PATHCAST_WEIGHTS": str(weights), "PATHCAST_GROUP": topic_prefix}

    def started() -> Worker:
        return start(tmp_path, home, settings, prefix=topic_prefix)

    def address(up: Worker) -> str:
        up.wait_for(" parts are started; pings go to ", 120.0)
        found = re.search(r"^kafka \| embedded, at (\S+)", up.log(), re.MULTILINE)
        assert found is not None
        return found[1]

    records = bus_feed.fleet(400, seed=SEED)
    with started() as up:
        bootstrap = address(up)
        bus_feed.send(bootstrap, topics.pings, islice(records, 200))
        bus_feed.wait_until_consumed(bootstrap, topic_prefix, topics.pings, partial(assert_all_live, up))
        before = len(list(bus_feed.read(bootstrap, topics.forecasts)))
        assert before > 0
        second_terminal = plain_environment(PATHCAST_DIR=str(home))
        tail = ("tail", "forecasts", "--from", "earliest", "--no-follow", "--json")
        told = pathcast(*tail, env=second_terminal)
        assert len(told.stdout.splitlines()) == before, told
        for what in ("list", "atlas"):
            assert (told := pathcast("models", what, env=second_terminal)).returncode == 0, told
        assert up.stop() == 0, up.log()
        told = pathcast(*tail, env=second_terminal)
        assert (told.returncode, b"has ended, and with it the server at" in told.stderr) == (1, True), told
        assert not processes_of(home)
        assert stopped(up)[0] == "worker-1"
        assert set(stopped(up)[-2:]) == {"kafka", "redis"}, "the servers are there until all others have ended"
    with started() as up:
        bootstrap = address(up)
        assert len(list(bus_feed.read(bootstrap, topics.forecasts))) == before
        bus_feed.send(bootstrap, topics.pings, records)
        bus_feed.wait_until_consumed(bootstrap, topic_prefix, topics.pings, partial(assert_all_live, up))
        said = [loads_forecast(record.value or b"") for record in bus_feed.read(bootstrap, topics.forecasts)]
        sent = list(bus_feed.read(bootstrap, topics.pings))
        due = bus_feed.expected(sent, window_fixes=10**6, version=said[0].model.version)
        assert sorted(ids(said)) == sorted(due.windows), "it went on with the states that it had"
        up.kill()
        assert eventually(lambda: not processes_of(home)), processes_of(home)


@pytest.mark.promise("with `up --history`, forecasts use what the fleet drove before from the first minute on")
def test_with_a_history_the_first_forecasts_use_an_atlas(
    topic_prefix: str, tmp_path: Path, say: Callable[[str], None]
) -> None:
    """The history is a day of Austin's buses, and some of them report now."""
    home, topics = tmp_path / "data", Topics.of(topic_prefix)
    settings = {"PATHCAST_GROUP": topic_prefix}
    pings = iter(bus_feed.sample())

    def began(up: Worker) -> str:
        up.wait_for("worker-1 | is process", 120.0)
        found = re.search(r"^kafka \| embedded, at (\S+)", up.log(), re.MULTILINE)
        assert found is not None
        return found[1]

    def moved(bootstrap: str) -> list[Forecast]:
        """Sends what 36 buses report in some seconds, and returns the forecasts so far that rest on passages."""
        bus_feed.send(bootstrap, topics.pings, islice(pings, 10))
        said = (loads_forecast(one.value or b"") for one in bus_feed.read(bootstrap, topics.forecasts))
        return [one for one in said if one.atlas is not None and one.atlas.pings]

    with start(tmp_path, home, settings, prefix=topic_prefix, history=DAY) as up:
        bootstrap, begun_s = began(up), time.monotonic()
        assert eventually(lambda: bool(assert_all_live(up) or moved(bootstrap)), FIRST_S), up.log()
        say(f"the first forecast that an atlas moved came {time.monotonic() - begun_s:.1f} s after the worker's start")
        first = moved(bootstrap)[0].atlas
        assert first is not None
        assert f"history: 30,157 pings of {DAY}, 1 record left out" in up.log()
        made = re.search(r"version (\w+): ([\d,]+) pings of", log(home, "beside"))
        assert made is not None
        assert (made[1], int(made[2].replace(",", "")) >= 30_157) == (first.version, True)
        assert up.stop() == 0, up.log()
    with start(tmp_path, home, settings, prefix=topic_prefix, history=DAY) as up:
        up.wait_for("is known already", 120.0)
        assert up.stop() == 0, up.log()
        assert "history: reading" not in log(home, "beside").rpartition("is known already")[2]


def test_a_schedule_and_a_recording_become_arrivals_for_trip_planners(
    apache_kafka: str, redis_url: str, topic_prefix: str, weights: Path, tmp_path: Path
) -> None:
    """The three commands of stream/transit/README.md."""
    home, recording = tmp_path / "data", tmp_path / "buses.parquet"
    with zipfile.ZipFile(AUSTIN) as fixture:
        table = pq.read_table(io.BytesIO(fixture.read("pings.parquet")))
    early = pc.less(table["t"], pa.scalar(pc.min(table["t"]).as_py() + 2_700_000))
    pq.write_table(table.filter(early), recording)
    servers = {"bootstrap": apache_kafka, "redis": redis_url, "prefix": topic_prefix}
    environment = {"PATHCAST_WEIGHTS": str(weights)}
    with start(tmp_path, home, environment, **servers, workers=1, partitions=2, gtfs=AUSTIN) as up:
        address = listening(up, "serve")
        fed = pathcast("feed", recording, "--speedup", 0, "--bootstrap", apache_kafka, "--prefix", topic_prefix)
        assert fed.returncode == 0, fed.stderr
        assert eventually(lambda: len(trip_updates(address).entity) > 5, FIRST_S), log(home, "beside")
        message = trip_updates(address)
        named = set(table["trip_id"].to_pylist())
        assert {one.trip_update.trip.trip_id for one in message.entity} <= named
        calls = [call for one in message.entity for call in one.trip_update.stop_time_update]
        assert all(call.arrival.time and call.arrival.uncertainty for call in calls if call.HasField("arrival"))
        assert up.stop() == 0, up.log()


def trip_updates(address: str) -> FeedMessage:
    with urllib.request.urlopen(f"{address}/gtfs-rt/trip-updates.pb", timeout=60) as said:
        return FeedMessage.FromString(said.read())
