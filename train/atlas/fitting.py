"""Trains the atlas head on examples of several regions.

Two things are learned at once: by how much a forecast moves, so that the mean distance is least, as a share of that of
damped velocity in the same file and at the same horizon; and how wide its 90 % region is, so that nine in ten places
are inside. The second does not pull at the first.

Shapes: K examples, L levels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from model.atlas import head
from model.network.atlas_head import AtlasHead
from train.atlas.examples import Examples

BATCH: Final = 4096
RATE: Final = 3e-3
DECAY: Final = 1e-3
NINE_IN_TEN: Final = 2 * math.log(10)  # the squared Mahalanobis distance within which a Gaussian holds 90 %
OF_WIDTH: Final = 0.1  # weight of the second loss
NEAR_M2: Final = 1.0  # a distance has no corner at zero
TOLD_EVERY: Final = 100  # steps


class Fitted(NamedTuple):
    """A trained head, and its loss of distance on all examples, before and after."""

    head: AtlasHead
    before: float
    after: float


class _Answer(NamedTuple):
    off_m: Tensor  # [K, 2] from the place where it was to the forecast
    log_width: Tensor  # [K] of the covariance


def fit(
    parts: Sequence[Examples],
    steps: int,
    seed: int = 0,
    progress: Callable[[int, float], None] = lambda step, loss: None,
) -> Fitted:
    """Returns a head trained on the examples of files, all of which have the same share of each batch. The same
    examples, steps and seed give the same head on one machine. `progress` is told the step and the loss of distance.
    """
    all_ = Examples(*(np.concatenate(column) for column in zip(*parts, strict=True)))
    weight = np.concatenate([part.weight / part.weight.sum() for part in parts])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = AtlasHead()
        rows = torch.multinomial(torch.from_numpy(weight), steps * BATCH, replacement=True).view(steps, BATCH)
    before = _distance(made, all_, weight)
    optimizer = torch.optim.AdamW(made.parameters(), lr=RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    for step in range(steps):
        batch = all_.at(rows[step].numpy())
        answer = _answer(made, batch)
        distance = _shares(answer, batch).mean()
        loss = distance + OF_WIDTH * _pinball(answer, batch).mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        if step % TOLD_EVERY == 0 or step == steps - 1:
            progress(step, float(distance.detach()))
    return Fitted(made, before, _distance(made, all_, weight))


def _answer(made: AtlasHead, batch: Examples) -> _Answer:
    """`model.atlas.head.combine`."""
    features, apart, share, log_width, off = map(torch.from_numpy, batch[:5])
    raw = made(features)
    share = torch.sigmoid(torch.logit(share, 1e-4) + raw[:, head.SHARE])
    moved = share[:, None] * apart[:, -1] + (torch.tanh(raw[:, : head.SHARE, None]) * apart).sum(1)
    return _Answer(off + moved, log_width + raw[:, head.WIDTH])


def _shares(answer: _Answer, batch: Examples) -> Tensor:
    """Returns the distances [K] as shares of damped velocity's mean in the same file and at the same horizon."""
    return torch.sqrt((answer.off_m**2).sum(1) + NEAR_M2) / torch.from_numpy(batch.usual_m)


def _pinball(answer: _Answer, batch: Examples) -> Tensor:
    """Returns the loss [K] that is least where nine in ten places lie inside the 90 % region."""
    off, cov = answer.off_m.detach().double(), torch.from_numpy(batch.cov_m2).double()
    det = cov[:, 0] * cov[:, 2] - cov[:, 1] ** 2
    far2 = (cov[:, 2] * off[:, 0] ** 2 - 2 * cov[:, 1] * off[:, 0] * off[:, 1] + cov[:, 0] * off[:, 1] ** 2) / det
    above = torch.log(far2 + 1e-6).float() - math.log(NINE_IN_TEN) - answer.log_width
    return torch.maximum(0.9 * above, -0.1 * above)


def _distance(made: AtlasHead, examples: Examples, weight: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
    with torch.no_grad():
        shares = _shares(_answer(made, examples), examples).numpy()
    return float(np.average(shares, weights=weight))
