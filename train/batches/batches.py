"""Turns windows of a corpus into training batches: resampled, augmented, with questions and answers.

A batch is a pure function of (corpus, seed, step), so an interrupted run continues with exactly the batches that it
would have had. A row of a batch is a section of a track, resampled to another cadence (UniTraj: resampling decides
transfer across sampling rates), with segments hidden (train.batches.sampling). Each token asks for the next token and
for random times ahead, with answers from the full track; and some tokens after a hidden segment ask for hidden fixes.
The model sees only the resampled track.

Shapes: B rows, T tokens, Q questions per token, G gaps per row, M hidden fixes per gap, F features, K = motion.WIDTH.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from model.config import ModelConfig
from model.kinematics import features, motion, queries
from model.kinematics.answer_bounds import MAX_GAP_AGE
from model.kinematics.features import Context
from model.kinematics.geo import E7, F64
from model.kinematics.queries import GapEnds, Interval, Question
from train.batches import bends
from train.batches.augmentation import Warp, hide, misreport
from train.batches.bends import Bends
from train.batches.options import BatchOptions
from train.batches.packing import DRAWN, Packing, pack
from train.batches.sampling import DrawnTokens, Tokens
from train.batches.timeline import Line
from train.data.corpus import Corpus

Rows = NDArray[np.int64]
Mask = NDArray[np.bool_]

MIN_ASKED_S: Final = 3.0
MAX_ASKED_S: Final = 1_500.0  # the longest horizon in the evaluation is 900 s, asked for within 20 %
MAX_ANSWER_S: Final = 2_400.0  # a ping this long after the token is no answer for any asked time
# Seconds of a step whose velocity may replace a reported one: noise disturbs that of shorter steps, turns that of
# longer ones.
REPORTED_S: Final = (0.5, 6.0)


class Batch(NamedTuple):
    """The arrays of one training step, numpy. Masks are True where there is an answer."""

    x_BTF: NDArray[np.float32]
    time_ms: Rows  # B, T since the start of the row
    lat_deg: F64  # B, T: NaN where the row's place is hidden
    lon_deg: F64
    ahead: Question  # [B, T, Q]
    ahead_en: F64  # B, T, Q, 2 answers, m from the token
    ahead_s: F64  # B, T, Q
    ahead_mask: Mask
    recent: Interval  # [B, T]
    log_next: F64  # B, T: log ratio of the next interval to the running one
    log_next_mask: Mask
    gap: Question  # [B, G, M]
    gap_token: Rows  # B, G: index of the token that asks
    gap_en: F64  # B, G, M, 2 answers, m from the fix before the gap
    gap_s: F64  # B, G: length of the gap
    gap_mask: Mask  # B, G, M
    gap_chord_en: F64  # B, G, 2 m from the fix before the gap to the one after it
    gap_lat_deg: F64  # B, G of the fix before the gap; NaN where the row's place is hidden
    gap_lon_deg: F64
    packing: Packing | None = None  # how rows are packed for the trunk; None: not at all


class Batches:
    """Draws batches from a corpus. It holds a few numbers per ping of the corpus beside the corpus itself."""

    def __init__(self, corpus: Corpus, config: ModelConfig, options: BatchOptions, seed: int) -> None:
        if len(corpus) == 0:
            raise ValueError("there is no track to train on")
        self.corpus, self.config, self.options, self.seed = corpus, config, options, seed
        self._packs = options.pack and config.patch == 1
        self._line = Line(corpus)
        self._tokens = Tokens(self._line, options, packs=self._packs)
        self._real = ~corpus.of_files(options.invented)

    def draw(self, step: int) -> Batch:
        """Returns the batch of one step."""
        rng = np.random.default_rng([self.seed, step])
        o = self.options
        if not self._packs:
            return self._batch(rng, self._tokens.draw(rng, o.rows))
        drawn = self._tokens.draw(rng, round(DRAWN * o.rows))
        chosen, packing = pack(drawn.valid.sum(axis=1), o.rows, o.tokens)
        return self._batch(rng, drawn.rows(chosen))._replace(packing=packing)

    def _batch(self, rng: Generator, drawn: DrawnTokens) -> Batch:
        o, config, (place, valid, jumps, hides) = self.options, self.config, drawn
        fixes = self._line.fixes(place)
        located = config.absolute or config.places > 0
        warp = Warp.draw(rng, o, len(place), placed=located & self._real[self._line.track_of(place[:, 0])])
        jitter = warp.jitter(rng, valid)
        bent = self._bends(rng, place, valid, ~warp.placed) if o.bend else None
        dt, d = self._step(place[:, :-1], place[:, 1:], bent)
        dt = np.concatenate([np.zeros((len(place), 1)), dt * warp.time[:, None]], axis=1)
        d = np.concatenate([np.zeros((len(place), 1, 2)), warp.turn(d)], axis=1)
        d[:, 1:] += jitter[:, 1:] - jitter[:, :-1]
        ctx = features.context(fixes)
        if o.reported:
            ctx = self._reported(rng, place, ctx, bent)
        if o.misreported:
            ctx = misreport(rng, ctx, o.misreported)
        ctx = hide(warp.context(ctx, None if bent is None else bent.rotation_at(place)), hides)
        kin = motion.scan(dt, d, config, features.mean_reported_mps(ctx, d))
        target, mask = self._ahead(rng, place, valid, warp)
        ahead_s, ahead_en = self._step(np.broadcast_to(place[:, :, None], target.shape), target, bent)
        ahead_s = ahead_s * warp.time[:, None, None]
        mask &= (ahead_s > 0) & (ahead_s <= MAX_ANSWER_S)
        ahead_en = warp.turn(ahead_en) - jitter[:, :, None]
        next_s = np.concatenate([dt[:, 1:], np.ones((len(place), 1))], axis=1)
        has_next = np.concatenate([valid[:, 1:], np.zeros((len(place), 1), dtype=np.bool_)], axis=1)
        running = np.where(kin[..., motion.DT] == 0.0, 0.0, kin[..., motion.LOG_DT])
        gaps = self._gaps(rng, place, valid, jumps, fixes, dt, d, kin, jitter, warp, bent, features.velocity_mps(ctx))
        return Batch(
            features.encode(kin, ctx, config),
            np.rint(1000 * np.cumsum(dt, axis=1)).astype(np.int64),
            ctx.lat_deg,
            ctx.lon_deg,
            queries.forecast(kin, ahead_s, config, queries.from_origin(fixes, config), context=ctx),
            ahead_en,
            ahead_s,
            mask,
            queries.interval(kin),
            np.log(np.maximum(next_s, motion.MIN_DT_S)) - running,
            has_next,
            *gaps,
        )

    def _reported(self, rng: Generator, place: Rows, ctx: Context, bent: Bends | None) -> Context:
        """Returns the context [B, T] with velocities for pings whose source reports none, in some of the rows. At a
        bend it is the velocity of the step before it, because nobody knows the one after it.
        """
        start = self._line.start[self._line.track_of(place[:, 0])]
        dt_s, en_m = self._step(np.maximum(place - 1, start[:, None]), place, bent)
        tells = (rng.random(len(place)) < self.options.reported)[:, None]
        tells = tells & (REPORTED_S[0] <= dt_s) & (dt_s <= REPORTED_S[1])
        tells &= np.isnan(ctx.speed_mps) & np.isnan(ctx.heading_rad)
        speed_mps = np.hypot(en_m[..., 0], en_m[..., 1]) / np.where(tells, dt_s, 1.0)
        heading = np.arctan2(en_m[..., 0], en_m[..., 1])
        if bent is not None:
            heading = heading + bent.rotation_at(
                place
            )  # `warp.context` subtracts it again, as it does for reported courses
        return ctx._replace(
            speed_mps=np.where(tells, speed_mps, ctx.speed_mps),
            heading_rad=np.where(tells, heading, ctx.heading_rad),
        )

    def _ahead(self, rng: Generator, place: Rows, valid: Mask, warp: Warp) -> tuple[Rows, Mask]:
        """Returns the places of the answers [B, T, Q]: the next token, then the first pings of the track after random
        times.
        """
        o = self.options
        following = np.concatenate([place[:, 1:], place[:, -1:] + 1], axis=1)
        # For any time below the interval to the following ping the answer is that ping, which is asked for already.
        track_s = self._line.ms[np.minimum(place + 1, len(self._line.ms) - 1)] - self._line.ms[place]
        least_s = np.clip(track_s / 1000.0, MIN_ASKED_S, MAX_ASKED_S / 2)[..., None]
        share = rng.random((*place.shape, o.questions - 1))
        asked_s = least_s * (MAX_ASKED_S / least_s) ** share
        asked_ms = (1000 * asked_s / warp.time[:, None, None]).astype(np.int64)
        later = self._line.after(place[..., None], asked_ms)
        target = np.concatenate([following[..., None], later], axis=-1)
        stop = self._line.stop[self._line.track_of(place[:, 0])][:, None, None]
        mask = valid[..., None] & (target < stop) & (target > place[..., None])
        return np.where(mask, target, place[..., None]), mask

    def _gaps(
        self,
        rng: Generator,
        place: Rows,
        valid: Mask,
        jumps: Rows,
        fixes: NDArray[Any],
        dt: F64,
        d: F64,
        kin: F64,
        jitter: F64,
        warp: Warp,
        bent: Bends | None,
        reported_mps: F64,
    ) -> tuple[Question, Rows, F64, F64, Mask, F64, F64, F64]:
        o = self.options
        rows = np.arange(len(place))[:, None]
        before, end = place[rows, jumps - 1], place[rows, jumps]
        hidden = end - before - 1
        age = rng.integers(1, MAX_GAP_AGE + 1, jumps.shape)
        token = np.minimum(jumps + age - 1, o.tokens - 1)
        age = token - jumps + 1
        there = before[..., None] + 1 + (rng.random((*jumps.shape, o.hidden)) * hidden[..., None]).astype(np.int64)
        asks = (hidden > 0) & valid[rows, token] & valid[rows, jumps]
        there = np.where(asks[..., None], there, before[..., None])
        t_s, en = self._step(np.broadcast_to(before[..., None], there.shape), there, bent)
        t_s = t_s * warp.time[:, None, None]
        chord, gap_s = d[rows, jumps], np.maximum(dt[rows, jumps], queries.MIN_QUERY_S)
        mean_mps = chord / gap_s[..., None]
        lately_mps = np.sqrt((mean_mps * mean_mps).sum(-1))
        leave, arrive = jumps - 1, np.minimum(jumps + 1, o.tokens - 1)
        step = _velocity(d, dt, leave, -1, leave - 1, lately_mps)
        believed = motion.sure(kin[rows, token])[..., None]
        left_mps, arrived_mps = (np.where(believed, reported_mps[rows, at], np.nan) for at in (leave, jumps))
        before_mps, has_before, reported_before = _beside(left_mps, *step, leave > 0, mean_mps)
        step, has_step = _velocity(d, dt, arrive, 1, token - arrive, lately_mps), (age > 1) & (dt[rows, arrive] > 0)
        after_mps, has_after, reported_after = _beside(arrived_mps, *step, has_step, mean_mps)
        ends = GapEnds(chord, gap_s, before_mps, after_mps, has_before, has_after, reported_before, reported_after)
        question = queries.gap(ends, t_s, age.astype(np.float64), motion.speed_scale_mps(kin[rows, token]), self.config)
        en = warp.turn(en) - jitter[rows, jumps - 1][:, :, None]
        asks = np.broadcast_to(asks[..., None], there.shape)
        known = np.where(warp.placed, 1.0, np.nan)[:, None]
        start = fixes[rows, jumps - 1]
        lat, lon = start["lat_e7"] / E7 * known, start["lon_e7"] / E7 * known
        return question, token, en, gap_s, asks, chord, lat, lon

    def _bends(self, rng: Generator, place: Rows, valid: Mask, free: Mask) -> Bends:
        """Draws bends between each row's first token and its latest answer, in rows that are `free` to be rotated."""
        last = np.where(valid, place, 0).max(axis=1)
        until_ms = self._line.ms[last] + int(1000 * MAX_ANSWER_S)
        moment = bends.draw_times_ms(rng, self._line.ms[place[:, 0]], self._line.ms[last], until_ms)
        stop = self._line.stop[self._line.track_of(place[:, 0])]
        at = np.minimum(np.searchsorted(self._line.ms, moment), stop[:, None] - 1)
        bent = free & (rng.random(len(place)) < self.options.bend)
        return bends.draw_bends(rng, at, self._line.fixes(at), self._line.fixes(place[:, 0]), bent)

    def _step(self, before: Rows, after: Rows, bent: Bends | None) -> tuple[F64, F64]:
        """Returns the seconds, and the metres [B, ..., 2], from places to places [B, ...] of the track after
        bending.
        """
        one, two = self._line.fixes(before), self._line.fixes(after)
        dt_s, en_m = features.steps_between(one, two)
        return dt_s, en_m if bent is None else bent.where(after, two) - bent.where(before, one)


def _beside(reported_mps: F64, step_mps: F64, step_s: F64, has_step: Mask, mean_mps: F64) -> tuple[F64, F64, F64]:
    """Returns the velocity [B, G, 2] at an end of gaps as `model.serving.gapfill_compiled` computes it: the reported
    one, that of the step, or the mean across the gap. The other two results [B, G] are 1 where it is not the mean, and
    where it is the reported one.
    """
    reported = ~np.isnan(reported_mps[..., 0]) & (~has_step | motion.agrees(reported_mps, step_mps, step_s))
    mps = np.where(reported[..., None], reported_mps, np.where(has_step[..., None], step_mps, mean_mps))
    return mps, (reported | has_step).astype(np.float64), reported.astype(np.float64)


def _velocity(d: F64, dt: F64, token: Rows, way: int, more: Rows, lately_mps: F64) -> tuple[F64, F64]:
    """Returns the velocity of the steps to tokens [B, G], together with as many further steps in direction `way` as
    make STEADY_S, as `model.serving.gapfill_compiled` computes it; and their duration [B, G].

    There are at most `more` [B, G] further steps, and at most two: a gap has four fixes on each side.
    """
    rows = np.arange(len(d))[:, None]
    en_m, step_s = d[rows, token], dt[rows, token]
    for further in (1, 2):
        at = np.clip(token + way * further, 0, dt.shape[1] - 1)
        short = (step_s < motion.STEADY_S) & (further <= more)
        en_m = np.where(short[..., None], en_m + d[rows, at], en_m)
        step_s = np.where(short, step_s + dt[rows, at], step_s)
    least_s = motion.least_s(np.where(step_s > 0, step_s, 1.0), np.sqrt((en_m * en_m).sum(-1)), lately_mps)
    return np.asarray(en_m / least_s[..., None]), step_s
