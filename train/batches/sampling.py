"""Draws the pings that become the tokens of a batch's rows: resampled to other cadences, with segments left out.

Shapes: B rows, T tokens, G gaps per row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from model.kinematics import features
from model.kinematics.geo import F64
from train.batches import masking
from train.batches.masking import Tracks
from train.batches.options import BatchOptions
from train.batches.timeline import Line
from train.data.corpus import Corpus

Rows = NDArray[np.int64]
Mask = NDArray[np.bool_]

SLOWEST_S: Final = 300.0  # largest mean interval after resampling
STRETCH_TOKENS: Final = 24  # mean number of tokens between changes in a row that changes its cadence
MIN_HIDDEN_S: Final = 20.0
MAX_HIDDEN_S: Final = 1_200.0


class DrawnTokens(NamedTuple):
    """The tokens of B rows, as places of the timeline."""

    place: Rows  # B, T; for tokens that do not exist, the last place of the track
    valid: Mask  # B, T: whether the token exists
    jumps: Rows  # B, G: the tokens before which a segment may be hidden
    hides: Mask  # B, T, 3: which of speed, heading and clock are hidden

    def rows(self, chosen: Rows) -> DrawnTokens:
        """Returns the rows with the given indices."""
        return DrawnTokens(self.place[chosen], self.valid[chosen], self.jumps[chosen], self.hides[chosen])


class Tokens:
    """Draws rows from a timeline of tracks. With `packs`, short tracks share rows of the trunk."""

    def __init__(self, line: Line, options: BatchOptions, *, packs: bool) -> None:
        self.line, self.options = line, options
        self._file_share = file_shares(line.corpus, options, packs=packs)
        self._places = line.of_files(np.arange(len(line.ms)))
        self._keys = self._key_points() if "key-point" in options.masks else np.empty(0, np.int64)

    def draw(self, rng: Generator, n: int) -> DrawnTokens:
        """Returns the tokens of n rows."""
        o, line = self.options, self.line
        file = rng.choice(len(self._file_share), size=n, p=self._file_share)
        pick = rng.random(n)
        anchor = np.array([self._places[f][int(u * len(self._places[f]))] for f, u in zip(file, pick, strict=True)])
        track = line.track_of(anchor)
        start, stop = line.start[track], line.stop[track]
        span_s = (line.ms[stop - 1] - line.ms[start]) / 1000.0
        every = _draw_factors(rng, o, stop - start, span_s)
        steps = _draw_strides(rng, every)
        span = steps.sum(axis=1)
        # The chosen ping lies anywhere in the window, which stays inside its track where it fits.
        begin = anchor - (rng.random(n) * span).astype(np.int64)
        begin = np.clip(begin, start, np.maximum(start, stop - span - 1))
        place = begin[:, None] + np.cumsum(steps, axis=1)
        jumps = 2 + (rng.random((n, o.gaps)) * (o.tokens - 3)).astype(np.int64)
        hidden_ms = 1000 * np.exp(rng.uniform(np.log(MIN_HIDDEN_S), np.log(MAX_HIDDEN_S), (n, o.gaps)))
        # In the other rows only resampling hides pings, so that undisturbed tracks stay common.
        chance, masked = rng.random((n, o.gaps)), rng.random(n) < o.forced
        forced = chance < np.where(masked, o.forced, 0.0)[:, None]
        fixed, hides = None, np.zeros((n, o.tokens, 3), np.bool_)
        if o.masks != ("segment",):
            place, jumps, forced, fixed, hides = self._mask(rng, masked, place, jumps, forced, Tracks(start, stop))
        rows = np.arange(n)
        for g in range(o.gaps):
            j = jumps[:, g]
            before = np.minimum(place[rows, j - 1], stop - 1)
            end = line.after(before, hidden_ms[:, g].astype(np.int64))
            extra = np.where(forced[:, g], np.maximum(end - place[rows, j], 0), 0)
            extra = extra if fixed is None else extra + fixed[:, g]
            place = place + np.where(np.arange(o.tokens) >= j[:, None], extra[:, None], 0)
        valid = place < stop[:, None]
        return DrawnTokens(np.where(valid, place, stop[:, None] - 1), valid, jumps, hides)

    def _mask(
        self, rng: Generator, masked: Mask, place: Rows, jumps: Rows, forced: Mask, tracks: Tracks
    ) -> tuple[Rows, Rows, Mask, Rows, Mask]:
        """Applies masks other than "segment". Returns the places, the tokens, the forced gaps, the number of pings [B,
        G] that each gap hides, and the hidden fields of tokens [B, T, 3].
        """
        o = self.options
        mask = np.where(masked, np.array(o.masks)[rng.integers(0, len(o.masks), len(place))], "")
        if "point" in o.masks:
            drawn, chosen = masking.draw_points(rng, place, o.gaps), (mask == "point")[:, None]
            place, jumps = np.where(chosen, drawn[0], place), np.where(chosen, drawn[1], jumps)
        if "key-point" in o.masks:
            drawn, chosen = (
                masking.draw_key_points(rng, place, tracks, self._keys, o.gaps),
                (mask == "key-point")[:, None],
            )
            place, jumps = np.where(chosen, drawn[0], place), np.where(chosen, drawn[1], jumps)
        share = np.where((mask == "share")[:, None], masking.draw_shares(rng, len(place), o.tokens, o.gaps), 0)
        hidden = (
            masking.draw_features(rng, *place.shape) if "feature" in o.masks else np.zeros((*place.shape, 3), np.bool_)
        )
        hides = hidden & (mask == "feature")[:, None, None]
        return place, jumps, forced & (mask == "segment")[:, None], share, hides

    def _key_points(self) -> Rows:
        """Returns the places of all key points, ascending."""
        fixes = [self.line.corpus.fixes(slice(*track)) for track in self.line.corpus.tracks]
        steps = [features.steps_between(f[:-1], f[1:]) for f in fixes]
        return np.flatnonzero(np.concatenate([masking.is_key(en_m, dt_s) for dt_s, en_m in steps]))


def _draw_factors(rng: Generator, o: BatchOptions, length: Rows, span_s: F64) -> F64:
    """Returns k [B, T]: each token is the k-th ping after the one before. It is 1 in rows that keep their cadence."""
    n = len(length)
    thinned = rng.random(n) < o.thin
    # A track keeps at least some 24 tokens, or the row would be mostly empty. A source of one ping per second must also
    # become like one per minute: if a number of pings limited the stride, only slow sources would have slow cadences.
    most = np.clip(np.minimum(length / 24.0, SLOWEST_S * length / np.maximum(span_s, 1.0)), 1.0, None)
    every = np.where(thinned, np.exp(rng.random(n) * np.log(most)), 1.0)[:, None]
    every = np.broadcast_to(every, (n, o.tokens))
    if o.repace:
        several = thinned & (rng.random(n) < o.repace)
        every = np.where(several[:, None], _draw_stretches(rng, most, o.tokens), every)
    return every


def _draw_strides(rng: Generator, every: F64) -> Rows:
    """Returns the number of pings from one token to the next [B, T]: constant at k (1 keeps all), or random with mean
    k.
    """
    regular = np.rint(every).astype(np.int64)
    chance = rng.geometric(1.0 / every)
    steps = np.where(rng.random((len(every), 1)) < 0.5, regular, chance)
    steps[:, 0] = 0
    return steps


def _draw_stretches(rng: Generator, most: F64, tokens: int) -> F64:
    """Returns k [B, T] for rows that change their cadence at random tokens; in half of the stretches k is 1."""
    starts = rng.random((len(most), tokens)) < 1.0 / STRETCH_TOKENS
    drawn = np.exp(rng.random(starts.shape) * np.log(most)[:, None])
    drawn = np.where(rng.random(starts.shape) < 0.5, drawn, 1.0)
    return np.take_along_axis(drawn, np.cumsum(starts, axis=1) - starts[:, :1], axis=1)


def file_shares(corpus: Corpus, options: BatchOptions, *, packs: bool) -> F64:
    """Returns the chances of the files of the corpus. With `packs`, short tracks share rows.

    Raises ValueError where the options name a file that the corpus does not have or has twice, or a factor that is no
    positive number.
    """
    if unknown := set(options.invented) - set(corpus.files):
        raise ValueError(f"invented: no file {_join_names(unknown)} to train on, there are {_join_names(corpus.files)}")
    for name in options.invented:
        _check_one("invented", name, corpus.files)
    length = corpus.lengths
    pings = np.bincount(corpus.file, weights=length, minlength=len(corpus.files))
    typical = np.bincount(corpus.file, weights=length * length, minlength=len(pings)) / np.maximum(pings, 1.0)
    # A row that is mostly empty costs as much as a full one, so files of short tracks are drawn in proportion to how
    # full their rows are.
    full = 1.0 if packs else np.minimum(typical / options.tokens, 1.0)
    weight = np.where(pings > 0, pings**options.file_power, 0.0) * full * _factors(corpus.files, options.often)
    return np.asarray(weight / weight.sum())


def _factors(files: Sequence[str], often: Sequence[str]) -> F64:
    factors = np.ones(len(files))
    for given in often:
        name, _, factor = given.rpartition("=")
        if name not in files:
            raise ValueError(f"often: no file {name!r} to train on, there are {_join_names(files)}")
        _check_one("often", name, files)
        try:
            factors[files.index(name)] = float(factor)
        except ValueError as error:
            raise ValueError(f"often: {factor!r} of {given!r} is no number") from error
    if not (np.isfinite(factors) & (factors > 0)).all():
        raise ValueError(f"often: factors must be above 0, got {_join_names(often)}")
    return factors


def _check_one(option: str, name: str, files: Sequence[str]) -> None:
    if (count := files.count(name)) > 1:
        raise ValueError(f"{option}: {name} stands for {count} files of that name in different folders: rename one")


def _join_names(names: Sequence[str] | set[str]) -> str:
    return ", ".join(sorted(names))
