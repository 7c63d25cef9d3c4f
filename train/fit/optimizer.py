"""Assigns the weights to optimizers, by name and shape: Muon or AdamW.

Every group stores its peak learning rate, so that one schedule, a share of the peak, applies to all.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import torch
from torch import nn
from torch.nn import Parameter

from model.network.new_map import is_new
from train.fit.muon import Muon

BETAS: Final = (0.9, 0.98)
INPUTS: Final = (
    "embed.weight",
    "from_question.weight",
    "from_report.weight",
    "trunk.report.weight",
)  # not for Muon: their inputs are features of different meaning
OUTPUTS: Final = ("last.weight",)  # zero before training
TABLES: Final = ("places.table", "learned.weight")  # few batches use a row: each has to learn from those few


class Optimizer:
    """AdamW, and Muon if requested, which step together. Weights without gradient stay as they are."""

    def __init__(
        self,
        network: nn.Module,
        *,
        kind: str,
        lr: float,
        muon_lr: float,
        weight_decay: float,
        bfloat16: bool,
        old_lr: float,
        table_lr: float,
    ) -> None:
        """`old_lr`: a factor on the learning rates of all weights but those of a new map (`is_new`); `table_lr`: one on
        those of TABLES."""
        trained = {name: p for name, p in network.named_parameters() if p.requires_grad}
        self.parts: list[torch.optim.Optimizer] = []
        for share, named in (
            (1.0, {name: p for name, p in trained.items() if is_new(name) or old_lr == 1.0}),
            (old_lr, {name: p for name, p in trained.items() if not is_new(name) and old_lr != 1.0}),
        ):
            if not named:
                continue
            hidden = [p for name, p in named.items() if _is_hidden(name, p)] if kind == "muon" else []
            tables = [p for name, p in named.items() if name.endswith(TABLES)]
            taken = {id(p) for p in (*hidden, *tables)}
            others = [p for p in named.values() if id(p) not in taken]
            self.parts.append(_adamw(others, tables, lr * share, weight_decay, table_lr))
            if hidden:
                dtype = torch.bfloat16 if bfloat16 else torch.float32
                self.parts.append(Muon(hidden, lr=muon_lr * share, weight_decay=weight_decay, dtype=dtype))
        for group in self._groups():
            group["initial_lr"] = group["lr"]

    def step(self, share: float) -> None:
        """Updates the weights at that share of the peak learning rates, and clears the gradients."""
        for group in self._groups():
            group["lr"] = group["initial_lr"] * share
        for part in self.parts:
            part.step()
            part.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Any]:
        return {str(i): part.state_dict() for i, part in enumerate(self.parts)}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        for i, part in enumerate(self.parts):
            part.load_state_dict(saved[str(i)])

    def _groups(self) -> Iterable[dict[str, Any]]:
        return (group for part in self.parts for group in part.param_groups)


def _is_hidden(name: str, parameter: Parameter) -> bool:
    return parameter.ndim == 2 and not name.endswith(INPUTS + OUTPUTS + TABLES)


def _adamw(
    parameters: list[Parameter], tables: list[Parameter], lr: float, weight_decay: float, table_lr: float
) -> torch.optim.AdamW:
    matrices, others = [p for p in parameters if p.ndim >= 2], [p for p in parameters if p.ndim < 2]
    groups: list[dict[str, Any]] = [
        {"params": matrices, "weight_decay": weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    if tables:
        groups.append({"params": tables, "weight_decay": 0.0, "lr": table_lr * lr})
    return torch.optim.AdamW(groups, lr=lr, betas=BETAS)
