"""Runs workers of an older release on real servers, and keeps what they leave as the fixture of test_upgrade.py.

    PYTHONPATH=. python tests/system/releases/record.py [COMMIT]

It needs the history, Java, Maven and redis-server, and takes a minute or two: the older release compiles its kernels.
The buses are those of stream/demo/sample, with the credit that its README gives.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from base64 import b64decode, b64encode
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path

# Where the helper modules of these tests lie.
sys.path.extend(str(Path(__file__).parents[1] / room) for room in ("processes", "scenes"))

import bus_feed
import release_rig
from kafka import KafkaConsumer
from release_rig import LAST_RELEASE, OUTPUTS, PARTITIONS, Left
from worker_process import Worker, assert_all_live

from stream.bench.harness.servers import servers
from stream.wire import loads_forecast

# Of the sample's: three that report every 30 s, and three that fall silent, so that gap fills are due at the cut.
BUSES = ("10101", "11104", "11105", "2211", "5012", "5021")
PINGS, CUT = 480, 320  # the second is what the older worker gets
KILL_AFTER = 100  # forecasts of the one that is killed
SEED = 20

# Weights of the older code's own making: random, and small, since `small` would be twice what a fixture may have. Its
# heads are drawn, too: those of untrained weights are zero, and would hide what a state holds.
WEIGHTS = """
import sys
import numpy as np
from pathlib import Path
from model.config import ModelConfig
from model.parameters.reading import Parameters
from model.parameters.untrained import untrained
from model.parameters.writing import save
made = untrained(ModelConfig(name="kept", d=16, heads=2, window=16), seed=1)
rng = np.random.default_rng(2)
drawn = {
    name: array if array.any() or array.dtype != np.float32 or name.startswith("calibration")
    else np.asarray(0.02 * rng.standard_normal(array.shape), np.float32)
    for name, array in made.tensors.items()
}
save(Parameters(made.config, drawn), Path(sys.argv[1]), "drawn at random for tests of upgrades")
"""


def feed() -> Iterator[bus_feed.Raw]:
    """The chosen buses, and the late, repeated and broken records between them."""
    mine = {bus.encode() for bus in BUSES}
    bad = {value for _, value, _ in bus_feed.BAD}
    for key, value, headers in bus_feed.fleet(6_700, seed=SEED):
        if value in bad or (key or b"").partition(b"-")[0] in mine:
            yield key, value, headers


def recorded(
    tree: Path, name: str, delivery: str, *, killed: bool, own: Path | None, bootstrap: str, redis: str
) -> Left:
    """What one worker leaves."""
    prefix = f"left-{name}"
    topics = release_rig.Topics.of(prefix)
    bus_feed.create_topics(bootstrap, topics, partitions=PARTITIONS)
    records = list(islice(feed(), PINGS))
    bus_feed.send(bootstrap, topics.pings, iter(records[:CUT]))
    options = {"bootstrap": bootstrap, "redis": redis, "prefix": prefix, "group": prefix, "delivery": delivery}
    options |= {"weights": own or "small", "max_batch": 16, "session_timeout_s": 6, "checkpoint_ms": 200}
    with Worker(
        tree / f"{name}.log", program=release_rig.WORKER, command=(), environment=release_rig.older(tree), **options
    ) as worker:
        alive = partial(assert_all_live, worker)
        if killed:
            bus_feed.wait_for_records(bootstrap, topics.forecasts, KILL_AFTER, alive)
            worker.kill()
        else:
            bus_feed.wait_until_consumed(bootstrap, prefix, topics.pings, alive)
            worker.wait_until_ready()
            assert worker.stop() == 0, worker.log()
    now_ms = int(time.time() * 1000)
    offsets = committed(bootstrap, prefix, topics.pings)
    kept = {field: release_rig.read(bootstrap, getattr(topics, field)) for field in ("pings", *OUTPUTS)}
    (version,) = {loads_forecast(b64decode(value or "")).model.version for _, _, _, value, _ in kept["forecasts"]}
    bus_feed.send(bootstrap, topics.pings, iter(records[CUT:]))
    rest = release_rig.beyond(kept["pings"], release_rig.read(bootstrap, topics.pings))
    ended = "killed" if killed else "stopped"
    weights = {} if own is None else {path.name: b64encode(path.read_bytes()).decode() for path in own.iterdir()}
    keys = {
        key: value
        for key, value in release_rig.read_keys(redis).items()
        if f"|{topics.pings}|".encode() in b64decode(key)
    }
    return Left(prefix, delivery, ended, weights, version, now_ms, kept, rest, offsets, keys)


def committed(bootstrap: str, group: str, topic: str) -> dict[int, int]:
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, group_id=group, enable_auto_commit=False)
    found = {tp.partition: consumer.committed(tp) or 0 for tp in bus_feed.partitions_of(consumer, topic)}
    consumer.close()
    return found


def main(commit: str) -> None:
    with tempfile.TemporaryDirectory(prefix="pathcast-record-") as folder:
        tree = release_rig.checked_out(commit, Path(folder))
        own = tree / "kept"
        environment = {**os.environ, **release_rig.older(tree)}
        subprocess.run([sys.executable, "-P", "-c", WEIGHTS, str(own)], env=environment, check=True)
        with servers(print, bootstrap=None, redis_url=None) as running:
            where = {"bootstrap": running.bootstrap, "redis": running.redis_url}
            found = [
                recorded(tree, "stopped", "at_least_once", killed=False, own=own, **where),
                recorded(tree, "killed", "at_least_once", killed=True, own=own, **where),
                recorded(tree, "killed-once", "exactly_once", killed=True, own=own, **where),
                recorded(tree, "bundled", "exactly_once", killed=False, own=None, **where),
            ]
    release_rig.dump(release_rig.FIXTURE, found)
    told = {one.prefix: {"offsets": one.offsets, **{name: len(of) for name, of in one.topics.items()}} for one in found}
    print(json.dumps(told, indent=2))
    print(f"{release_rig.FIXTURE}: {release_rig.FIXTURE.stat().st_size:,} bytes, of commit {commit}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else LAST_RELEASE)
