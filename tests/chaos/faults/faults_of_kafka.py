"""What can happen to the brokers, and to the way to them. Each leaves them whole."""

from __future__ import annotations

import re

from chaos_kafka import NUMBERS
from chaos_rig import PARTITIONS, SESSION_S, Rig
from faults import fault
from pathcast_process import eventually
from worker_pages import Scrape, ask, base_of, readiness
from worker_process import Worker

from stream.up.embedded import HOST
from stream.worker.monitor.broker_monitor import AWAY_S

TAKEN_OVER_S = 8.0  # beyond the 6 s after which the other brokers take over
# Of aiokafka's clients.
COMPLAINTS = "Unable connect|Unable to (update|request) metadata|Failed fetch|send request failed|Cannot send|Traceback"
LONG_S = 15.0  # beyond the AWAY_S after which a worker says that Kafka is away


@fault
def partition_leader_killed(rig: Rig) -> None:
    """kill -9 of the broker that leads a partition of the input; it is away until others lead, and comes back."""
    rig.start(2)
    rig.feed(rig.fleet(), over_s=TAKEN_OVER_S + 8)
    rig.reach(0.3)
    leader = rig.servers.cluster.leader_of(rig.topics.pings, rig.rng.randrange(4))
    rig.servers.cluster.kill(leader)
    rig.say(f"broker {leader} killed")
    rig.pause(TAKEN_OVER_S)
    rig.servers.cluster.start(leader)
    rig.pause(1)
    rig.servers.cluster.wait_until_whole()
    rig.say("brokers whole again")


@fault
def brokers_restarted_one_by_one(rig: Rig) -> None:
    """A rolling restart, as an upgrade does it: SIGTERM and a start of each broker, whole before the next."""
    rig.start(2)
    rig.feed(rig.fleet(), over_s=30)
    rig.reach(0.1)
    for number in NUMBERS:
        rig.servers.cluster.stop(number)
        rig.servers.cluster.start(number)
        rig.look()
        rig.servers.cluster.wait_until_whole()
        rig.say(f"broker {number} restarted")


@fault
def brokers_all_away_for_a_while(rig: Rig) -> None:
    """kill -9 of all three brokers, which stay away for 15 s; the worker tells its probe, its metrics and its log, in
    one line, that Kafka is away, and again when it is back."""
    (worker,) = rig.start(metrics=0)
    rig.feed(rig.fleet(), over_s=12)
    rig.reach(0.3)
    base = base_of(worker)
    assert eventually(lambda: readiness(base) == (200, [])), readiness(base)
    rig.servers.cluster.kill_all()
    rig.say("all brokers killed")
    rig.pause(LONG_S)
    assert_kafka_is_away(base, {0, 1, 2, 3})
    rig.servers.cluster.heal()
    rig.say("brokers whole again")
    rig.consumed()
    assert_kafka_is_there(base)
    assert_one_line_each(worker)


@fault
def way_to_one_leader_cut(rig: Rig) -> None:
    """The way from the only worker to one of three brokers is cut for 15 s: the broker lives, so it goes on leading its
    partitions, which this worker cannot read meanwhile."""
    (worker,) = rig.start(proxied=True, metrics=0)
    rig.feed(rig.fleet(), over_s=12)
    rig.reach(0.3)
    base, cluster = base_of(worker), rig.servers.cluster
    leaders = [cluster.leader_of(rig.topics.pings, number) for number in range(PARTITIONS)]
    cut = leaders[rig.rng.randrange(PARTITIONS)]
    cluster.proxies[cut].cut()
    rig.say(f"way to broker {cut} cut")
    rig.pause(LONG_S)
    assert_kafka_is_away(base, {number for number, leader in enumerate(leaders) if leader == cut})
    cluster.proxies[cut].heal()
    rig.say(f"way to broker {cut} open")
    rig.consumed()
    assert_kafka_is_there(base)
    assert_one_line_each(worker)


def assert_kafka_is_away(base: str, partitions: set[int]) -> None:
    """In the probe, with the seconds and without an address; in the metrics, without a lag that nobody knows."""
    assert eventually(lambda: any("Kafka is away" in reason for reason in readiness(base)[1])), readiness(base)
    status, reasons = readiness(base)
    (reason,) = [reason for reason in reasons if reason.startswith("Kafka is away")]
    assert status == 503
    found = re.search(r"of partitions (.*) have not answered for (\d+) s$", reason)
    assert found, reason
    assert {int(number) for number in found[1].split(", ")} == partitions
    assert float(found[2]) > AWAY_S
    assert HOST not in reason
    assert ask(f"{base}/healthz")[0] == 200, "a new worker would find no broker either"
    scrape = Scrape(base)
    assert scrape.values("kafka_away") == {1}
    assert scrape.by_partition("lag_records").keys() & partitions == set()
    ages_s = scrape.by_partition("fetch_age_seconds")
    assert min(ages_s[number] for number in partitions) > AWAY_S


def assert_kafka_is_there(base: str) -> None:
    assert eventually(lambda: readiness(base) == (200, [])), readiness(base)
    scrape = Scrape(base)
    assert scrape.values("kafka_away") == {0}
    assert scrape.values("lag_records") == {0}
    assert max(scrape.values("fetch_age_seconds")) < AWAY_S


def assert_one_line_each(worker: Worker) -> None:
    """When Kafka went away and when it was back; none of its clients' hundreds, and no error at the start before."""
    assert eventually(lambda: "Kafka is back" in worker.log()), worker.log()  # it looks once in some seconds
    before, away, rest = worker.log().partition("Kafka is away")
    during, back, after = rest.partition("Kafka is back")
    assert away
    assert back
    assert "Kafka is" not in after
    assert " ERROR " not in before
    assert not re.search(COMPLAINTS, before + during)


@fault
def worker_cut_off_from_brokers(rig: Rig) -> None:
    """The way of one of two workers to all brokers is cut past its session, and then open again."""
    rig.start(proxied=True)
    (other,) = rig.start()
    rig.feed(rig.fleet(), over_s=SESSION_S * 2 + 8)
    rig.reach(0.2)
    with rig.waiting_for(other, "ready: partitions"):
        for proxy in rig.servers.cluster.proxies.values():
            proxy.cut()
        rig.say("way to the brokers cut")
    rig.pause(3)
    for proxy in rig.servers.cluster.proxies.values():
        proxy.heal()
    rig.say("way to the brokers open")


@fault
def network_slow(rig: Rig) -> None:
    """Workers reach brokers and Redis 40 ms late each way, at 4 MB/s a connection; one is killed meanwhile."""
    ways = [*rig.servers.cluster.proxies.values(), rig.servers.redis_way]
    for way in ways:
        way.delay(0.04)
        way.throttle(4e6)
    rig.start(2, proxied=True)
    rig.feed(rig.fleet(), over_s=15)
    rig.reach(0.4)
    rig.kill(rig.workers[0])
    rig.start(proxied=True)
    rig.consumed()
    rig.stop_all()
    for way in ways:
        way.heal()
