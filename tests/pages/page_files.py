"""Files that the pages speak of, such as fleet.csv, week.parquet and runs/mine; and records in the topics. Tests import
this; it tests nothing itself."""

from __future__ import annotations

import csv
import gzip
import json
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

import bus_feed
from kafka import KafkaProducer
from page_runs import Scene
from pathcast_process import COMMAND, environment

from stream.wire import Ping, Topics, dumps

BUSES = ("5012", "5021", "2211")  # of the sample; each falls silent, so that there are gaps to fill
PARTITIONS = 2


class Once(NamedTuple):
    """What several blocks want, made once."""

    invented: Path
    forecasts: Path


def once(folder: Path) -> Once:
    made = Once(folder / "invented.parquet", folder / "forecasts.ndjson")
    pathcast(folder, "train", "synth", "--out", made.invented, "--entities", 24, "--per-town", 24)
    buses = folder / "buses.csv"
    buses.write_text(
        _sample(lambda row: f"{row['entity_id']},{row['t']},{row['lat']},{row['lon']}", "entity_id,t,lat,lon")
    )
    pathcast(folder, "replay", buses, "--out", made.forecasts)
    return made


def pathcast(folder: Path, *arguments: object) -> None:
    ran = subprocess.run(
        [*COMMAND, *map(str, arguments)],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr


def create_topics(bootstrap: str, prefix: str) -> None:
    bus_feed.create_topics(bootstrap, Topics.of(prefix), partitions=PARTITIONS)


def rows() -> list[dict[str, str]]:
    with gzip.open(bus_feed.SAMPLE, "rt", newline="") as file:
        return [row for row in csv.DictReader(file) if row["entity_id"] in BUSES]


def _sample(line: Callable[[dict[str, str]], str], head: str) -> str:
    return "\n".join([head, *map(line, rows())]) + "\n"


def invented(scene: Scene) -> list[dict[str, object]]:
    from pyarrow import parquet

    found: list[dict[str, object]] = parquet.read_table(scene.invented).to_pylist()
    return found


# -- files by the names that the pages have ----------------------------------------------------------------------------


def last_month(scene: Scene) -> None:
    """A fleet's earlier tracks, by names of others."""
    (scene.folder / "last-month.csv").write_text(
        _sample(lambda row: f"{row['entity_id']},{row['t']},{row['lat']},{row['lon']}", "vehicle,time,lat,lon")
    )


def samples(scene: Scene) -> None:
    """The recordings that the clone has, at their place in it."""
    folder = scene.folder / "stream" / "demo" / "sample"
    folder.mkdir(parents=True)
    for one in bus_feed.SAMPLE.parent.glob("*.csv.gz"):
        shutil.copy(one, folder)


def fleet_of_xy(scene: Scene) -> None:
    """Three buses, with an id, epoch seconds, x and y, by names of others; and other files that are taken in."""
    text = _sample(
        lambda row: f"{row['entity_id']},{int(row['t']) // 1000},{row['lat']},{row['lon']}", "vehicle,timestamp,y,x"
    )
    (scene.folder / "fleet.csv").write_text(text)
    (scene.folder / "history").mkdir()
    shutil.copy(scene.invented, scene.folder / "history" / "2026-11-01.parquet")
    for folder in ("var/log", "var/lib/pathcast"):
        (scene.folder / folder).mkdir(parents=True)
    pings = (_ping(row) for row in rows()[:50])
    (scene.folder / "var/log/gps.ndjson").write_bytes(b"".join(dumps(one) + b"\n" for one in pings))


def trained_csv(scene: Scene) -> None:
    """Invented vehicles as fleet.csv: the demo's buses are in no training set."""
    lines = [f"{row['entity_id']},{int(str(row['t'])) // 1000},{row['lat']},{row['lon']}" for row in invented(scene)]
    (scene.folder / "fleet.csv").write_text("\n".join(["vehicle,timestamp,lat,lon", *lines]) + "\n")


def tracks(*names: str) -> Callable[[Scene], None]:
    """Invented vehicles under other names."""

    def write(scene: Scene) -> None:
        for name in names:
            shutil.copy(scene.invented, scene.folder / name)

    return write


def exports(scene: Scene) -> None:
    """Forecasts in the topic and in a file, and pings in a file."""
    forecasts(scene)
    shutil.copy(scene.forecasts, scene.folder / "forecasts.ndjson")
    (scene.folder / "pings.ndjson").write_bytes(b"".join(dumps(_ping(row)) + b"\n" for row in rows()[:200]))


def weights(name: str) -> Callable[[Scene], None]:
    """Weights of one's own, as `pathcast train` writes them."""

    def write(scene: Scene) -> None:
        tracks("taxis.parquet")(scene)
        pathcast(scene.folder, "train", "--data", "taxis.parquet", "--init", "small", "--steps", 1, "--out", name)

    return write


# -- records in the topics ---------------------------------------------------------------------------------------------


def _ping(row: Mapping[str, str]) -> Ping:
    return Ping(entity_id=row["entity_id"], ts=int(row["t"]), lat=float(row["lat"]), lon=float(row["lon"]))


def pings(scene: Scene, count: int = 100) -> None:
    """Of the sample's buses."""
    made = [_ping(row) for row in rows()[:count]]
    bus_feed.send(
        scene.bootstrap, Topics.of(scene.prefix).pings, iter((one.entity_id.encode(), dumps(one), ()) for one in made)
    )


def recent_pings(scene: Scene) -> None:
    """Of invented vehicles, one of which is bus-7, up to a minute ago."""
    found = invented(scene)
    later_ms = int(time.time() * 1000) - 60_000 - max(int(str(row["t"])) for row in found)
    first = found[0]["entity_id"]

    def raw(row: Mapping[str, object]) -> bus_feed.Raw:
        entity = "bus-7" if row["entity_id"] == first else str(row["entity_id"])
        one = Ping(
            entity_id=entity, ts=int(str(row["t"])) + later_ms, lat=float(str(row["lat"])), lon=float(str(row["lon"]))
        )
        return entity.encode(), dumps(one), ()

    bus_feed.send(scene.bootstrap, Topics.of(scene.prefix).pings, map(raw, found))


def forecasts(scene: Scene) -> None:
    """Of three buses, as a worker would have published them."""
    producer = KafkaProducer(bootstrap_servers=scene.bootstrap)
    for line in scene.forecasts.read_bytes().splitlines()[:300]:
        record = json.loads(line)
        if "forecast_id" in record:
            producer.send(Topics.of(scene.prefix).forecasts, key=record["entity_id"].encode(), value=line)
    producer.flush()
    producer.close()


# -- sources that are not of this project ------------------------------------------------------------------------------


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Files over HTTP, on loopback: HOST:PORT."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
