"""What can happen to a worker's process. Kafka and Redis are well."""

from __future__ import annotations

import re
import signal

from chaos_rig import SESSION_S, Rig
from faults import fault
from worker_process import Worker


@fault
def workers_killed_at_random(rig: Rig) -> None:
    """kill -9 of one of two workers, four times at random moments, and each time another is started."""
    rig.start(2)
    rig.feed(rig.fleet(), over_s=20)
    for share in sorted(rig.rng.uniform(0.05, 0.9) for _ in range(4)):
        rig.reach(share)
        rig.kill(rig.rng.choice(rig.workers))
        rig.start()


@fault
def worker_stopped_past_its_session(rig: Rig) -> None:
    """SIGSTOP of a worker in the middle of its work, until the other has its partitions; then SIGCONT: a zombie."""
    other, zombie = rig.start(2)
    rig.feed(rig.fleet(), over_s=SESSION_S + 6)
    rig.reach(0.2)
    with rig.waiting_for(other, "ready: partitions"):
        zombie.send_signal(signal.SIGSTOP)
        rig.say("worker stopped")
    rig.reach(0.6)
    zombie.send_signal(signal.SIGCONT)
    rig.say("zombie woken")
    rig.consumed()
    _assert_never_fenced(rig, other)


@fault
def worker_that_hears_of_no_rebalance(rig: Rig) -> None:
    """One worker sends no heartbeats and hears of no rebalance. The group gives its partitions to another, and it goes
    on reading and answering beside that one."""
    rig.start(wrong="deaf")
    rig.feed(rig.fleet(), over_s=SESSION_S * 2 + 8)
    rig.reach(0.1)
    (owner,) = rig.start()
    rig.consumed()
    _assert_never_fenced(rig, owner)


def _assert_never_fenced(rig: Rig, owner: Worker) -> None:
    """A zombie asks the group before it fences anybody, so it does no harm to the worker that has its partitions."""
    rig.notes.append(f"the rightful owner was fenced {_fenced(owner)} times")
    assert _fenced(owner) == 0, owner.log()


def _fenced(worker: Worker) -> int:
    """How often it was: in Kafka, or in Redis."""
    return len(re.findall("was fenced|checkpoint of .* refused", worker.log()))


@fault
def rebalance_storm(rig: Rig) -> None:
    """A worker joins or leaves the group every 3 s, ten times, while pings come."""
    rig.start(2)
    rig.feed(rig.fleet(), over_s=30)
    for _ in range(10):
        rig.pause(3)
        members = rig.members()
        if len(members) > 1 and rig.rng.random() < len(rig.workers) / 4:
            rig.stop(rig.rng.choice(members))
            rig.say("worker left")
        else:
            rig.start(wait=False)


@fault
def clocks_are_wrong(rig: Rig) -> None:
    """The clock of one of two workers is an hour ahead, and the other is killed, so that it takes everything over;
    then one whose clock is an hour behind takes everything over from it."""
    (well,) = rig.start()
    (ahead,) = rig.start(wrong="clock=3600")
    rig.feed(rig.fleet(), over_s=15)
    rig.reach(0.3)
    rig.kill(well)
    rig.reach(0.6)
    rig.start(wrong="clock=-3600")
    rig.kill(ahead)
    rig.reach(0.9)
    rig.start()
