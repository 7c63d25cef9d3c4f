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
    kept: int,
    world: int,
) -> str:
    """Markdown; the weights are the EMA after `kept` of the steps.

    Numbers are of validation batches as they are drawn for training (thinned, augmented).
    """
    optimizer = {"adamw": "AdamW", "muon": f"Muon ({options.muon_lr:g}) and AdamW"}[options.optimizer]
    micro = options.accumulate * world
    drawn = f"{micro} × " if micro > 1 else ""
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
        f"- Training: {steps:,} steps of {drawn}{options.batch.rows} × {options.batch.tokens} pings, seed",
        f"  {options.seed}, {optimizer}, learning rate {options.lr:g} with warm-up and cosine,",
        f"  averaged weights (EMA {options.ema:g}).",
        *([f"  The weights are those of step {kept:,}: nothing was gained after it."] if kept != steps else []),
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
