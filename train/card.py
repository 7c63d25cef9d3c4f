"""The model card that lies beside weights: what they are, made from what, how, and how good in validation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from model.config import ModelConfig
from train.data import Corpus

if TYPE_CHECKING:
    from train.options import FitOptions


def write_card(
    config: ModelConfig,
    options: FitOptions,
    train: Corpus,
    validations: list[tuple[int, dict[str, float]]],
    steps: int,
) -> str:
    """Markdown. Numbers are of validation batches as they are drawn for training (thinned, augmented), of the EMA."""
    lines = [
        f"# pathcast {config.name}",
        "",
        "Forecasts where a moving thing will be, and fills gaps in its track. Made by `pathcast train`; used by name",
        "or directory: `pathcast worker --weights DIR`.",
        "",
        f"- Size: d={config.d}, {config.blocks} blocks, {config.heads} heads, one key and value, a band of",
        f"  {config.window} pings.",
        f"- Data: {', '.join(train.files)}: {train.pings:,} pings in {len(train):,} tracks",
        f"  (corpus {train.fingerprint}).",
        f"- Training: {steps:,} steps of {options.batch.rows} × {options.batch.tokens} pings, seed {options.seed},",
        f"  AdamW, learning rate {options.lr:g} with warm-up and cosine, averaged weights (EMA {options.ema:g}).",
        "",
    ]
    if validations:
        lines += [
            "Validation batches (entities never trained on, thinned and augmented like the training's; mean metres):",
            "",
            "| step | loss | next token | random times ahead | hidden in gaps |",
            "|---|---|---|---|---|",
        ]
        lines += [
            f"| {step} | {v['total']:.3f} | {v['next_m']:.0f} | {v['far_m']:.0f} | {v['gap_m']:.0f} |"
            for step, v in _some(validations)
        ]
        lines.append("")
    return "\n".join(lines)


def _some(validations: list[tuple[int, dict[str, float]]], most: int = 12) -> list[tuple[int, dict[str, float]]]:
    every = -(-len(validations) // most)
    return [v for i, v in enumerate(validations) if i % every == 0 or i == len(validations) - 1]
