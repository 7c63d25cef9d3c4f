"""Takes one batch through tracks and model, once its entities are in memory. `Engine` calls it, one batch at a time.

    pings by entity -> track_table's observe_plain, and track.observe for those that are not plain
        -> Predictor.answer for all of them in one step; new sessions and late pings take another step
        -> gap fills -> records

A late ping is folded into the window where it belongs. Its forecast is made from the window up to it (the state is
rebuilt for that, so its cache is "rebuilt" and its status "stale"); then the state is rebuilt from the whole window.

Where an entity's weights change, the new network rebuilds its state from the window before the ping, and answers. A
batch in which they change between two pings of one entity is folded in turns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from model.api import Forecasts, Moment, approaches_of
from stream.engine.answers import Answered
from stream.engine.assignment import RequestedVersions
from stream.engine.batch import EngineBatch, Outcome, RequestedGap, Rows, lengths, model_gap, rows_of, slots_of
from stream.engine.bisection import Bisection
from stream.engine.entities.predictors import Predictors
from stream.engine.entities.quota import Quota
from stream.engine.entities.shard import Entity, Slots
from stream.engine.entities.table import HIT, NOBODY, NONE, REBUILT, UNREAD, EntityTable, windows
from stream.engine.rendering import Renderer
from stream.tracks.track import Duplicate, Folded, Policy, Rejected, observe
from stream.tracks.track_table import NOT_ASKED, UNKNOWN, Observed, firsts


class Stepper:
    """Folds batches. `Engine` owns the objects that it gets."""

    def __init__(
        self,
        predictors: Predictors,
        table: EntityTable,
        policy: Policy,
        quota: Quota,
        bisection: Bisection,
        render: Renderer,
        clock_ms: Callable[[], float],
    ) -> None:
        self._predictors = predictors
        self._table = table
        self._tracks = table.tracks
        self._policy = policy
        self._quota = quota
        self._bisection = bisection
        self._render = render
        self._clock_ms = clock_ms

    def fold(self, batch: EngineBatch) -> None:
        turns = None if batch.networks is None else batch.networks.turns(batch.pings.of)
        if turns is None:
            self._fold(batch)
            return
        for turn in turns:
            part = batch.part(rows := turn.tolist())
            self._fold(part)
            batch.take(rows, part)

    def _fold(self, batch: EngineBatch) -> None:
        self._table.sweep()
        rows = self._pings(batch)
        self._move(batch, rows)
        outcomes = self._observe(batch, rows)
        if batch.traced is not None:
            batch.traced.tracked_ms = self._clock_ms()
        for places, some in rows.steps(outcomes):
            self._step(batch, rows, places, some)
        clocks_ms = batch.fetched_ms, batch.started_ms, self._clock_ms()
        models, traced = self._predictors.refs, batch.traced
        batch.pages += self._render.forecasts(batch.records, batch.said, models, clocks_ms, traced)
        self._fill(batch)
        if traced is not None:
            traced.answered_ms, traced.folded_ms = clocks_ms[2], self._clock_ms()

    def _move(self, batch: EngineBatch, rows: Rows) -> None:
        """Gives the states of entities to the networks that are due to answer them."""
        if batch.networks is None or not len(rows):
            return
        first = np.flatnonzero(firsts(rows.slots))
        slots, wanted = rows.slots[first], batch.networks.which[rows.index[first]]
        places = np.array([self._predictors.place(one) for one in batch.networks.networks], np.int64)[wanted]
        moving = self._predictors.which[slots] != places
        if not moving.any():
            return
        slots, places = slots[moving], places[moving]
        tracks = [self._tracks.read(slot) for slot in slots.tolist()]
        self._predictors.move(slots, places, [windows(b"" if one is None else one.window) for one in tracks])
        self._tracks.set_behind(slots, UNKNOWN)
        had = np.array([one is not None for one in tracks]) & (self._table.cache[slots] != UNREAD)
        self._table.cache[slots[had]] = REBUILT
        for number, count in self._table.of_shards(slots[had]).items():
            next(shard for shard in batch.shards.values() if shard.number == number).counts.moved += count

    def _pings(self, batch: EngineBatch) -> Rows:
        """Returns the pings to fold.

        Rejects records that are no pings, or whose entity is in quarantine or beyond the quota.
        """
        batch.count()
        for row, reject in batch.pings.rejects.items():
            self._render.reject(batch, row, batch.shard_of(row), reject)
        of = batch.pings.of
        index: NDArray[np.int64] = np.flatnonzero(of >= 0)
        shut_out = any(shard.quarantine or shard.refused for shard in batch.sources)
        if shut_out:
            index = np.array([row for row in index.tolist() if not self._refuses(batch, row)], np.int64)
        slots = [
            NOBODY if shut_out and (one in shard.quarantine or one in shard.refused) else shard.entities[one]
            for shard, one in batch.entities()
        ]
        return Rows.of(batch, index, np.array(slots, np.int64)[of[index]])

    def _refuses(self, batch: EngineBatch, row: int) -> bool:
        """Returns whether this ping is of an entity in quarantine or beyond the quota; then the record has its
        outcome."""
        shard = batch.shard_of(row)
        if batch.pings.names[batch.pings.of[row]] not in shard.refused:
            return self._bisection.refuses(batch, row)
        shard.counts.over_quota += not batch.silent
        self._render.reject(batch, row, shard, self._quota.refusal)
        return True

    def _observe(self, batch: EngineBatch, rows: Rows) -> list[Outcome]:
        """Folds all pings into the tracks, and puts the size and start of their windows into the rows.

        Returns the outcomes of the pings that were not plain, unordered.
        """
        outcomes: list[Outcome] = []
        changed = np.ones(len(rows), np.bool_)

        def fold_odd(row: int) -> None:
            outcome, changed[row] = self._observe_odd(batch, rows, row)
            if outcome is not None:
                outcomes.append(outcome)

        into = Observed(np.zeros(len(rows), np.bool_), rows.n, rows.from_ts, rows.approach)
        self._tracks.fold(rows.slots, rows.fixes, rows.offsets, into, fold_odd)
        if batch.asks is not None and outcomes:
            approach = approaches_of([windows(outcome.seen) for outcome in outcomes])
            for column, values in zip(rows.approach, approach, strict=True):
                column[rows_of(outcomes)] = values
        self._table.touch(rows.slots, rows.slots[changed])
        return outcomes

    def _observe_odd(self, batch: EngineBatch, rows: Rows, row: int) -> tuple[Outcome | None, bool]:
        """Returns the outcome of a ping that is not plain, if it changed the state; and whether it changed the track.

        A ping without an outcome is answered, or counted, here.
        """
        index, slot, loud = int(rows.index[row]), int(rows.slots[row]), not batch.silent
        shard, offset, fix = batch.shard_of(index), int(rows.offsets[row]), rows.fixes[row].tobytes()
        published_ms = int(batch.records.timestamps_ms[index])
        track, verdict = observe(self._tracks.read(slot), fix, offset, self._policy, published_ms)
        if isinstance(verdict, Folded):
            shard.counts.folded += loud
            return None, False
        self._tracks.write(slot, track)
        if isinstance(verdict, Duplicate):
            shard.counts.duplicates += loud
        elif isinstance(verdict, Rejected):
            shard.counts.quarantined += loud and verdict.reject.code == "impossible_jump"
            unread = self._is_unread(slot)
            reject = verdict.reject._replace(unread=True, retryable=True) if unread else verdict.reject
            self._render.reject(batch, index, shard, reject)
        else:
            outcome = Outcome(row, index, Entity(batch.pings.names[batch.pings.of[index]], slot), shard, track, verdict)
            seen = windows(outcome.seen)
            rows.n[row], rows.from_ts[row] = len(seen), seen[0]["ts_ms"]
            return outcome, True
        return None, True

    def _step(self, batch: EngineBatch, rows: Rows, places: NDArray[np.int64], outcomes: Sequence[Outcome]) -> None:
        """Folds the pings at these places, and answers them. `outcomes` are those of the pings that were not plain."""
        late = [outcome for outcome in outcomes if outcome.late]
        restarts = [outcome for outcome in outcomes if outcome.restart]
        if restarts:
            if not batch.silent:
                if ending := [outcome for outcome in restarts if outcome.gaps]:  # while their old state is still there
                    self._ask(batch, ending, self._predictors.moment(slots_of(ending)))
                self._retract(batch, restarts)
            self._restart(restarts)
        moving = np.setdiff1d(places, rows_of(late), assume_unique=True) if late else places
        if len(moving):
            part = rows.part(moving)
            first = firsts(part.slots)
            slots, counts = part.slots[first], lengths(first)
            if batch.silent:
                self._predictors.catch_up(slots, part.fixes, counts)
            else:
                asks = None if batch.asks is None else batch.asks.at(part.index)
                guide = None if asks is None else asks.guide(part.approach)
                said, moment = self._predictors.answer(slots, part.fixes, counts, self._render.horizons_s, guide)
                cache = self._table.cache[part.slots]
                cache = np.where(first | (cache == UNREAD), cache, HIT)
                self._say(batch, part, said, cache, asks)
                asking = [outcome for outcome in outcomes if outcome.gaps and not outcome.restart]
                self._ask(batch, asking, moment.at(np.searchsorted(moving, rows_of(asking))))
            self._is_hit(batch, slots)
        if late:
            self._go_back(batch, rows.part(rows_of(late)), late)

    def _go_back(self, batch: EngineBatch, rows: Rows, outcomes: Sequence[Outcome]) -> None:
        """Folds late pings, one of each entity, where they belong."""
        if not batch.silent:
            self._predictors.rebuild(
                rows.slots, [windows(outcome.seen) for outcome in outcomes]
            )  # the window up to the late ping
            asks = None if batch.asks is None else batch.asks.at(rows.index)
            guide = None if asks is None else asks.guide(rows.approach)
            said = self._predictors.forecast(rows.slots, self._render.horizons_s, guide)
            for outcome in outcomes:
                outcome.shard.counts.late += 1
            unread = self._table.cache[rows.slots] == UNREAD
            self._say(batch, rows, said, np.where(unread, np.int8(UNREAD), np.int8(REBUILT)), asks, late=True)
            self._retract(batch, outcomes)
        self._predictors.rebuild(rows.slots, [windows(outcome.track.window) for outcome in outcomes])
        self._is_hit(batch, rows.slots)

    def _is_hit(self, batch: EngineBatch, slots: Slots) -> None:
        """Notes that the next forecasts of these slots use a state that was kept up to date."""
        if batch.silent:  # "rebuilt" stays until a forecast can report it
            slots = slots[self._table.cache[slots] == NONE]
        self._table.cache[slots[self._table.cache[slots] != UNREAD]] = HIT

    def _is_unread(self, slot: int) -> bool:
        return bool(self._table.cache[slot] == UNREAD)

    def _restart(self, outcomes: Sequence[Outcome]) -> None:
        slots = slots_of(outcomes)
        self._predictors.reset(slots)
        self._table.cache[slots[self._table.cache[slots] != UNREAD]] = NONE
        for outcome in outcomes:
            outcome.shard.counts.restarts += 1

    def _say(
        self,
        batch: EngineBatch,
        rows: Rows,
        said: Forecasts,
        cache: NDArray[np.int8],
        asks: RequestedVersions | None,
        *,
        late: bool = False,
    ) -> None:
        """Adds these forecasts [N] as the answers to these rows [N], and counts them."""
        by_number = {shard.number: shard.counts for shard in batch.shards.values()}
        for number, count in self._table.of_shards(rows.slots).items():
            by_number[number].forecasts += count
        if (unread := cache == UNREAD).any():
            for number, count in self._table.of_shards(rows.slots[unread]).items():
                by_number[number].unread += count
        if asks is not None and asks.late.any():
            for number, count in self._table.of_shards(rows.slots[asks.late]).items():
                by_number[number].late_atlas += count
        are_late = np.full(len(rows), late)
        unsure = np.zeros(len(rows), np.bool_) if batch.networks is None else batch.networks.late[rows.index]
        if unsure.any():
            for number, count in self._table.of_shards(rows.slots[unsure]).items():
                by_number[number].late_weights += count
        model = self._predictors.which[rows.slots].astype(np.int64) * 2 + unsure
        batch.said.append(Answered(rows.index, rows.fixes, rows.n, rows.from_ts, are_late, cache, model, said, asks))

    def _ask(self, batch: EngineBatch, outcomes: Sequence[Outcome], moment: Moment) -> None:
        """Remembers the gap fills of these outcomes [N], with the states [N] of their entities as they are now.

        A track that is not its entity's whole track asks for none, because nobody would revise them.
        """
        asked = [
            (row, RequestedGap(outcome, gap, status))
            for row, outcome in enumerate(outcomes)
            if outcome.gaps and not self._is_unread(outcome.entity.slot)
            for gap, status in outcome.gaps
        ]
        if asked:
            batch.moments.append(moment.at(np.array([row for row, _ in asked])))
            batch.fillers.append(self._predictors.which[slots_of([one.outcome for _, one in asked])].astype(np.int64))
            batch.fills += [one for _, one in asked]

    def _fill(self, batch: EngineBatch) -> None:
        """Makes all gap fills of the batch in one call of the model. Each asks the atlas that its ping does."""
        if not batch.fills:
            return
        gaps = [model_gap(one.gap) for one in batch.fills]
        places, models = np.concatenate(batch.fillers), self._predictors.refs
        asks = None if batch.asks is None else batch.asks.at(np.array([one.outcome.index for one in batch.fills]))
        guide = None if asks is None else asks.guide(NOT_ASKED)
        fills = self._predictors.fill_at(Moment.join(batch.moments), places, gaps, guide)
        atlases = [None] * len(fills) if asks is None else asks.refs([fill.atlas_pings for fill in fills])
        for (outcome, gap, status), fill, at, atlas in zip(batch.fills, fills, places.tolist(), atlases, strict=True):
            self._render.gap_fill(batch, outcome, gap, status, fill, models[at], atlas)

    def _retract(self, batch: EngineBatch, outcomes: Sequence[Outcome]) -> None:
        models = self._predictors.refs
        for outcome in outcomes:
            model = models[self._predictors.which[outcome.entity.slot]]
            for gap in outcome.verdict.retracted if not self._is_unread(outcome.entity.slot) else ():
                self._render.gap_fill(batch, outcome, gap, "retracted", None, model)
