"""Compares stored states with replayed ones.

A checkpoint at offset c includes exactly the input records below c. So when the replay has passed them, every entity's
stored record must exist, with the same track, to the byte, and, once the pings that it lacks are folded in, the same
state: the same bytes, or, as it may have been rebuilt, a state whose forecast is within the tolerance. A stored record
that is newer than c is compared when the replay has passed what it includes: a worker died between two parts of a
checkpoint, or writes while we read.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np

from model.api import FIX, Forecasts, StateError, StateMismatch
from stream.engine.engine import Engine
from stream.engine.entities import quarantine, stored_entity
from stream.engine.entities.predictors import Predictors
from stream.engine.entities.shard import Slots
from stream.engine.entities.table import windows
from stream.store.base import Item, MemoryStore, Partition, Store
from stream.tracks.track import Track
from stream.verify.compare import Tolerance
from stream.verify.judging.judge import Judge, JudgingRules
from stream.verify.report import Example, Report
from stream.wire.scoring import distance_m

MAX_LATER: Final = 1_000  # offsets after the checkpoint's at which newer records are compared; each costs a dump
HORIZONS_S: Final = (60.0, 900.0)  # of the forecasts by which two states are compared


class Pair(NamedTuple):
    """The replayed state of an entity, and its stored record, whose track is the replayed one."""

    name: str
    due: bytes
    found: stored_entity.Stored


Look = Callable[[Mapping[str, bytes]], Awaitable[None]]


class Replayed(MemoryStore):
    """The store of the replaying engine. It stores nothing, so that the engine writes every record whole, and passes
    the written records to `look`."""

    def __init__(self) -> None:
        super().__init__()
        self.look: Look | None = None

    async def put_many(
        self, partition: Partition, epoch: int, next_offset: int | None, items: Mapping[str, Item]
    ) -> list[str]:
        whole = {name: item for name, item in items.items() if isinstance(item, bytes)}
        if self.look is not None and whole:
            await self.look(whole)
        return [name for name in items if name not in whole]


class States:
    """Compares the stored records of one partition as the replay passes `stops`, ascending input offsets."""

    def __init__(
        self,
        partition: Partition,
        store: Store,
        predictors: Predictors,
        judge: Judge,
        rules: JudgingRules,
        report: Report,
        *,
        ttl_ms: float = float("inf"),
        clock_ms: Callable[[], float] = lambda: time.time() * 1000,
    ) -> None:
        self.stops: list[int] = []
        self._partition = partition
        self._store = store
        self._predictors = predictors
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
        """Plans the comparison. `checkpoint` must have been read before the committed offset."""
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
        """Notes the timestamp of an entity's input record: its stored record is written after it."""
        self._touched_ms[entity_id] = timestamp_ms

    async def at(self, stop: int, engine: Engine, replayed: Replayed) -> None:
        """Compares the stored records. The replay must have passed all input records below `stop` and no others."""
        self.stops.remove(stop)
        wanted = None if stop == self._checkpoint else self._later.pop(stop)

        async def look(items: Mapping[str, bytes]) -> None:
            own = {name for name, raw in items.items() if quarantine.is_one(raw)}  # the step failed here, in the replay
            self._seen |= own
            self._tally.states_skipped += len(own)
            some = {name: raw for name, raw in items.items() if name not in own and (wanted is None or name in wanted)}
            found = await self._store.get_many(self._partition, list(some))
            rows = zip(some.items(), found, strict=True)
            pairs = [self._compare(name, stored_entity.loads(name, due), raw, stop) for (name, due), raw in rows]
            self._hear([pair for pair in pairs if pair is not None])
            if wanted is not None:
                wanted.difference_update(some)

        replayed.look = look
        await engine.checkpoint(self._partition, 0, stop)
        if wanted is None:
            self._judge_unseen(await self._unseen(), stop)
            return
        for name in sorted(wanted):
            if not self._judge.known.can_be_judged(name):
                self._tally.states_skipped += 1
                continue
            self._blame(name, f"its record says that it includes offset {stop - 1}, which is not a ping of this entity")

    async def _unseen(self) -> dict[str, bytes]:
        """Returns the stored records of entities that the replay has not had yet."""
        ids = [name async for name in self._store.entity_ids(self._partition) if name not in self._seen]
        found = await self._store.get_many(self._partition, ids)
        return {name: raw for name, raw in zip(ids, found, strict=True) if raw is not None}

    def _judge_unseen(self, unseen: Mapping[str, bytes], stop: int) -> None:
        for name, raw in unseen.items():
            if self._is_quarantine(name, raw, stop):
                continue
            stored = self._load(name, raw)
            if stored is None or self._postpones(name, stored.track, stop):
                continue
            if self._judge.known.whole(name):
                self._blame(name, f"nothing below offset {stop} makes a record of this entity")
            else:
                self._tally.states_skipped += 1

    def _postpones(self, name: str, track: Track, stop: int) -> bool:
        """Returns whether the record includes input that the replay has not reached; then it is compared there."""
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

    def _load(self, name: str, raw: bytes) -> stored_entity.Stored | None:
        try:
            return stored_entity.loads(name, raw)
        except stored_entity.RecordError as error:
            self._blame(name, f"its record is damaged: {error}")
            return None

    def _compare(self, name: str, due: stored_entity.Stored, raw: bytes | None, stop: int) -> Pair | None:
        """Judges a stored record without its state. Returns the states to compare if it is right."""
        self._seen.add(name)
        if raw is None:
            self._absent(name, due.track)
            return None
        if self._is_quarantine(name, raw, stop):
            return None
        found = self._load(name, raw)
        if found is None or self._postpones(name, found.track, stop):
            return None
        if not self._judge.known.can_be_judged(name):
            self._tally.states_skipped += 1
            return None
        if (reason := self._track_difference(name, due.track, found.track)) is not None:
            self._blame(name, reason)
            return None
        return Pair(name, due.state, found)

    def _is_quarantine(self, name: str, raw: bytes, stop: int) -> bool:
        """Returns whether the record is a quarantine, and judges it: a dead letter must have given the reason."""
        if not quarantine.is_one(raw):
            return False
        try:
            found = quarantine.loads(name, raw)
        except stored_entity.RecordError as error:
            self._blame(name, f"its record is damaged: {error}")
            return True
        if self._judge.known.whole(name) and found.offset < stop:
            self._blame(name, f"it is in quarantine since offset {found.offset}, but no dead letter says so")
        else:
            self._tally.states_skipped += 1
        return True

    def _absent(self, name: str, due: Track) -> None:
        silent_ms = self._clock_ms() - self._touched_ms.get(name, 0)
        if silent_ms > self._ttl_ms or not self._judge.known.can_be_judged(name):
            self._tally.states_skipped += 1
        else:
            self._blame(name, f"no record, although its pings up to offset {due.next_offset - 1} are in the checkpoint")

    def _track_difference(self, entity: str, due: Track, found: Track) -> str | None:
        names = ["next_offset", "window", "suspects", "pending"]
        if self._judge.known.whole(entity):
            names += ["accepted", "late", "duplicates", "rejected"]  # a track older than the log has counted more
        for name in names:
            one, other = getattr(due, name), getattr(found, name)
            if one != other and name == "window":
                return f"its window has {found.size} pings, not the {due.size} expected, or others"
            if one != other:
                return f"{name} is {other}, expected {one}"
        return None

    def _hear(self, pairs: Sequence[Pair]) -> None:
        """Compares each stored state, brought up to its track, with the replayed one."""
        slots = self._predictors.acquire(len(pairs))
        try:
            sound = np.array([self._stands(slot, pair) for slot, pair in zip(slots, pairs, strict=True)], np.bool_)
            rows, kept = slots[sound], [pair for pair, good in zip(pairs, sound.tolist(), strict=True) if good]
            self._catch_up(rows, [pair.found for pair in kept])
            for slot, pair, state in zip(rows, kept, self._predictors.dumps(rows), strict=True):
                if state == pair.due:
                    self._tally.states += 1
                else:
                    self._speak(slot, pair)
        finally:
            self._predictors.release(slots)

    def _stands(self, slot: np.int64, pair: Pair) -> bool:
        """Loads a stored state. Returns whether it is a state of our weights, and lacks as many of its track's pings as
        its record states."""
        fixes, behind = windows(pair.found.track.window), pair.found.behind
        row = np.array([slot])
        try:
            self._predictors.loads(row, [pair.found.state])
        except StateMismatch:  # it is of other weights: the next owner rebuilds it, and its answers state that
            self._tally.states_skipped += 1
            return False
        except StateError as error:
            self._blame(pair.name, f"its state is refused: {error}")
            return False
        if behind < len(fixes) and self._predictors.last(row)["ts_ms"][0] == fixes["ts_ms"][-1 - behind]:
            return True
        self._blame(pair.name, f"its state is not {behind} pings behind its window, as its record says")
        return False

    def _catch_up(self, slots: Slots, stored: Sequence[stored_entity.Stored]) -> None:
        """Folds in the pings that the states lack, as a takeover would."""
        behind = np.array([found.behind for found in stored], np.int64)
        late = np.flatnonzero(behind)
        tails = [windows(found.track.window)[-found.behind :] for found in stored if found.behind]
        self._predictors.catch_up(slots[late], np.concatenate([np.zeros(0, FIX), *tails]), behind[late])

    def _speak(self, slot: np.int64, pair: Pair) -> None:
        """Compares the forecasts of two states whose bytes differ: those of a rebuilt state may, within the tolerance.
        Nobody can tell whether it was rebuilt: the next forecast states it, and a checkpoint may come before that."""
        replayed = self._predictors.acquire(1)
        try:
            self._predictors.loads(replayed, [pair.due])
            said = self._predictors.forecast(np.array([replayed[0], slot]), HORIZONS_S)
        finally:
            self._predictors.release(replayed)
        reason = _apart(said, self._rules.tolerance)
        if reason is None:
            self._tally.states += 1
            self._tally.states_close += 1
        else:
            self._blame(pair.name, reason)

    def _blame(self, entity: str | None, reason: str) -> None:
        topic, number = self._partition
        self._tally.states += entity is not None
        self._report.blame(Example("states_different", topic, number, self._checkpoint, entity, reason))


def _apart(said: Forecasts, tolerance: Tolerance) -> str | None:
    """Returns why the forecasts of two states are too far apart; None if they are near."""
    for h, horizon_s in enumerate(HORIZONS_S):
        sigma_m = float(np.sqrt((said.cov_m2[0, h, 0] + said.cov_m2[0, h, 2]) / 2))
        apart_m = distance_m(said.lat[0, h], said.lon[0, h], said.lat[1, h], said.lon[1, h])
        if not apart_m <= tolerance.metres + tolerance.of_sigma * sigma_m:
            return f"its state says {apart_m:.2f} m away from the replayed one, {horizon_s:g} s ahead"
    return None
