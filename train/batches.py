"""Windows of a corpus as training batches: thinned, augmented, with questions and answers. Knows no network.

A batch is a pure function of (corpus, seed, step), so an interrupted run goes on with exactly the batches it would have
had. Per row of a batch: a stretch of a track, thinned to another cadence (UniTraj: resampling decides transfer across
sampling rates), with segments hidden; a token asks for the next token and for random times ahead, taken from the full
track; and some tokens after a hidden segment ask for hidden fixes. The model sees the thinned track only.

Shapes: B rows, T tokens, Q questions per token, G gaps per row, M hidden fixes per gap, E travels per row, F features,
K = motion.WIDTH.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from model import features, motion, queries
from model.config import ModelConfig
from model.features import Context
from model.geo import E7, F64
from model.heads import MAX_GAP_AGE
from model.queries import GapEnds, Interval, Question, Travel
from train import bends, masks
from train.bends import Bends
from train.data import EVALUATION, Corpus
from train.masks import Tracks
from train.options import BatchOptions
from train.packing import DRAWN, Packing, pack
from train.shares import file_shares
from train.warp import Warp, mistell

Rows = NDArray[np.int64]
Mask = NDArray[np.bool_]

MIN_ASKED_S: Final = 3.0
MAX_ASKED_S: Final = 1_500.0  # the longest judged horizon is 900 s, asked for within 20 %
MAX_ANSWER_S: Final = 2_400.0  # a ping that much later than asked for says nothing about the time asked for
SLOWEST_S: Final = 300.0  # mean interval that thinning leaves at most
STRETCH_TOKENS: Final = 24  # mean length of the stretches of a row that changes its cadence
MIN_TRAVEL_S: Final = 120.0
MAX_TRAVEL_S: Final = 43_200.0
MIN_TRAVEL_M: Final = 300.0  # nearer than that nobody asks, and a detour is all of the answer
MIN_HIDDEN_S: Final = 20.0
MAX_HIDDEN_S: Final = 1_200.0
# A step of so many seconds has the velocity that a receiver tells: noise moves that of a shorter one, turns a longer's.
TOLD_S: Final = (0.5, 6.0)


class Batch(NamedTuple):
    """One step's worth, numpy. Masks are True where there is an answer."""

    x_BTF: NDArray[np.float32]
    time_ms: Rows  # B, T since the row began
    lat_deg: F64  # B, T: NaN where the row's place is hidden
    lon_deg: F64
    ahead: Question  # [B, T, Q]
    ahead_en: F64  # B, T, Q, 2 answers, m from the token
    ahead_s: F64  # B, T, Q
    ahead_mask: Mask
    recent: Interval  # [B, T]
    log_next: F64  # B, T: log of the next interval over the running one
    log_next_mask: Mask
    gap: Question  # [B, G, M]
    gap_token: Rows  # B, G: which token asks
    gap_en: F64  # B, G, M, 2 answers, m from the fix before the gap
    gap_s: F64  # B, G: length of the gap
    gap_mask: Mask  # B, G, M
    gap_chord_en: F64  # B, G, 2 m from the fix before the gap to the one after it
    gap_lat_deg: F64  # B, G of the fix before the gap; NaN where the row's place is hidden
    gap_lon_deg: F64
    travel: Travel  # [B, E, 1]
    travel_token: Rows  # B, E: which token asks
    travel_s: F64  # B, E answers
    travel_mask: Mask  # B, E
    travel_lat_deg: F64  # B, E destinations; NaN where the row's place is hidden
    travel_lon_deg: F64
    packing: Packing | None = None  # how the trunk sees the rows; None: as they are


class Batches:
    """Draws batches from a corpus. Holds one number per ping of the corpus beside the corpus itself."""

    def __init__(self, corpus: Corpus, config: ModelConfig, options: BatchOptions, seed: int) -> None:
        if len(corpus) == 0:
            raise ValueError("there is no track to train on")
        self.corpus, self.config, self.options, self.seed = corpus, config, options, seed
        length = corpus.tracks[:, 1] - corpus.tracks[:, 0]
        self._stop = np.cumsum(length)  # places: pings of all tracks, one after the other
        self._start = self._stop - length
        self._shift = corpus.tracks[:, 0] - self._start  # place + shift = row of the corpus
        track = np.repeat(np.arange(len(length)), length)
        row = np.arange(len(track)) + self._shift[track]
        ts_ms = np.asarray(corpus.ts_ms[row])
        first, last = ts_ms[self._start], ts_ms[self._stop - 1]
        # All tracks on one line of rising time, a day apart: "the first ping at or after t" is one search for any rows.
        begin = np.concatenate([[0], np.cumsum(last - first + 86_400_000)[:-1]])
        self._line_ms = ts_ms + (begin - first)[track]
        of = corpus.file[track]
        self._packs = options.pack and config.patch == 1
        self._file_share = file_shares(corpus, options, packs=self._packs)
        self._places = [np.flatnonzero(of == f) for f in range(len(corpus.files))]
        self._trip_ends = self._ends_of_trips(ts_ms)
        departures = np.concatenate([[0], self._trip_ends[:-1] + 1])
        self._departures = [departures[of[departures] == f] for f in range(len(corpus.files))]
        self._real = ~corpus.of_files(options.invented)
        self._keys = self._key_points() if "key-point" in options.masks else np.empty(0, np.int64)

    def draw(self, step: int) -> Batch:
        """The batch of one step."""
        rng = np.random.default_rng([self.seed, step])
        o = self.options
        if not self._packs:
            return self._batch(rng, *self._tokens(rng, o.rows))
        place, valid, jumps = self._tokens(rng, round(DRAWN * o.rows))
        chosen, packing = pack(valid.sum(axis=1), o.rows, o.tokens)
        return self._batch(rng, place[chosen], valid[chosen], jumps[chosen])._replace(packing=packing)

    def _tokens(self, rng: Generator, n: int) -> tuple[Rows, Mask, Rows]:
        """Places of the tokens [B, T], which of them exist, and the tokens [B, G] before which a segment is hidden."""
        o = self.options
        file = rng.choice(len(self._file_share), size=n, p=self._file_share)
        pick = rng.random(n)
        anchor = np.array([self._places[f][int(u * len(self._places[f]))] for f, u in zip(file, pick, strict=True)])
        departs = np.zeros(n, np.bool_)
        if o.departures:
            departs = rng.random(n) < o.departures
            first = [self._departures[f][int(u * len(self._departures[f]))] for f, u in zip(file, pick, strict=True)]
            anchor = np.where(departs, first, anchor)
        track = self._track_of(anchor)
        start, stop = self._start[track], self._stop[track]
        steps = _strides(rng, o, stop - start, (self._line_ms[stop - 1] - self._line_ms[start]) / 1000.0)
        span = steps.sum(axis=1)
        # The picked ping lies anywhere in the window, which stays inside its track where it fits.
        begin = anchor - (rng.random(n) * span).astype(np.int64)
        begin = np.where(departs, anchor, np.clip(begin, start, np.maximum(start, stop - span - 1)))
        place = begin[:, None] + np.cumsum(steps, axis=1)
        jumps = 2 + (rng.random((n, o.gaps)) * (o.tokens - 3)).astype(np.int64)
        hidden_ms = 1000 * np.exp(rng.uniform(np.log(MIN_HIDDEN_S), np.log(MAX_HIDDEN_S), (n, o.gaps)))
        # In the other rows only the thinning hides anything, so that undisturbed tracks stay common.
        chance, masked = rng.random((n, o.gaps)), rng.random(n) < o.forced
        forced = chance < np.where(masked, o.forced, 0.0)[:, None]
        fixed = None
        if o.masks != ("segment",):
            place, jumps, forced, fixed = self._mask(rng, masked, place, jumps, forced, Tracks(start, stop))
        rows = np.arange(n)
        for g in range(o.gaps):
            j = jumps[:, g]
            before = np.minimum(place[rows, j - 1], stop - 1)
            end = np.searchsorted(self._line_ms, self._line_ms[before] + hidden_ms[:, g].astype(np.int64))
            extra = np.where(forced[:, g], np.maximum(end - place[rows, j], 0), 0)
            extra = extra if fixed is None else extra + fixed[:, g]
            place = place + np.where(np.arange(o.tokens) >= j[:, None], extra[:, None], 0)
        valid = place < stop[:, None]
        return np.where(valid, place, stop[:, None] - 1), valid, jumps

    def _mask(
        self, rng: Generator, masked: Mask, place: Rows, jumps: Rows, forced: Mask, tracks: Tracks
    ) -> tuple[Rows, Rows, Mask, Rows]:
        """Places, tokens and forced gaps of rows that have masks of their own, and the pings [B, G] each gap hides."""
        o = self.options
        mask = np.where(masked, np.array(o.masks)[rng.integers(0, len(o.masks), len(place))], "")
        if "point" in o.masks:
            drawn, chosen = masks.points(rng, place, o.gaps), (mask == "point")[:, None]
            place, jumps = np.where(chosen, drawn[0], place), np.where(chosen, drawn[1], jumps)
        if "key-point" in o.masks:
            drawn, chosen = masks.key_points(rng, place, tracks, self._keys, o.gaps), (mask == "key-point")[:, None]
            place, jumps = np.where(chosen, drawn[0], place), np.where(chosen, drawn[1], jumps)
        share = np.where((mask == "share")[:, None], masks.shares(rng, len(place), o.tokens, o.gaps), 0)
        return place, jumps, forced & (mask == "segment")[:, None], share

    def _key_points(self) -> Rows:
        """The places of all key points, rising."""
        fixes = [self.corpus.fixes(slice(*track)) for track in self.corpus.tracks]
        steps = [features.steps_between(f[:-1], f[1:]) for f in fixes]
        return np.flatnonzero(np.concatenate([masks.is_key(en_m, dt_s) for dt_s, en_m in steps]))

    def _ends_of_trips(self, ts_ms: NDArray[np.int64]) -> Rows:
        """The places of their last pings, rising: before silences at which the judge's tracks end, and where tracks do.

        A training's tracks go on behind a night in the depot, and nobody who asks when something will be there means
        the day after.
        """
        last = np.zeros(len(ts_ms), np.bool_)
        last[self._stop - 1] = True
        step_s = np.append(np.diff(ts_ms) / 1000.0, 0.0)
        for mine in self._places:
            longest_s = EVALUATION.longest_silence_s(step_s[mine][~last[mine]])
            last[mine] |= step_s[mine] > longest_s
        return np.flatnonzero(last)

    def _batch(self, rng: Generator, place: Rows, valid: Mask, jumps: Rows) -> Batch:
        o, config = self.options, self.config
        fixes = self._fixes(place)
        located = config.absolute or config.places > 0 or config.cells > 0
        warp = Warp.draw(rng, o, len(place), placed=located & self._real[self._track_of(place[:, 0])])
        jitter = warp.jitter(rng, valid)
        bent = self._bends(rng, place, valid, ~warp.placed) if o.bend else None
        dt, d = self._step(place[:, :-1], place[:, 1:], bent)
        dt = np.concatenate([np.zeros((len(place), 1)), dt * warp.time[:, None]], axis=1)
        d = np.concatenate([np.zeros((len(place), 1, 2)), warp.turn(d)], axis=1)
        d[:, 1:] += jitter[:, 1:] - jitter[:, :-1]
        reported = features.context(fixes)
        if o.told:
            reported = self._told(rng, place, reported, bent)
        if o.mistold:
            reported = mistell(rng, reported, o.mistold)
        ctx = warp.context(reported, None if bent is None else bent.turned(place))
        kin = motion.scan(dt, d, config, features.told_mps(ctx, d))
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
            *self._travels(rng, place, valid, kin, jitter, warp, bent),
        )

    def _told(self, rng: Generator, place: Rows, ctx: Context, bent: Bends | None) -> Context:
        """The context [B, T] with velocities that the sources do not keep, in some of the rows; at a bend that of the
        step up to it, as the one after it is nobody's to know."""
        start = self._start[self._track_of(place[:, 0])]
        dt_s, en_m = self._step(np.maximum(place - 1, start[:, None]), place, bent)
        tells = (rng.random(len(place)) < self.options.told)[:, None] & (TOLD_S[0] <= dt_s) & (dt_s <= TOLD_S[1])
        tells &= np.isnan(ctx.speed_mps) & np.isnan(ctx.heading_rad)
        speed_mps = np.hypot(en_m[..., 0], en_m[..., 1]) / np.where(tells, dt_s, 1.0)
        heading = np.arctan2(en_m[..., 0], en_m[..., 1])
        if bent is not None:
            heading = heading + bent.turned(place)  # which is taken off again, as it is of what sources tell
        return ctx._replace(
            speed_mps=np.where(tells, speed_mps, ctx.speed_mps),
            heading_rad=np.where(tells, heading, ctx.heading_rad),
        )

    def _ahead(self, rng: Generator, place: Rows, valid: Mask, warp: Warp) -> tuple[Rows, Mask]:
        """Places of the answers [B, T, Q]: the next token, then the first pings of the track after random times."""
        o = self.options
        following = np.concatenate([place[:, 1:], place[:, -1:] + 1], axis=1)
        # Below the interval to the following ping every time has the same answer, which is asked for already.
        track_s = self._line_ms[np.minimum(place + 1, len(self._line_ms) - 1)] - self._line_ms[place]
        least_s = np.clip(track_s / 1000.0, MIN_ASKED_S, MAX_ASKED_S / 2)[..., None]
        share = rng.random((*place.shape, o.questions - 1))
        asked_s = least_s * (MAX_ASKED_S / least_s) ** share
        asked_ms = (1000 * asked_s / warp.time[:, None, None]).astype(np.int64)
        later = np.searchsorted(self._line_ms, self._line_ms[place][..., None] + asked_ms)
        target = np.concatenate([following[..., None], later], axis=-1)
        stop = self._stop[self._track_of(place[:, 0])][:, None, None]
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
        told_mps: F64,
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
        left_mps, arrived_mps = (np.where(believed, told_mps[rows, at], np.nan) for at in (leave, jumps))
        before_mps, has_before, told_before = _beside(left_mps, *step, leave > 0, mean_mps)
        step, has_step = _velocity(d, dt, arrive, 1, token - arrive, lately_mps), (age > 1) & (dt[rows, arrive] > 0)
        after_mps, has_after, told_after = _beside(arrived_mps, *step, has_step, mean_mps)
        ends = GapEnds(chord, gap_s, before_mps, after_mps, has_before, has_after, told_before, told_after)
        question = queries.gap(ends, t_s, age.astype(np.float64), motion.speed_scale_mps(kin[rows, token]), self.config)
        en = warp.turn(en) - jitter[rows, jumps - 1][:, :, None]
        asks = np.broadcast_to(asks[..., None], there.shape)
        known = np.where(warp.placed, 1.0, np.nan)[:, None]
        start = fixes[rows, jumps - 1]
        lat, lon = start["lat_e7"] / E7 * known, start["lon_e7"] / E7 * known
        return question, token, en, gap_s, asks, chord, lat, lon

    def _travels(
        self, rng: Generator, place: Rows, valid: Mask, kin: F64, jitter: F64, warp: Warp, bent: Bends | None
    ) -> tuple[Travel, Rows, F64, Mask, F64, F64]:
        """When at a later place of the trip: half of the times its end, and half of the times from the first token."""
        o = self.options
        rows, shape = np.arange(len(place))[:, None], (len(place), o.travels)
        token = np.where(rng.random(shape) < 0.5, 0, rng.integers(0, o.tokens, shape))
        begin = place[rows, token]
        ahead_ms = 1000 * np.exp(rng.uniform(np.log(MIN_TRAVEL_S), np.log(MAX_TRAVEL_S), shape))
        last = self._trip_ends[np.searchsorted(self._trip_ends, begin)]
        later = np.searchsorted(self._line_ms, self._line_ms[begin] + ahead_ms.astype(np.int64))
        end = np.where(rng.random(shape) < 0.5, last, np.minimum(later, last))
        seconds, en = self._step(begin, end, bent)
        seconds, en = seconds * warp.time[:, None], warp.turn(en)
        asks = valid[rows, token] & (seconds > 0) & (seconds <= MAX_TRAVEL_S)
        asks &= (en * en).sum(-1) >= MIN_TRAVEL_M**2
        where = warp.context(features.context(self._fixes(end)))
        question = queries.travel(kin[rows, token], (en - jitter[rows, token])[:, :, None])
        return question, token, np.where(asks, seconds, 1.0), asks, where.lat_deg, where.lon_deg

    def _bends(self, rng: Generator, place: Rows, valid: Mask, free: Mask) -> Bends:
        """Bends between each row's first token and the latest of its answers, in rows that are free to be turned."""
        last = np.where(valid, place, 0).max(axis=1)
        until_ms = self._line_ms[last] + int(1000 * MAX_ANSWER_S)
        moment = bends.times_ms(rng, self._line_ms[place[:, 0]], self._line_ms[last], until_ms)
        stop = self._stop[self._track_of(place[:, 0])]
        at = np.minimum(np.searchsorted(self._line_ms, moment), stop[:, None] - 1)
        bent = free & (rng.random(len(place)) < self.options.bend)
        return bends.bend(rng, at, self._fixes(at), self._fixes(place[:, 0]), bent)

    def _step(self, before: Rows, after: Rows, bent: Bends | None) -> tuple[F64, F64]:
        """Seconds, and metres [B, ..., 2], from places to places [B, ...] of the track as it is bent."""
        one, two = self._fixes(before), self._fixes(after)
        dt_s, en_m = features.steps_between(one, two)
        return dt_s, en_m if bent is None else bent.where(after, two) - bent.where(before, one)

    def _track_of(self, place: Rows) -> Rows:
        return np.searchsorted(self._stop, place, side="right")

    def _fixes(self, place: Rows) -> NDArray[Any]:
        track = self._track_of(place)
        return self.corpus.fixes(place + self._shift[track])


def _strides(rng: Generator, o: BatchOptions, length: Rows, span_s: F64) -> Rows:
    """Pings from one token to the next [B, T]: all, every k-th, or each with a chance of 1/k, where k may change."""
    n = len(length)
    thinned = rng.random(n) < o.thin
    # At least some 24 tokens are left of a track, or the row would be mostly empty. A source of one ping a second must
    # come to look like one a minute: a stride bounded by a number of pings would leave slow cadences to slow sources.
    most = np.clip(np.minimum(length / 24.0, SLOWEST_S * length / np.maximum(span_s, 1.0)), 1.0, None)
    every = np.where(thinned, np.exp(rng.random(n) * np.log(most)), 1.0)[:, None]
    every = np.broadcast_to(every, (n, o.tokens))
    if o.repace:
        several = thinned & (rng.random(n) < o.repace)
        every = np.where(several[:, None], _stretches(rng, most, o.tokens), every)
    regular = np.rint(every).astype(np.int64)
    chance = rng.geometric(1.0 / every)
    steps = np.where(rng.random((n, 1)) < 0.5, regular, chance)
    steps[:, 0] = 0
    return steps


def _stretches(rng: Generator, most: F64, tokens: int) -> F64:
    """Every how many-th ping is kept [B, T] in rows that change that at random tokens: in half of the stretches all."""
    starts = rng.random((len(most), tokens)) < 1.0 / STRETCH_TOKENS
    drawn = np.exp(rng.random(starts.shape) * np.log(most)[:, None])
    drawn = np.where(rng.random(starts.shape) < 0.5, drawn, 1.0)
    return np.take_along_axis(drawn, np.cumsum(starts, axis=1) - starts[:, :1], axis=1)


def _beside(told_mps: F64, step_mps: F64, step_s: F64, has_step: Mask, mean_mps: F64) -> tuple[F64, F64, F64]:
    """The velocity [B, G, 2] beside gaps as `model.fills` takes it: as told, of the step, or the mean across the gap;
    and 1 where it is not the mean, and where it is told [B, G].
    """
    told = ~np.isnan(told_mps[..., 0]) & (~has_step | motion.agrees(told_mps, step_mps, step_s))
    mps = np.where(told[..., None], told_mps, np.where(has_step[..., None], step_mps, mean_mps))
    return mps, (told | has_step).astype(np.float64), told.astype(np.float64)


def _velocity(d: F64, dt: F64, token: Rows, way: int, more: Rows, lately_mps: F64) -> tuple[F64, F64]:
    """Of the steps to tokens [B, G], and as many more that way as make STEADY_S, as `model.fills` takes it; and how
    long they are [B, G].

    At most `more` [B, G] and two: a gap is told of four fixes on each side.
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
