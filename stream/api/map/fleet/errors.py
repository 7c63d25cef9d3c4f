"""Sums of errors by horizon, and by minute of the fleet's own time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from stream.wire import Outcome

MINUTE_MS: Final = 60_000
MINUTES: Final = 720  # that are kept: the learning curve of half a day
MOST_HORIZONS: Final = 16  # that have sums of their own; a fleet's workers share one setting


@dataclass(slots=True)
class Sum:
    """Sums up how far off some forecasts were at one horizon. Once damped velocity has an error for one of them, those
    that it has none for no longer count, so that all figures are of the same cases."""

    is_compared: bool
    n: int
    error_m: float
    damped_m: float
    in50: int
    in90: int

    @classmethod
    def of(cls, one: Outcome) -> Sum:
        """Returns the sum of an outcome that has an error."""
        assert one.error_m is not None
        is_compared = one.damped_error_m is not None
        return cls(is_compared, 1, one.error_m, one.damped_error_m or 0.0, bool(one.inside50), bool(one.inside90))

    def join(self, other: Sum) -> Sum:
        if self.is_compared != other.is_compared:
            return self if self.is_compared else other
        summed = (getattr(self, name) + getattr(other, name) for name in ("n", "error_m", "damped_m", "in50", "in90"))
        return Sum(self.is_compared, *summed)

    def row(self, h_s: float) -> dict[str, Any]:
        """Returns the figures. `skill` is 1 - error / damped velocity's error, as in `services.scores.summaries`."""
        return {
            "h_s": h_s,
            "n": self.n,
            "mean_m": round(self.error_m / self.n, 2),
            "damped_m": round(self.damped_m / self.n, 2) if self.is_compared else None,
            "skill": round(1 - self.error_m / self.damped_m, 4) if self.damped_m > 0 else None,
            "in50": round(self.in50 / self.n, 4),
            "in90": round(self.in90 / self.n, 4),
        }


def rows(outcomes: Iterable[Outcome]) -> list[dict[str, Any]]:
    """Returns the figures of these outcomes, a row for each horizon."""
    sums: dict[float, Sum] = {}
    for one in outcomes:
        if one.h_s is not None and one.error_m is not None:
            _join(sums, one.h_s, Sum.of(one))
    return _rows(sums)


def _join(sums: dict[float, Sum], h_s: float, more: Sum) -> None:
    before = sums.get(h_s)
    sums[h_s] = more if before is None else before.join(more)


def _rows(sums: Mapping[float, Sum]) -> list[dict[str, Any]]:
    return [sums[h_s].row(h_s) for h_s in sorted(sums)]


class ByMinute:
    """The sums of each minute and horizon."""

    def __init__(self) -> None:
        self._minutes: dict[int, dict[float, Sum]] = {}

    def __len__(self) -> int:
        return len(self._minutes)

    def add(self, ts_ms: int, outcome: Outcome) -> None:
        """Takes what came of a forecast at this time, if anything did."""
        if outcome.h_s is None or outcome.error_m is None:
            return
        minute = ts_ms // MINUTE_MS
        if minute not in self._minutes:
            self._minutes[minute] = {}
            if len(self._minutes) > MINUTES:
                del self._minutes[min(self._minutes)]
        sums = self._minutes.get(minute)
        if sums is not None and (outcome.h_s in sums or len(sums) < MOST_HORIZONS):
            _join(sums, outcome.h_s, Sum.of(outcome))

    def since(self, ts_ms: int) -> list[dict[str, Any]]:
        """Returns the figures of all minutes from this time on, a row for each horizon."""
        total: dict[float, Sum] = {}
        for minute, sums in self._minutes.items():
            if (minute + 1) * MINUTE_MS > ts_ms:
                for h_s, one in sums.items():
                    _join(total, h_s, one)
        return _rows(total)

    def points(self) -> list[dict[str, Any]]:
        """Returns the learning curve: the mean errors of each minute and horizon, and how many cases they are of, so
        that minutes can be joined."""
        return [
            {"ts": minute * MINUTE_MS, **{name: row[name] for name in POINT}}
            for minute, sums in sorted(self._minutes.items())
            for h_s in sorted(sums)
            for row in [sums[h_s].row(h_s)]
        ]


POINT: Final = ("h_s", "n", "mean_m", "damped_m")
