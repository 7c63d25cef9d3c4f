"""The interface of the model: everything that `stream` may import of it, except `model.jit`. Pings go in, forecasts and
gap fills come out.

It is synchronous, and only one thread at a time may use a Predictor. Latitudes and longitudes are degrees or 1e-7 deg,
times int64 ms UTC; metres are local east and north from the row's last fix (its anchor).

Shapes: N rows (slots), H horizons, M fixes of several per row, or points of a gap.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from model.atlas.atlas import Atlas
from model.atlas.believing import UNFITTED
from model.atlas.published import Published
from model.atlas.version import AtlasError
from model.atlas.ways import Approach
from model.config import SMALL, ModelConfig
from model.kernels import tiles
from model.kinematics.features import ABSENT, FIX
from model.kinematics.geo import F64
from model.parameters.reading import Parameters, WeightsError, from_pretrained, resolve
from model.parameters.untrained import untrained
from model.serving import answers, folding, layers, state_codec
from model.serving.answers import Forecasts, Guide, Moment, check_horizons
from model.serving.gaps import Fill, Gap
from model.serving.kv_cache import PRECISIONS, Slots
from model.serving.passages.asking_compiled import answer_questions
from model.serving.passages.ways_compiled import approaches, approaches_of, set_approach
from model.serving.state_codec import StateCorrupt, StateError, StateMismatch
from model.serving.state_pool import StatePool

__all__ = [
    "ABSENT",
    "FINGERPRINT_AT",
    "FIX",
    "PRECISIONS",
    "Approach",
    "Atlas",
    "AtlasError",
    "Fill",
    "Forecasts",
    "Gap",
    "Guide",
    "ModelConfig",
    "Moment",
    "Parameters",
    "Predictor",
    "StateCorrupt",
    "StateError",
    "StateMismatch",
    "WeightsError",
    "answer_questions",
    "approaches",
    "approaches_of",
    "check_weights",
    "load_weights",
    "processor",
    "set_approach",
    "weights_folder",
]

FINGERPRINT_AT: Final = slice(8, 16)  # where a state says of which weights it is (model.serving.state_codec)

# Fixes after which the filter and the running means no longer depend on how they started, to 1e-5. A forecast is then
# the same except for float32 rounding; at five pings a second its covariance may differ by 2e-5. Each fix is 20 bytes
# of an entity.
KALMAN_WARMUP: Final = 52


def load_weights(weights: str | Path) -> Parameters:
    """Reads weights by bundled name or directory, and compiles nothing. Raises WeightsError if `Predictor.load`
    would.
    """
    found = from_pretrained(weights)
    _check_servable(found.config, found.config.name, "int8")
    return found


def weights_folder(weights: str | Path) -> Path:
    """Returns the directory of weights, given by bundled name or directory. Raises WeightsError."""
    return resolve(weights)


def check_weights(weights: str | Path) -> None:
    """Raises WeightsError if `Predictor.load` would."""
    load_weights(weights)


def _check_servable(config: ModelConfig, name: str, precision: str) -> None:
    if (reason := config.not_servable()) is not None:
        raise WeightsError(f"{name!r} cannot be served: {reason}")
    if (bytes_ := state_codec.size(config, config.window, precision)) > state_codec.MAX_BYTES:
        raise WeightsError(
            f"{name!r} cannot be served: a state has {bytes_:,} bytes, at most {state_codec.MAX_BYTES:,}"
        )


def processor() -> tuple[str, bool]:
    """Returns the widest vector instructions that compiled layers use here ("AVX-512", "AVX2" or "none"), and whether
    they multiply bfloat16.
    """
    return tiles.instructions(), tiles.multiplies_halves()


class Predictor:
    """A network and the states of the entities that it follows.

    It has many methods because it is all that other packages may use of the model.
    """

    def __init__(
        self,
        weights: Parameters,
        *,
        name: str,
        capacity: int = 1024,
        precision: str = "int8",
    ) -> None:
        """`precision` is "int8": rounded keys and values, and compiled layers, in bfloat16 where the CPU has it; or
        "float32": everything exact, at four times the bytes and several times the time.
        """
        _check_servable(weights.config, name, precision)
        self.config = weights.config
        self.name = name
        self.fingerprint = weights.fingerprint()
        self.version = self.fingerprint.hex()
        self.history = self.config.receptive_field + KALMAN_WARMUP + 1
        self.precision = precision
        self._pool = StatePool(self.config, capacity, precision)
        self._layers = layers.choose_layers(weights, precision)
        self._warm()

    @classmethod
    def load(cls, weights: str | Path, *, capacity: int = 1024, precision: str = "int8") -> Self:
        """Loads weights by bundled name or directory. Raises WeightsError."""
        found = from_pretrained(weights)
        return cls(found, name=found.config.name, capacity=capacity, precision=precision)

    @classmethod
    def untrained(cls, config: ModelConfig | None = None, *, seed: int = 0, capacity: int = 1024) -> Self:
        """Random weights under heads that are zero: forecasts are the Kalman filter's, fills the Hermite curve's."""
        return cls(untrained(config or SMALL, seed), name="untrained", capacity=capacity)

    @property
    def layers(self) -> str:
        """The implementation of the layers: "float32" (exact); or, where the CPU and the precision allow it, "bfloat16"
        or "float32, compiled".
        """
        return self._layers.name

    @property
    def instructions(self) -> str:
        """The CPU's vector instructions in compiled layers: "AVX-512" or "AVX2"; "none" where layers are
        exact loops.
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

    def occupy(self, slots: Slots) -> None:
        """Empties slots that the caller has numbered, so that several Predictors can number the same entities alike.
        Where it is used, `acquire` is not.
        """
        self._pool.occupy(slots)

    def vacate(self, slots: Slots) -> None:
        """Frees slots that were occupied."""
        self._pool.vacate(slots)

    def reset(self, slots: Slots) -> None:
        """Empties the slots in place."""
        self._pool.check(slots)
        self._pool.reset(slots)

    def advance(self, slots: Slots, fixes: NDArray[Any]) -> None:
        """Folds one fix per slot into its state, in place. Slots must be distinct; time must not run backwards."""
        slots = self._pool.check(slots)
        if fixes.dtype != FIX or fixes.shape != slots.shape:
            raise ValueError(f"fixes must be FIX records, one per slot, got {fixes.dtype} of {fixes.shape}")
        if len(slots):
            folding.fold(self._pool, self._layers, slots, fixes)

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
        folding.fold_several(self._pool, self._layers, slots, fixes, counts)

    def catch_up(self, slots: Slots, fixes: NDArray[Any], counts: NDArray[np.int64]) -> None:
        """Folds several fixes into each slot's state: the first counts[0] into slots[0], and so on, at least one each.

        The states are bit for bit those of single calls of `advance`, at lower cost, because only the last fix of each
        slot needs a hidden vector.
        """
        slots = self._several(slots, fixes, counts)
        folding.fold_several(self._pool, self._layers, slots, fixes, counts)

    def answer(
        self,
        slots: Slots,
        fixes: NDArray[Any],
        counts: NDArray[np.int64],
        horizons_s: Sequence[float] | F64,
        guide: Guide | None = None,
    ) -> tuple[Forecasts, Moment]:
        """Folds several fixes into each slot's state, as `catch_up` does, and forecasts from each of them. Returns M
        rows, and the states at each fix. `guide` has the atlas that each fix asks; no state depends on it.

        The results are bit for bit those of single calls of `advance` and `forecast`. Horizons are H, or M, H.
        """
        slots, horizons = self._several(slots, fixes, counts), check_horizons(horizons_s, len(fixes))
        moment = folding.fold_several(self._pool, self._layers, slots, fixes, counts, each=True)
        return answers.forecast(self._layers, moment, np.array(fixes), horizons, guide), moment

    def forecast(self, slots: Slots, horizons_s: Sequence[float] | F64, guide: Guide | None = None) -> Forecasts:
        """Forecasts from each slot's last fix; changes nothing. Horizons are H for all rows, or N, H of each row's own;
        `guide` has the atlas that each row asks.

        Raises ValueError for an empty slot or a horizon not above 0.
        """
        horizons = check_horizons(horizons_s, len(slots))
        return answers.forecast(self._layers, self.moment(slots), self._pool.last[slots], horizons, guide)

    def warm_atlas(self) -> None:
        """Compiles what reads an atlas, so that the first version costs no time when it comes."""
        slots = self.acquire(1)
        self.advance(slots, np.zeros(1, dtype=FIX))
        came = Approach.none(1)._replace(came=np.ones(1, np.bool_))
        guide = Guide([Atlas(Published.none(), UNFITTED, {}, "")], np.zeros(1, np.int64), came)
        start, end = np.zeros((2, 1), dtype=FIX)
        end["ts_ms"] = 1000
        self.forecast(slots, (60.0,), guide)
        self.fill_at(self.moment(slots), [Gap(start, end, np.array([500]))], guide)
        self.release(slots)

    def fill(self, slots: Slots, asked: Sequence[Gap]) -> list[Fill]:
        """Returns positions inside gaps. The slot must have folded the fixes in `after` since the gap, and no later
        ones.
        """
        return self.fill_at(self.moment(slots), asked)

    def last(self, slots: Slots) -> NDArray[Any]:
        """Returns the last fix [N], FIX, that each slot has folded."""
        return np.asarray(self._pool.last[self._pool.check_filled(slots)])

    def moment(self, slots: Slots) -> Moment:
        """Returns what `fill_at` needs of these slots in their present state."""
        slots = self._pool.check_filled(slots)
        return Moment(self._pool.kin[slots], self._pool.hidden[slots])

    def fill_at(self, moment: Moment, asked: Sequence[Gap], guide: Guide | None = None) -> list[Fill]:
        """`fill` for slots that may have folded further fixes since: gaps of many moments cost little more than those
        of one. `guide` has the atlas that each gap asks.
        """
        if len(asked) != len(moment.kin):
            raise ValueError(f"{len(asked)} gaps for {len(moment.kin)} slots")
        return answers.fill(self._layers, moment, asked, guide) if len(asked) else []

    def dumps(self, slots: Slots) -> list[bytes]:
        """Returns the states as bytes. Slots that `loads` them continue exactly as these slots would."""
        return self._pool.dumps(self._pool.check_filled(slots), self.fingerprint)

    def loads(self, slots: Slots, blobs: Sequence[bytes]) -> None:
        """Puts states into slots: all of them or, when one raises StateCorrupt or StateMismatch, none."""
        self._pool.check(slots)
        if len(blobs) != len(slots):
            raise ValueError(f"{len(blobs)} states for {len(slots)} slots")
        self._pool.loads(slots, blobs, self.fingerprint)

    def _several(self, slots: Slots, fixes: NDArray[Any], counts: NDArray[np.int64]) -> Slots:
        """Checks the slots, the fixes and the number of fixes per slot; returns the slots."""
        slots = self._pool.check(slots)
        if counts.shape != slots.shape or not (counts > 0).all():
            raise ValueError(f"each of {len(slots)} slots needs at least one fix, got counts {counts}")
        if fixes.dtype != FIX or fixes.shape != (counts.sum(),):
            raise ValueError(f"fixes must be {counts.sum()} FIX records, got {fixes.dtype} of {fixes.shape}")
        return slots

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
