"""What can happen to the brokers, and to the way to them. Each leaves them whole."""

from __future__ import annotations

import time

from chaos_kafka import NUMBERS
from chaos_rig import SESSION_S, Rig
from faults import fault

AWAY_S = 8.0  # beyond the 6 s after which the other brokers take over


@fault
def partition_leader_killed(rig: Rig) -> None:
    """kill -9 of the broker that leads a partition of the input; it is away until others lead, and comes back."""
    rig.start(2)
    rig.feed(rig.fleet(), over_s=AWAY_S + 8)
    rig.reach(0.3)
    leader = rig.servers.cluster.leader_of(rig.topics.pings, rig.rng.randrange(4))
    rig.servers.cluster.kill(leader)
    rig.say(f"broker {leader} killed")
    rig.pause(AWAY_S)
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
def brokers_all_killed(rig: Rig) -> None:
    """kill -9 of all three brokers at once, and all are started again: what was acknowledged is in their logs."""
    rig.start(2)
    rig.feed(rig.fleet(), over_s=12)
    rig.reach(0.3)
    rig.servers.cluster.kill_all()
    rig.say("all brokers killed")
    time.sleep(2)
    rig.servers.cluster.heal()
    rig.say("brokers whole again")


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
