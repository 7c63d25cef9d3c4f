"""Modules of the network as functions of arrays, in float32: layers, the map, and the head of gap fills.
`model.network` has the same modules for training, and tests/model/serving/test_modules.py holds these to them.

Shapes: ... any batch, Q queries per row, C = config.d, E features of a question, O numbers of an answer, P places.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.kernels import exact
from model.kinematics.geo import F64
from model.kinematics.map_cells import CELL_DIM, CORNERS, ZOOMS, find
from model.parameters.reading import Parameters
from model.parameters.shapes import KEYS

F32 = NDArray[np.float32]
# Returns the map's vectors [..., P, C] at positions [..., P, 2], in metres from the fix before the gap.
Look = Callable[[F64], F32]


@dataclass(frozen=True, eq=False)
class Linear:
    """`torch.nn.Linear`."""

    weight: F32  # [K, M]: transposed
    bias: F32

    @classmethod
    def of(cls, parameters: Parameters, name: str) -> Linear:
        weight = np.ascontiguousarray(parameters[f"{name}.weight"].T)
        bias = parameters.tensors.get(f"{name}.bias")
        return cls(weight, np.zeros(weight.shape[1], np.float32) if bias is None else bias)

    def __call__(self, x: NDArray[Any]) -> F32:
        """Maps x [..., K] to [..., M]."""
        rows = np.ascontiguousarray(x.reshape(-1, len(self.weight)), np.float32)
        out = np.empty((len(rows), len(self.bias)), np.float32)
        exact.linear_into(rows, self.weight, self.bias, out)
        return out.reshape(*x.shape[:-1], len(self.bias))


@dataclass(frozen=True, eq=False)
class Norm:
    """`torch.nn.LayerNorm`."""

    gain: F32
    shift: F32

    @classmethod
    def of(cls, parameters: Parameters, name: str) -> Norm:
        return cls(parameters[f"{name}.weight"], parameters[f"{name}.bias"])

    def __call__(self, x: F32) -> F32:
        """Maps x [N, C] to [N, C]."""
        out = np.empty(x.shape, np.float32)
        exact.norm_into(np.ascontiguousarray(x), self.gain, self.shift, out)
        return out


def gelu(x: F32) -> F32:
    """Maps x [..., M] to [..., M]."""
    rows = np.ascontiguousarray(x).reshape(-1, x.shape[-1])
    out = np.empty(rows.shape, np.float32)
    exact.gelu_into(rows, out)
    return out.reshape(x.shape)


class Map:
    """`model.network.places.Places`."""

    def __init__(self, parameters: Parameters) -> None:
        self.keys = parameters[KEYS]
        self.table: F32 = parameters["trunk.places.table"]
        self.out = Linear.of(parameters, "trunk.places.out")

    def at(self, lat_deg: F64, lon_deg: F64) -> F32:
        """Returns the vectors [..., C] of positions [...]; NaN means no position."""
        return self.vectors(*find(self.keys, lat_deg, lon_deg))

    def vectors(self, row: NDArray[np.int64], share: F32) -> F32:
        """Returns the vectors [..., C] of rows of the table with their weights [..., J]."""
        levels = (*row.shape[:-1], len(ZOOMS), CORNERS)
        parts = share.reshape(levels)
        vector = np.einsum("...jd,...j->...d", self.table[row.reshape(levels)], parts)
        known = np.concatenate([vector, parts.sum(-1, keepdims=True)], axis=-1)
        return self.out(known.reshape(*row.shape[:-1], len(ZOOMS) * (CELL_DIM + 1)))


class QueryHead:
    """`model.network.heads.QueryHead`."""

    def __init__(self, parameters: Parameters, name: str) -> None:
        self.from_hidden = Linear.of(parameters, f"{name}.from_hidden")
        self.from_question = Linear.of(parameters, f"{name}.from_question")
        self.from_report = Linear.of(parameters, f"{name}.from_report")
        self.middle, self.last = (Linear.of(parameters, f"{name}.{part}") for part in ("middle", "last"))

    def project(self, hidden: F32, question: NDArray[Any]) -> F32:
        """Returns the sum of the projections [..., Q, 2C] of hidden [..., C] and question [..., Q, E]."""
        asked = len(self.from_question.weight)
        asked_of = self.from_question(question[..., :asked]) + self.from_report(question[..., asked:])
        return np.asarray(self.from_hidden(hidden)[..., None, :] + asked_of)

    def out(self, x: F32) -> F32:
        """Returns the numbers [..., O] for the projections [..., 2C]."""
        return self.last(gelu(self.middle(gelu(x))))


class GapHead(QueryHead):
    """`model.network.heads.GapHead`. Without a map the first answer is final."""

    def __init__(self, parameters: Parameters) -> None:
        super().__init__(parameters, "gap")
        if parameters.config.places:
            self.from_place, self.from_ends = (Linear.of(parameters, f"gap.{p}") for p in ("from_place", "from_ends"))
            second = ("from_place", "from_answer", "middle", "last")
            self.second = [Linear.of(parameters, f"gap.second.{part}") for part in second]

    def numbers(
        self,
        hidden: F32,
        question: NDArray[Any],
        ends_en: F64,
        base_en: F64,
        mean_of: Callable[[F32], F64],
        look: Look | None,
    ) -> F32:
        """Returns the numbers [..., Q, O] of gaps' positions, from hidden [..., C] and question [..., Q, E].

        Args:
            ends_en: the two fixes beside the gap [..., 2, 2], in metres from the first.
            base_en: the positions of the physics [..., Q, 2].
            mean_of: returns the positions [..., Q, 2] that numbers mean.
            look: reads the map; None for weights without a map.
        """
        x = self.project(hidden, question)
        if look is None:
            return self.out(x)
        ends = look(ends_en)
        x = x + self.from_ends(ends.reshape(*ends.shape[:-2], -1))[..., None, :]
        raw = self.out(x + self.from_place(look(base_en)))
        from_place, from_answer, middle, last = self.second
        y = x + from_place(look(mean_of(raw))) + from_answer(raw)
        return raw + last(gelu(middle(gelu(y))))
