"""Builds an atlas of the very file that is filled or forecast, for `pathcast fill` and `pathcast forecast`.

A gap may be filled along any passage of the file, of whichever vehicle and time. Nobody knows by which way a thing went
in a gap, so that there a track ends here: the straight line over a gap is no passage.

A forecast asks what had happened before it. So there are several versions, each for the pings from some time on, made
of the file's rows before that time. How far they are believed is found beside the model's forecasts of the file's own
earlier pings; a version is left out that has too few of them to tell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.api import Atlas, Predictor
from model.atlas.examining import LEAST
from model.atlas.questions import OF_PINGS
from model.atlas.version import dumps
from model.serving.making import Rules
from stream.adapters.files import RecordedRow
from stream.atlas.building import Built, of_rows
from stream.atlas.replaying import One
from stream.kafka.records.columns import I64
from stream.tracks.track import Policy

# The atlas stays with who has the file, so that nothing is left out for being one vehicle's; and no day fades.
RULES: Final = Rules(half_life_days=1e6, min_entities=1)
# Before a forecast's version: fewer pings never have as many questions as tell something.
LEAST_PINGS: Final = LEAST * OF_PINGS
MOST_VERSIONS: Final = 12  # each costs up to a second or two
LEAST_APART_MS: Final = 3_600_000  # from one version to the next


@dataclass(frozen=True)
class OwnAtlas:
    """Holds what a file's pings may ask of the file itself."""

    pings: int = 0  # of the file
    entities: int = 0
    starts_ms: I64 = field(default_factory=lambda: np.empty(0, np.int64))  # [V] rising: from when on each answers
    atlases: Sequence[Atlas] = ()  # [V]

    def choose(self, ts_ms: I64, first: int) -> OwnChoice | One:
        """Returns the choice of rows with these times, the first of which has the offset `first`."""
        if len(self.atlases) == 1 and self.starts_ms[0] < 0:
            return One(self.atlases[0])
        return OwnChoice(self.atlases, np.searchsorted(self.starts_ms, ts_ms, side="right") - 1, first)


@dataclass(frozen=True)
class OwnChoice:
    """A `stream.engine.assignment.AtlasChoice` of some rows."""

    atlases: Sequence[Atlas]
    which: I64
    first: int

    def of(self, number: int, offsets: I64) -> tuple[I64, NDArray[np.bool_]]:
        return self.which[offsets - self.first], np.zeros(len(offsets), np.bool_)


def read_own(rows: Iterable[RecordedRow], policy: Policy, progress: Callable[[int], None]) -> Built:
    """Returns what is known of the rows of a file, in which tracks end at the gaps that are filled by `policy`."""
    return of_rows(rows, progress, policy=policy)


def for_fills(built: Built) -> OwnAtlas:
    """Returns one version of all passages. It says nothing of forecasts: how far it is believed is not found."""
    return _own(built, np.array([-1]), [_atlas_of(built, None)])


def for_forecasts(build: Callable[[int], Built], anchors_ms: I64, ts_ms: I64, predictor: Predictor) -> OwnAtlas:
    """Returns versions for forecasts from pings with times anchors_ms, of a file whose rows have the times ts_ms.
    `build` returns what is known of the rows before some time. The predictor is no other one's, as it takes up states.
    """
    ordered, built = np.sort(ts_ms), None
    starts, atlases = list[int](), list[Atlas | None]()
    for start in _starts(anchors_ms).tolist():
        if np.searchsorted(ordered, start) < LEAST_PINGS:
            continue
        built = build(start)
        atlas = _atlas_of(built, predictor)
        if atlas is not None and "horizons" in atlas.contains["report"]:
            starts.append(start)
            atlases.append(atlas)
    return OwnAtlas() if built is None else _own(built, np.array(starts, np.int64), atlases)


def _own(built: Built, starts_ms: I64, atlases: Sequence[Atlas | None]) -> OwnAtlas:
    some = [atlas for atlas in atlases if atlas is not None]
    whose = [built.days.whose(day) for day in built.days]
    entities = len(np.unique(np.concatenate([np.empty(0, np.uint64), *(one.ids for one in whose)])))
    return OwnAtlas(sum(one.pings for one in whose), entities, starts_ms[: len(some)], some)


def _starts(anchors_ms: I64) -> I64:
    """Returns from when on versions are made: each is for all anchors until the next one, and knows what was before the
    first of them."""
    at = np.unique(anchors_ms)
    if not len(at):
        return at
    apart_ms = max(LEAST_APART_MS, -(-(int(at[-1]) - int(at[0]) + 1) // MOST_VERSIONS))
    starts = [int(at[0])]
    for one in at.tolist():
        if one >= starts[-1] + apart_ms:
            starts.append(one)
    return np.array(starts, np.int64)


def _atlas_of(built: Built, predictor: Predictor | None) -> Atlas | None:
    """Returns the atlas of a file; None if no passage is known."""
    found = built.publishable(RULES, predictor)
    return Atlas.of(dumps(*found)) if len(found.passages.known) else None
