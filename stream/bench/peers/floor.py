"""Peer (d): runs our own worker with constant velocity in place of the model: the lower bound of everything else.

    python -m stream.bench.peers.floor worker --bootstrap=... and the worker's other options

Everything but the model is the product's: consumer, tracks, rendering, producer, commits, checkpoints. A state is 36
bytes here, so the store's cost is a lower bound as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.api import FIX, Fill, Forecasts, Gap, Guide, Moment, Predictor, StateCorrupt

Slots = NDArray[np.int64]
STATE = np.dtype([("last", FIX), ("lat_dps", "<f8"), ("lon_dps", "<f8")])  # the last fix and degrees per second
E7 = 1e7
M_PER_DEG = 111_195.08
NEXT_S = 60.0
SIGMA_M2 = 100.0


class Floor(Predictor):
    """Forecasts constant velocity from the last two fixes, with the interface of `model.api.Predictor`."""

    _states: NDArray[Any] = np.zeros(0, dtype=STATE)

    def acquire(self, n: int) -> Slots:
        slots = super().acquire(n)
        self._empty(slots)
        return slots

    def occupy(self, slots: Slots) -> None:
        super().occupy(slots)
        self._empty(slots)

    def _empty(self, slots: Slots) -> None:
        if (excess := int(slots.max(initial=-1)) + 1 - len(self._states)) > 0:
            self._states = np.concatenate([self._states, np.zeros(max(excess, len(self._states)), dtype=STATE)])
        self._states[slots] = np.zeros((), dtype=STATE)

    def reset(self, slots: Slots) -> None:
        self._states[slots] = np.zeros((), dtype=STATE)

    def advance(self, slots: Slots, fixes: NDArray[Any]) -> None:
        last = self._states["last"][slots]
        dt_s = (fixes["ts_ms"] - last["ts_ms"]) / 1000
        known = (last["ts_ms"] > 0) & (dt_s > 0)
        for name, degrees in (("lat_dps", "lat_e7"), ("lon_dps", "lon_e7")):
            moved = (fixes[degrees].astype(np.int64) - last[degrees]) / E7
            self._states[name][slots] = np.where(known, moved / np.where(known, dt_s, 1.0), 0.0)
        self._states["last"][slots] = fixes

    def catch_up(self, slots: Slots, fixes: NDArray[Any], counts: NDArray[np.int64]) -> None:
        if len(slots):
            self.answer(slots, fixes, counts, ())

    def answer(
        self, slots: Slots, fixes: NDArray[Any], counts: NDArray[np.int64], horizons_s: Any, guide: Guide | None = None
    ) -> tuple[Forecasts, Moment]:
        first = np.cumsum(counts) - counts
        parts, rows = [], []
        for place in range(counts.max()):  # the next fix of each slot that has one more
            going = counts > place
            self.advance(slots[going], fixes[first[going] + place])
            parts.append(self.forecast(slots[going], horizons_s))
            rows.append(first[going] + place)
        in_order = np.argsort(np.concatenate(rows))
        said = Forecasts(*(np.concatenate(column)[in_order] for column in zip(*parts, strict=True)))
        return said, _moment(len(fixes))

    def rebuild(self, slots: Slots, windows: Sequence[NDArray[Any]]) -> None:
        self.reset(slots)
        for slot, window in zip(slots, windows, strict=True):
            for fix in window[-2:]:
                self.advance(np.array([slot]), np.array([fix], dtype=FIX))

    def forecast(self, slots: Slots, horizons_s: Any, guide: Guide | None = None) -> Forecasts:
        state = self._states[slots]
        ahead_s = np.array([NEXT_S, *horizons_s])
        lat = state["last"]["lat_e7"][:, None] / E7 + state["lat_dps"][:, None] * ahead_s
        lon = state["last"]["lon_e7"][:, None] / E7 + state["lon_dps"][:, None] * ahead_s
        north = state["lat_dps"] * NEXT_S * M_PER_DEG
        east = state["lon_dps"] * NEXT_S * M_PER_DEG * np.cos(np.radians(state["last"]["lat_e7"] / E7))
        cov = np.broadcast_to(np.array([SIGMA_M2, 0.0, SIGMA_M2]), (len(slots), len(ahead_s), 3))
        next_s = np.full(len(slots), NEXT_S)
        next_en, no_fallback = np.stack([east, north], axis=1), np.zeros(len(slots), dtype=np.bool_)
        now = (next_s, next_en, lat[:, 0], lon[:, 0], cov[:, 0])
        pings, branches = np.zeros(len(slots), np.int64), np.zeros((len(slots), 0, len(ahead_s) - 1))
        parted = branches.sum(axis=-1), branches, branches
        return Forecasts(*now, lat[:, 1:], lon[:, 1:], cov[:, 1:], no_fallback, next_s, next_s, pings, *parted)

    def last(self, slots: Slots) -> NDArray[Any]:
        return np.asarray(self._states["last"][slots])

    def moment(self, slots: Slots) -> Moment:
        return _moment(len(slots))

    def fill_at(self, moment: Moment, asked: Sequence[Gap], guide: Guide | None = None) -> list[Fill]:
        return [_straight(gap) for gap in asked]

    def dumps(self, slots: Slots) -> list[bytes]:
        return [self._states[slot : slot + 1].tobytes() for slot in slots]

    def loads(self, slots: Slots, blobs: Sequence[bytes]) -> None:
        if any(len(blob) != STATE.itemsize for blob in blobs):
            raise StateCorrupt("not a state of the floor")
        self._states[slots] = np.frombuffer(b"".join(blobs), STATE)


def _moment(rows: int) -> Moment:
    return Moment(*np.zeros((2, rows, 1)))  # a straight line needs no values


def _straight(gap: Gap) -> Fill:
    start, end = gap.before[-1], gap.after[0]
    part = (gap.times_ms - start["ts_ms"]) / (end["ts_ms"] - start["ts_ms"])
    lat = (start["lat_e7"] + part * (int(end["lat_e7"]) - int(start["lat_e7"]))) / E7
    lon = (start["lon_e7"] + part * (int(end["lon_e7"]) - int(start["lon_e7"]))) / E7
    return Fill(lat, lon, np.tile(np.array([SIGMA_M2, 0.0, SIGMA_M2]), (len(part), 1)), "linear")


def main() -> None:
    import stream.worker.app
    from stream.commands.main import main as pathcast

    vars(stream.worker.app)["Predictor"] = Floor  # the only difference from `pathcast worker`
    pathcast()


if __name__ == "__main__":
    main()
