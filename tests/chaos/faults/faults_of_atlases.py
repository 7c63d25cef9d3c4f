"""Workers that ask atlases, while versions are announced and something dies.

The rule: which version a ping asks is a function of the log and of what was announced, so whoever answers it, and
however often, says the same. No forecast is late here, as workers wait for a version longer than anything is away.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, islice
from typing import Final

import bus_feed
from atlas_scene import Scene, atlases, slowly
from chaos_rig import Rig
from faults import fault

PINGS: Final = 40_000  # at most; some 10,000 are fed, as it ends soon after the last version is announced
COUNTED: Final = 20_000  # of them, the first, in atlases; some of them are never fed
PER_S: Final = 200
APART: Final = 800  # forecasts between two announcements, at least
BEGUN_S: Final = 0.5  # an announcement takes about a second


@fault
def worker_and_broker_killed_while_versions_come(rig: Rig) -> None:
    """Three versions of the atlas are announced while pings come. kill -9 of one of two workers just before the second,
    and of the broker that leads the topic of versions in the middle of the third; both come back."""
    fleet = bus_feed.fleet(PINGS, seed=rig.seed)
    counted = list(islice(fleet, COUNTED))
    scene = _scene(rig)
    versions = [scene.put(raw) for raw in atlases(counted)]
    announced = threading.Event()
    rig.start(2)
    rig.feed(slowly(chain(counted, fleet), announced), over_s=rig.pings * rig.haste / PER_S)
    try:
        _announce(rig, scene, versions)
    finally:
        announced.set()
    rig.consumed()
    _assert_all_were_asked(rig, scene, versions)


def _scene(rig: Rig) -> Scene:
    rig.atlases = rig.folder / "atlases"
    rig.atlases.mkdir()
    return Scene(rig.servers.cluster.direct, rig.prefix, rig.atlases, {})


def _announce(rig: Rig, scene: Scene, versions: list[str]) -> None:
    first, second, third = versions
    scene.announce(first)
    rig.say("first version announced")
    _answered(rig, 1)
    rig.kill(rig.rng.choice(rig.workers))
    scene.announce(second)
    rig.say("second version announced")
    rig.start()
    _answered(rig, 2)
    cluster = rig.servers.cluster
    leader = cluster.leader_of(rig.topics.models, 0)
    with ThreadPoolExecutor(1) as pool:
        announcing = pool.submit(scene.announce, third)
        rig.pause(BEGUN_S)
        cluster.kill(leader)
        rig.say(f"broker {leader} killed")
        announcing.result()
    rig.say("third version announced")
    cluster.start(leader)
    cluster.wait_until_whole()
    rig.say("brokers whole again")


def _answered(rig: Rig, times: int) -> None:
    rig.reach(times * APART / rig.pings)


def _assert_all_were_asked(rig: Rig, scene: Scene, versions: list[str]) -> None:
    """Else nothing was tried. What the verifier says of each answer follows."""
    assert [record.version for record in scene.ledger().serving] == versions
    asked = [one.atlas for one in scene.forecasts() if one.atlas is not None]
    counts = {version: sum(one.version == version for one in asked) for version in versions}
    assert min(counts.values()) > 0, counts
    assert not any(one.late for one in asked)
    rested = sum(one.pings > 0 for one in asked)
    assert rested > len(asked) // 4, f"only {rested} of {len(asked)} forecasts rest on pings of an atlas"
    rig.notes.append(f"the versions answered {', '.join(f'{count:,}' for count in counts.values())} pings")
