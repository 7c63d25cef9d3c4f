"""Writes the model card of weights whose atlas head was trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from train.atlas.fitting import Fitted


def card_with_atlas(weights: str, examples: Mapping[str, int], steps: int, fitted: Fitted) -> str:
    """Returns Markdown: what `pathcast fit-atlas` changed of `weights`. `examples` are counts by file."""
    from model.parameters.reading import CARD_FILE, resolve

    file = resolve(weights) / CARD_FILE
    theirs = file.read_text(encoding="utf-8") if file.exists() else f"`{weights}` has no card.\n"
    lines = [
        f"# {weights}, and how far it believes an atlas",
        "",
        f"`pathcast fit-atlas` made these of `{weights}`, whose licence and limits hold here, too. Without an atlas",
        "they answer as those do, to the bit.",
        "",
        f"- {steps:,} steps on what then happened, and what atlases of these fleets said, of half of the forecasts",
        "  without the thing's own outcomes:",
        *(f"  {name}, {count:,} forecasts" for name, count in examples.items()),
        f"- Mean distance there, as a share of damped velocity's: {fitted.before:.3f} by variances alone,",
        f"  {fitted.after:.3f} with the trained head.",
        "",
        "## The weights it came from",
        "",
        theirs,
    ]
    return "\n".join(lines)
