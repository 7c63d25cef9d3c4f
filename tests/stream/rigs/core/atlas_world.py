"""The topics of pings and models, and what announcers and workers do with them, one step at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from stream.versions.ledger import Ledger, certain_below, first_offsets, is_in_time
from stream.versions.weights import WeightsLedger
from stream.wire import VersionRecord, dumps, loads_version

TOPIC: Final = "pathcast.pings.v1"
Entry = tuple[bytes, bytes | None]


def name(number: int) -> str:
    return f"{number:016x}"


def announcement(version: str, state: str, first: dict[int, int], topic: str = TOPIC, issued_ts: int = 0) -> Entry:
    """The record of a version."""
    record = VersionRecord(
        version=version, state=state, first=first, topic=topic, includes={}, contains={}, issued_ts=issued_ts
    )
    return record.key, dumps(record)


def entry(number: int, state: str, first: dict[int, int], topic: str = TOPIC) -> Entry:
    """The record of a version whose name is this number."""
    return announcement(name(number), state, first, topic, number)


def withdrawn(number: int) -> Entry:
    return f"atlas:{name(number)}".encode(), None


def ledger(*log: Entry) -> Ledger:
    found = Ledger(TOPIC)
    for one in log:
        found.add(*one)
    return found


class Topic:
    """The models topic, which a test fills and takes away. It is read as `AnnouncementReader` reads it."""

    def __init__(self) -> None:
        self.log: list[Entry] = []
        self.ledger, self.weights = Ledger(TOPIC), WeightsLedger(TOPIC)
        self.away = False
        self.looks = 0
        self.before: Callable[[], None] = lambda: None
        self.after: Callable[[], None] = lambda: None
        self._next = 0

    async def look(self) -> None:
        self.looks += 1
        if self.away:
            raise OSError("no broker")
        await asyncio.sleep(0)
        self.before()
        for one in self.log[self._next :]:
            self.ledger.add(*one)
            self.weights.add(*one)
        self._next = len(self.log)
        self.after()
        await asyncio.sleep(0)

    def says(self, version: str, state: str, **first: int) -> None:
        self.log.append(announcement(version, state, {int(number[1:]): offset for number, offset in first.items()}))


@dataclass
class World:
    """The logs, an announcer and two workers, each of which does one step when it is asked to.

    `sure` is how far a worker believes a look, given the end that it saw before; `confirms` says whether an
    announcement that others may not have seen in time is withdrawn.
    """

    sure: Callable[[int], int] = certain_below
    confirms: bool = True
    heeds: bool = True
    ends: list[int] = field(default_factory=lambda: [0, 0])
    models: list[Entry] = field(default_factory=list)
    versions: int = 0
    answers: dict[tuple[int, int], set[str | None]] = field(default_factory=dict)
    lives: dict[tuple[str, int], Iterator[None]] = field(default_factory=dict)

    def announcer(self) -> Iterator[None]:
        while True:
            self.versions += 1
            version = self.versions
            first = first_offsets(dict(enumerate(self.ends)), {})
            yield
            self.models.append(entry(version, "announced", first))
            yield
            record = loads_version(self.models[-1][1] or b"")
            in_time = not self.confirms or is_in_time(record.first, dict(enumerate(self.ends)))
            yield
            self.models.append(entry(version, "serving", first) if in_time else withdrawn(version))
            yield

    def ledger(self) -> Any:
        """A new one, as workers and whoever has the whole log fill it."""
        return Ledger(TOPIC)

    def answer(self, known: Any, number: int, offset: int) -> str | None:
        """Returns the version that a ping asks, by this ledger."""
        found: str | None = known.version_at(number, offset)
        return found

    def worker(self, number: int) -> Iterator[None]:
        """Answers a partition from its beginning, some pings at a time, as `stream.versions.serving` does."""
        known, heard, at, certain = self.ledger(), 0, 0, 0
        while True:
            stop = min(at + 5, self.ends[number])
            if stop > certain:
                end = self.ends[number]
                yield
                for one in self.models[heard:]:
                    known.add(*one)
                heard, certain = len(self.models), self.sure(end)
                yield
            undecided = known.first_undecided(number) if self.heeds else None
            if undecided is not None and undecided < stop:
                certain = 0  # held: it looks again
                yield
                continue
            for offset in range(at, stop):
                self.answers.setdefault((number, offset), set()).add(self.answer(known, number, offset))
            at = stop
            yield

    def act(self, what: str, number: int) -> None:
        if what == "ping":
            self.ends[number % 2] += 1 + number // 2
        elif what == "die":
            self.lives.pop(("work", number % 2), None)
        else:
            one = ("announce", 0) if what == "announce" else ("work", number % 2)
            if one not in self.lives:
                self.lives[one] = self.announcer() if what == "announce" else self.worker(one[1])
            next(self.lives[one])

    def run(self, actions: Sequence[tuple[str, int]]) -> None:
        for action in [*actions, *[("announce", 0)] * 4, *[("work", 0), ("work", 1)] * 60]:
            self.act(*action)

    def agrees(self) -> bool:
        """Whether each ping was answered as the whole log says, by whichever worker, however often."""
        final = self.ledger()
        for one in self.models:
            final.add(*one)
        return all(given == {self.answer(final, *place)} for place, given in self.answers.items())


def run_at_random(world: World, seed: int) -> World:
    """The world after a few random actions."""
    rng = np.random.default_rng(seed)
    kinds = rng.choice(["ping", "announce", "work", "die"], 150, p=[0.3, 0.25, 0.43, 0.02])
    world.run([(str(kind), int(number)) for kind, number in zip(kinds, rng.integers(0, 14, 150), strict=True)])
    return world
