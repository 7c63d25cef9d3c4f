"""Writes the model card beside the weights: what they are, their data, their training, and their validation losses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from model.config import ModelConfig
from train.data.corpus import Corpus

if TYPE_CHECKING:
    from train.batches.options import FitOptions


def write_card(
    config: ModelConfig,
    options: FitOptions,
    train: Corpus,
    validations: list[tuple[int, dict[str, float]]],
    steps: int,
    kept: int,
    world: int,
) -> str:
    """Returns Markdown; the weights are the EMA after `kept` of the steps.

    Its numbers are from validation batches that are drawn like those of training (resampled, augmented).
    """
    optimizer = {"adamw": "AdamW", "muon": f"Muon ({options.muon_lr:g}) and AdamW"}[options.optimizer]
    micro = options.accumulate * world
    drawn = f"{micro} × " if micro > 1 else ""
    lines = [
        f"# pathcast {config.name}",
        "",
        "Forecasts where a moving thing will be, and fills gaps in its track. Made by `pathcast train`;",
        _describe_use(config),
        "",
        f"- Size: d={config.d}, {config.blocks} blocks, {config.heads} heads, one key and value, a band of",
        f"  {config.window} pings.",
        *_describe_origin(options),
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
            for step, v in _choose_validations(validations)
        ]
        lines.append("")
    return "\n".join(lines)


def _describe_use(config: ModelConfig) -> str:
    if (reason := config.not_servable()) is not None:
        return f"no worker serves it: {reason}."
    return "used by name or directory: `pathcast worker --weights DIR`."


def _describe_origin(options: FitOptions) -> list[str]:
    """Names the initial weights: these are based on their data too, and bound by their licence."""
    if options.init is None:
        return []
    parts = ", ".join(options.only)
    trained = f"Trained further: {parts}; the rest is as it was." if parts else "All of it was trained further."
    return [f"- Begun from: `{options.init}`, whose card and licence hold too. {trained}"]


def _choose_validations(
    validations: list[tuple[int, dict[str, float]]], most: int = 12
) -> list[tuple[int, dict[str, float]]]:
    every = -(-len(validations) // most)
    return [v for i, v in enumerate(validations) if i % every == 0 or i == len(validations) - 1]
