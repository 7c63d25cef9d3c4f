"""What a world has for the members beside its workers: what they are asked for, who looks at them, and how they end."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from atlas_oracle import EVICTIONS, look_at_days
from kafka_log import NewRecord
from plans import ANSWER_CUTS, CUTS
from scores_oracle import find_missing
from simulated_members import SimulatedMember
from topics_read import read

from stream.services.archive.forgetting import forget
from stream.wire import Record
from stream.wire.arrivals import Destination, destination_key, dumps_arrivals

if TYPE_CHECKING:
    from stage import Stage

LOOK_S: Final = 3.0  # between two looks at the days that are counted
FAR_M: Final = 500.0  # a destination is so large that some vehicles are there at once
LONG_AGO_MS: Final = 1_600_000_000_000
STRANGER: Final = "stranger"  # whoever writes forecasts beside the workers


class CountedOn(NamedTuple):
    """How a member of the atlas went on in a log that was cut."""

    counted: int  # records of the log before were counted below this offset
    at: int  # from where on it counts the log that there is now


class Members:
    """The members of a world."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._slow: list[tuple[str, float]] = []
        self.cuts: dict[int, list[list[Record]]] = {}  # by number of the pings, what the log had before each cut
        self.counted_on: dict[int, list[CountedOn]] = {}
        self.answered: dict[int, set[bytes]] = {}  # forecasts that could be read when some of them were cut off
        self.forgotten: set[str] = set()  # entities of which the archive is to have nothing
        self._asked_again = False  # the operator who forgets them

    # -- what watches ask

    def note_broken(self, what: str) -> None:
        self._stage.note_broken(what)

    def reach(self, name: str) -> None:
        self._stage.reach(name)

    def make_slow(self, point: str, for_s: float) -> None:
        self._slow.append((point, for_s))

    def take_slowness(self, point: str) -> float:
        for one in self._slow:
            if one[0] == point:
                self._slow.remove(one)
                self._stage.world.note(f"slow {point} {one[1]}")
                return one[1]
        return 0.0

    def is_over(self, group: str, member_id: str, generation: int) -> bool:
        found = self._stage.kafka.cluster.groups.get(group)
        return found is None or member_id not in found.members or found.generation != generation

    def committed(self, group: str, partition: tuple[str, int]) -> int:
        if self._stage.plan.kinds & ANSWER_CUTS:
            return 0  # it counts no more, and who takes over finds that out
        return self._stage.kafka.committed(group, partition)

    def note_cut(self, number: int) -> None:
        """Notes what the log of the pings has, of which some is lost now."""
        before = read(self._stage, self._stage.settings.topics.pings, number) if self._stage.plan.members else []
        self.cuts.setdefault(number, []).append(before)

    def note_answer_cut(self) -> None:
        """Notes what the logs of the forecasts have, of which some is lost now."""
        for number in range(self._stage.plan.partitions):
            records = read(self._stage, self._stage.settings.topics.forecasts, number)
            self.answered.setdefault(number, set()).update((one.value or b"").rstrip() for one in records)

    def was_cut(self) -> bool:
        return bool(self._stage.plan.kinds & (ANSWER_CUTS | CUTS))

    def note_counted_on(self, number: int, counted: int, at: int) -> None:
        self.counted_on.setdefault(number, []).append(CountedOn(counted, at))

    def note_end(self, kind: str, ends: Mapping[int, int]) -> None:
        """Notes what a member has not published that has come to its end."""
        self._stage.world.note(f"done {kind} {sorted(ends)}")
        for number, end in ends.items():
            for what in find_missing(self._stage, number, end):
                self.note_broken(f"unsent: {kind} has ended well, and {what}")

    # -- begin and end

    def begin(self) -> None:
        stage = self._stage
        if "arrivals" in stage.kinds_of_members:
            for one in stage.feeder._vehicles:
                self._ask(one.entity_id, "near", one.lat)
                self._ask(one.entity_id, "far", one.lat + 1.0)
            self._ask(STRANGER, "near", 10.0)
        if "atlas" in stage.kinds_of_members:
            stage.world.start(stage.world.host("reader"), self._look_on(), "looks")

    def _ask(self, entity_id: str, name: str, lat: float) -> None:
        lon = next((one.lon for one in self._stage.feeder._vehicles if one.entity_id == entity_id), 10.0)
        wanted = Destination(
            entity_id=entity_id, destination_id=name, lat=lat, lon=lon, radius_m=FAR_M, set_ts=LONG_AGO_MS
        )
        key, topic = destination_key(entity_id, name).encode(), self._stage.settings.topics.destinations
        record = NewRecord(key, dumps_arrivals(wanted), timestamp_ms=LONG_AGO_MS)
        self._stage.kafka.cluster.produce((topic, 0), [record])

    async def _look_on(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            for what in await look_at_days(self._stage):
                self.note_broken(what)

    def forget(self, entity_id: str) -> None:
        """Lets an operator remove an entity from the archive."""
        stage = self._stage
        if stage.archive is not None:
            self.forgotten.add(entity_id)
            catalog = stage.archive.catalog()
            work = asyncio.to_thread(forget, catalog, entity_id)
            stage.world.start(stage.world.host("operator"), work, "forgets")

    def heal(self) -> None:
        """Ends what was done to members. Where Redis has lost something, owners of its days begin anew, who notice."""
        stage = self._stage
        self._slow.clear()
        stage.kafka.protocol.refused_topics.clear()
        if stage.archive is not None:
            stage.archive.unanswered = 0
            for entity_id in () if self._asked_again else sorted(self.forgotten):
                self.forget(entity_id)  # the operator asks once more, as it may have been interrupted
            self._asked_again = True  # not when all is judged: it would remove what has landed since
        if stage.plan.kinds & EVICTIONS:
            for place in stage.places:
                if isinstance(place.worker, SimulatedMember) and place.worker.kind == "atlas":
                    place.worker.stopping.set()
