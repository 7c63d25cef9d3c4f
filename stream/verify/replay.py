"""Replays one partition's input through the engine, and passes batches to the judge and checkpoints to the states.

It uses no broker: the caller feeds the records, and passes a function that reads doubted answers back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence, Set
from typing import Final

from stream.engine.asks import Choice
from stream.engine.engine import Engine
from stream.verify.doubts import Place
from stream.verify.judge import Judge, by_record
from stream.verify.stored_states import Replayed, States
from stream.wire import Record

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
        choice: Choice | None = None,
    ) -> None:
        """Takes `choice`, which atlas each ping asks; None if no forecast names any."""
        self._engine = engine
        self._replayed = replayed
        self._judge = judge
        self._states = states
        self._fetch = fetch
        self._choice = choice

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

    def _next_stop(self) -> int | None:
        return self._states.stops[0] if self._states is not None and self._states.stops else None

    async def _process(self, records: Sequence[Record]) -> None:
        if not records:
            return
        # A record that failed in a worker is not tried here: it might not fail, and its entity's later answers do not
        # include it. If a record fails only here, its entity cannot be judged, and that is all.
        fed = [record for record in records if not self._judge.failed(record.offset)]
        made = await self._engine.process(fed, started_ms=0.0, fetched_ms=0.0, careful=True, choice=self._choice)
        answers = by_record(made)
        for record in records:
            entity = self._judge.record(record, answers.get(record.offset, []))
            if self._states is not None and entity is not None:
                self._states.touch(entity, record.timestamp_ms)

    async def _compare(self, stop: int) -> None:
        assert self._states is not None
        await self._states.at(stop, self._engine, self._replayed)

    async def _settle(self) -> None:
        self._judge.settle(await self._fetch(self._judge.doubts.places))
