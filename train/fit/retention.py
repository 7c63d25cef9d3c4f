"""Lets weights learn a region without forgetting the others: where their map knows nothing, they answer as before.

Training on one fleet makes weights forget what they knew of others: after 90 seconds on taxis, buses elsewhere were off
by twice as much (reports/notes/refresh.md). But such weights have a map, and need not change where it knows
nothing. So each step has a second batch: tracks of the fleet and of invented towns, turned, stretched and thinned at
random, whose place is hidden. The loss of these is how far the answers are from those of the weights before the
training, whatever happened then. (Li and Hoiem, "Learning without forgetting", 2017.)
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from torch import Tensor

from model.config import ModelConfig
from model.network.network import Network
from train.batches.batches import Batches
from train.batches.options import BatchOptions
from train.data.corpus import Corpus
from train.fit import loss as objective

# Every augmentation is drawn, for these batches are to stand for all that the weights may meet elsewhere.
ELSEWHERE: Final[dict[str, Any]] = {
    **{"turn": 1.0, "thin": 0.6, "rescale": 0.5, "noise": 0.3, "reported": 0.3, "drop_clock": 0.3, "drop_place": 1.0},
    **{"gaps": 1, "hidden": 4, "file_power": 0.3},
}
SEED: Final = 0xE15E  # of its own, so that these rows are not those of the other batch
ROWS_SHARE: Final = 0.25  # of the rows of a step: a quarter more work


class Retention:
    """The loss of forgetting."""

    def __init__(
        self, before: Network, train: Corpus, config: ModelConfig, options: BatchOptions, weight: float, seed: int
    ) -> None:
        """`before`: the weights whose answers are kept; it is not changed. `config` is of the weights that learn, and
        `weight` what their loss of forgetting is multiplied by."""
        self._before = before.eval().requires_grad_(False)
        rows = max(1, round(ROWS_SHARE * options.rows))
        self._batches = Batches(train, config, replace(options, rows=rows, often=(), **ELSEWHERE), seed ^ SEED)
        self._weight = weight

    def loss(self, network: Network, step: int, *, bfloat16: bool) -> Tensor:
        """Returns the loss of a step; the batch depends on the step alone."""
        batch = self._batches.draw(step)
        return self._weight * objective.disagreement(network, self._before, batch, bfloat16=bfloat16)
