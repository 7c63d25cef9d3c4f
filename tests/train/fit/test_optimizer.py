"""Which optimiser moves which weights, and that one schedule moves both."""

from __future__ import annotations

import torch
from fit_worlds import TINY

from model.network.network import build
from train.fit.optimizer import Optimizer


def make(kind: str) -> tuple[torch.nn.Module, Optimizer]:
    network = build(TINY, 0)
    rates = {"lr": 1e-3, "muon_lr": 0.02, "old_lr": 1.0, "table_lr": 4.0}
    return network, Optimizer(network, kind=kind, weight_decay=0.1, bfloat16=False, **rates)


def names(network: torch.nn.Module, part: torch.optim.Optimizer) -> set[str]:
    held = {id(p) for group in part.param_groups for p in group["params"]}
    return {name for name, p in network.named_parameters() if id(p) in held}


def test_muon_moves_hidden_matrices_and_adamw_what_meets_the_world() -> None:
    network, optimizer = make("muon")
    adamw, muon = (names(network, part) for part in optimizer.parts)
    assert adamw | muon == {name for name, _ in network.named_parameters()}
    assert not adamw & muon
    assert {"trunk.blocks.0.qkv.weight", "trunk.blocks.1.down.weight", "gap.middle.weight"} <= muon
    assert {"trunk.embed.weight", "forecast.last.weight", "gap.from_question.weight", "trunk.norm.weight"} <= adamw
    assert {"trunk.report.weight", "forecast.from_report.weight", "forecast.beside.from_question.weight"} <= adamw
    assert all(network.get_parameter(name).ndim == 2 for name in muon)


def test_adamw_alone_moves_everything_and_decays_no_vector() -> None:
    network, optimizer = make("adamw")
    (adamw,) = optimizer.parts
    assert names(network, adamw) == {name for name, _ in network.named_parameters()}
    for group in adamw.param_groups:
        assert all((p.ndim >= 2) == (group["weight_decay"] > 0) for p in group["params"])


def test_a_step_takes_the_same_share_of_every_rate() -> None:
    network, optimizer = make("muon")
    for weight in network.parameters():
        weight.grad = torch.ones_like(weight)
    optimizer.step(0.5)
    assert [part.param_groups[0]["lr"] for part in optimizer.parts] == [0.5e-3, 0.01]
    assert all(weight.grad is None for weight in network.parameters())
