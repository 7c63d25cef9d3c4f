"""Stored states against replayed ones. Knows checkpoints and how a state speaks; knows no broker.

A checkpoint at c includes exactly the records below c, so that when the replay has passed them, every entity's record
must be there: the same track, to the byte, and the same state: the same bytes, or, once it was rebuilt, one whose
forecast is within the tolerance. A record that is newer than c is compared when the replay has passed what it includes:
a worker died between two pieces of a checkpoint, or writes while we look.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import numpy as np

from model.api import Forecasts, Predictor, StateError, StateMismatch
from stream import record
from stream.engine import Engine
from stream.residents import Slots, windows
from stream.scoring import distance_m
from stream.store import Item, MemoryStore, Partition, Patch, Store
from stream.track import Track
from stream.verify.compare import Tolerance
from stream.verify.judge import Judge, Rules
from stream.verify.report import Example, Report

MAX_LATER: Final = 1_000  # offsets after the checkpoint's at which newer records are compared; each costs a dump
HORIZONS_S: Final = (60.0, 900.0)  # to let two states speak


Look = Callable[[Mapping[str, bytes]], Awaitable[None]]


class Replayed(MemoryStore):
    """What the replaying engine takes for its store: it holds nothing, and shows what is written to `look`."""

    def __init__(self) -> None:
        super().__init__()
        self.look: Look | None = None

    async def put_many(
        self, partition: Partition, epoch: int, next_offset: int | None, items: Mapping[str, Item]
    ) -> list[str]:
        if self.look is not None:
            await self.look({name: item for name, item in items.items() if isinstance(item, bytes)})
        return [name for name, item in items.items() if isinstance(item, Patch)]  # those come again, whole


class States:
    """Compares the stored records of one partition as the replay passes `stops`, ascending input offsets."""

    def __init__(
        self,
        partition: Partition,
        store: Store,
        predictor: Predictor,
        judge: Judge,
        rules: Rules,
        report: Report,
        *,
        ttl_ms: float = float("inf"),
        clock_ms: Callable[[], float] = lambda: time.time() * 1000,
    ) -> None:
        self.stops: list[int] = []
        self._partition = partition
        self._store = store
        self._predictor = predictor
        self._judge = judge
        self._rules = rules
        self._report = report
        self._tally = report.tally(partition[1])
        self._ttl_ms = ttl_ms
        self._clock_ms = clock_ms
        self._checkpoint: int | None = None
        self._later: dict[int, set[str]] = {}
        self._seen: set[str] = set()
        self._touched_ms: dict[str, int] = {}

    def plan(self, checkpoint: int | None, committed: int | None) -> None:
        """Where the checkpoint stands, read before the committed offset."""
        span = self._judge.span
        if checkpoint is None:
            if committed:
                self._report.notes.append(f"partition {self._partition[1]}: there is no checkpoint to compare")
            return
        if committed is None or checkpoint > committed:
            reason = f"the checkpoint is at {checkpoint}, ahead of the committed offset {committed}"
            self._blame(None, reason)
        if span.begin <= checkpoint <= span.end:
            self._checkpoint = checkpoint
            self.stops = [checkpoint]
        else:
            self._report.notes.append(
                f"partition {self._partition[1]}: states not compared: their checkpoint {checkpoint} is outside the "
                f"log, which reaches from {span.begin} to {span.end}"
            )

    def touch(self, entity_id: str, timestamp_ms: int) -> None:
        """An entity's record was written after this input record."""
        self._touched_ms[entity_id] = timestamp_ms

    async def at(self, stop: int, engine: Engine, replayed: Replayed) -> None:
        """The replay has passed all records below `stop`, and none above."""
        self.stops.remove(stop)
        wanted = None if stop == self._checkpoint else self._later.pop(stop)

        async def look(items: Mapping[str, bytes]) -> None:
            some = {name: raw for name, raw in items.items() if wanted is None or name in wanted}
            found = await self._store.get_many(self._partition, list(some))
            for (name, due), raw in zip(some.items(), found, strict=True):
                self._compare(name, due, raw, stop)
            if wanted is not None:
                wanted.difference_update(some)

        replayed.look = look
        await engine.checkpoint(self._partition, 0, stop)
        if wanted is None:
            self._judge_strangers(await self._strangers(), stop)
            return
        for name in sorted(wanted):
            self._blame(name, f"its record says that it includes offset {stop - 1}, which is not a ping of this entity")

    async def _strangers(self) -> dict[str, bytes]:
        """Stored records of entities that the replay has not met yet."""
        ids = [name async for name in self._store.entity_ids(self._partition) if name not in self._seen]
        found = await self._store.get_many(self._partition, ids)
        return {name: raw for name, raw in zip(ids, found, strict=True) if raw is not None}

    def _judge_strangers(self, strangers: Mapping[str, bytes], stop: int) -> None:
        for name, raw in strangers.items():
            stored = self._loaded(name, raw)
            if stored is None or self._put_off(name, stored.track, stop):
                continue
            if self._judge.known.complete:
                self._blame(name, f"nothing below offset {stop} makes a record of this entity")
            else:
                self._tally.states_skipped += 1

    def _put_off(self, name: str, track: Track, stop: int) -> bool:
        """Whether the record includes input that the replay has still to reach; then it is compared there."""
        if track.next_offset <= stop:
            return False
        reached = track.next_offset <= self._judge.span.end
        if reached and (track.next_offset in self._later or len(self._later) < MAX_LATER):
            if track.next_offset not in self._later:
                self._later[track.next_offset] = set()
                self.stops = sorted((*self.stops, track.next_offset))
            self._later[track.next_offset].add(name)
        else:
            self._tally.states_skipped += 1
        return True

    def _loaded(self, name: str, raw: bytes) -> record.Stored | None:
        try:
            return record.loads(name, raw)
        except record.RecordError as error:
            self._blame(name, f"its record is damaged: {error}")
            return None

    def _compare(self, name: str, due_raw: bytes, raw: bytes | None, stop: int) -> None:
        self._seen.add(name)
        due = record.loads(name, due_raw)
        if raw is None:
            self._absent(name, due.track)
            return
        found = self._loaded(name, raw)
        if found is None or self._put_off(name, found.track, stop):
            return
        if not self._judge.known.settled(name):
            self._tally.states_skipped += 1
        elif (reason := self._track_difference(due.track, found.track)) is not None:
            self._blame(name, reason)
        else:
            self._compare_states(name, due.state, found)

    def _absent(self, name: str, due: Track) -> None:
        silent_ms = self._clock_ms() - self._touched_ms.get(name, 0)
        if silent_ms > self._ttl_ms or not self._judge.known.settled(name):
            self._tally.states_skipped += 1
        else:
            self._blame(name, f"no record, although its pings up to offset {due.next_offset - 1} are in the checkpoint")

    def _track_difference(self, due: Track, found: Track) -> str | None:
        names = ["next_offset", "window", "suspects", "pending"]
        if self._judge.known.complete:
            names += ["accepted", "late", "duplicates", "rejected"]  # what began before the log has counted more
        for name in names:
            one, other = getattr(due, name), getattr(found, name)
            if one != other and name == "window":
                return f"its window has {found.size} pings, not the {due.size} expected, or others"
            if one != other:
                return f"{name} is {other}, expected {one}"
        return None

    def _compare_states(self, name: str, due: bytes, found: record.Stored) -> None:
        """If their bytes differ, what they say must be near: one that was rebuilt may differ so. Whether it was nobody
        can tell: that is said by the next forecast, and a checkpoint may be written before there is one."""
        slots = self._predictor.acquire(2)
        try:
            self._predictor.loads(slots, [due, found.state])
            self._catch_up(slots[1:], found)
            close = self._predictor.dumps(slots[1:]) != [due]
            reason = _apart(self._predictor.forecast(slots, HORIZONS_S), self._rules.tolerance) if close else None
        except StateMismatch:  # of other weights: the next owner rebuilds it, and says so
            self._tally.states_skipped += 1
            return
        except StateError as error:
            close, reason = False, f"its state is refused: {error}"
        finally:
            self._predictor.release(slots)
        if reason is None:
            self._tally.states += 1
            self._tally.states_close += close
        else:
            self._blame(name, reason)

    def _catch_up(self, slot: Slots, found: record.Stored) -> None:
        """Fold in the fixes that a stored state lacks, as whoever loads it does. Raises StateError."""
        missing = windows(found.track.window)[-1 - found.behind :]
        if self._predictor.last(slot)["ts_ms"][0] != missing[0]["ts_ms"]:
            raise StateError("it does not stand where its record says")
        for fix in range(1, len(missing)):
            self._predictor.advance(slot, missing[fix : fix + 1])

    def _blame(self, entity: str | None, reason: str) -> None:
        topic, number = self._partition
        self._tally.states += entity is not None
        self._report.blame(Example("states_different", topic, number, self._checkpoint, entity, reason))


def _apart(said: Forecasts, tolerance: Tolerance) -> str | None:
    """Why what two states say is too far apart; None if it is near."""
    for h, horizon_s in enumerate(HORIZONS_S):
        sigma_m = float(np.sqrt((said.cov_m2[0, h, 0] + said.cov_m2[0, h, 2]) / 2))
        apart_m = distance_m(said.lat[0, h], said.lon[0, h], said.lat[1, h], said.lon[1, h])
        if not apart_m <= tolerance.metres + tolerance.of_sigma * sigma_m:
            return f"its state says {apart_m:.2f} m away from the replayed one, {horizon_s:g} s ahead"
    return None
