"""The layers of the network in serving, exact and fast, behind one interface. Arrays go in and come out.

    Exact       the definitions in float32 (`model.serving.modules`): every CPU can run them
    Compiled    model.kernels.linear: the same layers in registers; their products are bfloat16 where the CPU has it,
                float32 elsewhere

Both guarantee what replays need: a state's bits do not depend on the other rows of its batches. Gap fills are exact,
whatever is chosen here.

Shapes: N rows, Q questions per row, F features, E features of a question, C = config.d, O numbers of an answer.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.kernels import linear, tiles
from model.kernels.bfloat16 import F32, narrow, widen
from model.kinematics import rotation
from model.kinematics.features import REPORTED
from model.kinematics.geo import F64, move_deg
from model.kinematics.map_cells import CELL_DIM
from model.kinematics.queries import Question
from model.parameters.reading import Parameters
from model.serving import forecast_compiled, step_compiled
from model.serving.kv_cache import Rows
from model.serving.modules import GapHead, Linear, Map, Norm, QueryHead, gelu

Hidden = NDArray[Any]  # vectors [N, C]: float32, or bfloat16 as uint16 (model.kernels.bfloat16), as a state stores them
Indices = NDArray[np.int64]  # indices of some rows


class Layers(ABC):
    """The network in serving: the trunk for one ping per row, and the heads."""

    def __init__(self, weights: Parameters, name: str) -> None:
        self.name, self.config = name, weights.config
        self.calibration = {kind: weights[f"calibration.{kind}"].astype(np.float64) for kind in ("forecast", "gap")}
        self._map = Map(weights) if self.config.places else None
        self._gap = GapHead(weights)
        self._turns = rotation.table(self.config.head_dim)
        self._time_turns = rotation.time_turns(self.config.head_dim)

    @abstractmethod
    def step(
        self, x: F32, age: NDArray[np.int64], fixes: NDArray[Any], rings: Rows, asked: Indices | None = None
    ) -> Hidden:
        """Returns the hidden vectors for features x [N, F] of fixes [N], N at least 1, each after `age` [N] earlier
        pings; or those of the `asked` rows alone, at least 1, so that the other rows skip the rest of the last block.
        """

    @abstractmethod
    def interval(self, hidden: Hidden, asked: NDArray[Any]) -> F32:
        """`model.network.heads.IntervalHead` for features [N, E]: returns numbers [N, O]."""

    @abstractmethod
    def forecast(self, hidden: Hidden, asked: NDArray[Any]) -> F32:
        """`model.network.heads.ForecastHead` for questions [N, Q, E]: returns numbers [N, Q, O]."""

    def fill(self, hidden: Hidden, question: Question, chord_en: F64, lat_deg: F64, lon_deg: F64) -> F32:
        """`Network.fill_numbers` for questions [N, Q] about gaps that begin at lat_deg, lon_deg [N]."""
        map_ = self._map

        def look(en: F64) -> F32:
            assert map_ is not None, "a head without a map never calls this"
            return map_.at(*move_deg(lat_deg[..., None], lon_deg[..., None], en))

        ends_en = np.stack([np.zeros_like(chord_en), chord_en], axis=-2)
        return self._gap.numbers(
            _exact(hidden),
            question.features,
            ends_en,
            question.base_en,
            lambda raw: forecast_compiled.combined(raw, question)[0],
            None if map_ is None else look,
        )

    def _cos_sin(self, age: NDArray[np.int64], fixes: NDArray[Any]) -> F32 | None:
        """Returns the angles [N, 2, D/2] by which queries and keys are rotated; None where nothing is."""
        if self.config.positions == "rope":
            return rotation.of_index(age, self._turns)
        if self.config.positions == "time-rope":
            return rotation.of_time(fixes["ts_ms"], self._time_turns)
        return None


class Exact(Layers):
    """The definitions, in float32."""

    def __init__(self, weights: Parameters) -> None:
        super().__init__(weights, "float32")
        self._embed, self._report = Linear.of(weights, "trunk.embed"), Linear.of(weights, "trunk.report")
        self._blocks = [_Block(weights, f"trunk.blocks.{block}") for block in range(self.config.blocks)]
        self._norm = Norm.of(weights, "trunk.norm")
        self._hidden, self._recent, self._last = (
            Linear.of(weights, f"interval.{part}") for part in ("hidden", "recent", "last")
        )
        self._forecast = QueryHead(weights, "forecast")
        self._aside, self._aside_question, self._aside_last = (
            Linear.of(weights, f"forecast.beside.{part}") for part in ("from_hidden", "from_question", "last")
        )

    def step(
        self, x: F32, age: NDArray[np.int64], fixes: NDArray[Any], rings: Rows, asked: Indices | None = None
    ) -> Hidden:
        stream = self._embed(x[:, REPORTED:]) + self._report(x[:, :REPORTED])
        if self._map is not None:
            stream = stream + self._map.vectors(*step_compiled.find(self._map.keys, fixes))
        cos_sin = self._cos_sin(age, fixes)
        for i, block in enumerate(self._blocks):
            some = asked if i == len(self._blocks) - 1 else None
            attended = rings.attend(i, block.qkv(block.norm_attention(stream)), cos_sin, some)
            if some is not None:
                stream, attended = stream[some], attended[some]
            stream = stream + block.out(attended)
            stream = stream + block.down(gelu(block.up(block.norm_mlp(stream))))
        return self._norm(stream)

    def interval(self, hidden: Hidden, asked: NDArray[Any]) -> F32:
        return self._last(gelu(self._hidden(_exact(hidden)) + self._recent(asked)))

    def forecast(self, hidden: Hidden, asked: NDArray[Any]) -> F32:
        hidden = _exact(hidden)
        numbers = self._forecast.out(self._forecast.project(hidden, asked))
        beside = self._aside_last(gelu(self._aside(hidden)[:, None] + self._aside_question(asked)))
        known = len(self._forecast.from_question.weight)  # the input that is 1 where a velocity is reported, else 0
        share = asked[..., known, None].astype(np.float32)
        return np.pad(numbers, ((0, 0), (0, 0), (0, 1))) + beside * share


class _Block:
    def __init__(self, weights: Parameters, name: str) -> None:
        self.norm_attention, self.norm_mlp = (Norm.of(weights, f"{name}.{n}") for n in ("norm_attention", "norm_mlp"))
        self.qkv, self.out, self.up, self.down = (
            Linear.of(weights, f"{name}.{n}") for n in ("qkv", "out", "up", "down")
        )


class Compiled(Layers):
    """The same layers in model.kernels.linear. The weights are copied when this is created."""

    def __init__(self, weights: Parameters, *, halves: bool) -> None:
        super().__init__(weights, "bfloat16" if halves else "float32, compiled")
        c, self._halves, seen = self.config, halves, 2 if halves else 1
        self._weights, self._width = weights, c.d + 2 * c.head_dim
        self._table = np.zeros((0, CELL_DIM), np.float32) if self._map is None else self._map.table
        embed = [np.concatenate([weights["trunk.report.weight"], weights["trunk.embed.weight"]], axis=1)] * seen
        bias = weights["trunk.embed.bias"]
        if self._map is not None:
            embed, bias = [*embed, weights["trunk.places.out.weight"]], bias + weights["trunk.places.out.bias"]
        self._embed = self._pack(np.concatenate(embed, axis=1)), bias[None]
        self._blocks = [self._block(f"trunk.blocks.{block}") for block in range(c.blocks)]
        self._norm = weights["trunk.norm.weight"], weights["trunk.norm.bias"]
        interval = (weights[f"interval.{name}"] for name in ("recent.weight", "last.weight", "last.bias"))
        self._interval = (*self._layer("interval.hidden"), *interval)
        question, report = (weights[f"forecast.{name}.weight"] for name in ("from_question", "from_report"))
        asked = np.concatenate([question, report], axis=1)
        beside = "forecast.beside"
        self._outputs = len(weights[f"{beside}.last.bias"])
        bias = weights["forecast.last.bias"]
        self._forecast = (
            *self._layer("forecast.from_hidden"),
            self._pack(np.concatenate([asked] * seen, axis=1)),
            *self._layer("forecast.middle"),
            self._pack(weights["forecast.last.weight"]),
            np.pad(bias, (0, self._outputs - len(bias)))[None],
            *self._layer(f"{beside}.from_hidden"),
            np.ascontiguousarray(weights[f"{beside}.from_question.weight"].T),
            weights[f"{beside}.last.weight"],
            weights[f"{beside}.last.bias"],
            question.shape[1],  # the input that is 1 where a velocity is reported, else 0
        )

    def step(
        self, x: F32, age: NDArray[np.int64], fixes: NDArray[Any], rings: Rows, asked: Indices | None = None
    ) -> Hidden:
        row, share = np.empty((len(x), 0), np.int64), np.empty((len(x), 0), np.float32)
        if self._map is not None:
            row, share = step_compiled.find(self._map.keys, fixes)
        stream = np.empty((len(x), self.config.d), np.float32)
        linear.enter(x, row, share, self._table, *self._embed, stream)
        cos_sin = self._cos_sin(age, fixes)
        qkv = np.empty((len(x), self._width), np.float32)
        for i, (project, mix) in enumerate(self._blocks):
            linear.project(stream, *project, qkv)
            some = asked if i == len(self._blocks) - 1 else None
            attended = rings.attend(i, qkv, cos_sin, some)
            if some is not None:
                stream, attended = stream[some], attended[some]
            linear.mix(stream, attended, *mix)
        hidden: Hidden = np.empty(stream.shape, np.uint16 if self._halves else np.float32)
        linear.leave(stream, *self._norm, hidden)
        return hidden

    def interval(self, hidden: Hidden, asked: NDArray[Any]) -> F32:
        out = np.empty((len(hidden), len(self._interval[-1])), np.float32)
        linear.interval(self._multiply(hidden), asked, *self._interval, out)
        return out

    def forecast(self, hidden: Hidden, asked: NDArray[Any]) -> F32:
        out = np.empty((*asked.shape[:2], self._outputs), np.float32)
        linear.answer(self._multiply(hidden), asked.astype(np.float32, copy=False), *self._forecast, out)
        return out

    def _multiply(self, hidden: Hidden) -> Hidden:
        """Returns the hidden vectors in the dtype of the heads' products."""
        if self._halves:
            return hidden if hidden.dtype == np.uint16 else narrow(hidden)
        return hidden if hidden.dtype == np.float32 else widen(hidden)

    def _block(self, name: str) -> tuple[tuple[NDArray[Any], ...], tuple[NDArray[Any], ...]]:
        """Returns the weights of a block as arguments of `linear.project` and `linear.mix`."""
        w = self._weights
        norms = [(w[f"{name}.{norm}.weight"], w[f"{name}.{norm}.bias"]) for norm in ("norm_attention", "norm_mlp")]
        qkv, out = (self._pack(w[f"{name}.{layer}.weight"]) for layer in ("qkv", "out"))
        return (*norms[0], qkv), (out, *norms[1], *self._layer(f"{name}.up"), *self._layer(f"{name}.down"))

    def _layer(self, name: str) -> tuple[NDArray[Any], F32]:
        return self._pack(self._weights[f"{name}.weight"]), self._weights[f"{name}.bias"][None]

    def _pack(self, weight: F32) -> NDArray[Any]:
        return linear.pack_tiles(weight, halves=self._halves)


def choose_layers(weights: Parameters, precision: str) -> Layers:
    """Returns the exact layers for "float32", else the fastest that this CPU supports."""
    if precision == "float32" or not tiles.fuses():
        return Exact(weights)
    return Compiled(weights, halves=tiles.multiplies_halves())


def _exact(hidden: Hidden) -> F32:
    """Returns hidden vectors in float32."""
    return widen(hidden) if hidden.dtype == np.uint16 else hidden
