"""Writes the model card of weights that were calibrated again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from train.calibration.calibrate import CoverageChange


def write_calibrated_card(
    name: str,
    weights: str,
    theirs: str | None,
    held: Sequence[CoverageChange],
    split: str,
    left_out: Sequence[tuple[str, str]],
    share: float | None,
) -> str:
    """Returns Markdown: what the calibration changed, and below it the card of the original weights.

    `left_out` holds files and the weights trained without them; `share` is how far forecasts moved towards physics,
    None if that was not requested.
    """
    from train.calibration.calibrate import HIDDEN

    fitted = {one.of for one in held}
    parts = {  # part of the answers, and whether it changed
        "positions of forecasts": bool(share),
        "covariances of forecasts": True,
        "when the next ping is due": False,
        "positions of gap fills": False,
        "covariances of gap fills": HIDDEN in fitted,
    }
    changed, same = (", ".join(part for part in parts if parts[part] is whether) for whether in (True, False))
    lines = [
        f"# pathcast {name}, calibrated again",
        "",
        f"`pathcast train calibrate` made these of `{weights}`, whose licence and limits hold here, too.",
        "",
        f"- Fitted to tracks: {changed}.",
        *([] if share is None else [f"- Forecasts are {describe_shrinkage(share)}."]),
        f"- As in `{weights}`: {same}.",
        "",
        f"The tracks are of split {split} of these files. The shares are of the errors that were fitted to; those of",
        "other tracks are for `pathcast evaluate` to say.",
        "",
        *(f"- {one}." for one in held),
        *(f"- {file}, left out: its train split, as it is to {without}." for file, without in left_out),
        "",
        "## The weights it came from",
        "",
    ]
    if theirs is None:
        return "\n".join([*lines, f"`{weights}` has no card.", ""])
    lines += [
        "Their card, as it was. What it says of who uses them and of what is fitted anew is not of these weights.",
        "",
    ]
    return "\n".join([*lines, *(f"##{line}" if line.startswith("#") else line for line in theirs.splitlines()), ""])


def describe_shrinkage(share: float) -> str:
    """Returns in words what happened to the forecasts."""
    if share == 0:
        return "as they were: no share of the way to damped velocity brings them nearer"
    return f"shrunk by {share:g} of the way to damped velocity"
