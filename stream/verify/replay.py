"""Replays one partition's input through the engine, and passes batches to the judge and checkpoints to the states.

It uses no broker: the caller feeds the records, and passes a function that reads doubted answers back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence, Set
from typing import Final

from stream.engine.assignment import VersionChoice
from stream.engine.engine import Engine
from stream.verify.judging.doubts import Place
from stream.verify.judging.judge import Judge, by_record
from stream.verify.stored_states import Replayed, States
from stream.verify.versions import PublishedVersions
from stream.wire import Outgoing, Record

MAX_DOUBTS: Final = 20_000  # answers to read back at once, at some 1 KB each

Fetch = Callable[[Set[Place]], Awaitable[Mapping[Place, Record]]]


class Replay:
    """Replays one partition. Call `feed` with its records in offset order, and then `end`."""

    def __init__(
        self,
        engine: Engine,
        replayed: Replayed,
        judge: Judge,
        states: States | None,
        fetch: Fetch,
        said: PublishedVersions | None = None,
    ) -> None:
        """Takes `said`, which versions each ping asks; None if all ask the same."""
        self._engine = engine
        self._replayed = replayed
        self._judge = judge
        self._states = states
        self._fetch = fetch
        self._said = said
        self._skipped: set[int] = set()  # offsets that the engine was not given

    async def feed(self, records: Sequence[Record]) -> None:
        while (stop := self._next_stop()) is not None and records and stop <= records[-1].offset:
            before = [record for record in records if record.offset < stop]
            await self._process(before)
            await self._compare(stop)
            records = records[len(before) :]
        await self._process(records)
        if len(self._judge.doubts) >= MAX_DOUBTS:
            await self._settle()

    async def end(self) -> None:
        while (stop := self._next_stop()) is not None:
            await self._compare(stop)
        await self._settle()
        self._judge.finish()

    async def again(self, read: Callable[[int], AsyncIterator[Sequence[Record]]]) -> None:
        """Judges the copies that asked other versions than the first replay, by others that ask it. To be
        called after `end`.

        `read` yields the records from the first one up to an offset, for an engine that has forgotten them.
        """
        while self._said is not None and (odd := self._judge.doubts.take_odd()):
            said = self._said.instead({offset: doubt.copy.named for offset, doubt in odd.items()})
            async for records in read(max(odd) + 1):
                answers = await self._answers(records, said)
                for offset in {record.offset for record in records} & odd.keys():
                    self._judge.doubts.again(odd[offset], answers.get(offset, []))
                await self._settle()

    def _next_stop(self) -> int | None:
        return self._states.stops[0] if self._states is not None and self._states.stops else None

    async def _process(self, records: Sequence[Record]) -> None:
        if not records:
            return
        # A record that failed in a worker is not tried here: it might not fail, and its entity's later answers do not
        # include it. If a record fails only here, its entity cannot be judged, and that is all.
        self._skipped.update(record.offset for record in records if self._judge.step_failed(record))
        answers = await self._answers(records, self._said)
        for record in records:
            entity = self._judge.record(record, answers.get(record.offset, []))
            if self._states is not None and entity is not None:
                self._states.touch(entity, record.timestamp_ms)

    async def _answers(self, records: Sequence[Record], said: PublishedVersions | None) -> dict[int, list[Outgoing]]:
        fed = [record for record in records if record.offset not in self._skipped]
        choice = VersionChoice() if said is None else said.choice
        return by_record(await self._engine.process(fed, started_ms=0.0, fetched_ms=0.0, careful=True, choice=choice))

    async def _compare(self, stop: int) -> None:
        assert self._states is not None
        await self._states.at(stop, self._engine, self._replayed)

    async def _settle(self) -> None:
        self._judge.settle(await self._fetch(self._judge.doubts.places))
