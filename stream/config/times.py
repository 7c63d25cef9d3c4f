"""Reads spans of time as people write them: 14d, 36h, 30m or 90s."""

from __future__ import annotations

import re
from typing import Final

DAY_S: Final = 86_400
_UNITS_S: Final = {"s": 1, "m": 60, "h": 3_600, "d": DAY_S}


def span_s(text: str) -> int:
    """Parses such a span. Raises ValueError."""
    match = re.fullmatch(r"(\d{1,9})([dhms])", text.strip())
    if match is None or not int(match[1]):
        raise ValueError(f"{text!r} is no time like 14d, 36h, 30m or 90s")
    return int(match[1]) * _UNITS_S[match[2]]


def seconds(text: str, option: str) -> int:
    """Parses such a span. Raises BadParameter, which names the option."""
    import typer  # here, so that a program that only subscribes does not load it

    try:
        return span_s(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from None
