"""Adds a map to weights that have none, so that they can be trained further where a fleet drives."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import torch

from model.network.network import Network, build

# Layers that read the map's vectors. They are zero at first, so that what the table holds changes no answer.
READERS: Final = ("trunk.places.out.", "gap.from_place.", "gap.from_ends.", "gap.second.last.")
# All weights that come with a map: the table, and layers.
NEW: Final = ("trunk.places.", "gap.from_place.", "gap.from_ends.", "gap.second.")


def is_new(name: str) -> bool:
    """Returns whether a weight of that name comes with a map."""
    return name.startswith(NEW)


@torch.no_grad()
def with_map(network: Network, places: int, seed: int) -> Network:
    """Returns a copy of a network without a map that has one of at most `places` cells and gives the same answers. It
    knows no cell yet (`Places.know`).

    Raises ValueError where the network has a map.
    """
    if network.config.places:
        raise ValueError(f"these weights have a map already, of {network.config.places:,} cells")
    grown = build(replace(network.config, places=places), seed)
    for name, weight in grown.named_parameters():
        if name.startswith(READERS):
            weight.zero_()
    grown.load_state_dict(network.state_dict(), strict=False)
    return grown.to(network.device).train(network.training)
