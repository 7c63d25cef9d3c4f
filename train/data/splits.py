"""Splits a corpus into train, validation, test and final.

The splits are by entity and by time, and the same on every machine:

                             before the cutoff         the last tenth of the file's pings
    80 % of the entities     train                     test (times never seen)
     5 %                     val                       test (both never seen)
     5 %                     final (see below)         test (both never seen)
    10 %                     test (entities never seen) test (both never seen)

The hash of an entity's id gives its row, so that more data later moves nobody. In a file of few entities, whatever
other files there are, all entities train, and the last two tenths in time are val and test. A track that crosses the
cutoff is cut there, so no track and no window straddles two splits. The cutoff is computed from the rows, not from the
tracks, so that the training cut and the evaluation cut of one file are split alike.

Nothing is chosen by the final split. No training, no calibration and no experiment reads it, and `pathcast evaluate
--split final` evaluates finished weights on it once, before their card is written. Test splits have served for choices
(reports/notes lists them), so errors there are a little too small. Until 29 November 2026 the entities of the
final split were used for validation: earlier weights were calibrated on them, and trained on none of them. A file of
few entities has no final split. Neither have the demo's vehicles and days, because they are looked at every day.
`--split all` of `evaluate` and `calibrate` takes a file with its final split: it is for files by which nothing will
ever be chosen.

Tracks recorded under two ids, one in training or validation and one in the test, are left out of the test; those in any
other split under another id are left out of the final one.

A file's test tracks must not be trained on through another file that has the same entity at the same time: for these,
the earlier cutoff of the two files holds, and the hash, if either file uses it. The files of `pathcast train synth` are
all for training: nothing is evaluated on them.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from importlib.resources import files
from itertools import pairwise, permutations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from train.data.corpus import Corpus
from train.data.duplicates import find_copies

TRAIN_SHARE, VAL_SHARE, FINAL_SHARE = 0.8, 0.05, 0.05  # shares of the entities; the rest are in the test
LATE_SHARE = 0.1  # of a file's pings, the newest ones; of pings, not of days, because recordings have gaps of months
FEW_ENTITIES = 10  # with fewer, a hash may leave a split empty: all entities train, and val is cut from the end in time
# cuts as shares of a file's pings
FEW_CUTS, MANY_CUTS = (1 - 2 * LATE_SHARE, 1 - LATE_SHARE), (1 - LATE_SHARE, 1 - LATE_SHARE)
IN_TIME = (0.001, 0.999)  # quantiles of a file's times: a few receivers' clocks are days off
DAY_MS = 86_400_000
NEVER = np.iinfo(np.int64).max


class Splits(NamedTuple):
    """Corpora over the same columns. `fingerprint` changes when any track of any of the four splits does."""

    train: Corpus
    val: Corpus
    test: Corpus
    fingerprint: str  # 16 hex digits
    copies: Corpus  # duplicates: tracks left out of the test, because training or validation has them under another id
    final: Corpus  # only for `evaluate --split final`


@dataclass(frozen=True)
class Holdout:
    """The pings that no training may see: all of these vehicles, and those of everyone on these days, inside one
    region.

    Because of the region, another city's bus 5021 can be used.
    """

    south_deg: float
    west_deg: float
    north_deg: float
    east_deg: float
    vehicles: frozenset[str]
    days_ms: tuple[int, ...]  # 00:00 UTC of each day

    @classmethod
    def bundled(cls) -> Holdout:
        """Returns the vehicles and the days of the sample that the demo replays (train/data/holdout.json)."""
        raw = json.loads((files("train.data") / "holdout.json").read_text(encoding="utf-8"))
        box = raw["region_deg"]
        days = tuple(int(np.datetime64(day, "ms").astype(np.int64)) for day in raw["days_utc"])
        return cls(box["south"], box["west"], box["north"], box["east"], frozenset(raw["vehicles"]), days)

    def touches(self, corpus: Corpus) -> NDArray[np.bool_]:
        """Returns the mask (T,) of the tracks that have any ping in the hold-out."""
        held = np.array([name in self.vehicles for name in corpus.names], bool)[corpus.entity]
        for day_ms in self.days_ms:
            first_ms, last_ms = corpus.ts_ms[corpus.tracks[:, 0]], corpus.ts_ms[corpus.tracks[:, 1] - 1]
            held |= (first_ms < day_ms + DAY_MS) & (last_ms >= day_ms)
        for track in np.flatnonzero(held):
            rows = slice(*corpus.tracks[track])
            lat, lon = corpus.lat[rows], corpus.lon[rows]
            inside = (lat >= self.south_deg) & (lat <= self.north_deg) & (lon >= self.west_deg) & (lon <= self.east_deg)
            held[track] = inside.any()
        return held


def split(
    corpus: Corpus, holdout: Holdout | None = None, *, invented: Collection[str] = (), late_ms: int = 0
) -> Splits:
    """Splits `corpus` into train, val, test and final; `holdout` (default: the bundled one) moves tracks from the
    others to test. All tracks of the files named in `invented` train. The last tenth of a file is at least `late_ms`
    long, and at most a third of the file's time.

    Any split may be empty; whoever needs its tracks reports that.
    """
    few = corpus.file_entities < FEW_ENTITIES  # (F,)
    shares_FC = np.where(few[:, None], FEW_CUTS, MANY_CUTS)
    shares_FC[np.isin(corpus.files, tuple(invented))] = np.inf
    whole, period = _cut_in_time(corpus, shares_FC, late_ms)
    share = _shares(whole)
    by_time = few[whole.file] & ~_meets(whole, ~few & np.isfinite(shares_FC[:, 0]))
    train = (period == 0) & (by_time | (share < TRAIN_SHARE))
    val = np.where(by_time, period == 1, (period == 0) & (share >= TRAIN_SHARE) & (share < TRAIN_SHARE + VAL_SHARE))
    free = ~(Holdout.bundled() if holdout is None else holdout).touches(whole)
    unreal = whole.of_files(invented)
    final = (period == 0) & ~by_time & _in_final_share(share) & free & ~unreal
    train, val = (train & free) | unreal, val & free & ~unreal
    test = ~train & ~val & ~final
    copied = find_copies(whole, test, ~test & ~unreal)
    final &= ~find_copies(whole, final, ~final & ~unreal)
    parts = (whole.select(train), whole.select(val), whole.select(test & ~copied), whole.select(final))
    return Splits(*parts[:3], _fingerprint(parts), whole.select(copied), parts[3])


def late_from_ms(corpus: Corpus, late_ms: int = 0) -> NDArray[np.int64]:
    """Returns when the last tenth of each file begins (F,), as `split` cuts it; NEVER for a file without pings."""
    few = corpus.file_entities < FEW_ENTITIES
    return _bounds(corpus, np.where(few[:, None], FEW_CUTS, MANY_CUTS), late_ms)[:, -1]


def is_held_back(corpus: Corpus) -> NDArray[np.bool_]:
    """Returns the mask (T,) of the tracks whose entity is in the final split, at any time."""
    return np.asarray((corpus.file_entities >= FEW_ENTITIES)[corpus.file] & _in_final_share(_shares(corpus)))


def _in_final_share(share: NDArray[np.float64]) -> NDArray[np.bool_]:
    until = TRAIN_SHARE + VAL_SHARE
    return (share >= until) & (share < until + FINAL_SHARE)


def _shares(corpus: Corpus) -> NDArray[np.float64]:
    """Returns the hash of each track's entity (T,)."""
    return np.array([_share(name) for name in corpus.names])[corpus.entity]


def _share(name: str) -> float:
    """Hashes an entity's id alone to 0..1."""
    return int.from_bytes(blake2b(name.encode(), digest_size=8, person=b"pathcast").digest()) / 2**64


def _cut_in_time(corpus: Corpus, shares_FC: NDArray[np.float64], late_ms: int) -> tuple[Corpus, NDArray[np.int64]]:
    """Cuts tracks where their file has had the given shares of its pings, and returns them with the period (T,) of each
    piece: the number of cuts before it. A file of infinite shares is not cut.
    """
    bounds_TC = _of_tracks(corpus, _bounds(corpus, shares_FC, late_ms))
    tracks, of = corpus.tracks, np.arange(len(corpus))
    for bound_T in bounds_TC.T:
        tracks, of = _cut_once(corpus.ts_ms, tracks, of, bound_T[of])
    period = (corpus.ts_ms[tracks[:, :1]] >= bounds_TC[of]).sum(axis=1)
    return corpus.cut(tracks, of), period


def _bounds(corpus: Corpus, shares_FC: NDArray[np.float64], late_ms: int) -> NDArray[np.int64]:
    """Returns the times (F, C) of the cuts of each file; NEVER for one that is not cut."""
    bounds_FC = np.full(shares_FC.shape, NEVER)
    for file, (first, last) in enumerate(pairwise(corpus.file_start)):
        if last == first or not np.isfinite(shares_FC[file]).all():
            continue
        ts_ms = corpus.ts_ms[first:last]
        bounds_FC[file] = np.quantile(ts_ms, shares_FC[file])
        if late_ms:
            begin, end = np.quantile(ts_ms, IN_TIME)
            steps = np.rint((1 - shares_FC[file]) / LATE_SHARE)  # tenths after each cut
            bounds_FC[file] = np.minimum(bounds_FC[file], end - steps * min(late_ms, (end - begin) / 3))
    return bounds_FC


def _of_tracks(corpus: Corpus, bounds_FC: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns the bounds of each track (T, C): those of its file, and of each other file that has the entity too, if
    they are earlier and that file's test pings reach into the time of this file's pings of the entity.
    """
    seen = _sightings(corpus)
    bounds = bounds_FC[seen.file]
    for one, other in seen.of_one_entity():
        tested = bounds_FC[seen.file[other], -1] <= seen.last_ms[other]
        if tested and seen.first_ms[one] <= seen.last_ms[other] and bounds_FC[seen.file[one], -1] < NEVER:
            bounds[one] = np.minimum(bounds[one], bounds_FC[seen.file[other]])
    return np.asarray(bounds[seen.of])


def _meets(corpus: Corpus, files_F: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Returns the mask (T,) of the tracks whose entity is also in one of those files, at the time of this file's pings
    of it.
    """
    seen = _sightings(corpus)
    met = np.zeros(len(seen.file), bool)
    for one, other in seen.of_one_entity():
        if seen.first_ms[one] <= seen.last_ms[other] and seen.first_ms[other] <= seen.last_ms[one]:
            met[one] |= files_F[seen.file[other]]
    return np.asarray(met[seen.of])


class _Sightings(NamedTuple):
    """P pairs of an entity and a file that has tracks of it, sorted by entity."""

    entity: NDArray[np.int64]  # (P,)
    file: NDArray[np.int64]  # (P,)
    first_ms: NDArray[np.int64]  # (P,)
    last_ms: NDArray[np.int64]  # (P,)
    of: NDArray[np.int64]  # (T,) index of each track's pair

    def of_one_entity(self) -> Iterator[tuple[int, int]]:
        """Yields every two pairs of one entity in both orders; nothing for an entity in a single file."""
        start = np.flatnonzero(np.diff(self.entity, prepend=-1))
        for these in np.split(np.arange(len(self.entity)), start[1:]):
            yield from permutations(these, 2)


def _sightings(corpus: Corpus) -> _Sightings:
    pairs, of = np.unique(corpus.entity.astype(np.int64) * len(corpus.files) + corpus.file, return_inverse=True)
    first_ms, last_ms = np.full(len(pairs), NEVER), np.full(len(pairs), -NEVER)
    np.minimum.at(first_ms, of, corpus.ts_ms[corpus.tracks[:, 0]])
    np.maximum.at(last_ms, of, corpus.ts_ms[corpus.tracks[:, 1] - 1])
    entity, file = np.divmod(pairs, len(corpus.files))
    return _Sightings(entity, file, first_ms, last_ms, of)


def _cut_once(
    ts_ms: NDArray[np.int64], tracks: NDArray[np.int64], of: NDArray[np.int64], bound_ms: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Cuts the tracks that cross their bound; pieces of one ping are dropped. `of` follows the pieces."""
    crossing = np.flatnonzero((ts_ms[tracks[:, 0]] < bound_ms) & (ts_ms[tracks[:, 1] - 1] >= bound_ms))
    at = np.array(
        [tracks[i, 0] + np.searchsorted(ts_ms[tracks[i, 0] : tracks[i, 1]], bound_ms[i]) for i in crossing], np.int64
    )
    before, after = tracks.copy(), tracks[crossing].copy()
    before[crossing, 1] = at
    after[:, 0] = at
    pieces, origin = np.concatenate([before, after]), np.concatenate([of, of[crossing]])
    order = np.argsort(pieces[:, 0], kind="stable")
    order = order[(pieces[:, 1] - pieces[:, 0])[order] >= 2]
    return pieces[order], origin[order]


def _fingerprint(parts: tuple[Corpus, ...]) -> str:
    digest = blake2b(parts[0].fingerprint.encode(), digest_size=8)
    for part in parts:
        digest.update(len(part).to_bytes(8, "little") + np.ascontiguousarray(part.tracks, "<i8").tobytes())
    return digest.hexdigest()
