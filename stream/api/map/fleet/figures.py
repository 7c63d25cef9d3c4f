"""Figures of the fleet, which pages get once a second: rates, latencies, versions. Rates come from the ends of logs."""

from __future__ import annotations

from collections import Counter, deque
from typing import Any, Final, NamedTuple

import numpy as np

OF_MS: Final = 600_000  # latencies and caches of so long
MOST_LATENCIES: Final = 20_000  # of the newest forecasts, 0.2 KB each
RATE_MS: Final = 10_000  # over which rates are taken


class Ends(NamedTuple):
    """The numbers of records that there ever were in the logs of each topic, at one moment."""

    at_ms: int
    pings: int | None
    forecasts: int | None
    fills: int | None
    rejects: int | None


class _Answer(NamedTuple):
    at_ms: int
    latency_ms: float | None
    rebuilt: bool


class Figures:
    """The figures of a fleet. Times are of the machine's clock."""

    def __init__(self) -> None:
        self._answers: deque[_Answer] = deque(maxlen=MOST_LATENCIES)
        self._ends: deque[Ends] = deque()
        self.weights: Counter[str] = Counter()  # entities by the version that answered their newest ping
        self.atlas: Counter[str] = Counter()
        self.behind: int | None = None  # pings that have no answer yet

    def count_answers(self, at_ms: int, latency_ms: float | None, cache: str) -> None:
        self._answers.append(_Answer(at_ms, latency_ms, cache == "rebuilt"))

    def count(self, versions: tuple[str, str | None], change: int) -> None:
        """Counts an entity that was answered by these weights and this atlas, if any; or, with -1, no longer."""
        for counts, version in zip((self.weights, self.atlas), versions, strict=True):
            if version is not None:
                counts[version] += change
                if not counts[version]:
                    del counts[version]

    def note_ends(self, ends: Ends) -> None:
        """Takes where the logs end now."""
        self._ends.append(ends)
        while len(self._ends) > 1 and self._ends[0].at_ms < ends.at_ms - RATE_MS:
            self._ends.popleft()

    def summary(self, now_ms: int) -> dict[str, Any]:
        """Returns the figures. What is unknown is None."""
        since_ms = now_ms - OF_MS
        answers = [one for one in self._answers if one.at_ms >= since_ms]
        latencies = [one.latency_ms for one in answers if one.latency_ms is not None]
        p50, p99 = np.percentile(latencies, (50, 99)).tolist() if latencies else (None, None)
        rates = {f"{name}_s": self._rate(name) for name in ("pings", "forecasts", "fills", "rejects")}
        return {
            **rates,
            "lag": self.behind,
            "p50_ms": _round(p50, 1),
            "p99_ms": _round(p99, 1),
            "versions": {"weights": _some(self.weights), "atlas": _some(self.atlas)},
            "rebuilt_share": _round(sum(one.rebuilt for one in answers) / len(answers), 4) if answers else None,
        }

    def _rate(self, name: str) -> float | None:
        if len(self._ends) < 2:
            return None
        first, last = self._ends[0], self._ends[-1]
        before: int | None = getattr(first, name)
        after: int | None = getattr(last, name)
        if before is None or after is None or last.at_ms <= first.at_ms:
            return None
        return round(max(0, after - before) * 1000 / (last.at_ms - first.at_ms), 2)


MOST_VERSIONS: Final = 20


def _some(counts: Counter[str]) -> dict[str, int]:
    return dict(counts.most_common(MOST_VERSIONS))


def _round(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
