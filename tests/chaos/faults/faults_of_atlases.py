"""Workers that ask atlases, while versions are announced and something dies.

The rule: which version a ping asks is a function of the log and of what was announced, so whoever answers it, and
however often, says the same. No forecast is late here, as workers wait for a version longer than anything is away.
And a version is a function of the log up to the offsets that its announcement names, whoever counted it, and however
often that one died.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, islice
from typing import Final

import bus_feed
from atlas_scene import Scene, atlases, slowly
from chaos_rig import QUIET_S, Rig, reader
from faults import fault
from worker_process import Worker

from model.api import Predictor
from model.atlas.version import pieces
from stream.atlas.building import DEFAULT_RULES, Builder, choose_publishable
from stream.atlas.growing_days import GrowingDays
from stream.kafka.records.record_columns import Records
from stream.versions.files import path_of
from stream.wire import Record, VersionRecord

PINGS: Final = 40_000  # at most; some 10,000 are fed, as it ends soon after the last version is announced
RESTED: Final = 1 / 4  # of the forecasts that asked a version, at least, rest on pings in it
RESTED_OF_NEW: Final = 1 / 20  # where the first versions are of some hundred pings, as many as a busy machine has made
COUNTED: Final = 20_000  # of them, the first, in atlases; some of them are never fed
PER_S: Final = 200
APART: Final = 800  # forecasts between two announcements, at least
BEGUN_S: Final = 0.5  # an announcement takes about a second
LONG: Final = 2 * PINGS  # at most, where makers die: three sessions pass, on a busy machine in three minutes
EVERY_S: Final = 5  # a version comes, if the machine makes it in that time
# From an announcement to the version's first ping, by seed: what a maker announced before it died is confirmed by the
# next one, which comes some 15 s later, or withdrawn.
LEADS_S: Final = (30, 3)
PUBLISHING: Final = ("within_announcement:2", "after_version:2")  # where the first maker dies, by seed
COUNTING_S: Final = (0.5, 3.0)  # from a version to the death of the third maker, which has counted more by then


@fault
def worker_and_broker_killed_while_versions_come(rig: Rig) -> None:
    """Three versions of the atlas are announced while pings come. kill -9 of one of two workers just before the second,
    and of the broker that leads the topic of versions in the middle of the third; both come back."""
    fleet = bus_feed.fleet(PINGS, seed=rig.seed)
    counted = list(islice(fleet, COUNTED))
    scene = scene_of(rig)
    versions = [scene.put(raw) for raw in atlases(counted)]
    announced = threading.Event()
    rig.start(2)
    rig.feed(slowly(chain(counted, fleet), announced), over_s=rig.pings * rig.haste / PER_S)
    try:
        _announce(rig, scene, versions)
    finally:
        announced.set()
    rig.consumed()
    assert [record.version for record in scene.ledger().serving] == versions
    _assert_all_were_asked(rig, scene, versions, RESTED)


@fault
def worker_and_maker_killed_while_versions_change(rig: Rig) -> None:
    """`pathcast beside atlas` counts the pings, and makes and announces a version every 5 s. kill -9 of it while it
    publishes one, together with one of two workers; of its successor while it writes to Redis what it counted; and of
    the next one while it counts. Each version is judged by the log, byte for byte."""
    scene, announced = scene_of(rig), threading.Event()
    rig.start(2)
    rig.feed(slowly(bus_feed.fleet(LONG, seed=rig.seed), announced), over_s=rig.pings * rig.haste / PER_S)
    try:
        _answered(rig, 1)
        _change_makers(rig, scene)
    finally:
        announced.set()
    rig.consumed()
    served = scene.ledger().serving
    _assert_all_were_asked(rig, scene, [record.version for record in served], RESTED_OF_NEW)
    assert_each_is_of_the_log(rig, served)


def _change_makers(rig: Rig, scene: Scene) -> None:
    """Until a version answers that was made and announced after the last kill."""
    point = PUBLISHING[rig.seed // 2 % 2]
    rig.wait_for_death(start_maker(rig, kill_point=point))
    rig.kill(rig.rng.choice(rig.workers))
    left = [record.version for record in scene.ledger().announced]
    assert len(left) == (point == PUBLISHING[0]), "of what it announced and did not confirm"
    rig.start()
    rig.wait_for_death(start_maker(rig, kill_point=f"after_days:{rig.rng.randint(1, 4)}"))
    confirmed = sum(record.version in left for record in scene.ledger().serving)
    if left:
        rig.notes.append(f"what its maker left announced was {'confirmed' if confirmed else 'withdrawn'}")
    maker = start_maker(rig)
    wait_for_versions(rig, scene, maker, 1)
    rig.pause(rig.rng.uniform(*COUNTING_S))
    maker.kill()
    rig.say("maker killed while it counts")
    maker = start_maker(rig)
    wait_for_versions(rig, scene, maker, 2)
    assert maker.stop() == 0, maker.log()
    _wait_until_fed(rig, scene.ledger().serving[-1].first)  # a slow machine may have made one more meanwhile


def start_maker(rig: Rig, *wrong: str, kill_point: str = "") -> Worker:
    lead = f"lead={LEADS_S[rig.seed % 2]}"
    return rig.start_maker(wrong=",".join((lead, *wrong)), kill_point=kill_point, atlas_every=f"{EVERY_S}s")


def wait_for_versions(rig: Rig, scene: Scene, maker: Worker, more: int) -> VersionRecord:
    """Until so many versions more serve; the last one's record."""
    wanted, deadline = len(scene.ledger().serving) + more, time.monotonic() + QUIET_S
    while len(served := scene.ledger().serving) < wanted:
        assert maker.running(), maker.log()
        assert time.monotonic() < deadline, f"{len(served)} versions, not {wanted}:\n{maker.log()}"
        rig.pause(0.5)
    rig.say(f"{len(served)} versions serve")
    return served[-1]


def _wait_until_fed(rig: Rig, first: Mapping[int, int]) -> None:
    """Until pings come that this version answers."""
    with reader(rig.servers.cluster.direct, None) as consumer:
        tps = bus_feed.partitions_of(consumer, rig.topics.pings)
        deadline = time.monotonic() + QUIET_S
        while any(end < first[tp.partition] for tp, end in consumer.end_offsets(tps).items()):
            assert time.monotonic() < deadline, f"no ping came at {first}"
            rig.pause(0.5)


def assert_each_is_of_the_log(rig: Rig, served: Sequence[VersionRecord]) -> None:
    """Each version is as if one maker had counted the log up to where it says, and nobody had died."""
    log: dict[int, list[Record]] = defaultdict(list)
    for record in bus_feed.read(rig.servers.cluster.direct, rig.topics.pings):
        log[record.partition].append(record)
    predictor = Predictor.load("small")
    assert rig.atlases is not None
    for number, record in enumerate(served, 1):
        days = GrowingDays()
        for partition, end in record.includes.items():
            builder = Builder()
            builder.add(Records.of([one for one in log[partition] if one.offset < end]))
            days.add_all(builder.built().days)
        made = choose_publishable(days, DEFAULT_RULES, predictor)
        whole = path_of(rig.atlases, record.version).read_bytes() == b"".join(pieces(*made))
        assert whole, f"version {number} is not that of the log: it has {record.contains}, and not {made.contains}"
    pings = ", ".join(f"{record.contains['pings']:,}" for record in served)
    rig.notes.append(f"the versions were of {pings} pings, each as the log has them")


def scene_of(rig: Rig) -> Scene:
    """With a folder for versions, from now on that of the rig's workers."""
    rig.atlases = rig.folder / "atlases"
    rig.atlases.mkdir()
    return Scene(rig.servers.cluster.direct, rig.prefix, rig.atlases, {})


def _announce(rig: Rig, scene: Scene, versions: list[str]) -> None:
    first, second, third = versions
    scene.announce(first)
    rig.say("first version announced")
    _answered(rig, 1)
    scene.wait_until_asked(first, rig.look)
    rig.kill(rig.rng.choice(rig.workers))
    scene.announce(second)
    rig.say("second version announced")
    rig.start()
    _answered(rig, 2)
    scene.wait_until_asked(second, rig.look)
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


def _assert_all_were_asked(rig: Rig, scene: Scene, versions: list[str], share: float) -> None:
    """Else nothing was tried. What the verifier says of each answer follows."""
    asked = [one.atlas for one in scene.forecasts() if one.atlas is not None]
    counts = {version: sum(one.version == version for one in asked) for version in versions}
    assert min(counts.values()) > 0, counts
    assert not any(one.late for one in asked)
    rested = sum(one.pings > 0 for one in asked)
    assert rested > share * len(asked), f"only {rested} of {len(asked)} forecasts rest on pings of an atlas"
    rig.notes.append(f"the versions answered {', '.join(f'{count:,}' for count in counts.values())} pings")
