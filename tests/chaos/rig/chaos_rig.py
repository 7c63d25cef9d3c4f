"""What a fault is injected into: real servers, worker processes, a feed, and the verifier that judges at the end. Knows
how to run and judge; which fault, and when, is the faults' to know.

    rig.start(2); rig.feed(rig.fleet()); rig.reach(0.4); ...the fault...; rig.finish() -> Verdict
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple

import bus_feed
from bus_feed import Raw
from chaos_feed import Feed
from chaos_kafka import Cluster
from chaos_redis import ChaosRedis
from chaos_verdict import Verdict
from fault_proxy import Proxy
from kafka import KafkaConsumer
from kafka.errors import KafkaError
from pathcast_process import VERIFY, environment
from worker_process import READY_S, Worker

from stream.kafka import admin
from stream.up.embedded import HOST
from stream.wire import Topics
from stream.worker.cli import MEMBER

PARTITIONS: Final = 4
SESSION_S: Final = 6  # the shortest that the brokers allow
LEAD_S: Final = 120.0  # workers wait for a version half of that: longer than any broker is away
MEMBER_NOW: Final = "assigned: partitions"  # what a worker logs first when it is in the group
QUIET_S: Final = 120.0  # without any progress: something hangs
VERIFY_S: Final = 600.0
MAX_RESTARTS: Final = 20  # of workers that ended by themselves, which an operator's supervisor would start again
LAUNCHER: Final = (sys.executable, str(Path(__file__).with_name("chaos_worker.py")))


class Servers(NamedTuple):
    """Shared by all faults of a run; each finds them whole, and leaves them so."""

    cluster: Cluster
    redis: ChaosRedis
    redis_way: Proxy

    def heal(self) -> None:
        self.redis_way.heal()
        self.redis.heal()
        self.cluster.heal()


class Rig:
    """One fault's topics, group, workers and feed. A context: at its end every worker is gone."""

    def __init__(
        self, servers: Servers, folder: Path, *, seed: int, pings: int, delivery: str, haste: float = 1.0
    ) -> None:
        """`haste`: how many times faster than the faults ask for the feed comes; for a CI that must not take long."""
        self.servers = servers
        self.haste = haste
        self.seed, self.pings, self.delivery = seed, pings, delivery
        self.rng = random.Random(seed)
        self.prefix = f"chaos-{uuid.uuid4().hex[:12]}"  # not by the seed: what a fault before left behind stays apart
        self.topics = Topics.of(self.prefix)
        self.restarts: list[str] = []  # the last words of workers that ended by themselves
        self.notes: list[str] = []  # what the report should say of this run
        self.suspects = frozenset[str]()  # entities whose findings a fault accepts
        self.expected: dict[str, int] = {}  # findings that there must be, and how many
        self.atlases: Path | None = None  # where workers and verifier find them; None: forecasts ask none
        self.gone = 0  # records that a fault took out of the log
        self.workers: list[Worker] = []
        self.sent = 0
        self.folder = folder
        self._stack = ExitStack()
        self._began = time.monotonic()
        self._started = 0
        self._feeds: list[Feed] = []
        with admin.connect(servers.cluster.direct, timeout_s=30.0) as client:
            admin.create(client, self.topics, partitions=PARTITIONS, replication=3)

    def __enter__(self) -> Rig:
        return self

    def __exit__(self, *raised: Any) -> None:
        self._stack.__exit__(*raised)

    def delete_topics(self) -> None:
        """So that the brokers need not carry the faults before."""
        with admin.connect(self.servers.cluster.direct, timeout_s=30.0) as client:
            client.delete_topics([*self.topics, *([] if self.atlases is None else [self.topics.models])])

    def say(self, text: str) -> None:
        print(f"  {time.monotonic() - self._began:6.1f} s  {text}", flush=True)

    # -- workers ------------------------------------------------------------------------------------------------

    def start(
        self,
        count: int = 1,
        *,
        wrong: str = "",
        kill_point: str = "",
        proxied: bool = False,
        wait: bool = True,
        **options: object,
    ) -> list[Worker]:
        """So many workers more, once they are members; one with a kill point may never get so far."""
        cluster, way = self.servers.cluster, self.servers.redis_way
        given: dict[str, object] = {
            "bootstrap": cluster.proxied if proxied else cluster.direct,
            "redis": f"redis://{HOST}:{way.port}/0" if proxied else self.servers.redis.url,
            "weights": "small",
            "prefix": self.prefix,
            "group": self.prefix,
            "session_timeout_s": SESSION_S,
            "delivery": self.delivery,
            **({} if self.atlases is None else {"atlases": self.atlases, "lead_s": LEAD_S}),
            **options,
        }
        added = []
        for _ in range(count):
            self._started += 1
            log = self.folder / f"worker{self._started}.log"
            worker = Worker(
                log,
                program=(*LAUNCHER, wrong) if wrong else MEMBER,
                environment={"PATHCAST_KILL_POINT": kill_point} if kill_point else {},
                **given,
            )
            added.append(self._stack.enter_context(worker))
        self.workers += added
        if wait and not kill_point:
            for worker in added:
                worker.wait_for(MEMBER_NOW, READY_S)
        self.say(f"{count} worker{'s' * (count > 1)} started{f', {wrong}{kill_point}' * bool(wrong or kill_point)}")
        return added

    def start_maker(self, *, wrong: str = "", kill_point: str = "", **options: object) -> Worker:
        """`pathcast beside atlas` on the pings of the rig, which nobody starts again if it ends."""
        self._started += 1
        given = {"atlases": self.atlases, "bootstrap": self.servers.cluster.direct, "redis": self.servers.redis.url}
        maker = Worker(
            self.folder / f"maker{self._started}.log",
            program=(*LAUNCHER, wrong) if wrong else MEMBER,
            command=("beside", "atlas"),
            environment={"PATHCAST_KILL_POINT": kill_point} if kill_point else {},
            **given,
            prefix=self.prefix,
            **options,
        )
        self.say(f"maker of atlases started{f', {wrong} {kill_point}'.rstrip(' ,')}")
        return self._stack.enter_context(maker)

    def kill(self, worker: Worker) -> None:
        self.workers.remove(worker)
        worker.kill()
        self.say("worker killed")

    def stop(self, worker: Worker) -> None:
        self.workers.remove(worker)
        assert (status := worker.stop()) == 0, f"a worker that was told to stop ended with {status}:\n{worker.log()}"

    def stop_all(self) -> None:
        for worker in list(self.workers):
            worker.wait_for(MEMBER_NOW, READY_S)  # before that it does not know how to stop
            self.stop(worker)

    def members(self) -> list[Worker]:
        return [worker for worker in self.workers if MEMBER_NOW in worker.log()]

    def look(self) -> None:
        """Start again what ended by itself, as whoever runs workers does; too often, and something is wrong."""
        for worker in [worker for worker in self.workers if not worker.running()]:
            self.workers.remove(worker)
            last = (worker.log().strip().splitlines() or ["nothing"])[-1]
            self.restarts.append(last)
            self.say(f"a worker ended with {worker.status}: {last}")
            assert len(self.restarts) <= MAX_RESTARTS, f"workers end again and again: {self.restarts}"
            self.start()

    @contextmanager
    def waiting_for(self, worker: Worker, text: str) -> Iterator[None]:
        """Until it logs `text` once more than before."""
        before = worker.log().count(text)
        yield
        deadline = time.monotonic() + QUIET_S
        while worker.log().count(text) <= before:
            assert time.monotonic() < deadline, f"no {text!r} once more in {QUIET_S:.0f} s:\n{worker.log()}"
            self.look()
            time.sleep(0.1)

    def wait_for_death(self, worker: Worker) -> None:
        """Of one that has a kill point."""
        deadline = time.monotonic() + QUIET_S
        while worker.running():
            assert time.monotonic() < deadline, f"its kill point was never reached:\n{worker.log()}"
            time.sleep(0.05)
        assert worker.status == -9, f"it was to be killed, but ended with {worker.status}:\n{worker.log()}"
        if worker in self.workers:  # else it is a maker of atlases
            self.workers.remove(worker)
        self.say("killed itself")

    def logs(self) -> Iterator[str]:
        """Of every worker that there was, for the message of a failure."""
        for log in sorted(self.folder.glob("worker*.log")):
            yield f"--- {log.name}\n{log.read_text(errors='replace')}"

    # -- the feed -----------------------------------------------------------------------------------------------

    def fleet(self, *, times: int = 3) -> Iterator[Raw]:
        """The sample's buses with late, repeated and broken records among them; the beginnings of so many `times` as
        many days as a whole feed of this size would have, so that there are more entities, and windows are full yet."""
        return islice(bus_feed.fleet(self.pings * times, seed=self.seed), self.pings)

    def feed(self, records: Iterable[Raw], *, over_s: float = 8.0) -> None:
        """Begin to publish `records`, which take so long if they are all of `pings`. Goes on in the background."""
        per_s = self.pings / over_s * self.haste
        feed = Feed(self.servers.cluster.direct, self.topics.pings, records, per_s)
        self._feeds.append(feed)
        feed.start()

    def fed(self) -> None:
        """Wait until all that was begun is acknowledged."""
        for feed in self._feeds:
            while feed.is_alive():
                self.look()
                feed.join(0.2)
            assert not feed.failed, f"the feed failed: {feed.failed[0]!r}"
            self.sent += feed.sent
        if self._feeds:
            self.say(f"{self.sent} pings fed")
        self._feeds.clear()

    def reach(self, share: float) -> None:
        """Wait until so much of the feed has its forecasts: the time to do harm."""
        wanted = int(share * self.pings)
        with reader(self.servers.cluster.direct, None) as consumer:
            tps = bus_feed.partitions_of(consumer, self.topics.forecasts)
            self._until(lambda: max(0, wanted - sum(consumer.end_offsets(tps).values())))
        self.say(f"{share:.0%} forecast")

    def pause(self, seconds: float) -> None:
        """As long as a fault lasts."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.look()
            time.sleep(0.2)

    def consumed(self, partitions: Collection[int] = range(PARTITIONS)) -> None:
        """Wait until the group has committed the end of everything that was fed to these partitions."""
        self.fed()
        with reader(self.servers.cluster.direct, self.prefix) as consumer:
            tps = [tp for tp in bus_feed.partitions_of(consumer, self.topics.pings) if tp.partition in partitions]
            ends: dict[Any, int] = {}

            def left() -> int:
                ends.update(ends or consumer.end_offsets(tps))
                # A group may stand behind the end of a log that was cut: then it has not looked at it yet.
                return sum(abs(ends[tp] - (consumer.committed(tp) or 0)) for tp in tps)

            self._until(left)
        self.say("all consumed" if len(partitions) == PARTITIONS else f"partitions {list(partitions)} consumed")

    def _until(self, left: Callable[[], int]) -> None:
        """Until `left` is 0. While brokers die, asking them may fail: ask again."""
        last, moved_at = -1, time.monotonic()
        while True:
            self.look()
            try:
                now = left()
            except KafkaError:
                now = last
            if now == 0:
                return
            if now != last:
                last, moved_at = now, time.monotonic()
            assert time.monotonic() - moved_at < QUIET_S, f"{now} records are left, and none moved in {QUIET_S:.0f} s"
            time.sleep(0.1)

    # -- the end ------------------------------------------------------------------------------------------------

    def finish(self) -> Verdict:
        """Let the workers answer everything, stop them, and hear the verifier."""
        self.consumed()
        self.stop_all()
        verdict = self.verdict()
        self.say(f"verified in {verdict.report['seconds']:.0f} s: {verdict.findings or 'nothing is wrong'}")
        return verdict

    def verdict(self, *, weights: str = "small") -> Verdict:
        """By the command itself, which takes the answers of these weights for what is due."""
        options = {"bootstrap": self.servers.cluster.direct, "prefix": self.prefix, "group": self.prefix}
        options |= {"redis": self.servers.redis.url, "delivery": self.delivery, "weights": weights}
        options |= {} if self.atlases is None else {"atlases": str(self.atlases)}
        command = [*VERIFY, "--json", *(f"--{name}={value}" for name, value in options.items())]
        run = subprocess.run(command, capture_output=True, timeout=VERIFY_S, env=environment(), check=False)
        assert run.stdout, run.stderr.decode()
        report = json.loads(run.stdout)
        assert run.returncode == (0 if report["ok"] else 1)
        return Verdict(report, self.sent - self.gone)


@contextmanager
def reader(bootstrap: str, group: str | None) -> Iterator[Any]:
    """A consumer that only looks."""
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, group_id=group, enable_auto_commit=False)
    try:
        yield consumer
    finally:
        consumer.close()
