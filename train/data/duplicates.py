"""Finds duplicates: one recording under two ids, that is, tracks that share their moments.

Ids do not prove identity: one phone may have two accounts, a day may be uploaded twice. A hash of ids may then put one
copy into training and the other into the test.

Letters: R rows, T tracks.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.kinematics.geo import E7
from train.data.corpus import Corpus

# By chance two things have the same moment now and then, where clocks tick in whole minutes and positions are rounded;
# and things that stand in one depot share every minute of the night. So only moments count whose position differs from
# that of the previous ping.
FEW_MOMENTS: Final = 10
LEAST_SHARE: Final = 0.1  # of a track's pings: if one hour of a day's track is a copy, the model has seen a tenth of it
CHUNK: Final = 1 << 20  # rows at a time: some 50 MB of temporary arrays
_FACTORS: Final = (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)  # odd, without a pattern (splitmix64)
_SHIFT: Final = np.uint64(64 - 24)  # high bits of a moment: as an index of 16 million places they are as good as random


def find_copies(corpus: Corpus, of_T: NDArray[np.bool_], among_T: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Returns the mask (T,) of those tracks of `of_T` that are duplicates, for a tenth or more, of tracks of `among_T`,
    of whichever entity: at ten pings or more, each at another position than the previous one, time and position are
    equal to 1e-7 degrees.
    """
    tracks = np.flatnonzero(of_T)
    rows, learned_R = np.flatnonzero(_rows(corpus, of_T)), _rows(corpus, among_T)
    moment = _moments(corpus, rows)
    maybe = np.zeros(1 << 24, bool)  # sorting all moments of a corpus would take ten times the time and memory
    maybe[moment >> _SHIFT] = True
    found = [np.empty(0, np.uint64)]
    for first in range(0, len(corpus.ts_ms), CHUNK):
        chunk = slice(first, first + CHUNK)
        here = _moments(corpus, chunk)[learned_R[chunk]]
        found.append(here[maybe[here >> _SHIFT]])
    common = np.isin(moment, np.concatenate(found))
    length = corpus.tracks[tracks, 1] - corpus.tracks[tracks, 0]
    track = np.repeat(np.arange(len(tracks)), length)
    before = np.maximum(rows - 1, 0)
    went = (corpus.lat[rows] != corpus.lat[before]) | (corpus.lon[rows] != corpus.lon[before])
    shared, moved = (np.bincount(track[mask], minlength=len(tracks)) for mask in (common, common & went))
    out = np.zeros(len(corpus), bool)
    out[tracks] = (moved >= FEW_MOMENTS) & (shared >= LEAST_SHARE * length)
    return out


def _rows(corpus: Corpus, tracks_T: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Returns the mask (R,) of the rows in those tracks."""
    out = np.zeros(len(corpus.ts_ms), bool)
    for first, last in corpus.tracks[tracks_T]:
        out[first:last] = True
    return out


def _moments(corpus: Corpus, rows: NDArray[Any] | slice) -> NDArray[np.uint64]:
    """Hashes time and position of the rows to 64 bits: in one of 90,000 corpora of 20 million rows two are equal by
    chance.
    """
    parts = (corpus.ts_ms[rows], np.rint(corpus.lat[rows] * E7), np.rint(corpus.lon[rows] * E7))
    out = np.zeros(len(parts[0]), np.uint64)
    for part, factor in zip(parts, _FACTORS, strict=True):
        out += part.astype(np.int64).view(np.uint64) * np.uint64(factor)
    return out
