"""The card of refreshed weights: that of their training, and below it how they are made again."""

from __future__ import annotations

from train.refresh.parts import Parts, utc


def card_of(trained: str, command: str, parts: Parts) -> str:
    """Returns Markdown. `trained` is the card that training wrote, `command` makes the weights once more."""
    judged = [f"- {one.file}: judged from {utc(one.from_ms)} to {utc(one.to_ms)}." for one in parts.hours]
    lines = [
        trained.rstrip(),
        "",
        "## Refreshed",
        "",
        "Made by `pathcast train refresh` from a fleet's own days. The same data, version of pathcast and kind of",
        "processor make the same weights again by",
        "",
        f"    {command}",
        "",
        *judged,
        "- Nothing of these hours trained. `trained_on.json` states what did, `decision.json` how both were judged.",
        "",
    ]
    return "\n".join(lines)
