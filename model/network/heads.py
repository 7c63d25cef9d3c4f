"""The heads turn one hidden vector into answers: the next interval, a position after any time or inside a gap.

Every answer is a residual over physics and the last layer of its head starts at zero, so an untrained model gives the
physics: the Kalman filter for a forecast, the running interval for the next Δt, the cubic Hermite curve for a gap.

A position is a mean and a 2x2 covariance. The loss is the negative log-likelihood of a Student t with NU degrees of
freedom, whose scale matrix is the covariance times SCALE_OF_COV: at NU = 4 the Gaussian 90 % ellipse of the covariance
(χ² = 4.61) then holds 90 % of the t distribution too (4.61 / 2 · 1.878 = 4.33 = F(2, 4) at 0.9), heavy tails included.
It is a single t. With a second, narrow t for things that stay, CRPS is 2 % lower for taxis, and for ships equal or 17 %
higher, depending on the seed; with quantiles it is 1.8 % lower over all files. In a region that training never saw,
neither helps (`reports/experiments/spreads.md`).

Residuals are measured in reaches (the distance that the thing could cover at its recent speed), in two frames at once:
east/north, and along/across the filtered velocity, whose weight fades when the thing stands still. In addition, the
mean may lean to other physics (the last step's velocity, damped and not, that of the last few steps, the reported
velocity; the straight line across a gap), which no frame of one direction could express. The next Δt may lean to the
last two intervals in the same way.

Shapes: ... any batch, Q queries per row, A alternatives (other physics), C = config.d, K = motion.WIDTH.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as fn
from torch import Tensor, nn

from model.config import ModelConfig
from model.kinematics.answer_bounds import (
    MAX_LEAN,
    MAX_LOG_SHAPE,
    MAX_LOG_SPREAD,
    MAX_RESIDUAL,
    NU,
    OUT,
    SCALE_OF_COV,
)


class Spread(NamedTuple):
    """Distributions of positions, in metres from the anchor: mean [..., 2] and covariance [..., 3] (ee, en, nn)."""

    mean_en: Tensor
    cov_m2: Tensor


class QuestionTensors(NamedTuple):
    """A question and the physics under it, computed in float64 (model.kinematics.queries) and converted to any
    dtype.
    """

    features: Tensor  # [..., Q, E] the network's inputs for the question
    base_en: Tensor  # [..., Q, 2] m: the mean of the physics
    others_en: Tensor  # [..., Q, A, 2] m: means of the alternatives, which the network may lean to
    base_var: Tensor  # [..., Q] m²: variance of the physics per axis
    reach_m: Tensor  # [..., Q] m: one unit of the residual
    frame: Tensor  # [..., Q, 2] unit vector along the motion, shorter where there is little motion
    is_reported: Tensor  # [..., Q] 1 where the last alternative comes from a reported velocity


class QueryHead(nn.Module):
    """head(h, question) -> OUT + A numbers, zero before training.

    The last R inputs of a question are 0 where nothing is reported. They have separate weights, so that training these
    changes no answer for a thing that does not report its velocity.
    """

    def __init__(self, config: ModelConfig, question: int, reported: int, others: int) -> None:
        super().__init__()
        c = config.d
        self.from_hidden = nn.Linear(c, 2 * c)
        self.from_question = nn.Linear(question - reported, 2 * c, bias=False)
        self.from_report = nn.Linear(reported, 2 * c, bias=False)
        nn.init.zeros_(self.from_report.weight)
        self.middle = nn.Linear(2 * c, c)
        self.last = nn.Linear(c, OUT + others)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, h: Tensor, question: Tensor) -> Tensor:
        """Maps h [..., C] and question [..., Q, E] to [..., Q, OUT + A]. The hidden part is computed once for all
        questions.
        """
        return self.out(self.project(h, question))

    def project(self, h: Tensor, question: Tensor) -> Tensor:
        """Returns the sum of the hidden vector's and the question's projections [..., Q, 2C]."""
        asked = self.from_question.in_features
        x = self.from_hidden(h).unsqueeze(-2) + self.from_question(question[..., :asked])
        y: Tensor = x + self.from_report(question[..., asked:])
        return y

    def out(self, x: Tensor) -> Tensor:
        """Returns the numbers [..., OUT + A] for the projections [..., 2C]."""
        y: Tensor = self.last(self.before_last(x))
        return y

    def before_last(self, x: Tensor) -> Tensor:
        """Returns the inputs of the last layer [..., C]."""
        return fn.gelu(self.middle(fn.gelu(x)))


class ForecastHead(QueryHead):
    """The last alternative is the reported velocity. Only the report head decides how far to lean to it."""

    def __init__(self, config: ModelConfig, question: int, reported: int, others: int) -> None:
        super().__init__(config, question, reported, others - 1)
        self.beside = ReportHead(config, question, reported, OUT + others)

    def forward(self, h: Tensor, question: Tensor) -> Tensor:
        y: Tensor = fn.pad(super().forward(h, question), (0, 1)) + self.beside(h, question)
        return y


class ReportHead(nn.Module):
    """Returns what is added to a forecast's numbers [..., Q, OUT + A] where a velocity is reported. It is zero before
    training, and where none is reported. It is a small network of its own, because the large one was also trained on
    things that report none, and must not change.
    """

    def __init__(self, config: ModelConfig, question: int, reported: int, out: int) -> None:
        super().__init__()
        self.known = question - reported  # index of the input that is 1 where a velocity is reported, else 0
        self.from_hidden = nn.Linear(config.d, config.d // 2)
        self.from_question = nn.Linear(question, config.d // 2, bias=False)
        self.last = nn.Linear(config.d // 2, out)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, h: Tensor, question: Tensor) -> Tensor:
        x = self.from_hidden(h).unsqueeze(-2) + self.from_question(question)
        y: Tensor = self.last(fn.gelu(x)) * question[..., self.known, None]
        return y


class IntervalHead(nn.Module):
    """head(h, features) -> the numbers for `next_log`. They are zero before training; the next interval is then the
    running one.
    """

    def __init__(self, config: ModelConfig, features: int, others: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(config.d, config.d // 2)
        self.recent = nn.Linear(features, config.d // 2, bias=False)
        self.last = nn.Linear(config.d // 2, 1 + others)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, h: Tensor, features: Tensor) -> Tensor:
        """Maps h [..., C] and the features [..., E] of `queries.interval` to [..., 1 + A]."""
        y: Tensor = self.last(fn.gelu(self.hidden(h) + self.recent(features)))
        return y


def combine(raw: Tensor, asked: QuestionTensors) -> Spread:
    """Returns the distribution from the network's numbers [..., OUT + A] and the physics, in the dtype of `asked`."""
    raw = raw.to(asked.base_en.dtype)
    cos, sin = asked.frame[..., 0], asked.frame[..., 1]
    a = raw.unbind(-1)
    east = a[0] + cos * a[2] - sin * a[3]
    north = a[1] + sin * a[2] + cos * a[3]
    residual = torch.stack([east, north], dim=-1)
    residual = residual / (1 + residual.square().sum(-1, keepdim=True) / MAX_RESIDUAL**2).sqrt()
    lean = MAX_LEAN * torch.tanh(raw[..., OUT:] / MAX_LEAN).unsqueeze(-1)
    far = lean * (asked.others_en - asked.base_en.unsqueeze(-2))
    going_on = far[..., :-1, :].sum(-2) + asked.reach_m.unsqueeze(-1) * residual
    # The lean to a reported velocity starts where the other terms have led: at 1 the answer is that of the report
    # alone.
    mean = asked.base_en + going_on + far[..., -1, :] - (asked.is_reported.unsqueeze(-1) * lean[..., -1, :]) * going_on
    # log Σ = log(base) I + [[s + p, q], [q, s − p]]; p + iq turns twice as fast as the frame.
    s = MAX_LOG_SPREAD * torch.tanh(a[4] / MAX_LOG_SPREAD)
    cos2, sin2 = cos * cos - sin * sin, 2 * cos * sin
    p = a[5] + cos2 * a[7] - sin2 * a[8]
    q = a[6] + sin2 * a[7] + cos2 * a[8]
    rho2 = p * p + q * q + 1e-12
    squeeze = 1 / (1 + rho2 / MAX_LOG_SHAPE**2).sqrt()
    rho = rho2.sqrt() * squeeze
    size = asked.base_var * torch.exp(s)
    even, odd = size * torch.cosh(rho), size * torch.sinh(rho) / rho2.sqrt()
    return Spread(mean, torch.stack([even + odd * p, odd * q, even - odd * p], dim=-1))


def next_log(numbers: Tensor, others_log: Tensor) -> Tensor:
    """Returns the log ratio of the next interval to the running one [...], from the head's numbers [..., 1 + A] and the
    log ratios of other intervals to the running one [..., A]. It may lean to each of these, up to MAX_LEAN: after a
    change of the reporting interval the running interval needs a dozen pings, the last interval is correct at once.
    """
    return numbers[..., 0] + (MAX_LEAN * torch.tanh(numbers[..., 1:] / MAX_LEAN) * others_log).sum(-1)


def t_nll(spread: Spread, target_en: Tensor) -> Tensor:
    """Returns the negative log-likelihood [...] of target positions [..., 2] under the t distribution, up to a
    constant.
    """
    det, m2 = surprise(spread, target_en)
    return 0.5 * det.log() + (NU + 2) / 2 * torch.log1p(m2 / SCALE_OF_COV / NU) + math.log(SCALE_OF_COV)


def surprise(spread: Spread, target_en: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the determinants [...] of the covariances and the squared Mahalanobis distances [...] of target positions
    [..., 2].
    """
    ee, en, nn_ = spread.cov_m2.unbind(-1)
    de, dn = (target_en - spread.mean_en).unbind(-1)
    det = (ee * nn_ - en * en).clamp_min(1e-12)
    return det, (nn_ * de * de - 2 * en * de * dn + ee * dn * dn) / det


# Returns the map's vectors [..., P, C] at positions [..., P, 2], in metres from the fix before the gap.
Look = Callable[[Tensor], Tensor]


class GapHead(QueryHead):
    """head(h, question, look) -> Spread. Before training it is the distribution of the physics.

    It reads the map at both ends, gives a first answer, and reads the map again at that answer: the physics puts a
    point beside the street more often than on it, so the map there describes another street, and the first answer is
    nearer. Without a map there is nothing to read, and the first answer is final.
    """

    def __init__(self, config: ModelConfig, question: int, reported: int, others: int) -> None:
        super().__init__(config, question, reported, others)
        c, placed = config.d, config.places > 0
        self.from_place = nn.Linear(c, 2 * c, bias=False) if placed else None
        self.from_ends = nn.Linear(2 * c, 2 * c, bias=False) if placed else None
        self.second = SecondLook(config, OUT + others) if placed else None

    def fill(self, h: Tensor, asked: QuestionTensors, ends_en: Tensor, look: Look) -> Spread:
        """Returns the distributions at the asked times, from h [..., C], asked [..., Q] and the two fixes beside the
        gap [..., 2, 2].
        """
        return combine(self.numbers(h, asked, ends_en, look), asked)

    def numbers(self, h: Tensor, asked: QuestionTensors, ends_en: Tensor, look: Look) -> Tensor:
        """Returns the numbers [..., Q, OUT + A] from which `combine` builds the distribution."""
        x = self.project(h, asked.features)
        if self.from_place is None or self.from_ends is None or self.second is None:
            return self.out(x)
        x = x + self.from_ends(look(ends_en).flatten(-2)).unsqueeze(-2)
        raw = self.out(x + self.from_place(look(asked.base_en)))
        there = combine(raw, asked).mean_en.detach()
        more: Tensor = self.second(x, raw, look(there))
        return raw + more


class SecondLook(nn.Module):
    """Returns what is added to the first answer [..., OUT + A], given the map's vector there. It is zero before
    training.
    """

    def __init__(self, config: ModelConfig, out: int) -> None:
        super().__init__()
        c = config.d
        self.from_place = nn.Linear(c, 2 * c, bias=False)
        self.from_answer = nn.Linear(out, 2 * c, bias=False)
        self.middle = nn.Linear(2 * c, c)
        self.last = nn.Linear(c, out)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, x: Tensor, answer: Tensor, place: Tensor) -> Tensor:
        """x [..., Q, 2C] are the inputs of the first answer; place [..., Q, C] are the map's vectors at that answer."""
        y = x + self.from_place(place) + self.from_answer(answer)
        more: Tensor = self.last(fn.gelu(self.middle(fn.gelu(y))))
        return more
