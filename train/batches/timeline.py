"""The timeline: the pings of all tracks of a corpus on one axis, one track after the other.

A place numbers a ping on the timeline. Time rises along it, with a day from one track to the next, so that "the first
ping at or after this time" is one search for any pings of any tracks.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from train.data.corpus import Corpus

Rows = NDArray[np.int64]

DAY_MS: Final = 86_400_000


class Line:
    """The timeline of a corpus, with a few numbers per ping. Arrays of places have any shape."""

    def __init__(self, corpus: Corpus) -> None:
        self.corpus = corpus
        length = corpus.lengths
        self.stop = np.cumsum(length)  # (tracks,) the place after each track's last ping
        self.start = self.stop - length  # (tracks,) the place of its first ping
        self._row = corpus.tracks[:, 0] - self.start  # added to a place, it gives the row of the corpus
        track = np.repeat(np.arange(len(length)), length)
        ts_ms = np.asarray(corpus.ts_ms[np.arange(len(track)) + self._row[track]])
        first, last = ts_ms[self.start], ts_ms[self.stop - 1]
        begin = np.concatenate([[0], np.cumsum(last - first + DAY_MS)[:-1]])
        self.ms = ts_ms + (begin - first)[track]

    def track_of(self, place: Rows) -> Rows:
        return np.searchsorted(self.stop, place, side="right")

    def fixes(self, place: Rows) -> NDArray[Any]:
        return self.corpus.fixes(place + self._row[self.track_of(place)])

    def after(self, place: Rows, later_ms: Rows) -> Rows:
        """Returns the first places that are at least `later_ms` after these; they belong to another track if the own
        track has ended.
        """
        return np.asarray(np.searchsorted(self.ms, self.ms[place] + later_ms))

    def of_files(self, place: Rows) -> list[Rows]:
        """Splits the places (any number,) by the files of the corpus."""
        of = self.corpus.file[self.track_of(place)]
        return [place[of == file] for file in range(len(self.corpus.files))]
