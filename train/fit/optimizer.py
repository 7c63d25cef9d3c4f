"""Assigns the weights to optimizers, by name and shape: Muon or AdamW.

Every group stores its peak learning rate, so that one schedule, a share of the peak, applies to all.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import Parameter

from model.network.network import is_new

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


MOMENTUM: Final = 0.95
NEWTON_SCHULZ_STEPS: Final = 5
COEFFICIENTS: Final = (3.4445, -4.775, 2.0315)
EPS: Final = 1e-7  # lower limit of the norm by which an update is divided


class Muon(torch.optim.Optimizer):
    """An optimizer with momentum that makes the update of a matrix orthogonal, so that all its directions change alike.

    It is for matrices only, with decoupled weight decay and Nesterov momentum; updates are computed in `dtype`. Jordan
    et al., "Muon: An optimizer for hidden layers in neural networks", 2024; the coefficients of the Newton-Schulz steps
    are theirs, as in torch.optim.Muon. The latter multiplies in bfloat16 everywhere and matrix by matrix, and a CPU
    without such instructions emulates them: 0.61 s for the matrices of `small` on one core of an EPYC with AVX2 alone,
    most of a training step. In float32, and with the matrices of one shape together, it is 0.03 s there (medians of
    five; 2026-11-27).
    """

    def __init__(
        self, matrices: Iterable[Parameter], *, lr: float, weight_decay: float, dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__(matrices, {"lr": lr, "weight_decay": weight_decay})
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Updates every matrix that has a gradient."""
        for group in self.param_groups:
            alike: dict[torch.Size, list[Parameter]] = {}
            for matrix in group["params"]:
                if matrix.grad is not None:
                    alike.setdefault(matrix.shape, []).append(matrix)
            for (rows, columns), matrices in alike.items():
                updates = orthogonal(torch.stack([self._momentum(matrix) for matrix in matrices]), self.dtype)
                lr = group["lr"] * max(1.0, rows / columns) ** 0.5  # the same change of the output for every shape
                for matrix, update in zip(matrices, updates, strict=True):
                    matrix.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-lr)

    def _momentum(self, matrix: Parameter) -> Tensor:
        state, gradient = self.state[matrix], matrix.grad
        assert gradient is not None
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(gradient)
        running = state["momentum_buffer"].lerp_(gradient, 1 - MOMENTUM)
        return gradient.lerp(running, MOMENTUM)


def orthogonal(matrices: Tensor, dtype: torch.dtype) -> Tensor:
    """Returns matrices [N, R, C] with the same singular vectors and singular values of 0.5 to 1.3, except those that
    were nearly 0.
    """
    a, b, c = COEFFICIENTS
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.to(dtype)
    x = x.mT if tall else x
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp_min(EPS)
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).to(matrices.dtype)
