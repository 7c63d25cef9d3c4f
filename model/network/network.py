"""All weights of a model in one module: the trunk and its heads."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from model.config import ModelConfig
from model.kinematics import features, queries
from model.kinematics.geo import E7, F64, move_deg
from model.kinematics.queries import Question
from model.network.calibration import Calibration
from model.network.heads import ForecastHead, GapHead, IntervalHead, QuestionTensors, Spread, combine
from model.network.places import CellRows
from model.network.transformer import Trunk


class Network(nn.Module):
    """`trunk` reads pings; `forecast`, `interval` and `gap` answer from its hidden vectors."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.trunk = Trunk(config, features.width(config))
        self.forecast = ForecastHead(
            config, queries.FORECAST_FEATURES, queries.REPORT_FEATURES, queries.FORECAST_OTHERS
        )
        self.interval = IntervalHead(config, queries.INTERVAL_FEATURES, queries.INTERVAL_OTHERS)
        self.gap = GapHead(config, queries.GAP_FEATURES, queries.GAP_REPORT_FEATURES, queries.GAP_OTHERS)
        self.calibration = Calibration()
        for block in self.trunk.blocks:
            # As in GPT-2, layers that add to the residual stream start with smaller weights the more blocks there are.
            for name in ("out", "down"):
                nn.init.normal_(block.get_submodule(name).weight, std=(2 * config.blocks * config.d) ** -0.5)  # type: ignore[arg-type]

    @property
    def device(self) -> torch.device:
        return self.trunk.embed.weight.device

    def find(self, lat_deg: F64, lon_deg: F64) -> CellRows | None:
        """Finds positions [...] (NaN: no position) on the map of these weights; None for weights without a map."""
        return None if self.trunk.places is None else self.trunk.places.find(lat_deg, lon_deg)

    def locate(self, fixes: NDArray[Any]) -> CellRows | None:
        """`find` for FIX records."""
        return self.find(fixes["lat_e7"] / E7, fixes["lon_e7"] / E7)

    def place(self, lat_deg: F64, lon_deg: F64) -> Tensor | None:
        """Returns the map's vectors of positions [...], [..., C]; None for weights without a map."""
        places = self.trunk.places
        if places is None:
            return None
        vector: Tensor = places(places.find(lat_deg, lon_deg))
        return vector

    def fill(self, h: Tensor, question: QuestionTensors, chord_en: F64, lat_deg: F64, lon_deg: F64) -> Spread:
        """Returns distributions of positions in gaps, in metres from the fixes before them, which are at lat_deg,
        lon_deg [...] (NaN: no position).

        h [..., C], question [..., Q], chord_en [..., 2] from the fix before the gap to the fix after it.
        """
        return combine(self.fill_numbers(h, question, chord_en, lat_deg, lon_deg), question)

    def fill_numbers(self, h: Tensor, question: QuestionTensors, chord_en: F64, lat_deg: F64, lon_deg: F64) -> Tensor:
        """Returns the numbers [..., Q, O] from which `fill` builds its distributions."""

        def look(en: Tensor) -> Tensor:
            at = move_deg(lat_deg[..., None], lon_deg[..., None], en.double().cpu().numpy())
            vector = self.place(*at)
            assert vector is not None  # a head without a map never calls this
            return vector

        ends_en = torch.from_numpy(np.stack([np.zeros_like(chord_en), chord_en], axis=-2))
        return self.gap.numbers(h, question, ends_en, look)


def build(config: ModelConfig, seed: int) -> Network:
    """Returns a network with random weights that depend on the seed alone; torch's global generator is left as it
    was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Network(config)


def to_tensors(question: Question, dtype: torch.dtype, device: torch.device | None = None) -> QuestionTensors:
    """Returns the question as tensors. Its features are float32 for the network, whatever the dtype of the physics."""
    features_, *physics = (torch.from_numpy(np.ascontiguousarray(a)) for a in question)
    tensors: list[Tensor] = [t.to(device=device, dtype=dtype) for t in physics]
    return QuestionTensors(features_.to(device=device, dtype=torch.float32), *tensors)


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
