"""Steps of several micro-batches: the same as one large batch, to the bit the same after a kill."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fit_worlds import BATCH, TINY, circling, options

from model.kinematics import motion, queries
from model.kinematics.queries import Question
from model.network.network import Network, build, to_tensors
from train.batches.batches import Batch, Batches
from train.fit import loss as objective
from train.fit.loss import Counts, Losses
from train.fit.trainer import fit


def joined(batches: list[Batch]) -> Batch:
    """One batch with all of their rows."""
    assert all(batch.packing is None for batch in batches)
    return Batch(
        *(
            type(items[0])(*(np.concatenate(parts) for parts in zip(*items, strict=True)))
            if isinstance(items[0], tuple)
            else np.concatenate(items)
            for items in zip(*(batch[:-1] for batch in batches), strict=True)
        )
    )


def uneven(batch: Batch) -> Batch:
    """The batch with most of its answers struck out, so that a mean of means would be another mean."""
    few = batch.ahead_mask.copy()
    few[1:] = False
    return batch._replace(ahead_mask=few, gap_mask=batch.gap_mask & False)


def gradients(network: Network) -> list[torch.Tensor]:
    return [p.grad.clone() for p in network.parameters() if p.grad is not None]


def moved() -> Network:
    """A network whose last layers are not zero, so that every weight has a gradient."""
    network = build(TINY, 0)
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.02 * torch.randn_like(weight))
    return network


def test_micro_batches_have_the_gradient_of_one_batch_with_their_rows() -> None:
    drawn = Batches(circling(), TINY, BATCH, 0)
    parts = [drawn.draw(0), uneven(drawn.draw(1)), drawn.draw(2)]
    counts = Counts(*(sum(n) for n in zip(*map(objective.count_answers, parts), strict=True)))
    network = moved()
    whole = objective.measure(network, joined(parts))
    whole.total.backward()
    wanted = gradients(network)
    network.zero_grad(set_to_none=True)
    summed = torch.zeros(len(Losses._fields))
    for part in parts:
        losses = objective.measure(network, part, counts=counts)
        losses.total.backward()
        summed += torch.stack([loss.detach() for loss in losses])
    torch.testing.assert_close(summed, torch.stack([loss.detach() for loss in whole]), rtol=1e-5, atol=1e-6)
    for one, other in zip(gradients(network), wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6 * float(other.abs().max()) + 1e-9)


def test_an_untrained_network_loses_what_physics_misses() -> None:
    """In numpy, from the questions alone: distances weigh by the time asked for to the power of -0.7."""
    batch = Batches(circling(), TINY, BATCH, 0).draw(0)
    losses = {name: float(value.detach()) for name, value in objective.measure(build(TINY, 0), batch)._asdict().items()}
    ahead = np.hypot(*np.moveaxis(batch.ahead_en - batch.ahead.base_en, -1, 0))
    gap = np.hypot(*np.moveaxis(batch.gap_en - batch.gap.base_en, -1, 0))
    known = batch.ahead_mask
    expected = {
        "distance": (ahead / np.maximum(batch.ahead_s, 1.0) ** 0.7)[known].mean() / objective.DISTANCE_M,
        "gaps": (gap / np.maximum(batch.gap_s, 1.0)[..., None] ** 0.7)[batch.gap_mask].mean() / objective.DISTANCE_M,
        "interval": np.abs(batch.log_next)[batch.log_next_mask].mean(),
        "next_m": ahead[..., 0][known[..., 0]].mean(),
        "far_m": ahead[..., 1:][known[..., 1:]].mean(),
        "gap_m": gap[batch.gap_mask].mean(),
    }
    assert {name: losses[name] for name in expected} == pytest.approx(expected, rel=1e-3)


def test_a_gap_is_asked_of_the_token_that_ends_it() -> None:
    """The gap head learned from the first token of each row once, and no test saw it."""
    batch, network = Batches(circling(), TINY, BATCH, 0).draw(0), moved()
    asking = batch.gap_mask.any(-1)
    assert (batch.gap_token[asking] > 0).all()
    for row, gap in np.argwhere(asking)[:3]:
        only = np.zeros_like(batch.gap_mask)
        only[row, gap] = batch.gap_mask[row, gap]
        seen = slice(row, row + 1), slice(0, batch.gap_token[row, gap] + 1)  # what the worker has seen when it fills
        with torch.no_grad():
            x, time_ms = torch.from_numpy(batch.x_BTF[seen]), torch.from_numpy(batch.time_ms[seen])
            hidden = network.trunk(x, network.find(batch.lat_deg[seen], batch.lon_deg[seen]), time_ms)[0][:, -1:]
            chosen = [part[row : row + 1, gap : gap + 1] for part in (*batch.gap, batch.gap_chord_en)]
            place = [part[row : row + 1, gap : gap + 1] for part in (batch.gap_lat_deg, batch.gap_lon_deg)]
            *fields, chord_en = chosen
            mean_en = network.fill(
                hidden, to_tensors(Question(*fields), torch.float32), chord_en, *place
            ).mean_en.numpy()
            lost = float(objective.measure(network, batch._replace(gap_mask=only)).gap_m)
        off = np.hypot(*np.moveaxis(mean_en[0, 0] - batch.gap_en[row, gap], -1, 0))
        assert lost == pytest.approx(off[only[row, gap]].mean(), rel=1e-3)


@pytest.mark.parametrize(("number", "ago"), [(1, 0), (2, 1)])
def test_a_network_that_leans_to_an_interval_loses_what_that_one_misses(number: int, ago: int) -> None:
    """The last one again, or the one before it; the first ping of a row has neither, and its second only the last."""
    options = replace(BATCH, thin=1.0, repace=1.0)
    batch, network = Batches(circling(), TINY, options, 0).draw(0), build(TINY, 0)
    with torch.no_grad():
        network.interval.last.bias[number] = 2 * np.arctanh(0.5)  # a lean of 1
    times_s = batch.time_ms / 1000.0
    known = batch.log_next_mask.copy()
    known[:, : ago + 1] = False
    steps = np.diff(times_s, axis=1, prepend=0.0)
    kin = motion.scan(steps, np.zeros((*steps.shape, 2)), TINY)
    running = kin[..., motion.LOG_DT]
    np.testing.assert_allclose(batch.recent.features, queries.interval(kin).features, atol=0.01)  # of times in ms
    then = np.log(np.roll(np.maximum(steps, 1e-3), ago, axis=1)) - running
    only = batch._replace(log_next_mask=known)
    lost = float(objective.measure(network, only).interval.detach())
    assert lost == pytest.approx(np.abs(then - batch.log_next)[known].mean(), rel=1e-3)
    assert lost != pytest.approx(np.abs(batch.log_next)[known].mean(), rel=0.05), "the running one is another"
    with torch.no_grad():
        network.interval.last.weight[0] += 1.0
        before = float(objective.measure(network, only).interval)
        network.interval.recent.weight += 1.0
    assert abs(float(objective.measure(network, only).interval.detach()) - before) > 0.01, "it sees the last intervals"


def test_every_part_of_the_loss_is_minimised(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each alone, as a part that is left out of the sum is not missed by any of the others."""
    batch, weights = Batches(circling(), TINY, BATCH, 0).draw(0), ("LIKELIHOOD", "INTERVAL", "GAPS")
    found = {}
    for name in weights:
        for other in weights:
            monkeypatch.setattr(objective, other, float(other == name))
        losses = objective.measure(moved(), batch)
        found[name] = float((losses.total - losses.distance).detach())
    rest = (losses.interval, losses.gaps)
    assert [found[name] for name in weights[1:]] == pytest.approx([float(part) for part in rest], rel=1e-4)
    assert found["LIKELIHOOD"] > 1.5 * float(losses.likelihood)  # of gap fills, too


def test_a_mean_is_over_the_answers_that_patches_leave(tmp_path: Path) -> None:
    """Of patches of two only every second token may be asked; the others' answers must not dilute the mean."""
    patched = replace(TINY, patch=2)
    batch = Batches(circling(), patched, BATCH, 0).draw(0)
    left = objective.whole_patches(batch, 2)
    assert objective.count_answers(left).ahead < 0.6 * objective.count_answers(batch).ahead
    network = build(patched, 0)
    losses = [
        objective.measure(network, batch),
        objective.measure(network, batch, counts=objective.count_answers(left)),
    ]
    report = fit(circling(), None, patched, options(tmp_path, steps=1, bfloat16=False))
    assert [float(loss.total.detach()) for loss in losses] == pytest.approx([report.losses[0]] * 2, rel=1e-6)


def test_a_step_of_micro_batches_learns_from_all_of_them(tmp_path: Path) -> None:
    """The first step's loss is that of both micro-batches' rows in one batch."""
    drawn = Batches(circling(), TINY, BATCH, 0)
    whole = objective.measure(build(TINY, 0), joined([drawn.draw(0), drawn.draw(1)]))
    report = fit(circling(), None, TINY, options(tmp_path, steps=1, accumulate=2, bfloat16=False))
    assert report.losses[0] == pytest.approx(float(whole.total.detach()), rel=1e-5)


def test_accumulating_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="accumulate"):
        replace(options(Path()), accumulate=0)
