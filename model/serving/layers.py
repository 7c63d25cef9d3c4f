"""The two implementations of the network's layers in serving, exact and fast, behind one interface.

    Float32     the torch modules themselves: exact, and available on every CPU
    Compiled    model.kernels.linear: the same layers without torch's overhead per layer; their products are
                bfloat16 where the CPU has it, float32 elsewhere

Both guarantee what replays need: a state's bits do not depend on the other rows of its batches. Training, gap fills and
travel times run the torch modules, whatever is chosen here.

Shapes: N rows, Q questions per row, F features, E features of a question, C = config.d, O numbers of an answer.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from model.kernels import linear, tiles
from model.kernels.bfloat16 import F32, narrowed, widened
from model.kinematics.geo import F64
from model.kinematics.map_cells import CELL_DIM
from model.kinematics.queries import Question, Travel
from model.network import network
from model.network.network import Network
from model.network.transformer import Block, Indices
from model.serving import step_compiled
from model.serving.kv_cache import Rows

# torch computes rows beyond a multiple of four on another path, whose last bit differs; on CPUs with registers of 512
# bits, products of 4, 8 or 12 rows differ too. Then what int8 rounds would differ, and, through the interval's last
# layer, a last digit of what is published. In batches of whole sixteens a row's numbers do not depend on the rest of
# the batch, and neither do replays; one ping costs some 20 to 30 % more. Compiled layers do not need this.
ROWS: Final = 16

Hidden = NDArray[Any]  # vectors [N, C]: float32, or bfloat16 as uint16 (model.kernels.bfloat16), as a state stores them


class Layers(ABC):
    """The network in serving: the trunk for one ping per row, and the heads. Arrays come in and go out, no tensors."""

    def __init__(self, net: Network, name: str) -> None:
        self.name, self.config, self.calibration = name, net.config, net.calibration
        self._net = net

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

    @torch.inference_mode()
    def fill(self, hidden: Hidden, question: Question, chord_en: F64, lat_deg: F64, lon_deg: F64) -> F32:
        """`Network.fill_numbers` for questions [N, Q] about gaps that begin at lat_deg, lon_deg [N]."""
        asked = network.asked(question, torch.float64)
        return np.asarray(self._net.fill_numbers(_exact(hidden), asked, chord_en, lat_deg, lon_deg).numpy())

    @torch.inference_mode()
    def travel(self, hidden: Hidden, kin: F64, question: Travel, lat_deg: F64, lon_deg: F64) -> tuple[F64, F64, F64]:
        """Returns the median of the travel times [N] to lat_deg, lon_deg [N] in seconds, and the ends of their
        calibrated 90 % intervals.
        """
        place = self._net.place(lat_deg[:, None], lon_deg[:, None])
        features, base_log_s = torch.from_numpy(question.features).float(), torch.from_numpy(question.base_log_s)
        log_s, scale = self._net.travel(_exact(hidden), features, base_log_s, place)
        scale = scale * torch.from_numpy(self.calibration.of_travel(kin, question.base_log_s))
        half = math.log(10) * scale  # for a Laplace distribution P(|x| > q) = e^(-q / scale)
        median, low, high = (np.asarray(x[:, 0].exp().numpy()) for x in (log_s, log_s - half, log_s + half))
        return median, low, high


class Float32(Layers):
    """The torch modules."""

    def __init__(self, net: Network) -> None:
        super().__init__(net, "float32")

    @torch.inference_mode()
    def step(
        self, x: F32, age: NDArray[np.int64], fixes: NDArray[Any], rings: Rows, asked: Indices | None = None
    ) -> Hidden:
        trunk, rows = self._net.trunk, _enough(len(x))
        found = None if trunk.places is None else step_compiled.find(trunk.places, fixes[rows])
        some = None if asked is None else asked[_enough(len(asked))]
        ages, now = torch.from_numpy(age[rows]), times(self._net, fixes[rows])
        hidden = trunk.step(torch.from_numpy(x[rows]), ages, rings, found, now, some)
        return np.asarray(hidden[: len(x if asked is None else asked)].numpy())

    @torch.inference_mode()
    def interval(self, hidden: Hidden, asked: NDArray[Any]) -> F32:
        question = torch.from_numpy(asked[_enough(len(asked))])
        return np.asarray(self._net.interval(_whole(hidden), question)[: len(hidden)].numpy())

    @torch.inference_mode()
    def forecast(self, hidden: Hidden, asked: NDArray[Any]) -> F32:
        question = torch.from_numpy(asked[_enough(len(asked))]).float()
        return np.asarray(self._net.forecast(_whole(hidden), question)[: len(hidden)].numpy())


class Compiled(Layers):
    """The same layers in model.kernels.linear. The weights are copied when this is created."""

    def __init__(self, net: Network, *, halves: bool) -> None:
        super().__init__(net, "bfloat16" if halves else "float32, compiled")
        self._width, self._halves = net.config.d + 2 * net.config.kv_dim, halves
        trunk, head, interval, seen = net.trunk, net.forecast, net.interval, 2 if halves else 1
        self._table = np.zeros((0, CELL_DIM), np.float32)
        embed = [np.concatenate([_numbers(part.weight) for part in (trunk.report, trunk.embed)], axis=1)] * seen
        bias = _numbers(trunk.embed.bias)
        if trunk.places is not None:
            self._table = _numbers(trunk.places.table)
            embed, bias = [*embed, _numbers(trunk.places.out.weight)], bias + _numbers(trunk.places.out.bias)
        self._embed = self._packed(np.concatenate(embed, axis=1)), bias[None]
        self._blocks = [self._block(block) for block in trunk.blocks if isinstance(block, Block)]
        self._norm = _numbers(trunk.norm.weight), _numbers(trunk.norm.bias)
        recent, last = _numbers(interval.recent.weight), _numbers(interval.last.weight)
        self._interval = *self._layer(interval.hidden), recent, last, _numbers(interval.last.bias)
        asked = np.concatenate([_numbers(part.weight) for part in (head.from_question, head.from_report)], axis=1)
        beside = head.beside
        self._outputs = beside.last.out_features
        self._forecast = (
            *self._layer(head.from_hidden),
            self._packed(np.concatenate([asked] * seen, axis=1)),
            *self._layer(head.middle),
            self._packed(_numbers(head.last.weight)),
            np.pad(_numbers(head.last.bias), (0, self._outputs - head.last.out_features))[None],
            *self._layer(beside.from_hidden),
            np.ascontiguousarray(_numbers(beside.from_question.weight).T),
            _numbers(beside.last.weight),
            _numbers(beside.last.bias),
            beside.known,
        )

    @torch.inference_mode()
    def step(
        self, x: F32, age: NDArray[np.int64], fixes: NDArray[Any], rings: Rows, asked: Indices | None = None
    ) -> Hidden:
        row, share = np.empty((len(x), 0), np.int64), np.empty((len(x), 0), np.float32)
        if self._net.trunk.places is not None:
            row, share = (found.numpy() for found in step_compiled.find(self._net.trunk.places, fixes))
        stream = np.empty((len(x), self._net.config.d), np.float32)
        linear.enter(x, row, share, self._table, *self._embed, stream)
        cos_sin = self._net.trunk.positions.angles(torch.from_numpy(age), times(self._net, fixes))
        qkv = np.empty((len(x), self._width), np.float32)
        for i, (project, mix) in enumerate(self._blocks):
            linear.project(stream, *project, qkv)
            some = asked if i == len(self._blocks) - 1 else None
            attended = rings.attend(i, torch.from_numpy(qkv), cos_sin, some).numpy()
            if some is not None:
                stream, attended = stream[some], attended[some]
            linear.mix(stream, attended, *mix)
        hidden: Hidden = np.empty(stream.shape, np.uint16 if self._halves else np.float32)
        linear.leave(stream, *self._norm, hidden)
        return hidden

    def interval(self, hidden: Hidden, asked: NDArray[Any]) -> F32:
        out = np.empty((len(hidden), len(self._interval[-1])), np.float32)
        linear.interval(self._multiplied(hidden), asked, *self._interval, out)
        return out

    def forecast(self, hidden: Hidden, asked: NDArray[Any]) -> F32:
        out = np.empty((*asked.shape[:2], self._outputs), np.float32)
        linear.answer(self._multiplied(hidden), asked.astype(np.float32, copy=False), *self._forecast, out)
        return out

    def _multiplied(self, hidden: Hidden) -> Hidden:
        """Returns the hidden vectors in the dtype of the heads' products."""
        if self._halves:
            return hidden if hidden.dtype == np.uint16 else narrowed(hidden)
        return hidden if hidden.dtype == np.float32 else widened(hidden)

    def _block(self, block: Block) -> tuple[tuple[NDArray[Any], ...], tuple[NDArray[Any], ...]]:
        """Returns the weights of a block as arguments of `linear.project` and `linear.mix`."""
        norms = [(_numbers(norm.weight), _numbers(norm.bias)) for norm in (block.norm_attention, block.norm_mlp)]
        qkv, out = (self._packed(_numbers(layer.weight)) for layer in (block.qkv, block.out))
        return (*norms[0], qkv), (out, *norms[1], *self._layer(block.up), *self._layer(block.down))

    def _layer(self, layer: nn.Linear) -> tuple[NDArray[Any], F32]:
        return self._packed(_numbers(layer.weight)), _numbers(layer.bias)[None]

    def _packed(self, weight: F32) -> NDArray[Any]:
        return linear.packed(weight, halves=self._halves)


def chosen(net: Network, precision: str, threads: int | None = None) -> Layers:
    """Returns the exact layers for "float32", else the fastest that this CPU supports. `threads` are torch's."""
    if threads is not None:
        torch.set_num_threads(threads)
    if precision == "float32" or not tiles.fuses():
        return Float32(net)
    return Compiled(net, halves=tiles.multiplies_halves())


def times(net: Network, fixes: NDArray[Any]) -> Tensor | None:
    """Returns the times by which time-RoPE rotates. They are a copy, because torch accepts no view into packed
    records.
    """
    return torch.from_numpy(np.array(fixes["ts_ms"])) if net.config.positions == "time-rope" else None


def _enough(rows: int) -> NDArray[np.int64]:
    """Returns the indices of a batch's rows, with the last one repeated up to a multiple of ROWS; an empty batch stays
    empty.
    """
    return np.minimum(np.arange(-(-rows // ROWS) * ROWS), rows - 1)


def _whole(hidden: Hidden) -> Tensor:
    """Returns the hidden vectors in float32, padded to a multiple of ROWS."""
    return _exact(hidden[_enough(len(hidden))])


def _exact(hidden: Hidden) -> Tensor:
    """Converts hidden vectors to float32."""
    return torch.from_numpy(widened(hidden) if hidden.dtype == np.uint16 else hidden)


def _numbers(weight: Tensor) -> F32:
    return np.ascontiguousarray(weight.detach().float().numpy())
