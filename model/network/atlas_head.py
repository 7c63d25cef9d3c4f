"""The head that reads an atlas. `model.atlas.head` defines its inputs, and what its numbers do to a forecast."""

from __future__ import annotations

import torch.nn.functional as fn
from torch import Tensor, nn

from model.kinematics.answer_bounds import ATLAS_FEATURES, ATLAS_HIDDEN, ATLAS_OUT


class AtlasHead(nn.Module):
    """Two hidden layers. The last layer starts at zero: an untrained head believes an estimate as far as the variances
    say.
    """

    def __init__(self) -> None:
        super().__init__()
        wide, narrow = ATLAS_HIDDEN
        self.first = nn.Linear(ATLAS_FEATURES, wide)
        self.second = nn.Linear(wide, narrow)
        self.last = nn.Linear(narrow, ATLAS_OUT)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Returns numbers [..., ATLAS_OUT] for features [..., ATLAS_FEATURES]."""
        found: Tensor = self.last(fn.relu(self.second(fn.relu(self.first(features)))))
        return found
