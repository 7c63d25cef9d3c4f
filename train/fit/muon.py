"""Muon: an optimizer with momentum that makes the update of a matrix orthogonal, so that all its directions change
alike.

Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024; the coefficients of the Newton-Schulz
steps are theirs, as in torch.optim.Muon. The latter multiplies in bfloat16 everywhere and matrix by matrix, and a CPU
without such instructions emulates them: 0.61 s for the matrices of `small` on one core of an EPYC with AVX2 alone, most
of a training step. In float32, and with the matrices of one shape together, it is 0.03 s there (medians of five;
2026-11-27).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import torch
from torch import Tensor
from torch.nn import Parameter

MOMENTUM: Final = 0.95
NEWTON_SCHULZ_STEPS: Final = 5
COEFFICIENTS: Final = (3.4445, -4.775, 2.0315)
EPS: Final = 1e-7  # lower limit of the norm by which an update is divided


class Muon(torch.optim.Optimizer):
    """For matrices only, with decoupled weight decay and Nesterov momentum; updates are computed in `dtype`."""

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
