"""Our Muon takes torch's steps, in whichever precision the machine multiplies fast."""

from __future__ import annotations

import pytest
import torch

from train.fit.optimizer import Muon, orthogonal

SHAPES = ((24, 8), (8, 24), (8, 24), (16, 16))  # two alike: they are moved together
LR, WEIGHT_DECAY = 0.02, 0.1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_it_goes_where_torchs_goes(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    start = [torch.randn(shape) for shape in SHAPES]
    ours, torchs = ([torch.nn.Parameter(matrix.clone()) for matrix in start] for _ in range(2))
    steppers = (
        Muon(ours, lr=LR, weight_decay=WEIGHT_DECAY, dtype=dtype),
        torch.optim.Muon(torchs, lr=LR, weight_decay=WEIGHT_DECAY),
    )
    for _ in range(4):
        for mine, other in zip(ours, torchs, strict=True):
            mine.grad = torch.randn(mine.shape)
            other.grad = mine.grad.clone()
        for stepper in steppers:
            stepper.step()
    for mine, other, before in zip(ours, torchs, start, strict=True):
        way = (other - before).norm()
        assert (mine - other).norm() < 0.02 * way  # torch's is in bfloat16, of 8 bits


def test_an_update_has_singular_values_of_about_one_and_the_matrix_own_vectors() -> None:
    torch.manual_seed(0)
    matrices = torch.randn(3, 8, 32) * torch.logspace(-3, 3, 3)[:, None, None]
    updates = orthogonal(matrices, torch.float32)
    values = torch.linalg.svdvals(updates)
    assert values.min() > 0.5
    assert values.max() < 1.3
    u, _, vt = torch.linalg.svd(matrices, full_matrices=False)
    kept = (u.mT @ updates @ vt.mT).diagonal(dim1=1, dim2=2)
    torch.testing.assert_close(kept.sort().values, values.sort().values, rtol=0.05, atol=0.05)


def test_what_has_no_gradient_stays() -> None:
    still, moved = (torch.nn.Parameter(torch.ones(4, 4)) for _ in range(2))
    moved.grad = torch.eye(4)
    Muon([still, moved], lr=LR, weight_decay=WEIGHT_DECAY).step()
    assert torch.equal(still, torch.ones(4, 4))
    assert not torch.equal(moved, torch.ones(4, 4))
