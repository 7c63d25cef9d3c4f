"""The training loss: distance and negative log-likelihood of forecasts and gap fills, next intervals.

One pass of the trunk serves them all.

Every mean is over answers, and `counts` may say that there are more of them than in this batch: then the losses are
this batch's part of those of a larger one. The parts of k micro-batches, processed one after the other or on k ranks,
sum to the losses and gradients of one batch with all of their rows. A mean of k means would not: it would give an
answer more weight where its micro-batch has few.

Shapes as in train.batches.batches.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from model.kinematics.queries import Question
from model.network.heads import Spread, combine, next_log, t_nll
from model.network.network import Network, to_tensors
from train.batches.batches import Batch, Mask
from train.batches.packing import pack_values, unpack_hidden

# Long horizons dominate a mean distance in metres; with Δt^-0.7, a city's errors at 10 s and 900 s have the same
# weight. DISTANCE_M scales the sum to about 1.
DISTANCE_POWER: Final = 0.7
DISTANCE_M: Final = 15.0
LIKELIHOOD: Final = 0.15  # the covariance has outputs of its own, so a small share of the loss is enough to train them
INTERVAL: Final = 0.2
GAPS: Final = 1.0


class Losses(NamedTuple):
    """Scalars. `total` is minimised; the losses in metres are for people."""

    total: Tensor
    distance: Tensor  # weighted distance of forecasts
    likelihood: Tensor
    interval: Tensor
    gaps: Tensor
    next_m: Tensor  # mean distance at the next token
    far_m: Tensor  # mean distance at the random times ahead
    gap_m: Tensor


class Counts(NamedTuple):
    """The number of answers in each mean; floats, so that they can be summed."""

    ahead: float
    next: float  # first question of each token
    far: float  # other questions
    interval: float
    gap: float


def count_answers(batch: Batch) -> Counts:
    """Returns the number of answers in a batch."""
    ahead = batch.ahead_mask
    masks = (ahead, ahead[..., 0], ahead[..., 1:], batch.log_next_mask, batch.gap_mask)
    return Counts(*(float(mask.sum()) for mask in masks))


class Answers(NamedTuple):
    """A network's answers to all questions of a batch. P tokens ask for a forecast (`asks_forecast`)."""

    ahead: Spread  # [P, Q]
    next_log: Tensor  # [B, T]
    gap: Spread  # [B, G, M]


def answer_batch(network: Network, batch: Batch, *, bfloat16: bool = False) -> Answers:
    """Returns the answers of a network to a batch of whole patches, on the device of the network."""
    asks, device = asks_forecast(batch), network.device
    with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
        hidden = _hidden(network, batch)
        question = to_tensors(Question(*(field[asks] for field in batch.ahead)), torch.float32, device)
        raw = network.forecast(hidden[torch.from_numpy(asks).to(device)], question.features)
    spread = combine(raw, question)
    hidden = hidden.float()
    recent, others_log = (_float(part, device) for part in batch.recent)
    late = next_log(network.interval(hidden, recent), others_log)
    return Answers(spread, late, _gaps(network, hidden, batch))


def asks_forecast(batch: Batch) -> Mask:
    """Returns the tokens (B, T) with any answer to a forecast: the others need no head."""
    return np.asarray(batch.ahead_mask.any(-1))


def measure(network: Network, batch: Batch, *, bfloat16: bool = False, counts: Counts | None = None) -> Losses:
    """Returns the losses of a batch, or its part of the losses over `counts` answers, on the device of the network."""
    batch = whole_patches(batch, network.config.patch)
    n, device, asks = counts or count_answers(batch), network.device, asks_forecast(batch)
    found = answer_batch(network, batch, bfloat16=bfloat16)
    target, mask = _float(batch.ahead_en[asks], device), _mask(batch.ahead_mask[asks], device)
    error = _length(target - found.ahead.mean_en)
    distance = _mean(error * _weight(batch.ahead_s[asks], device), mask, n.ahead) / DISTANCE_M
    likelihood = _mean(t_nll(found.ahead, target), mask, n.ahead)
    late = (found.next_log - _float(batch.log_next, device)).abs()
    interval = _mean(late, _mask(batch.log_next_mask, device), n.interval)
    hidden_en, gap_mask = _float(batch.gap_en, device), _mask(batch.gap_mask, device)
    gap_error = _length(hidden_en - found.gap.mean_en)
    gaps = _mean(gap_error * _weight(batch.gap_s, device).unsqueeze(-1), gap_mask, n.gap) / DISTANCE_M
    gap_likelihood = _mean(t_nll(found.gap, hidden_en), gap_mask, n.gap)
    total = distance + LIKELIHOOD * (likelihood + gap_likelihood) + INTERVAL * interval + GAPS * gaps
    return Losses(
        total,
        distance.detach(),
        likelihood.detach(),
        interval.detach(),
        gaps.detach(),
        _mean(error[..., 0], mask[..., 0], n.next).detach(),
        _mean(error[..., 1:], mask[..., 1:], n.far).detach(),
        _mean(gap_error, gap_mask, n.gap).detach(),
    )


def disagreement(network: Network, before: Network, batch: Batch, *, bfloat16: bool = False) -> Tensor:
    """Returns how far a network's answers to a batch are from those of another one, as `measure` weighs errors.

    The other's mean stands for what happened, and its covariance is to be the network's: the divergence of the two
    Gaussians is the likelihood's part. What happened is not asked.
    """
    batch = whole_patches(batch, network.config.patch)
    n, device, asks = count_answers(batch), network.device, asks_forecast(batch)
    mine = answer_batch(network, batch, bfloat16=bfloat16)
    with torch.no_grad():
        theirs = answer_batch(before, batch, bfloat16=bfloat16)
    ahead = _divergence(mine.ahead, theirs.ahead, _weight(batch.ahead_s[asks], device))
    gap = _divergence(mine.gap, theirs.gap, _weight(batch.gap_s, device).unsqueeze(-1))
    return (
        _mean(ahead, _mask(batch.ahead_mask[asks], device), n.ahead)
        + GAPS * _mean(gap, _mask(batch.gap_mask, device), n.gap)
        + INTERVAL * _mean((mine.next_log - theirs.next_log).abs(), _mask(batch.log_next_mask, device), n.interval)
    )


def whole_patches(batch: Batch, patch: int) -> Batch:
    """Keeps only the questions of the last token of each patch: the vector of an earlier one already contains the
    answer.
    """
    if patch == 1:
        return batch
    last = np.arange(batch.ahead_mask.shape[1]) % patch == patch - 1
    return batch._replace(
        ahead_mask=batch.ahead_mask & last[:, None],
        log_next_mask=batch.log_next_mask & last,
        gap_mask=batch.gap_mask & last[batch.gap_token][..., None],
    )


def _hidden(network: Network, batch: Batch) -> Tensor:
    """Returns the hidden vectors [B, T, C]; where a token is a patch, each of its pings has the vector of the patch."""
    device, patch, packing = network.device, network.config.patch, batch.packing
    inputs = (batch.x_BTF, batch.time_ms)
    if packing is None:
        x, time_ms = (torch.from_numpy(array).to(device) for array in inputs)
        hidden: Tensor = network.trunk(x, network.find(batch.lat_deg, batch.lon_deg), time_ms)[0]
        return hidden if patch == 1 else hidden.repeat_interleave(patch, dim=1)
    x, time_ms = (pack_values(packing, array).to(device) for array in inputs)
    found = network.find(*(array[packing.track, packing.token] for array in (batch.lat_deg, batch.lon_deg)))
    segment = torch.from_numpy(packing.segment).to(device)
    return unpack_hidden(packing, network.trunk(x, found, time_ms, segment_BT=segment)[0], len(batch.x_BTF))


def _gaps(network: Network, hidden: Tensor, batch: Batch) -> Spread:
    """Returns where hidden fixes are thought to be [B, G, M]."""
    device = hidden.device
    rows = torch.arange(len(hidden), device=device).unsqueeze(1)
    question = to_tensors(batch.gap, torch.float32, device)
    token = torch.from_numpy(batch.gap_token).to(device)
    return network.fill(hidden[rows, token], question, batch.gap_chord_en, batch.gap_lat_deg, batch.gap_lon_deg)


def _divergence(mine: Spread, theirs: Spread, weight: Tensor) -> Tensor:
    """Returns the weighted distance of the means, and the share of the likelihood of how far the covariances are."""
    off = mine.mean_en - theirs.mean_en
    distance = _length(off) * weight / DISTANCE_M
    (ee, en, nn), (see, sen, snn) = theirs.cov_m2.unbind(-1), mine.cov_m2.unbind(-1)
    det = (see * snn - sen * sen).clamp_min(1e-9)
    trace = (snn * ee - 2 * sen * en + see * nn) / det
    return distance + LIKELIHOOD * 0.5 * (trace - 2.0 + (det / (ee * nn - en * en).clamp_min(1e-9)).log())


def _weight(seconds: object, device: torch.device) -> Tensor:
    return _float(seconds, device).clamp_min(1.0) ** -DISTANCE_POWER


def _length(vector: Tensor) -> Tensor:
    # The millimetre keeps the gradient finite where the error is exactly 0 (a parked car).
    return (vector.square().sum(-1) + 1e-6).sqrt()


def _mean(value: Tensor, mask: Tensor, count: float) -> Tensor:
    return (value * mask).sum() / max(count, 1.0)


def _float(array: object, device: torch.device) -> Tensor:
    return torch.as_tensor(array, dtype=torch.float32).to(device)


def _mask(array: Mask, device: torch.device) -> Tensor:
    return torch.from_numpy(array.astype("float32")).to(device)
