"""The pings of all tracks of a corpus on one line, one after the other. Knows tracks and their times; draws nothing.

A place numbers a ping on the line. Time rises along it, a day from one track to the next, so that "the first ping at or
after then" is one search for any pings of any tracks.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from train.data.corpus import EVALUATION, Corpus

Rows = NDArray[np.int64]

DAY_MS: Final = 86_400_000


class Line:
    """Holds a few numbers per ping of the corpus. Arrays of places have any shape."""

    def __init__(self, corpus: Corpus) -> None:
        self.corpus = corpus
        length = corpus.tracks[:, 1] - corpus.tracks[:, 0]
        self.stop = np.cumsum(length)  # (tracks,) the places after their last pings
        self.start = self.stop - length  # (tracks,) those of their first
        self._row = corpus.tracks[:, 0] - self.start  # added to a place: its row of the corpus
        track = np.repeat(np.arange(len(length)), length)
        ts_ms = np.asarray(corpus.ts_ms[np.arange(len(track)) + self._row[track]])
        first, last = ts_ms[self.start], ts_ms[self.stop - 1]
        begin = np.concatenate([[0], np.cumsum(last - first + DAY_MS)[:-1]])
        self.ms = ts_ms + (begin - first)[track]
        self.trip_ends = self._ends_of_trips()

    def track_of(self, place: Rows) -> Rows:
        return np.searchsorted(self.stop, place, side="right")

    def fixes(self, place: Rows) -> NDArray[Any]:
        return self.corpus.fixes(place + self._row[self.track_of(place)])

    def after(self, place: Rows, later_ms: Rows) -> Rows:
        """The first places so much later than these, or more; another track's where theirs has ended by then."""
        return np.asarray(np.searchsorted(self.ms, self.ms[place] + later_ms))

    def trip_end(self, place: Rows) -> Rows:
        """The last places of the trips that these are on."""
        return np.asarray(self.trip_ends[np.searchsorted(self.trip_ends, place)])

    def of_files(self, place: Rows) -> list[Rows]:
        """Those of the places (any number,) that are of each file of the corpus."""
        of = self.corpus.file[self.track_of(place)]
        return [place[of == file] for file in range(len(self.corpus.files))]

    def _ends_of_trips(self) -> Rows:
        """The places of their last pings, rising: before silences at which the judge's tracks end, and where tracks do.

        A training's tracks go on behind a night in the depot, and nobody who asks when something will be there means
        the day after.
        """
        last = np.zeros(len(self.ms), np.bool_)
        last[self.stop - 1] = True
        step_s = np.append(np.diff(self.ms) / 1000.0, 0.0)
        for mine in self.of_files(np.arange(len(self.ms))):
            longest_s = EVALUATION.longest_silence_s(step_s[mine][~last[mine]])
            last[mine] |= step_s[mine] > longest_s
        return np.flatnonzero(last)
