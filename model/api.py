"""The interface of the model: everything that `stream` may import of it, except `model.jit`. Pings go in, forecasts and
gap fills come out.

It is synchronous, and only one thread at a time may use a Predictor. Latitudes and longitudes are degrees or 1e-7 deg,
times int64 ms UTC; metres are local east and north from the row's last fix (its anchor).

Shapes: N rows (slots), H horizons, M fixes of several per row, or points of a gap.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import torch
from numpy.typing import NDArray

from model.config import SMALL, ModelConfig
from model.kernels import tiles
from model.kinematics import baselines, lateness, motion, queries
from model.kinematics.features import ABSENT, FIX
from model.kinematics.geo import E7, F64, displacement_m, moved_deg
from model.network import checkpoint, network
from model.network.checkpoint import WeightsError
from model.serving import forecast_compiled, gapfill_compiled, gaps, layers, state_codec, step_compiled
from model.serving.answers import Forecasts, Moment, TravelTimes, checked_horizons, replaced
from model.serving.gaps import Fill, Gap
from model.serving.kv_cache import PRECISIONS, Slots
from model.serving.state_codec import State, StateCorrupt, StateError, StateMismatch
from model.serving.state_pool import StatePool, exact

__all__ = [
    "ABSENT",
    "FIX",
    "PRECISIONS",
    "Fill",
    "Forecasts",
    "Gap",
    "ModelConfig",
    "Moment",
    "Predictor",
    "StateCorrupt",
    "StateError",
    "StateMismatch",
    "TravelTimes",
    "WeightsError",
    "check_weights",
]

# Fixes after which the filter and the running means no longer depend on how they started, to 1e-5. A forecast is then
# the same except for float32 rounding; at five pings a second its covariance may differ by 2e-5. Each fix is 20 bytes
# of an entity.
KALMAN_WARMUP: Final = 52
# Largest number of pings in a step. The layers' outputs for 2,048 do not fit the nearest caches, and steps of 256 pay
# for their calls (14.4 µs per ping; 512, 1,024 and 2,048 at once 13.5, 13.2 and 14.1; `small`, medians of six on a
# loaded machine).
STEP_PINGS: Final = 1024


def check_weights(weights: str | Path) -> None:
    """Reads weights by bundled name or directory, and compiles nothing. Raises WeightsError if `Predictor.load`
    would.
    """
    net = checkpoint.from_pretrained(weights)
    _check_servable(net.config, net.config.name, "int8")


def _check_servable(config: ModelConfig, name: str, precision: str) -> None:
    if (reason := config.not_servable()) is not None:
        raise WeightsError(f"{name!r} cannot be served: {reason}")
    if (bytes_ := state_codec.size(config, config.window, precision)) > state_codec.MAX_BYTES:
        raise WeightsError(
            f"{name!r} cannot be served: a state has {bytes_:,} bytes, at most {state_codec.MAX_BYTES:,}"
        )


class Predictor:
    """A network and the states of the entities that it follows.

    It has many methods because it is all that other packages may use of the model.
    """

    def __init__(
        self,
        net: network.Network,
        *,
        name: str,
        capacity: int = 1024,
        threads: int | None = None,
        precision: str = "int8",
    ) -> None:
        """`precision` is "int8": rounded keys and values, and compiled layers, in bfloat16 where the CPU has it; or
        "float32": everything exact, at four times the bytes and twice the time. The weights must not change afterwards,
        because compiled layers hold copies of them.
        """
        _check_servable(net.config, name, precision)
        if threads is not None:
            torch.set_num_threads(threads)
        self.config = net.config
        self.name = name
        self.fingerprint = checkpoint.fingerprint(net)
        self.version = self.fingerprint.hex()
        self.history = self.config.receptive_field + KALMAN_WARMUP + 1
        self._net = net.eval().requires_grad_(False)
        self.precision = precision
        self._pool = StatePool(self.config, capacity, precision)
        self._layers = layers.chosen(self._net, precision)
        self._warm()

    @classmethod
    def load(
        cls, weights: str | Path, *, capacity: int = 1024, threads: int | None = None, precision: str = "int8"
    ) -> Self:
        """Loads weights by bundled name or directory. Raises WeightsError."""
        net = checkpoint.from_pretrained(weights)
        return cls(net, name=net.config.name, capacity=capacity, threads=threads, precision=precision)

    @classmethod
    def untrained(cls, config: ModelConfig | None = None, *, seed: int = 0, capacity: int = 1024) -> Self:
        """Random weights under heads that are zero: forecasts are the Kalman filter's, fills the Hermite curve's."""
        return cls(network.build(config or SMALL, seed), name="untrained", capacity=capacity)

    @property
    def layers(self) -> str:
        """The implementation of the layers: "float32" (torch); or, where the CPU and the precision allow it, "bfloat16"
        or "float32, compiled".
        """
        return self._layers.name

    @property
    def instructions(self) -> str:
        """The CPU's vector instructions in compiled layers: "AVX-512" or "AVX2"; "none" where torch computes the
        layers.
        """
        return tiles.instructions()

    @property
    def capacity(self) -> int:
        """The number of slots in memory; it grows with `acquire`."""
        return self._pool.capacity

    @property
    def slot_bytes(self) -> int:
        """Bytes of memory of one entity's state, without its window and its names."""
        return self._pool.slot_bytes

    def acquire(self, n: int) -> Slots:
        """Returns n empty slots; the pool doubles when it is full."""
        return self._pool.acquire(n)

    def release(self, slots: Slots) -> None:
        self._pool.release(slots)

    def reset(self, slots: Slots) -> None:
        """Empties the slots in place."""
        self._pool.check(slots)
        self._pool.reset(slots)

    @torch.inference_mode()
    def advance(self, slots: Slots, fixes: NDArray[Any]) -> None:
        """Folds one fix per slot into its state, in place. Slots must be distinct; time must not run backwards."""
        pool, slots = self._pool, self._pool.check(slots)
        if fixes.dtype != FIX or fixes.shape != slots.shape:
            raise ValueError(f"fixes must be FIX records, one per slot, got {fixes.dtype} of {fixes.shape}")
        if not len(slots):
            return
        age = pool.age[slots]
        kin, x = step_compiled.step(pool.kin[slots], pool.last[slots], fixes, age, self.config)
        pool.put(slots, self._layers.step(x, age, fixes, pool.rings.rows(slots, age)), kin, fixes, age + 1)

    @torch.inference_mode()
    def rebuild(self, slots: Slots, windows: Sequence[NDArray[Any]]) -> None:
        """Resets the slots, then folds each whole window (FIX, oldest first, ragged, at least one fix each).

        A rebuilt state is equal, bit for bit, to one that folded that window ping by ping.
        """
        slots = self._pool.check(slots)
        if len(windows) != len(slots):
            raise ValueError(f"{len(windows)} windows for {len(slots)} slots")
        counts = np.array([len(window) for window in windows], np.int64)
        fixes = np.concatenate([np.zeros(0, FIX), *windows])
        if not counts.all():
            raise ValueError("a window needs at least one fix")
        self._pool.reset(slots)
        self._fold_several(slots, fixes, counts)

    @torch.inference_mode()
    def catch_up(self, slots: Slots, fixes: NDArray[Any], counts: NDArray[np.int64]) -> None:
        """Folds several fixes into each slot's state: the first counts[0] into slots[0], and so on, at least one each.

        The states are bit for bit those of single calls of `advance`, at lower cost, because only the last fix of each
        slot needs a hidden vector.
        """
        self._fold_several(self._several(slots, fixes, counts), fixes, counts)

    @torch.inference_mode()
    def answer(
        self, slots: Slots, fixes: NDArray[Any], counts: NDArray[np.int64], horizons_s: Sequence[float] | F64
    ) -> tuple[Forecasts, Moment]:
        """Folds several fixes into each slot's state, as `catch_up` does, and forecasts from each of them. Returns M
        rows, and the states at each fix.

        The results are bit for bit those of single calls of `advance` and `forecast`. Horizons are H, or M, H.
        """
        slots, horizons = self._several(slots, fixes, counts), checked_horizons(horizons_s, len(fixes))
        moment = self._fold_several(slots, fixes, counts, each=True)
        return self._forecasts(moment, np.array(fixes), horizons), moment

    @torch.inference_mode()
    def forecast(self, slots: Slots, horizons_s: Sequence[float] | F64) -> Forecasts:
        """Forecasts from each slot's last fix; changes nothing. Horizons are H for all rows, or N, H of each row's own.

        Raises ValueError for an empty slot or a horizon not above 0.
        """
        horizons = checked_horizons(horizons_s, len(slots))
        return self._forecasts(self.moment(slots), self._pool.last[slots], horizons)

    def _forecasts(self, moment: Moment, last: NDArray[Any], horizons_s: F64) -> Forecasts:
        kin, hidden = moment
        recent = forecast_compiled.interval(kin)
        dt, sound = forecast_compiled.times(kin, self._layers.interval(hidden, recent.features), recent, horizons_s)
        question = forecast_compiled.question(kin, dt, last, self.config)
        mean, cov = forecast_compiled.combined(self._layers.forecast(hidden, question.features), question)
        forecast_compiled.calibrate(mean, cov, sound, kin, last, dt, self._net.calibration)
        if not sound.all():
            mean, cov = replaced(mean, cov, baselines.damped_velocity(kin, dt, self.config), ~sound)
        lat, lon = forecast_compiled.moved(last, mean)
        now = dt[:, 0], mean[:, 0], lat[:, 0], lon[:, 0], cov[:, 0]
        return Forecasts(*now, lat[:, 1:], lon[:, 1:], cov[:, 1:], ~sound, *lateness.between(kin, dt[:, 0]))

    def fill(self, slots: Slots, asked: Sequence[Gap]) -> list[Fill]:
        """Returns positions inside gaps. The slot must have folded the fixes in `after` since the gap, and no later
        ones.
        """
        return self.fill_at(self.moment(slots), asked)

    def last(self, slots: Slots) -> NDArray[Any]:
        """Returns the last fix [N], FIX, that each slot has folded."""
        return np.asarray(self._pool.last[self._filled(slots)])

    def moment(self, slots: Slots) -> Moment:
        """Returns what `fill_at` needs of these slots in their present state."""
        slots = self._filled(slots)
        return Moment(self._pool.kin[slots], self._pool.hidden[slots])

    @torch.inference_mode()
    def fill_at(self, moment: Moment, asked: Sequence[Gap]) -> list[Fill]:
        """`fill` for slots that may have folded further fixes since: gaps of many moments cost little more than those
        of one.
        """
        if len(asked) != len(moment.kin):
            raise ValueError(f"{len(asked)} gaps for {len(moment.kin)} slots")
        if not len(asked):
            return []
        batch = gaps.stack(asked, motion.doubt(moment.kin))
        of, scale = batch.of, motion.speed_scale_mps(moment.kin)
        question = gapfill_compiled.question(batch.ends, batch.fixes_after, scale, of, batch.t_s, self.config)
        start = batch.start_lat[of], batch.start_lon[of]
        hidden, known = exact(moment.hidden)[torch.from_numpy(of)], network.asked(question, torch.float64)
        raw = self._net.fill_numbers(hidden, known, batch.ends.chord_en[of], *start)
        mean, cov = forecast_compiled.combined(raw.numpy(), question)
        sound = gapfill_compiled.calibrate(mean, cov, batch.ends.gap_s, of, batch.t_s, self._net.calibration)
        if not sound.all():
            mean, cov = replaced(mean, cov, motion.Law(question.base_en, question.base_var), ~sound[of])
        lat, lon = moved_deg(*start, mean[:, 0])
        stops = np.cumsum(np.bincount(of, minlength=len(asked))).tolist()
        return [
            Fill(lat[at:stop], lon[at:stop], cov[at:stop, 0], "model" if is_sound else "hermite")
            for at, stop, is_sound in zip([0, *stops], stops, sound.tolist(), strict=False)
        ]

    @torch.inference_mode()
    def travel_time(self, slots: Slots, lat_deg: F64, lon_deg: F64) -> TravelTimes:
        """Predicts the travel time from each slot's last fix to its own destination [N], as if it left now; changes
        nothing.

        Raises ValueError for an empty slot.
        """
        pool = self._pool
        slots = self._filled(slots)
        last = pool.last[slots]
        to = [np.rint(np.asarray(deg) * E7).astype(np.int64) for deg in (lat_deg, lon_deg)]
        question = queries.travel(pool.kin[slots], displacement_m(last["lat_e7"], last["lon_e7"], *to)[:, None])
        place = self._net.place(lat_deg[:, None], lon_deg[:, None])
        hidden = pool.hidden_of(slots)
        base = torch.from_numpy(question.base_log_s)
        log_s, scale = self._net.travel(hidden, torch.from_numpy(question.features).float(), base, place)
        scale = scale * torch.from_numpy(self._net.calibration.of_travel(pool.kin[slots], question.base_log_s))
        half = math.log(10) * scale  # for a Laplace distribution P(|x| > q) = e^(-q / scale)
        median, low, high = (np.asarray(x[:, 0].exp().numpy()) for x in (log_s, log_s - half, log_s + half))
        return TravelTimes(median, low, high)

    def dumps(self, slots: Slots) -> list[bytes]:
        """Returns the states as bytes. Slots that `loads` them continue exactly as these slots would."""
        pool = self._pool
        slots = self._filled(slots)
        filled = np.minimum(pool.age[slots], self.config.window)
        blobs: dict[int, bytes] = {}
        for n in np.unique(filled).tolist():  # states of one size are written together
            some = slots[filled == n]
            rings = pool.rings.first(some, n)
            states = State(pool.age[some], pool.last[some], pool.kin[some], pool.hidden[some], rings)
            blobs.update(zip(some.tolist(), state_codec.dumps_all(states, self.fingerprint), strict=True))
        return [blobs[slot] for slot in slots.tolist()]

    def loads(self, slots: Slots, blobs: Sequence[bytes]) -> None:
        """Puts states into slots: all of them or, when one raises StateCorrupt or StateMismatch, none."""
        pool = self._pool
        pool.check(slots)
        if len(blobs) != len(slots):
            raise ValueError(f"{len(blobs)} states for {len(slots)} slots")
        rows: dict[int, list[int]] = {}  # by size: states of one size are read together
        for row, blob in enumerate(blobs):
            rows.setdefault(len(blob), []).append(row)
        parts = [(slots[some], self._sound([blobs[row] for row in some])) for some in rows.values()]
        for some, state in parts:
            pool.rings.load(some, state.rings)
            pool.put(some, state.hidden, state.kin, state.last, state.age)

    def _sound(self, blobs: Sequence[bytes]) -> State:
        """Returns the states of blobs of one size, checked to be sound and possible. Raises StateCorrupt or
        StateMismatch.
        """
        how = self.config, self.fingerprint, self.precision
        states = state_codec.whole(blobs, *how)
        if states is None:
            for blob in blobs:
                state_codec.loads(blob, *how)  # raises for one of them
            raise AssertionError("states that are sound one by one, and not together")
        if not motion.possible(states.kin, self.config):
            raise StateCorrupt("a state whose filter no motion leaves like that: who wrote it?")
        return states

    def _several(self, slots: Slots, fixes: NDArray[Any], counts: NDArray[np.int64]) -> Slots:
        """Checks the slots, the fixes and the number of fixes per slot; returns the slots."""
        slots = self._pool.check(slots)
        if counts.shape != slots.shape or not (counts > 0).all():
            raise ValueError(f"each of {len(slots)} slots needs at least one fix, got counts {counts}")
        if fixes.dtype != FIX or fixes.shape != (counts.sum(),):
            raise ValueError(f"fixes must be {counts.sum()} FIX records, got {fixes.dtype} of {fixes.shape}")
        return slots

    def _fold_several(
        self, slots: Slots, fixes: NDArray[Any], counts: NDArray[np.int64], *, each: bool = False
    ) -> Moment:
        """Folds the fixes as rows of one step, those of a slot in order: each ping is written to a ring buffer before
        the next one reads it.

        Returns the results of the newest fix of every slot, or of `each` fix.
        """
        pool, stop = self._pool, np.cumsum(counts)
        made: list[Moment] = []
        at = 0
        while at < len(slots):
            begin = stop[at] - counts[at]
            upto = max(int(np.searchsorted(stop, begin + STEP_PINGS, side="right")), at + 1)
            some, count, part = slots[at:upto], counts[at:upto], fixes[begin : stop[upto - 1]]
            ends, begun = stop[at:upto] - begin, pool.age[some]
            age = np.arange(len(part)) - np.repeat(ends - count - begun, count)
            kin, x = step_compiled.scan(pool.kin[some], pool.last[some], ends, part, age, self.config)
            rings, newest = pool.rings.rows(np.repeat(some, count), age), ends - 1
            hidden = pool.kept(self._layers.step(x, age, part, rings, None if each else newest))
            pool.put(some, hidden[newest] if each else hidden, kin[newest], part[newest], begun + count)
            made.append(Moment(kin if each else kin[newest], hidden))
            at = upto
        return Moment.joined(made or [Moment(pool.kin[:0], pool.hidden[:0])])

    def _warm(self) -> None:
        """Makes each call once, so that everything is compiled before the first ping arrives."""
        slots = self.acquire(1)
        self.advance(slots, np.zeros(1, dtype=FIX))
        self.forecast(slots, (60.0,))
        start, end = np.zeros((2, 1), dtype=FIX)
        end["ts_ms"] = 1000
        self.fill(slots, [Gap(start, end, np.array([500]))])
        self.loads(slots, self.dumps(slots))
        self.release(slots)

    def _filled(self, slots: Slots) -> Slots:
        """Returns the slots after checking that each has folded a fix."""
        slots = self._pool.check(slots)
        if len(slots) and self._pool.age[slots].min() < 1:
            raise ValueError("a slot is empty: it has folded no fix yet")
        return slots
