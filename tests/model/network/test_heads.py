"""The distribution: physics before training, a proper covariance after, and a likelihood that is the stated one."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from model.config import ModelConfig
from model.kinematics import answer_bounds
from model.kinematics.answer_bounds import OUT as ALONE
from model.network import heads
from model.network.heads import QuestionTensors, Spread, combine, t_nll

OTHERS = 2
OUT = ALONE + OTHERS


def asked(n: int, *, angle: float = 0.3, length: float = 0.9) -> QuestionTensors:
    generator = torch.Generator().manual_seed(1)
    frame = length * torch.tensor([math.cos(angle), math.sin(angle)], dtype=torch.float64)
    return QuestionTensors(
        torch.zeros(n, 1),
        100 * torch.randn(n, 2, generator=generator, dtype=torch.float64),
        100 * torch.randn(n, OTHERS, 2, generator=generator, dtype=torch.float64),
        torch.rand(n, generator=generator, dtype=torch.float64) * 900 + 1,
        torch.rand(n, generator=generator, dtype=torch.float64) * 500 + 1,
        frame.expand(n, 2),
        torch.zeros(n, dtype=torch.float64),
    )


def test_zeros_are_the_physics() -> None:
    question = asked(50)
    spread = combine(torch.zeros(50, OUT), question)
    assert torch.equal(spread.mean_en, question.base_en)
    torch.testing.assert_close(spread.cov_m2[:, 0], question.base_var)
    torch.testing.assert_close(spread.cov_m2[:, 2], question.base_var)
    torch.testing.assert_close(spread.cov_m2[:, 1], torch.zeros(50, dtype=torch.float64))


@pytest.mark.parametrize("other", range(OTHERS))
def test_leaning_by_one_is_another_physics(other: int) -> None:
    raw = torch.zeros(50, OUT)
    raw[:, ALONE + other] = 2 * math.atanh(0.5)
    question = asked(50)
    torch.testing.assert_close(combine(raw, question).mean_en, question.others_en[:, other], rtol=1e-5, atol=1e-4)


def test_an_answer_leans_to_a_report_from_where_the_rest_has_led_it() -> None:
    """All the way it is the report, whatever the rest says; half of the way it is their middle."""
    raw = torch.randn(50, OUT, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    raw[:, -1] = 0.0
    told = asked(50)._replace(is_reported=torch.ones(50, dtype=torch.float64))
    rest, report = combine(raw, told).mean_en, told.others_en[:, -1]
    assert torch.equal(rest, combine(raw, asked(50)).mean_en)
    for lean in (1.0, 0.5):
        raw[:, -1] = answer_bounds.MAX_LEAN * math.atanh(lean / answer_bounds.MAX_LEAN)
        torch.testing.assert_close(combine(raw, told).mean_en, lean * report + (1 - lean) * rest)


def test_what_a_report_teaches_moves_nothing_else() -> None:
    """A question that ends in zeros, as where nothing is reported, has the numbers of before; others do not."""
    with torch.random.fork_rng():
        torch.manual_seed(4)
        head = heads.ForecastHead(ModelConfig(d=16, heads=2), 9, 3, 4)
        for parameter in head.last.parameters():
            torch.nn.init.normal_(parameter)
        h, question = torch.randn(5, 16), torch.randn(5, 2, 9)
        mute = torch.cat([question[..., :6], torch.zeros(5, 2, 3)], dim=-1)
        before = head(h, mute)
        assert before.shape == (5, 2, ALONE + 4)
        assert not before[..., -1].any()
        for part in (head.from_report, head.beside):
            for parameter in part.parameters():
                torch.nn.init.normal_(parameter)
    assert torch.equal(head(h, mute), before)
    assert ((head(h, question) - before).abs() > 1e-3).all()


def test_any_numbers_give_a_covariance() -> None:
    raw = 1000 * torch.randn(2000, OUT, generator=torch.Generator().manual_seed(2))
    mean, cov = combine(raw, asked(2000))
    assert torch.isfinite(mean).all()
    assert (cov[:, 0] > 0).all()
    assert (cov[:, 0] * cov[:, 2] - cov[:, 1] ** 2 > 0).all()


def test_the_frame_of_the_motion_turns_with_it() -> None:
    """With nothing said in east and north, a turned frame turns the residual and the ellipse."""
    raw = torch.randn(20, OUT, generator=torch.Generator().manual_seed(3)).double()
    raw[:, [0, 1, 5, 6]] = 0
    raw[:, ALONE:] = 0
    turn = 0.8
    a, b = combine(raw, asked(20)), combine(raw, asked(20, angle=0.3 + turn))
    r = torch.tensor([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]], dtype=torch.float64)
    base = asked(20).base_en
    torch.testing.assert_close((a.mean_en - base) @ r.T, b.mean_en - base)
    as_matrix = [torch.stack([s.cov_m2[:, :2], s.cov_m2[:, 1:]], dim=1) for s in (a, b)]
    torch.testing.assert_close(r @ as_matrix[0] @ r.T, as_matrix[1])


def test_gradients_are_finite_at_zero() -> None:
    raw = torch.zeros(5, OUT, requires_grad=True)
    question = asked(5)
    t_nll(combine(raw, question), question.base_en).sum().backward()
    assert raw.grad is not None
    assert torch.isfinite(raw.grad).all()


def test_the_likelihood_is_student_t() -> None:
    """Against torch's own one-dimensional t where the ellipse is a circle and one coordinate is integrated out."""
    var, scale = 49.0, math.sqrt(49.0 * answer_bounds.SCALE_OF_COV)
    grid = torch.linspace(-4000, 4000, 400_001, dtype=torch.float64)
    target = torch.stack([torch.full_like(grid, 11.0), grid], dim=-1)
    spread = Spread(torch.zeros_like(target), torch.tensor([var, 0.0, var], dtype=torch.float64).expand(len(grid), 3))
    density = torch.trapezoid(torch.exp(-t_nll(spread, target)), grid)
    want = torch.distributions.StudentT(answer_bounds.NU, 0.0, scale).log_prob(torch.tensor(11.0)).exp()
    constant = 1 / (2 * math.pi)  # of the plane's t, which the loss leaves out: Γ(3) / (Γ(2) · ν · π)
    torch.testing.assert_close(density * constant, want.double(), rtol=1e-4, atol=0)


def test_the_gaussian_ninety_percent_ellipse_holds_ninety_percent() -> None:
    rng = np.random.default_rng(4)
    t = rng.normal(size=(400_000, 2)) / np.sqrt(rng.chisquare(answer_bounds.NU, 400_000) / answer_bounds.NU)[:, None]
    inside = (t**2).sum(1) * answer_bounds.SCALE_OF_COV < -2 * math.log(
        0.1
    )  # covariance I, scale matrix SCALE_OF_COV · I
    assert abs(inside.mean() - 0.9) < 0.003
