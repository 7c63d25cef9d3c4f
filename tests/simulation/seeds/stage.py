"""Puts a world on: servers, workers and feeders of a plan, the faults at their times, and the end at which all is
healed and judged.

    Kafka <- wire <- aiokafka's clients <- our workers -> redis-py's connections -> Redis
      ^                                                                               ^
      '--------------------- faults of the plan, and the oracles ---------------------'
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, Final, TypeGuard
from unittest import mock

from aiokafka.errors import GroupLoadInProgressError, KafkaConnectionError, NotCoordinatorForGroupError
from archived import WorldsArchive
from feeder import Feeder
from kafka_side import KafkaSide
from liveness import Liveness
from meetings import Meetings
from member_watch import find_shared
from members_beside import Members
from owners import Owners
from plans import ANSWER_CUTS, CUTS, SESSION_S, Beside, Plan
from redis_side import RedisSide
from road import RoadFeeder
from simulated_members import LATENESS_MS, Process, SimulatedMember
from simulated_worker import STEP_FAULTS, BegunAnew, SimulatedWorker
from stored_records import StoredRecords
from virtual_loop import HOST, Host
from world import World
from worlds_versions import WorldsVersions

from stream.atlas.counting import member as counting
from stream.atlas.counting import owned as counted
from stream.config import failpoints
from stream.config.settings import DeliveryGuarantee, Settings
from stream.engine.entities import snapshot
from stream.kafka import reading
from stream.kafka.partitioner import partition_of
from stream.services.scores.scoring import waiting

BOOTSTRAP: Final = "kafka:9092"
CUT_WITHIN_S: Final = 0.012  # three requests and their answers, mostly
COUNT_WRITTEN_S: Final = 2.0  # how often the atlas' counter writes, so that a world has several of its writes
MOST_PARTS: Final = 2  # of a day in Redis, before they are joined
LEAD_S: Final = 4.0  # workers wait for half of it for a version
START_AGAIN_S: Final = 1.0  # whoever keeps the workers starts one again that has died


class Killed(BaseException):
    """Ends the code that runs in a host that has just been killed."""


class Place:
    """Where a worker or a member runs: one process after another, each in a host of its own."""

    def __init__(self, name: str, make: Callable[[], Process], clock_off_s: float) -> None:
        self.name = name
        self.make = make
        self.clock_off_s = clock_off_s
        self.host: Host | None = None
        self.worker: Process | None = None
        self.task: asyncio.Task[Any] | None = None
        self.is_wanted = True
        self.starts = 0

    def want(self) -> None:
        self.is_wanted = True


def _is_member(worker: Any) -> TypeGuard[SimulatedMember]:
    return isinstance(worker, SimulatedMember)


LOSSES: Final = {"redis_lost", "redis_older"}


class Stage:
    """A world with its servers and workers."""

    def __init__(self, plan: Plan, *, story: bool = False) -> None:
        self.plan = plan
        self.world = World(plan.seed, story=story)
        self.kafka = KafkaSide(self.world)
        self.redis = RedisSide(self.world, self._look)
        self.owners = Owners(self)
        self.liveness = Liveness(self)
        self.versions = WorldsVersions(plan)
        self.meetings = Meetings(self.world.loop.time)
        self.kafka.heard = self.owners.hear
        guarantee = DeliveryGuarantee.EXACTLY_ONCE if plan.exactly_once else DeliveryGuarantee.AT_LEAST_ONCE
        self.settings = Settings(
            bootstrap=BOOTSTRAP,
            max_batch=plan.max_batch,
            max_entities=plan.max_entities,
            checkpoint_ms=plan.checkpoint_ms,
            session_timeout_s=SESSION_S,
            registry=self.versions.registry,
            atlases=self.versions.atlases,
            lead_s=LEAD_S,
            delivery=guarantee,
        )
        self.versions.begin(self)
        topics = self.settings.topics
        self.kafka.create_topic(topics.pings, plan.partitions)
        for topic in (topics.forecasts, topics.gapfills, topics.dead_letters):
            self.kafka.create_topic(topic, plan.partitions)
        if self.versions.has_topic:
            self.kafka.create_topic(topics.models, 1)
        feeder = Feeder if self.versions.atlases is None else RoadFeeder
        self.feeder = feeder(plan.seed, plan.entities, int(self.world.wall_s() * 1000))
        for topic in (topics.latest, topics.scores, topics.arrivals) if plan.members else ():
            self.kafka.create_topic(topic, plan.partitions)
        for topic in (topics.models, topics.destinations) if plan.members else ():
            self.kafka.create_topic(topic, 1)
        self.archive = WorldsArchive(plan.seed, self.settings) if "archive" in self.kinds_of_members else None
        self.members = Members(self)
        self.begun_anew: BegunAnew = set()
        self.commands: set[asyncio.Task[Any]] = set()  # of operators, that have not ended
        self.places = [self._place(number) for number in range(plan.workers)]
        self.places += [self._beside(number, one) for number, one in enumerate(plan.members)]
        self.places += [
            Place(f"refresher-{number}", self.versions.refresher(number, percent), 0.0)
            for number, percent in enumerate(plan.refreshers)
        ]
        self._points: list[tuple[str, str, int, float]] = []  # what is to happen when a point is reached: see `arm`
        self.reached: dict[Host, str] = {}  # the last point of each host
        self.stored = StoredRecords(self)
        self.has_failed_makers = False  # of weights, and nobody has started one again yet
        self.is_healed = False
        self._ends_at_heal: dict[int, int] = {}  # by number, where the pings ended then
        self.is_at_rest = False  # all is healed and done
        self.broken: list[str] = []  # invariants that did not hold at some moment

    def _place(self, number: int) -> Place:
        settings = self.settings
        if self.plan.is_static:
            settings = replace(settings, instance=f"worker-{number}")
        make = partial(SimulatedWorker, settings, STEP_FAULTS[self.plan.seed % len(STEP_FAULTS)], self.begun_anew)
        return Place(f"worker-{number}", make, self.plan.clocks_off_s[number])

    def _beside(self, number: int, one: Beside) -> Place:
        told = partial(self.members.note_end, one.kind)
        make = partial(SimulatedMember, one, self.settings, self.archive, self.members, told)
        place = Place(f"{one.kind}-{number}", make, one.clock_off_s)
        if one.begins_s:
            place.is_wanted = False
            self.world.loop.call_later(one.begins_s, place.want, context=self.world.network.outside)
        return place

    @property
    def workers(self) -> list[Place]:
        """Returns the places of the workers, without those of the members beside them."""
        return self.places[: self.plan.workers]

    @property
    def kinds_of_members(self) -> set[str]:
        return {one.kind for one in self.plan.members}

    # -- workers

    def start(self, place: Place) -> None:
        """Starts a worker, unless one runs there."""
        if place.task is not None and not place.task.done() and place.host is not None and not place.host.is_dead:
            return
        place.starts += 1
        place.host = self.world.host(f"{place.name}.{place.starts}", place.clock_off_s)
        place.worker = place.make()
        self.world.note(f"start {place.host}")
        place.task = self.world.start(place.host, place.worker.run(), "run")
        host, worker = place.host, place.worker
        place.task.add_done_callback(
            lambda task: self._note_end(host, worker, task), context=self.world.network.outside
        )

    def _note_end(self, host: Host, worker: Process, task: asyncio.Task[Any]) -> None:
        """Notes how a process has ended: a worker with an error only if it was killed just then."""
        error = None if task.cancelled() else task.exception()
        self.world.note(f"end {host} {error!r}")
        if host.is_dead or not isinstance(worker, SimulatedWorker):
            return
        if isinstance(error, KafkaConnectionError) and host not in self.reached:
            return  # no broker answered at its start: so it says in one line, and whoever keeps it starts it again
        # A producer cannot go on in a log of answers that has lost its last ones.
        if error is not None and not self.plan.kinds & ANSWER_CUTS:
            self.note_broken(f"ended: a worker ended with {error!r}")
        self.broken += [one for one in _accounts_of(host, worker) if one not in self.broken]

    def kill(self, place: Place) -> None:
        if place.host is not None and not place.host.is_dead:
            self.note_interleaving("kill", place.host)
            self.world.kill(place.host)
            self.kafka.wire.break_all(place.host)

    def note_interleaving(self, fault: str, host: Host, for_s: float = 0.0) -> None:
        """Notes at which point of its work a fault meets a host, for the share of states that are visited; and whether
        it is a member that holds something."""
        member = next((one.worker.member for one in self.places if one.host is host and _is_member(one.worker)), None)
        if member is not None and member._holdings:
            self.world.count(f"{fault}_holding", 1)
        self.world.note(f"{fault}@{self.reached.get(host, 'start')} {host}")
        self.meetings.note_fault(fault, host, for_s)

    async def keep(self) -> None:
        """Starts workers again that have ended, as whoever keeps processes does."""
        while True:
            await asyncio.sleep(START_AGAIN_S)
            for place in self.places:
                if place.is_wanted:
                    self.start(place)

    # -- failpoints

    def arm(self, what: str, point: str, times: int, for_s: float) -> None:
        """Lets `kill`, `pause`, `cut` or `roll` happen to the host that reaches a point for the N-th time."""
        self._points.append((what, point, times, for_s))

    def reach(self, name: str) -> None:
        """Stands for `failpoints.reach`. Raises Killed in a host that dies of it."""
        host = HOST.get()
        self.reached[host] = name
        self.meetings.note_point(name, host)
        self.world.note(f"reach {name} {host}")
        for at, (what, point, times, for_s) in enumerate(self._points):
            if point not in (name, f"{host.name.partition('-')[0]}:{name}"):
                continue
            if times > 1:
                self._points[at] = (what, point, times - 1, for_s)
                continue
            del self._points[at]
            if what == "kill":
                self.note_interleaving("kill", host)
                self.world.kill(host)
                self.kafka.wire.break_all(host)
                raise Killed(name)
            {"pause": self.pause, "cut": self._cut_soon, "roll": self._roll_soon}[what](host, for_s)
            return

    def _cut_soon(self, host: Host, for_s: float) -> None:
        """Cuts a host off from Kafka while the requests that it sends now are on their way, or their answers are."""
        network, loop = self.world.network, self.world.loop
        self.note_interleaving("cut_kafka", host, for_s)
        loop.call_later(self.world.chance.uniform(0, CUT_WITHIN_S), network.cut, host, "kafka", context=network.outside)
        loop.call_later(CUT_WITHIN_S + for_s, network.join, host, "kafka", context=network.outside)

    def _roll_soon(self, host: Host, for_s: float) -> None:
        """Lets brokers be started again one by one: a host's connections break while the requests that it sends now are
        on their way, the coordinators are elsewhere for some time, and connections break again."""
        loop, outside = self.world.loop, self.world.network.outside
        self.note_interleaving("roll", host, for_s)
        loop.call_later(self.world.chance.uniform(0, CUT_WITHIN_S), self.kafka.wire.break_all, host, context=outside)
        error = self.world.chance.choice((NotCoordinatorForGroupError, GroupLoadInProgressError))
        away = self.kafka.take_coordinators, error
        loop.call_later(CUT_WITHIN_S, *away, context=outside)
        for again_s in (0.4, 0.9, 1.6):
            loop.call_later(CUT_WITHIN_S + again_s, self.kafka.wire.break_all, host, context=outside)
        loop.call_later(CUT_WITHIN_S + for_s, self.kafka.give_coordinators, context=outside)

    def pause(self, host: Host, for_s: float) -> None:
        """Stops a host for some time."""
        if host.is_dead or host.is_paused:
            return
        self.note_interleaving("pause", host, for_s)
        self.world.pause(host)
        self.world.loop.call_later(for_s, self.world.resume, host, context=self.world.network.outside)

    # -- pings

    def feed(self, which: int, odd: str, *, aborted: bool = False) -> None:
        """Appends a vehicle's next ping to its partition, as a producer near the brokers does it."""
        record = self.feeder.make(which, odd)
        number = partition_of(record.key, self.plan.partitions) if record.key else which % self.plan.partitions
        if record.timestamp_ms == 0:
            record = record._replace(timestamp_ms=int(self.world.wall_s() * 1000))
        self.kafka.feed((self.settings.topics.pings, number), record, aborted=aborted)

    # -- what must hold at every moment --------------------------------------------------------------------------------

    def _look(self, host: Host) -> None:
        """Notes who wrote, a checkpoint that is ahead of the committed offset, and stored records that are not those of
        the log."""
        self.owners.look_at_stores(host)
        for wrong in self.stored.look():
            self.note_broken(wrong)
        self._look_at_members()
        if self.plan.kinds & CUTS:
            return  # then offsets go back for good reasons, one after the other
        pings, group = self.settings.topics.pings, self.settings.group
        for number in range(self.plan.partitions):
            stored = self.redis.next_offset(group, (pings, number))
            if stored is not None and stored > self.kafka.committed(group, (pings, number), pending=True):
                committed = self.kafka.committed(group, (pings, number))
                self.note_broken(
                    f"ahead: the checkpoint of partition {number} goes to {stored}, {committed} is committed"
                )

    def _look_at_members(self) -> None:
        """Notes numbers that two members hold by the same generation."""
        for what in find_shared(
            (one.worker.kind, one.worker.member)
            for one in self.places
            if isinstance(one.worker, SimulatedMember) and one.worker.member and one.host and not one.host.is_dead
        ):
            self.note_broken(what)

    def note_broken(self, what: str) -> None:
        if what not in self.broken:
            self.world.note(what)
            self.broken.append(what)

    # -- the end

    def heal(self) -> None:
        """Ends every fault."""
        self.world.note("heal")
        if not self.is_healed and self.has_pings:
            logs = self.kafka.cluster.topics[self.settings.topics.pings].logs
            self._ends_at_heal = {number: log.end for number, log in enumerate(logs)}
        self.is_healed = True
        self._points.clear()
        self.world.network.calm()
        self.versions.heal()
        self.kafka.create_topic(self.settings.topics.forecasts, self.plan.partitions)
        self.kafka.heal()
        self.redis.heal()
        self.members.heal()
        for place in self.places:
            place.is_wanted = True
            if place.host is not None and place.host.is_paused:
                self.world.resume(place.host)

    @property
    def has_pings(self) -> bool:
        return self.settings.topics.pings in self.kafka.cluster.topics

    def open_ends(self) -> list[str]:
        """Returns what is not answered, or not stored, in words."""
        pings, group = self.settings.topics.pings, self.settings.group
        found, ready = [], self._ready_partitions()
        for number in range(self.plan.partitions):
            partition = (pings, number)
            if number not in ready:  # a log that was cut may be as long again before anybody has noticed
                found.append(f"partition {number} is not taken over")
            end, committed = self.kafka.last_record_end(partition), self.kafka.committed(group, partition)
            if committed < end:
                found.append(f"partition {number} is committed up to {committed}, and ends at {end}")
            if end and committed > self.kafka.log_end(partition):  # its worker has not noticed yet that it was cut
                found.append(f"partition {number} is committed up to {committed}, beyond the end of its log")
            stored = self.redis.next_offset(group, partition)
            if end and (stored is None or stored < committed) and not self._rests_with_a_loss(number):
                found.append(f"partition {number} is stored up to {stored}, and committed up to {committed}")
        found += [f"{task.get_name()} has not ended" for task in self.commands]
        return found + self.versions.open_ends()

    def _ready_partitions(self) -> set[int]:
        """Returns the numbers of the partitions that a worker which runs has taken over."""
        live = [one for one in self.workers if one.host is not None and not one.host.is_dead and not one.host.is_paused]
        statuses = [one.worker.delivery.status() for one in live if hasattr(one.worker, "delivery")]
        return {one.partition[1] for status in statuses for one in status.partitions if one.ready}

    def _rests_with_a_loss(self, number: int) -> bool:
        """Returns whether Redis may have lost what was stored of a partition into which nobody writes any more: its
        worker notices that at the next record."""
        end = self.kafka.log_end((self.settings.topics.pings, number))
        return bool(self.plan.kinds & LOSSES) and end == self._ends_at_heal.get(number)

    def unaccounted(self) -> list[str]:
        """Returns where the accounts of a worker that runs do not add up."""
        live = [one for one in self.places if one.host is not None and not one.host.is_dead]
        return [line for one in live for line in _accounts_of(one.host, one.worker)]

    # -- what is put in the place of servers

    @contextmanager
    def set_up(self) -> Iterator[None]:
        """Lets clients reach the world's servers, and failpoints the stage."""
        with ExitStack() as stack:
            stack.enter_context(self.versions.in_place())
            stack.enter_context(mock.patch.object(failpoints, "reach", self.reach))
            stack.enter_context(mock.patch.object(snapshot, "LEG", self.plan.leg))
            stack.enter_context(mock.patch.object(counting, "WRITE_S", COUNT_WRITTEN_S))
            stack.enter_context(mock.patch.object(counted, "MOST_PARTS", MOST_PARTS))
            stack.enter_context(mock.patch.object(waiting, "LATENESS_MS", LATENESS_MS))
            stack.enter_context(mock.patch.object(reading, "SESSION_S", SESSION_S))
            if self.archive is not None:
                stack.enter_context(self.archive.in_place())
            stack.enter_context(self.kafka.in_place())
            stack.enter_context(self.redis.in_place())
            yield


def _accounts_of(host: Host | None, worker: SimulatedWorker | None) -> list[str]:
    """Returns where the accounts of a worker do not add up, also of partitions that it has no more."""
    if worker is None or not hasattr(worker, "delivery"):
        return []
    delivery, found = worker.delivery, []
    in_flight = {one.partition: one.waiting + one.at_work for one in delivery.status().partitions}
    for partition, account in delivery.accounts.accounts.items():
        if left := account.count_unaccounted(in_flight.get(partition, 0)):
            found.append(f"accounts: {host} partition {partition[1]} has {left} records unaccounted for")
    return found
