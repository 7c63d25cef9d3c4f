"""The door: everything that `stream` may import of the model, beside `model.jit`. Pings in, forecasts and gap fills
out.

Synchronous and thread-confined: one thread at a time uses a Predictor. Latitudes and longitudes are degrees or
1e-7 deg, times int64 ms UTC; metres are local east and north from the row's last fix (its anchor).

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

# Fixes after which the filter and the running means have forgotten how they began, to 1e-5. A forecast is the same then
# but for a rounding of float32; at five pings a second its covariance may move by 2e-5. Each is 20 bytes of an entity.
KALMAN_WARMUP: Final = 52
# Pings of a step, at most: what 2,048 leave between layers is too much for the nearest caches, and 256 pay for their
# calls (14.4 µs each; 512, 1,024 and 2,048 at once 13.5, 13.2 and 14.1; `small`, medians of six on a loaded machine).
STEP_PINGS: Final = 1024


def check_weights(weights: str | Path) -> None:
    """Read weights by bundled name or directory, and compile nothing. Raises WeightsError if `Predictor.load` would."""
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
    """A network and the states of the entities that it follows."""

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
        "float32": all exact, at four times the bytes and twice the time. The weights are taken as they are now.
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
        """Weights by bundled name or directory. Raises WeightsError."""
        net = checkpoint.from_pretrained(weights)
        return cls(net, name=net.config.name, capacity=capacity, threads=threads, precision=precision)

    @classmethod
    def untrained(cls, config: ModelConfig | None = None, *, seed: int = 0, capacity: int = 1024) -> Self:
        """Random weights under zero heads: forecasts are the Kalman filter's, fills the Hermite curve's."""
        return cls(network.build(config or SMALL, seed), name="untrained", capacity=capacity)

    @property
    def layers(self) -> str:
        """What computes them: "float32" (torch); or, where the CPU and the precision allow it, "bfloat16" or "float32,
        compiled"."""
        return self._layers.name

    @property
    def instructions(self) -> str:
        """The CPU's vectors that compiled layers use: "AVX-512", "AVX2", or "none", and then torch computes them."""
        return tiles.instructions()

    @property
    def capacity(self) -> int:
        """How many slots there is room for; it grows with `acquire`."""
        return self._pool.capacity

    @property
    def slot_bytes(self) -> int:
        """Of memory that one entity's state takes, window and names not counted."""
        return self._pool.slot_bytes

    def acquire(self, n: int) -> Slots:
        """n empty slots; the pool doubles when it is full."""
        return self._pool.acquire(n)

    def release(self, slots: Slots) -> None:
        self._pool.release(slots)

    def reset(self, slots: Slots) -> None:
        """Empty the slots in place."""
        self._pool.check(slots)
        self._pool.reset(slots)

    @torch.inference_mode()
    def advance(self, slots: Slots, fixes: NDArray[Any]) -> None:
        """Fold one fix per slot into its state, in place. Slots must be distinct; time must not run backwards."""
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
        """Reset the slots, then fold each whole window (FIX, oldest first, ragged, at least one fix each).

        A state that was rebuilt is, to the bit, the one that had folded that window ping by ping.
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
        """Fold several fixes into each slot's state: the first counts[0] into slots[0], and so on, at least one each.

        To the bit what `advance` makes of them one after the other, for less: nothing is asked of any but the last.
        """
        self._fold_several(self._several(slots, fixes, counts), fixes, counts)

    @torch.inference_mode()
    def answer(
        self, slots: Slots, fixes: NDArray[Any], counts: NDArray[np.int64], horizons_s: Sequence[float] | F64
    ) -> tuple[Forecasts, Moment]:
        """Fold several fixes into each slot's state, as `catch_up` does, and forecast from each of them: M rows, and
        the states as they were then.

        To the bit what `advance` and `forecast` make of them one after the other. Horizons are H, or M, H.
        """
        slots, horizons = self._several(slots, fixes, counts), checked_horizons(horizons_s, len(fixes))
        moment = self._fold_several(slots, fixes, counts, each=True)
        return self._forecasts(moment, np.array(fixes), horizons), moment

    @torch.inference_mode()
    def forecast(self, slots: Slots, horizons_s: Sequence[float] | F64) -> Forecasts:
        """From each slot's last fix; changes nothing. Horizons are H for all rows, or N, H of each row's own.

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
        """Positions inside gaps. The slot must have folded the fixes in `after` since the gap, and none beyond them."""
        return self.fill_at(self.moment(slots), asked)

    def last(self, slots: Slots) -> NDArray[Any]:
        """The fix [N], FIX, that each slot has folded last."""
        return np.asarray(self._pool.last[self._filled(slots)])

    def moment(self, slots: Slots) -> Moment:
        """What `fill_at` needs to know of these slots, as they are now."""
        slots = self._filled(slots)
        return Moment(self._pool.kin[slots], self._pool.hidden[slots])

    @torch.inference_mode()
    def fill_at(self, moment: Moment, asked: Sequence[Gap]) -> list[Fill]:
        """`fill` of slots that have gone on since: gaps of many moments cost little more than those of one."""
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
        """From each slot's last fix to a destination [N] of its own, as if it left now; changes nothing.

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
        half = math.log(10) * scale  # of a Laplace: P(|x| > q) = e^(-q / scale)
        median, low, high = (np.asarray(x[:, 0].exp().numpy()) for x in (log_s, log_s - half, log_s + half))
        return TravelTimes(median, low, high)

    def dumps(self, slots: Slots) -> list[bytes]:
        """The states as bytes. `loads` of them continues exactly as these slots would."""
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
        """Put states into slots, all of them or, when one raises StateCorrupt or StateMismatch, none."""
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
        """Of one size, sound and possible, all in one. Raises StateCorrupt or StateMismatch."""
        how = self.config, self.fingerprint, self.precision
        states = state_codec.whole(blobs, *how)
        if states is None:
            for blob in blobs:
                state_codec.loads(blob, *how)  # raises of one of them
            raise AssertionError("states that are sound one by one, and not together")
        if not motion.possible(states.kin, self.config):
            raise StateCorrupt("a state whose filter no motion leaves like that: who wrote it?")
        return states

    def _several(self, slots: Slots, fixes: NDArray[Any], counts: NDArray[np.int64]) -> Slots:
        """The slots, checked, which are to fold so many of the fixes each."""
        slots = self._pool.check(slots)
        if counts.shape != slots.shape or not (counts > 0).all():
            raise ValueError(f"each of {len(slots)} slots needs at least one fix, got counts {counts}")
        if fixes.dtype != FIX or fixes.shape != (counts.sum(),):
            raise ValueError(f"fixes must be {counts.sum()} FIX records, got {fixes.dtype} of {fixes.shape}")
        return slots

    def _fold_several(
        self, slots: Slots, fixes: NDArray[Any], counts: NDArray[np.int64], *, each: bool = False
    ) -> Moment:
        """As rows of one step, a slot's in order: a ring has taken a ping in before the next one asks it.

        Returns what follows from the newest fix of every slot, or from `each` fix.
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
        """One of each, so that what is compiled is compiled before the first ping comes."""
        slots = self.acquire(1)
        self.advance(slots, np.zeros(1, dtype=FIX))
        self.forecast(slots, (60.0,))
        start, end = np.zeros((2, 1), dtype=FIX)
        end["ts_ms"] = 1000
        self.fill(slots, [Gap(start, end, np.array([500]))])
        self.loads(slots, self.dumps(slots))
        self.release(slots)

    def _filled(self, slots: Slots) -> Slots:
        """The slots, checked."""
        slots = self._pool.check(slots)
        if len(slots) and self._pool.age[slots].min() < 1:
            raise ValueError("a slot is empty: it has folded no fix yet")
        return slots
