"""The card beside trained weights: what it says is what was done."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fit_worlds import TINY, circling, options

from model.config import ModelConfig
from train.fit.model_card import write_card


def card(config: ModelConfig = TINY, **changes: object) -> str:
    return write_card(config, options(Path("out"), **changes), circling(2), [], steps=20, kept=20, world=1)


def test_a_card_names_the_weights_that_these_were_begun_from() -> None:
    """Whoever is handed them is bound by the licence of the first, which may allow no commerce."""
    assert "Begun from" not in card()
    begun = card(init="small-research")
    assert "Begun from: `small-research`, whose card and licence hold too. All of it was trained further." in begun
    assert "Trained further: gap, interval; the rest is as it was." in card(init="small", only=("gap", "interval"))


def test_a_card_promises_no_worker_to_weights_that_none_serves() -> None:
    assert "used by name or directory: `pathcast worker --weights DIR`." in card()
    patched = card(replace(TINY, patch=4))
    assert "no worker serves it: a token is a patch of 4 pings" in patched
    assert "pathcast worker" not in patched
