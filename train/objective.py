"""What training minimises: distance and likelihood of forecasts and gap fills, next intervals, travel times.

One pass of the trunk serves them all.

Shapes as in train.batches.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from model.heads import combine, laplace_nll, t_nll
from model.network import Network, asked
from model.queries import Question
from train.batches import Batch, Mask

# A mean distance in metres is dominated by long horizons; Δt^-0.7 makes a city's errors at 10 s and 900 s weigh alike
# (DESIGN section 6, the loss of the plain transformer). DISTANCE_M brings the sum to about 1.
DISTANCE_POWER: Final = 0.7
DISTANCE_M: Final = 15.0
LIKELIHOOD: Final = 0.15  # the spread has its own outputs, so its share of the loss need only keep them moving
INTERVAL: Final = 0.2
GAPS: Final = 0.5
TRAVELS: Final = 0.1


class Losses(NamedTuple):
    """Scalars. `total` is what is minimised; the metres are for people."""

    total: Tensor
    distance: Tensor  # weighted, of forecasts
    likelihood: Tensor
    interval: Tensor
    gaps: Tensor
    travel: Tensor
    next_m: Tensor  # mean distance of the next token
    far_m: Tensor  # of the random times ahead
    gap_m: Tensor


def measure(network: Network, batch: Batch, *, bfloat16: bool = False) -> Losses:
    """The losses of a batch."""
    batch = _whole_patches(batch, network.config.patch)
    asks = batch.ahead_mask.any(-1)  # B, T -> P tokens with any answer: the others need no head
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        hidden = _hidden(network, batch)
        question = asked(Question(*(field[asks] for field in batch.ahead)), torch.float32)
        raw = network.forecast(hidden[torch.from_numpy(asks)], question.features)
    spread = combine(raw, question)
    target, mask = _float(batch.ahead_en[asks]), _mask(batch.ahead_mask[asks])
    error = _length(target - spread.mean_en)
    weight = _float(batch.ahead_s[asks]).clamp_min(1.0) ** -DISTANCE_POWER
    hidden = hidden.float()
    distance = _mean(error * weight, mask) / DISTANCE_M
    likelihood = _mean(t_nll(spread, target), mask)
    interval = _mean((network.interval(hidden) - _float(batch.log_next)).abs(), _mask(batch.log_next_mask))
    gaps, gap_likelihood, gap_m = _gaps(network, hidden, batch)
    travel = _travels(network, hidden, batch)
    total = distance + LIKELIHOOD * (likelihood + gap_likelihood) + INTERVAL * interval + GAPS * gaps + TRAVELS * travel
    return Losses(
        total,
        distance.detach(),
        likelihood.detach(),
        interval.detach(),
        gaps.detach(),
        travel.detach(),
        _mean(error[..., 0], mask[..., 0]).detach(),
        _mean(error[..., 1:], mask[..., 1:]).detach(),
        gap_m.detach(),
    )


def _whole_patches(batch: Batch, patch: int) -> Batch:
    """The questions whose token is the last of its patch: an earlier one's vector has seen what it is asked."""
    if patch == 1:
        return batch
    last = np.arange(batch.ahead_mask.shape[1]) % patch == patch - 1
    return batch._replace(
        ahead_mask=batch.ahead_mask & last[:, None],
        log_next_mask=batch.log_next_mask & last,
        gap_mask=batch.gap_mask & last[batch.gap_token][..., None],
        travel_mask=batch.travel_mask & last[batch.travel_token],
    )


def _hidden(network: Network, batch: Batch) -> Tensor:
    """Hidden vectors [B, T, C]; where a token is a patch, each of its pings has the vector of the whole."""
    places, patch = network.trunk.places, network.config.patch
    found = None if places is None else places.find(batch.lat_deg, batch.lon_deg)
    hidden: Tensor = network.trunk(torch.from_numpy(batch.x_BTF), found, torch.from_numpy(batch.time_ms))[0]
    return hidden if patch == 1 else hidden.repeat_interleave(patch, dim=1)


def _gaps(network: Network, hidden: Tensor, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Weighted distance, likelihood and metres of the hidden fixes."""
    rows = torch.arange(len(hidden)).unsqueeze(1)
    question = asked(batch.gap, torch.float32)
    spread = combine(network.gap(hidden[rows, torch.from_numpy(batch.gap_token)], question.features), question)
    target, mask = _float(batch.gap_en), _mask(batch.gap_mask)
    error = _length(target - spread.mean_en)
    weight = _float(batch.gap_s).clamp_min(1.0).unsqueeze(-1) ** -DISTANCE_POWER
    return _mean(error * weight, mask) / DISTANCE_M, _mean(t_nll(spread, target), mask), _mean(error, mask)


def _travels(network: Network, hidden: Tensor, batch: Batch) -> Tensor:
    """Likelihood of the travel times."""
    rows = torch.arange(len(hidden)).unsqueeze(1)
    places = network.trunk.places
    place = None
    if places is not None:
        place = places(places.find(batch.travel_lat_deg[..., None], batch.travel_lon_deg[..., None]))
    travel = network.travel(
        hidden[rows, torch.from_numpy(batch.travel_token)],
        _float(batch.travel.features),
        _float(batch.travel.base_log_s),
        place,
    )
    return _mean(laplace_nll(travel, _float(np.log(batch.travel_s))[..., None])[..., 0], _mask(batch.travel_mask))


def _length(vector: Tensor) -> Tensor:
    # The millimetre keeps the gradient finite where an answer is hit exactly (a parked car).
    return (vector.square().sum(-1) + 1e-6).sqrt()


def _mean(value: Tensor, mask: Tensor) -> Tensor:
    return (value * mask).sum() / mask.sum().clamp_min(1.0)


def _float(array: object) -> Tensor:
    return torch.as_tensor(array, dtype=torch.float32)


def _mask(array: Mask) -> Tensor:
    return torch.from_numpy(array.astype("float32"))
