"""What a worker of an older release leaves in Kafka and Redis: read from real servers, kept in a file, and put back
into others. Tests import this, and tests/system/releases/record.py; it tests nothing itself."""

from __future__ import annotations

import json
import lzma
import subprocess
import sys
import tarfile
import time
from base64 import b64decode, b64encode
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import bus_feed
import typer
from kafka import KafkaConsumer, KafkaProducer
from kafka.admin import ConfigResource, ConfigResourceType
from redis import Redis
from typer.testing import CliRunner

from stream.kafka import admin
from stream.verify.cli import verify
from stream.wire import Topics

REPOSITORY = Path(__file__).parents[3]
LAST_RELEASE = "e955a07"  # the last commit of 29 November 2026: 0.1.0
FIXTURE = Path(__file__).parents[1] / "releases" / "left_by_0.1.0.json.xz"
PARTITIONS = 3
# A worker of the tree that PYTHONPATH names; -P keeps the folder that the tests run in off its path. The root command
# would look for commands that the older tree does not have.
WORKER = [sys.executable, "-P", "-c", "import typer; from stream.worker.cli import worker; typer.run(worker)"]
# Fields of Topics, as the input is.
OUTPUTS = ("forecasts", "gapfills", "dead_letters")

_VERIFY = typer.Typer(pretty_exceptions_enable=False)
_VERIFY.command()(verify)

Kept = tuple[int, int, str | None, str | None, list[tuple[str, str]]]  # partition, timestamp_ms, key, value, headers


@dataclass(frozen=True)
class Left:
    """One worker's leavings. Bytes are in base64; times are as they were at `recorded_ms`."""

    prefix: str  # of topics; the group has its name, too
    delivery: str
    ended: str  # stopped, or killed
    weights: dict[str, str]  # files of the worker's own weights; empty: the bundled ones
    version: str  # of the weights, as forecasts name it
    recorded_ms: int
    topics: dict[str, list[Kept]]  # by their field in Topics
    rest: list[Kept]  # of the input: published once the older worker was gone
    offsets: dict[int, int]  # that the group had committed
    keys: dict[str, Any]  # of Redis: type, time to live in ms, value

    @property
    def names(self) -> Topics:
        return Topics.of(self.prefix)

    def weights_in(self, folder: Path) -> Path | str:
        """The value of --weights: its files are written into that folder."""
        for name, text in self.weights.items():
            (folder / name).write_bytes(b64decode(text))
        return folder if self.weights else "small"

    def records(self) -> int:
        return len(self.topics["pings"]) + len(self.rest)


def dump(path: Path, found: list[Left]) -> None:
    text = json.dumps([asdict(one) for one in found], separators=(",", ":"))
    path.write_bytes(lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME))


def load(path: Path = FIXTURE) -> list[Left]:
    found = json.loads(lzma.decompress(path.read_bytes()))
    return [Left(**{**one, "offsets": {int(number): at for number, at in one["offsets"].items()}}) for one in found]


def checked_out(commit: str, folder: Path) -> Path:
    """Writes the tree of a commit into a folder. Raises LookupError in a shallow clone, which has no history."""
    asked = subprocess.run(["git", "-C", REPOSITORY, "archive", commit], capture_output=True, check=False)
    if asked.returncode != 0:
        raise LookupError(asked.stderr.decode().strip())
    with tarfile.open(fileobj=BytesIO(asked.stdout)) as tree:
        tree.extractall(folder, filter="data")
    return folder


def older(tree: Path) -> dict[str, str]:
    """Variables of a process that runs that tree, with kernels of its own."""
    return {"PYTHONPATH": str(tree), "NUMBA_CACHE_DIR": str(tree / "kernels"), "XDG_CACHE_HOME": str(tree / "cache")}


def verified(bootstrap: str, prefix: str, weights: Path | str, delivery: str, redis_url: str) -> dict[str, Any]:
    """The report of `pathcast verify` of this code, as JSON. What was left may be of another kind of processor, whose
    sums differ in the last bits."""
    options = {
        "numbers": "close",
        "bootstrap": bootstrap,
        "prefix": prefix,
        "group": prefix,
        "weights": weights,
        "delivery": delivery,
    }
    arguments = [f"--{name}={value}" for name, value in (options | {"redis": redis_url}).items()]
    run = CliRunner().invoke(_VERIFY, [*arguments, "--json"])
    assert run.stdout, repr(run.exception)
    report: dict[str, Any] = json.loads(run.stdout)
    return report


# -- Kafka ------------------------------------------------------------------------------------------------------------


def read(bootstrap: str, topic: str) -> list[Kept]:
    """All committed records of a topic, partition by partition."""
    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        isolation_level="read_committed",
    )
    found: list[Kept] = []
    for tp in bus_feed.partitions_of(consumer, topic):
        consumer.assign([tp])
        consumer.seek_to_beginning(tp)
        end = consumer.end_offsets([tp])[tp]
        while consumer.position(tp) < end:
            for raw in consumer.poll(timeout_ms=1_000).get(tp, ()):
                headers = [(name, _text(value) or "") for name, value in raw.headers]
                found.append((raw.partition, raw.timestamp, _text(raw.key), _text(raw.value), headers))
    consumer.close()
    return found


def beyond(first: list[Kept], whole: list[Kept]) -> list[Kept]:
    """What a topic holds after the records that were read first, of each partition."""
    left = Counter(partition for partition, *_ in first)
    found = []
    for one in whole:
        if left[one[0]]:
            left[one[0]] -= 1
        else:
            found.append(one)
    return found


def publish(bootstrap: str, topic: str, records: list[Kept]) -> None:
    """Publishes records where they were, in their order and at their times, of which answers depend."""
    producer = KafkaProducer(bootstrap_servers=bootstrap, linger_ms=20, batch_size=256 * 1024)
    for partition, timestamp_ms, key, value, headers in records:
        producer.send(
            topic,
            partition=partition,
            timestamp_ms=timestamp_ms,
            key=_bytes(key),
            value=_bytes(value),
            headers=[(name, b64decode(text)) for name, text in headers],
        )
    producer.flush()
    producer.close()


# -- Redis ------------------------------------------------------------------------------------------------------------


def read_keys(url: str) -> dict[str, Any]:
    """Every key of ours: states, indices, and what is known of each partition."""
    found: dict[str, Any] = {}
    with Redis.from_url(url) as client:
        for key in sorted(client.scan_iter(match=b"pathcast:*")):
            kind = client.type(key).decode()
            match kind:
                case "string":
                    value: Any = _text(client.get(key))
                case "hash":
                    value = [(_text(name), _text(of)) for name, of in client.hgetall(key).items()]
                case "zset":
                    value = [(_text(name), score) for name, score in client.zrange(key, 0, -1, withscores=True)]
                case _:
                    raise ValueError(f"{key!r} is a {kind}")
            found[_text(key) or ""] = [kind, client.pttl(key), value]
    return found


def write_keys(url: str, keys: dict[str, Any], later_ms: int) -> None:
    """Scores of an index are times at which records expire: they move along."""
    with Redis.from_url(url) as client:
        for text, (kind, ttl_ms, value) in keys.items():
            key = b64decode(text)
            if kind == "string":
                client.set(key, b64decode(value))
            elif kind == "hash":
                client.hset(key, mapping={b64decode(name): b64decode(of) for name, of in value})
            else:
                client.zadd(key, {b64decode(name): score + later_ms for name, score in value})
            if ttl_ms > 0:
                client.pexpire(key, ttl_ms)


# -- both -------------------------------------------------------------------------------------------------------------


@contextmanager
def put_back(left: Left, bootstrap: str, redis_url: str) -> Iterator[Topics]:
    """The servers are as the older worker left them; its topics are deleted at the end."""
    later_ms = int(time.time() * 1000) - left.recorded_ms
    names = left.names
    with admin.connect(bootstrap) as client:
        admin.create(client, names, partitions=PARTITIONS)
        keep = {"retention.ms": "-1"}  # the records have their old times
        client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, keep) for name in names])
    try:
        for field in ("pings", *OUTPUTS):
            publish(bootstrap, getattr(names, field), left.topics[field])
        bus_feed.commit(bootstrap, left.prefix, names.pings, left.offsets)
        write_keys(redis_url, left.keys, later_ms)
        yield names
    finally:
        with admin.connect(bootstrap) as client:
            client.delete_topics([name for name in names if name in client.list_topics()])


def publish_rest(left: Left, bootstrap: str) -> None:
    publish(bootstrap, left.names.pings, left.rest)


def _text(raw: bytes | None) -> str | None:
    return None if raw is None else b64encode(raw).decode()


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else b64decode(text)
