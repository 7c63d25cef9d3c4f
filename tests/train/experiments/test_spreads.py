"""Forms of a spread: each is the distribution that it says, and the experiment's words follow from its numbers."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from train_worlds import LabOf, assert_it_becomes_a_report, fleet

from model.network.checkpoint import from_pretrained
from train.data.corpus import Corpus
from train.experiments.lab import distributions, windows
from train.experiments.lab import full_pass as ex
from train.experiments.lab.distributions import FORMS
from train.experiments.lab.lab import Lab
from train.experiments.questions import spreads
from train.experiments.questions.spreads import ALL, OTHERS, SERVED, WAYS, Row


@pytest.fixture
def lab(lab_of: LabOf, monkeypatch: pytest.MonkeyPatch) -> Lab:
    monkeypatch.setattr(spreads, "BATCH", replace(spreads.BATCH, rows=2, tokens=24))
    names = ("cabspotting_sf", "buses")
    return lab_of({name: fleet(20, 40, name=f"{name}-", seed=100 * n) for n, name in enumerate(names)}, effort=0.003)


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
