"""Lets weights learn a region without forgetting the others: what they answer where their map knows nothing stays.

Training on one fleet makes weights forget what they knew of others: after 90 seconds on taxis, buses elsewhere were off
by twice as much (train/experiments/notes/refresh.md). But a layer uses some directions of its inputs hardly ever, and a
new map can write there. So the change of a matrix W is kept to these: its gradient and its update are multiplied by

    P = (1 + S / (share * mean eigenvalue of S))^-1    with S the mean of x x' over the inputs x that it had before

so that the outputs for such inputs change by little. Biases, norms and the layers that read features directly, whose
inputs use every direction, stay as they are. (Farajtabar et al., "Orthogonal gradient descent for continual learning",
2020; Saha et al., "Gradient projection memory for continual learning", 2021.)

Shapes: R rows and C columns of a matrix.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor, nn

from model.network.network import Network
from model.network.new_map import is_new
from train.batches.batches import Batch
from train.fit import loss as objective

# Layers that change: those of the blocks, and the forecast head's that read hidden vectors. The heads of gaps,
# intervals and travel times learn from the map alone.
GUARDED: Final = ("qkv", "out", "up", "down", "forecast.from_hidden", "forecast.middle", "forecast.last")


class Guard:
    """Keeps the changes of guarded matrices to directions that their inputs hardly used."""

    def __init__(self, network: Network, moments: dict[str, Tensor], share: float) -> None:
        """Freezes all other weights of the network but the new map's, in place. `moments` are of `input_moments`."""
        self._guarded: list[tuple[nn.Parameter, Tensor]] = []
        for name, weight in network.named_parameters():
            layer, _, part = name.rpartition(".")
            if is_new(name):
                # A bias would reach pings that are on no map.
                weight.requires_grad_(name != "trunk.places.out.bias")
            elif part == "weight" and layer in moments:
                self._guarded.append((weight, _free(moments[layer], share).to(weight)))
            else:
                weight.requires_grad_(False)
        self._before: list[Tensor] = []

    @torch.no_grad()
    def before_step(self) -> None:
        """Projects the gradients, in place."""
        self._before = [weight.clone() for weight, _ in self._guarded]
        for weight, free_CC in self._guarded:
            if weight.grad is not None:
                weight.grad = weight.grad @ free_CC

    @torch.no_grad()
    def after_step(self) -> None:
        """Projects the update that the optimizer has made, in place."""
        for (weight, free_CC), before_RC in zip(self._guarded, self._before, strict=True):
            weight.copy_(before_RC + (weight - before_RC) @ free_CC)


@torch.no_grad()
def input_moments(network: Network, batches: Sequence[Batch]) -> dict[str, Tensor]:
    """Returns the mean of x x' (C, C) over the inputs of each guarded layer in these batches."""
    sums: dict[str, Tensor] = {}
    counts: dict[str, int] = {}

    def note(name: str, x: Tensor) -> None:
        rows = x.reshape(-1, x.shape[-1]).double()
        sums[name] = sums.get(name, 0.0) + rows.T @ rows
        counts[name] = counts.get(name, 0) + len(rows)

    hooks = [
        module.register_forward_hook(lambda _, inputs, __, name=name: note(name, inputs[0]))
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear) and _is_guarded(name)
    ]
    try:
        for batch in batches:
            objective.measure(network, batch)
    finally:
        for hook in hooks:
            hook.remove()
    return {name: total / counts[name] for name, total in sums.items()}


def _is_guarded(layer: str) -> bool:
    in_block = layer.startswith("trunk.blocks.") and layer.rpartition(".")[2] in GUARDED
    return in_block or layer in GUARDED


def _free(moment_CC: Tensor, share: float) -> Tensor:
    """Returns P (C, C)."""
    values, vectors = torch.linalg.eigh(moment_CC)
    floor = share * values.mean()
    free: Tensor = (vectors * (floor / (values.clamp_min(0.0) + floor))) @ vectors.T
    return free
