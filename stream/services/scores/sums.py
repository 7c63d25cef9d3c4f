"""Adds up the scores that a member publishes, for /metrics. The number of labels is bounded, whatever comes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Final, NamedTuple

from stream.services.scores.scoring.drift import JUDGED
from stream.wire import Drift, Outcome, Score

MOST_MODELS: Final = 16  # versions that are told apart; those that come later are OTHER together
MOST_HORIZONS: Final = 16
OTHER: Final = "other"
NEXT: Final = "next"


class Labels(NamedTuple):
    model: str  # the version
    atlas: str  # "asked" if the forecast asked a version of the atlas, else "none": a new one comes every hour
    horizon: str  # "next", or seconds


@dataclass
class Sum:
    """The sums of one kind of forecast. `compared` are those that damped velocity has an error for, too."""

    scored: int = 0
    unscored: int = 0  # no ping came that could tell
    error_m: float = 0.0
    compared: int = 0
    compared_error_m: float = 0.0
    damped_error_m: float = 0.0
    inside50: int = 0
    inside90: int = 0

    def add(self, outcome: Outcome) -> None:
        if outcome.error_m is None:
            self.unscored += 1
            return
        self.scored += 1
        self.error_m += outcome.error_m
        self.inside50 += bool(outcome.inside50)
        self.inside90 += bool(outcome.inside90)
        if outcome.damped_error_m is not None:
            self.compared += 1
            self.compared_error_m += outcome.error_m
            self.damped_error_m += outcome.damped_error_m


class Sums:
    """All sums of a member since its start."""

    def __init__(self) -> None:
        self.sums: dict[Labels, Sum] = {}
        self.statuses: Counter[str] = Counter()  # of the forecasts
        self.drifts: Counter[str] = Counter()  # by what was measured
        self._models: set[str] = set()
        self._horizons: set[str] = {NEXT}

    def add(self, record: Score | Drift) -> None:
        """Counts one record. Forecasts that did not claim to be good ones (JUDGED) are only counted by their status."""
        if isinstance(record, Drift):
            self.drifts[record.measured] += 1
            return
        self.statuses[record.status] += 1
        if record.status not in JUDGED:
            return
        model = _known(record.model.version, self._models, MOST_MODELS)
        atlas = "none" if record.atlas is None or record.atlas.version is None else "asked"
        for outcome in (record.next, *record.horizons):
            name = NEXT if outcome.h_s is None else f"{outcome.h_s:g}"
            labels = Labels(model, atlas, _known(name, self._horizons, MOST_HORIZONS))
            self.sums.setdefault(labels, Sum()).add(outcome)


def _known(name: str, known: set[str], most: int) -> str:
    if name not in known:
        if len(known) >= most:
            return OTHER
        known.add(name)
    return name
