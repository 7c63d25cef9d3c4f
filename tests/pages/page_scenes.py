"""What has to be there while a block of commands runs: another system's server, a receiver, a registry. Tests import
this; it tests nothing itself. Each yields what is written otherwise in the block."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import feed_sources
import mosquitto_server
import page_files
import postgres_server
import schema_registry
from kafka import KafkaProducer
from missing_servers import skip_unless_required
from page_blocks import ROOT
from page_runs import Scene

from stream.bench.harness.servers import Unavailable
from stream.up.embedded import free_port
from stream.wire import Topics

Changes = Mapping[str, str]
FLESPI = ROOT / "tests" / "stream" / "adapters" / "live" / "fixtures"


def quiet(line: str) -> None:
    """Says nothing: these servers are no choice of the tests."""


def ports(*written: str) -> Changes:
    """Free ports in place of those of the page: it may have others of its own."""
    return {one: one.replace(one.rpartition(":")[2].rpartition(" ")[2], str(free_port())) for one in written}


# -- stores ------------------------------------------------------------------------------------------------------------


@contextmanager
def other_redis(scene: Scene) -> Iterator[Changes]:
    page_files.forecasts(scene)
    port = urlsplit(scene.redis_url).port
    yield {
        "redis://localhost:6379/1": f"{scene.redis_url.rpartition('/')[0]}/1",
        "redis-cli -n 1": f"redis-cli -p {port} -n 1",
    }


@contextmanager
def postgis(scene: Scene) -> Iterator[Changes]:
    page_files.forecasts(scene)
    try:
        with postgres_server.running(quiet) as url:
            yield {"postgresql://pathcast@localhost/fleet": url, "psql fleet": f"psql {url}"}
    except postgres_server.Unavailable as reason:
        skip_unless_required(str(reason))


@contextmanager
def apicurio(scene: Scene) -> Iterator[Changes]:
    page_files.forecasts(scene)
    try:
        with schema_registry.running(quiet) as url:
            yield {"http://registry:8081": url, "http://apicurio:8080/apis/ccompat/v7": url}
    except Unavailable as reason:
        skip_unless_required(str(reason))


# -- sources -----------------------------------------------------------------------------------------------------------


@contextmanager
def feeds(scene: Scene) -> Iterator[Changes]:
    """Vehicles and aircraft, each further north at each look."""
    now_s = int(time.time())

    def vehicles(look: int) -> bytes:
        return feed_sources.gtfs_feed(now_s + look, [("7", look), ("8", look)])

    def aircraft(look: int) -> bytes:
        one = {"hex": "a1b2c3", "lat": 30.0 + look * 0.001, "lon": -97.7, "seen_pos": 0.5, "alt_baro": 1_000, "gs": 120}
        return json.dumps({"now": now_s + look, "messages": look, "aircraft": [one]}).encode()

    with feed_sources.HttpFeed(vehicles) as transit, feed_sources.HttpFeed(aircraft) as planes:
        yield {
            "https://example.org/vehicle-positions.pb --every 15s": f"{transit.url} --every 1s",
            "http://localhost/tar1090/data/aircraft.json": planes.url,
        }


@contextmanager
def receiver(scene: Scene) -> Iterator[Changes]:
    """An AIS receiver, and ports of ours where others may come."""
    with feed_sources.tcp_peer() as (address, _):
        yield {"receiver.local:10110": address, **_doors(10110)}


def _doors(port: int) -> Changes:
    return {f"{way} 0.0.0.0:{port}": f"{way} 127.0.0.1:{free_port()}" for way in ("--listen-udp", "--listen-tcp")}


@contextmanager
def gps(scene: Scene) -> Iterator[Changes]:
    with feed_sources.serial_line() as (_, port), feed_sources.tcp_peer() as (address, _):
        yield {"/dev/ttyUSB0": port, "boat.local:10111": address, **_doors(10111)}


@contextmanager
def mosquitto(scene: Scene) -> Iterator[Changes]:
    with mosquitto_server.running(scene.folder) as broker:
        yield {"localhost:1883": broker.broker}


def webhook(scene: Scene) -> Changes:
    (scene.folder / "message.json").write_text(json.dumps(flespi(0)))
    return {"127.0.0.1:8080": f"127.0.0.1:{free_port()}"}


def flespi(number: int) -> dict[str, object]:
    at = {"position.latitude": 30.2 + 0.001 * number, "position.longitude": -97.7, "position.speed": 36.0}
    return {"ident": "352093081452251", "timestamp": int(time.time()) - 600 + 30 * number, **at}


def flespi_records(scene: Scene) -> None:
    """Messages of another system in the pings topic, and in a file."""
    found = [json.dumps(flespi(number)).encode() for number in range(12)]
    (scene.folder / "recorded.ndjson").write_bytes(b"".join(one + b"\n" for one in found))
    producer = KafkaProducer(bootstrap_servers=scene.bootstrap)
    for one in found:
        producer.send(Topics.of(scene.prefix).pings, key=b"352093081452251", value=one)
    producer.flush()
    producer.close()


# -- services ----------------------------------------------------------------------------------------------------------


@contextmanager
def driving(scene: Scene) -> Iterator[Changes]:
    """Vehicle 12 drives, and workers forecast it; earlier tracks, and areas."""
    page_files.tracks("last-week.parquet")(scene)
    square = [[-97.75, 30.2], [-97.7, 30.2], [-97.7, 30.3], [-97.75, 30.3], [-97.75, 30.2]]
    shape = {"type": "Polygon", "coordinates": [square]}
    fence = {"type": "Feature", "id": "depots", "properties": {"geofence_id": "depots"}, "geometry": shape}
    (scene.folder / "depots.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": [fence]}))
    stop = threading.Event()
    lines = [json.loads(line) for line in scene.forecasts.read_text().splitlines()]
    mine = [
        {**one, "entity_id": "12"}
        for one in lines
        if one.get("entity_id") == page_files.BUSES[0] and "forecast_id" in one
    ]

    def publish() -> None:
        producer = KafkaProducer(bootstrap_servers=scene.bootstrap)
        for one in mine:
            producer.send(Topics.of(scene.prefix).forecasts, key=b"12", value=json.dumps(one).encode())
            if stop.wait(0.5):
                break
        producer.close()

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        yield {}
    finally:
        stop.set()
        thread.join()


def registry(scene: Scene) -> Changes:
    """A registry with two versions, `small` and one that was trained on; and weights to publish."""
    page_files.weights("runs/austin")(scene)
    url = scene.folder / "versions"
    found = [_published(scene, name, url) for name in ("small", "small-research")]
    return {"s3://bucket/pathcast": str(url), "3fa1": found[0][:8], "88c0": found[1][:8]}


def to_promote(scene: Scene) -> Changes:
    """Weights that are no version yet, and a registry in use: `small` serves, and is what a rollback goes back to."""
    from model.api import load_weights

    page_files.weights("runs/november")(scene)
    registry = scene.folder / "srv" / "pathcast"
    small = _published(scene, "small", registry)
    where = ("--registry", registry, "--bootstrap", scene.bootstrap, "--prefix", scene.prefix)
    page_files.pathcast(scene.folder, "models", "promote", small[:8], *where)
    return {"3fa1": load_weights(scene.folder / "runs/november").fingerprint().hex()[:8]}


def serving_registry(scene: Scene) -> Changes:
    """A registry whose `small` may be refreshed, and recent pings."""
    page_files.recent_pings(scene)
    _published(scene, "small", scene.folder / "srv" / "pathcast")
    return {}


def _published(scene: Scene, weights: str, registry: Path) -> str:
    import model
    from model.api import load_weights

    at = Path(model.__file__).parent / "weights" / weights
    page_files.pathcast(scene.folder, "models", "publish", at, "--registry", registry)
    return load_weights(weights).fingerprint().hex()


def released(scene: Scene) -> Changes:
    """A clone, with the schemas as they are here. In a shallow one, HEAD^ is not there."""
    subprocess.run(["git", "clone", "-q", "--shared", str(ROOT), str(scene.folder)], check=True)
    subprocess.run(["cp", "-r", str(ROOT / "deploy"), str(scene.folder)], check=True)
    asked = ["git", "-C", str(scene.folder), "rev-parse", "-q", "--verify", "HEAD^"]
    return {} if subprocess.run(asked, check=False, capture_output=True).returncode == 0 else {"HEAD^": "HEAD"}
