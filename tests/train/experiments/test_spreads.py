"""Forms of a spread: each is the distribution that it says, and the experiment's words follow from its numbers."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal
from train_worlds import WriteFile, assert_it_becomes_a_report, together, wander

from model.kinematics.answer_bounds import SCALE_OF_COV
from model.network.checkpoint import from_pretrained
from model.network.heads import Spread, t_nll
from stream.adapters.sources import parse
from train.batches.batches import Batches
from train.data.corpus import Corpus
from train.evaluation.metrics import energy_score
from train.experiments.lab import distributions, windows
from train.experiments.lab import full_pass as ex
from train.experiments.lab.distributions import FORMS, LEVELS, Given
from train.experiments.lab.lab import Lab
from train.experiments.questions import spreads
from train.experiments.questions.spreads import ALL, OTHERS, SERVED, WAYS, Row
from train.fit.loss import measure

N = 40


def given(seed: int = 1) -> Given:
    """N forecasts with tilted ellipses and any direction."""
    rng = torch.Generator().manual_seed(seed)
    root = 60 * torch.randn(N, 2, 2, generator=rng, dtype=torch.float64) + 20 * torch.eye(2)
    cov = root @ root.mT + 25 * torch.eye(2)
    angle = 2 * math.pi * torch.rand(N, generator=rng, dtype=torch.float64)
    mean = 200 * torch.randn(N, 2, generator=rng, dtype=torch.float64)
    spread = Spread(mean, torch.stack([cov[:, 0, 0], cov[:, 0, 1], cov[:, 1, 1]], dim=-1))
    return Given(spread, torch.stack([angle.cos(), angle.sin()], dim=-1))


def some(numbers: int, seed: int = 2) -> Tensor:
    return torch.randn(N, numbers, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_quantiles_of_the_t_are_where_its_integral_says() -> None:
    """Against the table of Student's t with 4 degrees, and against each other."""
    assert distributions.t_quantile(0.95) == pytest.approx(2.1318, abs=1e-4)
    assert distributions.t_quantile(0.25) == pytest.approx(-0.7407, abs=1e-4)
    at = torch.tensor([distributions.t_quantile(level) for level in LEVELS], dtype=torch.float64)
    torch.testing.assert_close(distributions.t_cdf(at), torch.tensor(LEVELS, dtype=torch.float64))


def test_along_is_where_the_direction_points() -> None:
    east, north = (torch.tensor([v], dtype=torch.float64) for v in ([1.0, 0.0], [0.0, 1.0]))
    torch.testing.assert_close(distributions.along(3 * north, north), torch.tensor([[3.0, 0.0]], dtype=torch.float64))
    torch.testing.assert_close(distributions.along(3 * north, east), torch.tensor([[0.0, 3.0]], dtype=torch.float64))
    cov = torch.tensor([[900.0, 0.0, 4.0]], dtype=torch.float64)
    torch.testing.assert_close(distributions.deviation(cov, north), torch.tensor([[2.0, 30.0]], dtype=torch.float64))


def test_a_mixture_s_quantiles_are_those_of_what_is_drawn_from_it() -> None:
    one, numbers = given(), some(4)
    logit, *parts = distributions.mixture(numbers, one)
    told = distributions.mixture_quantiles(numbers, one)
    rng = np.random.default_rng(3)
    draws = []
    for part in parts:  # a t is a Gaussian over the root of a χ² of 4 degrees
        cov = part.cov_m2.numpy()
        root = np.linalg.cholesky(SCALE_OF_COV * np.stack([cov[:, :2], cov[:, 1:]], axis=1))
        z = rng.standard_normal((N, 20_000, 2)) / np.sqrt(rng.chisquare(4, (N, 20_000, 1)) / 4)
        draws.append(part.mean_en.numpy()[:, None] + z @ root.transpose(0, 2, 1))
    stays = rng.random((N, 20_000)) < torch.sigmoid(logit).numpy()[:, None]
    drawn = distributions.along(torch.from_numpy(np.where(stays[..., None], *draws)), one.unit.unsqueeze(1))
    below = (drawn.unsqueeze(-1) < told.unsqueeze(1)).double().mean(1)  # N, 2, L
    assert (below - torch.tensor(LEVELS, dtype=torch.float64)).abs().max() < 0.02
    assert (parts[0].mean_en == 0).all()


def test_zeros_are_the_forecast() -> None:
    one = given()
    for name, form in FORMS.items():
        told = form.quantiles(torch.zeros(N, form.numbers, dtype=torch.float64), one)
        assert told.shape == (N, 2, len(LEVELS))
        assert (told.diff(dim=-1) > 0).all(), name
        if name != distributions.MIXTURE:  # of which a share stays
            torch.testing.assert_close(told.mean(-1), distributions.along(one.spread.mean_en, one.unit))


def test_losses_are_the_densities_that_they_say() -> None:
    one, to = given(), 100 * some(2, seed=5)
    ee, en, nn = one.spread.cov_m2.unbind(-1)
    cov = torch.stack([torch.stack([ee, en], -1), torch.stack([en, nn], -1)], -2)
    exact = MultivariateNormal(one.spread.mean_en, cov).log_prob(to)
    off = distributions.gaussian_loss(torch.zeros(N, 1, dtype=torch.float64), one, to) + exact
    torch.testing.assert_close(off, torch.full_like(off, off[0].item()))

    # A mixture all of whose share goes on, and no further than asked for, is the t.
    surely_goes = torch.tensor([0.7, -60.0, 0.0, 0.0], dtype=torch.float64).expand(N, 4)
    torch.testing.assert_close(
        distributions.mixture_loss(surely_goes, one, to), distributions.t_loss(surely_goes[:, :1], one, to)
    )
    torch.testing.assert_close(
        distributions.mixture_quantiles(surely_goes, one), distributions.t_quantiles(surely_goes[:, :1], one)
    )


@pytest.mark.parametrize("name", list(FORMS))
def test_every_form_learns_the_spread_that_its_targets_have(name: str) -> None:
    """Told nothing but how wide it is on average, as one number for all or twenty."""
    one, form = given(), FORMS[name]
    narrow = one._replace(spread=one.spread._replace(cov_m2=one.spread.cov_m2 / 9))
    rng = np.random.default_rng(6)
    cov = one.spread.cov_m2.numpy()
    root = np.linalg.cholesky(np.stack([cov[:, :2], cov[:, 1:]], axis=1))
    to = one.spread.mean_en + torch.from_numpy((root @ rng.standard_normal((50, N, 2, 1)))[..., 0])
    numbers = torch.zeros(form.numbers, dtype=torch.float64, requires_grad=True)
    mover = torch.optim.Adam([numbers], lr=0.05)
    many = Given(Spread(*(part.expand(50, *part.shape) for part in narrow.spread)), narrow.unit.expand(50, N, 2))
    for _ in range(300):
        mover.zero_grad()
        form.loss(numbers.expand(50, N, form.numbers), many, to).mean().backward()  # type: ignore[no-untyped-call]
        mover.step()
    told = form.quantiles(numbers.detach().expand(50, N, form.numbers), many)
    true = distributions.along(to, many.unit)
    held = ((told[..., 0] <= true) & (true <= told[..., -1])).double().mean()
    assert held == pytest.approx(0.9, abs=0.04)  # a t that is fitted to a Gaussian holds more in 90 %


def test_the_score_is_about_the_crps() -> None:
    """Of one direction, by the judge's own CRPS of a Gaussian that has no width in the other."""
    rng = np.random.default_rng(7)
    error, sigma = rng.normal(size=4_000) * 30, 30.0
    flat = np.stack([np.full(4_000, sigma**2), np.zeros(4_000), np.zeros(4_000)], axis=1)
    crps = energy_score(np.stack([error, np.zeros(4_000)], axis=1), flat).mean()
    spread = Spread(torch.zeros(1, 2, dtype=torch.float64), torch.tensor([[sigma**2, 0.0, 1.0]], dtype=torch.float64))
    told = distributions.as_gaussian(spread, torch.tensor([[1.0, 0.0]], dtype=torch.float64))[:, 0]
    assert distributions.pinball(told.expand(4_000, -1), torch.from_numpy(error)).mean() == pytest.approx(
        crps, rel=0.03
    )


@pytest.fixture
def lab(write_file: WriteFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    monkeypatch.setattr(spreads, "BATCH", replace(spreads.BATCH, rows=2, tokens=24))
    files = [
        write_file(together(*(wander(f"{name}-{i}", 40, 100 * n + i) for i in range(20))), f"{name}.parquet")
        for n, name in enumerate(("cabspotting_sf", "buses"))
    ]
    return Lab(tuple(map(parse, files)), tmp_path / "scratch", effort=0.003, cache=tmp_path / "cache")


def test_the_experiment_leads_from_files_to_a_report(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what is left out of a training is not in it."""
    seen: list[set[str]] = []

    def learn(lab: Lab, network: Any, train: Corpus, learned: str, seed: int) -> Any:
        seen.append({train.files[file] for file in np.unique(train.file)})
        return real(lab, network, train, learned, seed)

    real = spreads._learn
    monkeypatch.setattr(spreads, "_learn", learn)
    monkeypatch.setattr(spreads, "FILES", {file.name: file.title for file in lab.data})
    finding = spreads.run(lab)
    assert_it_becomes_a_report(finding, "spreads", tmp_path)
    both = {file.name for file in lab.data}
    assert seen == [both, both, {"buses.parquet"}, {"buses.parquet"}]
    scores = finding.tables[0].rows
    assert [row[:2] for row in scores[:: len(WAYS)]] == [
        (ALL, "cabspotting_sf"),
        (ALL, "buses"),
        (OTHERS, "cabspotting_sf"),
    ]
    assert all(row[-1] == "1.000 and 1.000" for row in scores if row[2] == SERVED)


@torch.no_grad()
def test_what_a_head_is_asked_is_what_the_network_answered(lab: Lab) -> None:
    """Forecast, target and horizon of each question, as `offline.answer` has them; and along where it goes."""
    network = from_pretrained("small").eval()
    exam = ex.ask(ex.judged_tracks(lab, lab.data[0]))
    asked = list(spreads._of_exam(network, exam))
    looked = list(ex.look(network, exam))
    assert len(asked) == len(looked)
    for (column, seen), (which, hidden, kin, fix, truth_en) in zip(asked, looked, strict=True):
        known = exam.anchors.target[which] >= 0
        expected = windows.answer(network, hidden, kin, fix, exam.anchors.dt_s[which])
        np.testing.assert_array_equal(column, np.nonzero(known)[1])
        torch.testing.assert_close(seen.given.spread.mean_en, expected.mean_en[torch.from_numpy(known)])
        torch.testing.assert_close(seen.given.spread.cov_m2, expected.cov_m2[torch.from_numpy(known)])
        np.testing.assert_array_equal(seen.target_en, truth_en[known])
        frame = windows.question(network, kin, fix, exam.anchors.dt_s[which]).frame[torch.from_numpy(known)]
        turned = distributions.along(frame, seen.given.unit)
        torch.testing.assert_close(turned[:, 0], frame.norm(dim=-1))
        np.testing.assert_allclose(seen.inputs[:, : network.config.d].numpy(), hidden.numpy()[np.nonzero(known)[0]])


@torch.no_grad()
def test_answers_of_a_batch_are_its_own(lab: Lab) -> None:
    """The likelihood of the network's own spreads is the one that training measures on that batch."""
    network = from_pretrained("small").eval()
    batch = Batches(lab.splits().train, network.config, spreads.BATCH, 3).draw(0)
    seen = spreads._of_batch(network, batch)
    own = t_nll(seen.given.spread, seen.target_en).mean()
    assert own.item() == pytest.approx(measure(network, batch).likelihood.item(), rel=1e-5)


@torch.no_grad()
def test_a_row_is_the_score_of_what_heads_say(lab: Lab) -> None:
    """Heads that change nothing: the score, share held and length of the network's own spreads, horizon by horizon."""
    network = from_pretrained("small").eval()
    exam = ex.ask(ex.judged_tracks(lab, lab.data[0]))
    heads = {name: spreads.head(network, form.numbers) for name, form in FORMS.items()}
    rows = {row.way: row for row in spreads._judge(list(spreads._of_exam(network, exam)), heads, ALL, "taxis", 0)}
    columns, parts = zip(*spreads._of_exam(network, exam), strict=True)
    column = np.concatenate(columns)
    true = torch.cat([distributions.along(part.target_en, part.given.unit) for part in parts])
    told = torch.cat([distributions.as_gaussian(part.given.spread, part.given.unit) for part in parts])
    for at in range(len(ex.COLUMNS)):
        mine = torch.from_numpy(column == at)
        if not mine.any():
            assert np.isnan(rows[SERVED].score_m[at])
            continue
        low, high = told[mine][..., 0], told[mine][..., -1]
        assert rows[SERVED].score_m[at] == pytest.approx(distributions.pinball(told, true).sum(-1)[mine].mean().item())
        assert rows[SERVED].held[at] == ((low <= true[mine]) & (true[mine] <= high)).double().mean().item()
        assert rows[SERVED].length_m[at] == pytest.approx((high - low).mean().item())
        assert rows[distributions.T].length_m[at] < rows[SERVED].length_m[at]  # of the same covariance


def test_heads_learn(lab: Lab) -> None:
    network = from_pretrained("small").eval().requires_grad_(False)
    heads = spreads._learn(lab, network, lab.splits().train, ALL, 0)
    assert all(one[-1].weight.abs().max() > 0 for one in heads.values())  # they began at zero
    assert len(heads) == len(FORMS)


def test_quantiles_are_told_in_order_and_learned_in_deviations() -> None:
    one = given()
    crossed = torch.zeros(N, 2, len(LEVELS), dtype=torch.float64)
    crossed[..., 0] = 9.0  # the lowest above all others
    told = distributions.quantiles(crossed.flatten(-2), one)
    assert (told.diff(dim=-1) >= 0).all()
    wide = one._replace(spread=Spread(10 * one.spread.mean_en, 100 * one.spread.cov_m2))
    numbers, to = some(2 * len(LEVELS)), 100 * some(2, seed=5)
    torch.testing.assert_close(
        distributions.quantile_loss(numbers, wide, 10 * to), distributions.quantile_loss(numbers, one, to)
    )


def test_words_follow_the_numbers() -> None:
    def rows(mixture: float, unseen: float, luck: float = 0.0, quantiles: float = 1.01) -> list[Row]:
        share = {
            SERVED: 1.0,
            distributions.GAUSSIAN: 1.3,
            distributions.T: 0.99,
            distributions.MIXTURE: mixture,
            distributions.QUANTILES: quantiles,
        }
        far = {**share, distributions.MIXTURE: unseen}
        return [
            Row(
                learned,
                data,
                way,
                seed,
                *3 * ((100.0 * ratio + luck * seed * (way == distributions.MIXTURE), math.nan),),
            )
            for learned, data, ratios in ((ALL, "taxis", share), (ALL, "ships", share), (OTHERS, "taxis", far))
            for way, ratio in ratios.items()
            for seed in (0, 1)
        ]

    said = spreads.conclude(rows(mixture=0.9, unseen=1.1))
    assert said.startswith("Over all files a t and a narrow one tells best how far off a forecast may be: ")
    assert "1.300 (one Gaussian), 0.990 (one t), 0.900 (a t and a narrow one), 1.010 (quantiles)" in said
    assert "by file those of a t and a narrow one 0.900 for taxis, 0.900 for ships. " in said
    assert "nor a head has seen a t and a narrow one tells best: " in spreads.conclude(rows(mixture=0.9, unseen=0.95))
    assert "seen nothing tells better than one t: " in spreads.conclude(rows(mixture=0.9, unseen=1.03))
    lucky = spreads.conclude(rows(mixture=0.97, unseen=1.1, luck=1.0))
    assert lucky.startswith("Over all files nothing tells better than one t how far off")
    # which is no luck of those that lie as far apart whatever the seed
    apart = spreads.conclude(rows(mixture=1.0, unseen=1.1, luck=20.0, quantiles=0.95))
    assert apart.startswith("Over all files quantiles tell best how far off")
    assert "up to 0.0 % between one t and quantiles may be a seed's luck" in apart


def test_a_long_track_becomes_several_that_are_travelled_as_it_was(write_file: WriteFile, tmp_path: Path) -> None:
    long = wander("a", 2 * ex.LONGEST, 1, cadence_s=5.0)
    file = write_file(together(*(wander(f"e{i}", 30, i) for i in range(20)), long), "long.parquet")
    corpus = Lab((parse(file),), tmp_path, cache=tmp_path / "cache").splits().train
    corpus = replace(corpus, mode=np.arange(len(corpus), dtype=corpus.mode.dtype), modes=("car",) * len(corpus))
    exam = ex.ask(corpus)
    assert len(exam.corpus) > len(corpus)
    assert len(exam.corpus.mode) == len(exam.corpus)
    for (first, _), mode in zip(exam.corpus.tracks, exam.corpus.mode, strict=True):
        (whole,) = np.flatnonzero((corpus.tracks[:, 0] <= first) & (first < corpus.tracks[:, 1]))
        assert mode == corpus.mode[whole]
