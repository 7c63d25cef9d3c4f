"""Counts the demo's pings and forecasts so far, with their latencies and errors.

The threads of the feeder and the subscriber write to it, and that of the screen reads it: every method takes the lock.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from stream.adapters.files import RecordedRow
from stream.wire import Anchor, Forecast, GapFill, code_of, loads_forecast, loads_gapfill
from stream.wire.scoring import TARGETS, Errors, errors, score

if TYPE_CHECKING:
    from model.api import Atlas
    from stream.demo.hidden_gaps import GapErrors

SHOWN = 6  # vehicles on the screen


class Live(NamedTuple):
    """The demo at one moment while it runs."""

    pings_in: int
    forecasts_out: int
    gapfills_out: int
    rejects: int
    vehicles: int
    event_ts: int | None  # of the newest ping
    p50_ms: float | None
    p99_ms: float | None
    next_m: Errors | None  # means so far
    latest: list[Forecast]


class Board:
    """The demo's counts, and its forecasts with their errors."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pings = 0
        self._event_ts: int | None = None
        self._sent: dict[tuple[str, int], float] = {}  # (entity, event time) -> clock in s, until its forecast comes
        self._forecasts: list[Forecast] = []
        self._alone: dict[tuple[str, int], Forecast] = {}  # by entity and time: what the model answers without an atlas
        self.atlas: Atlas | None = None  # the first that the forecasts ask
        self.gap_errors: GapErrors | None = None  # of stretches that were hidden; None: none were
        self.rows: list[RecordedRow] = []  # that were sent
        self._gapfills = 0
        self._gaps: dict[str, GapFill] = {}  # by gap id: its last record, unless that retracts it
        self._rejects: Counter[str] = Counter()
        self._latencies_ms: list[float] = []
        self._last_two: dict[str, tuple[Forecast | None, Forecast]] = {}
        self._sums = Errors(0.0, 0.0, 0.0, 0.0)
        self._pairs = 0

    def note_sent(self, row: RecordedRow, clock_s: float) -> None:
        with self._lock:
            self._pings += 1
            self.rows.append(row)
            if row.key is not None and row.ts_ms is not None:
                self._event_ts = row.ts_ms
                # The first of two equal pings gets the forecast; the second is a duplicate.
                self._sent.setdefault((row.key.decode(errors="replace"), row.ts_ms), clock_s)

    def forecast(self, raw: bytes, clock_s: float) -> None:
        forecast = loads_forecast(raw)
        with self._lock:
            self._forecasts.append(forecast)
            began = self._sent.pop((forecast.entity_id, forecast.anchor.ts), None)
            if began is not None:
                self._latencies_ms.append((clock_s - began) * 1000)
            self._compare(forecast)

    def compare(self, alone: Iterable[Forecast]) -> None:
        """Takes what the model answers for the same pings without an atlas."""
        with self._lock:
            self._alone = {(one.entity_id, one.anchor.ts): one for one in alone}

    def gapfill(self, raw: bytes) -> None:
        fill = loads_gapfill(raw)
        with self._lock:
            self._gapfills += 1
            if fill.status == "retracted":
                self._gaps.pop(fill.gap_id, None)
            else:
                self._gaps[fill.gap_id] = fill

    def gaps(self) -> tuple[int, int]:
        """Returns how many gaps were filled, and with how many points."""
        with self._lock:
            return len(self._gaps), sum(len(fill.points) for fill in self._gaps.values())

    def reject(self, headers: Sequence[tuple[str, bytes]]) -> None:
        code = code_of(headers) or "unknown"
        with self._lock:
            self._rejects[code] += 1

    @property
    def outstanding(self) -> int:
        """The number of pings without an outcome so far; duplicates never get one."""
        with self._lock:
            return self._pings - len(self._forecasts) - self._rejects.total()

    @property
    def forecasts_out(self) -> int:
        with self._lock:
            return len(self._forecasts)

    @property
    def rejects_by_code(self) -> dict[str, int]:
        with self._lock:
            return dict(self._rejects.most_common())

    def live(self) -> Live:
        with self._lock:
            latest = sorted((last for _, last in self._last_two.values()), key=lambda f: f.anchor.ts)[-SHOWN:]
            return Live(
                pings_in=self._pings,
                forecasts_out=len(self._forecasts),
                gapfills_out=self._gapfills,
                rejects=self._rejects.total(),
                vehicles=len(self._last_two),
                event_ts=self._event_ts,
                p50_ms=percentile(self._latencies_ms, 50),
                p99_ms=percentile(self._latencies_ms, 99),
                next_m=Errors(*(total / self._pairs for total in self._sums)) if self._pairs else None,
                latest=latest,
            )

    def pairs(self) -> dict[str, list[Errors]]:
        """Returns the errors of all pairs of a forecast and a real ping so far, by target. The real pings are the
        anchors of the forecasts: each accepted ping has one forecast, and the vehicle was not at a rejected one."""
        with self._lock:
            return self._score(self._forecasts)

    def without_atlas(self) -> dict[str, float | None]:
        """Returns the mean errors of the model without the atlas over the same pairs, by target; empty if it was not
        asked."""
        with self._lock:
            alone = [self._alone.get((one.entity_id, one.anchor.ts)) for one in self._forecasts]
            if not self._alone or None in alone:
                return {}
            pairs = self._score([one for one in alone if one is not None])
        return {name: mean_errors(pairs[name])["model"] for name in TARGETS}

    def _score(self, forecasts: Sequence[Forecast]) -> dict[str, list[Errors]]:
        tracks: dict[str, dict[int, Anchor]] = {}
        for forecast in self._forecasts:
            tracks.setdefault(forecast.entity_id, {})[forecast.anchor.ts] = forecast.anchor
        return score(forecasts, {entity: [track[ts] for ts in sorted(track)] for entity, track in tracks.items()})

    def summary(self, *, broker: str, store: str) -> dict[str, Any]:
        """Returns the JSON summary. Errors are means in metres over the same pairs, null where there was no pair."""
        pairs, live, without = self.pairs(), self.live(), self.without_atlas()
        with self._lock:
            model = self._forecasts[-1].model if self._forecasts else None
            atlases = [one.atlas for one in self._forecasts if one.atlas is not None]
        more = {name: {"model_without_atlas": metres} for name, metres in without.items()}
        return {
            "pings_in": live.pings_in,
            "forecasts_out": live.forecasts_out,
            "gapfills_out": live.gapfills_out,
            "rejects": live.rejects,
            **({} if self.gap_errors is None else {"hidden_gaps": self.gap_errors._asdict()}),
            "latency_ms": {"p50": _round(live.p50_ms), "p99": _round(live.p99_ms)},
            "error_m": {name: mean_errors(pairs[name]) | more.get(name, {}) for name in TARGETS},
            "atlas": self.atlas
            and {
                "version": self.atlas.version,
                **self.atlas.contains,
                "versions_asked": len({one.version for one in atlases if one.version is not None}),
                "forecasts_moved": sum(one.pings > 0 for one in atlases),
            },
            "broker": broker,
            "store": store,
            "model": None if model is None else f"{model.name} {model.version}",
        }

    def _compare(self, forecast: Forecast) -> None:
        """Compares the entity's last forecast with its next ping, this forecast's anchor. The summary scores all
        forecasts again."""
        before, last = self._last_two.get(forecast.entity_id, (None, None))
        if last is not None and forecast.anchor.ts <= last.anchor.ts:
            return  # a late ping
        if before is not None and last is not None:
            off_m = errors(last, before.anchor, forecast.anchor)
            self._sums = Errors(*(total + metres for total, metres in zip(self._sums, off_m, strict=True)))
            self._pairs += 1
        self._last_two[forecast.entity_id] = last, forecast


def mean_errors(pairs: Sequence[Errors]) -> dict[str, float | None]:
    """Returns the mean by field name, in metres to the decimetre."""
    if not pairs:
        return dict.fromkeys(Errors._fields)
    columns = zip(*pairs, strict=True)
    return {name: round(sum(column) / len(pairs), 1) for name, column in zip(Errors._fields, columns, strict=True)}


def percentile(values: Sequence[float], percent: float) -> float | None:
    """Returns the smallest value that `percent` of all do not exceed (nearest rank); None if there are no values."""
    if not values:
        return None
    rank = -(-len(values) * percent // 100)  # ceiling
    return sorted(values)[max(int(rank), 1) - 1]


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
