"""Reads spans of time as people write them: 14d, 36h, 30m or 90s."""

from __future__ import annotations

import re
from typing import Final

import typer

DAY_S: Final = 86_400
_UNITS_S: Final = {"s": 1, "m": 60, "h": 3_600, "d": DAY_S}


def seconds(text: str, option: str) -> int:
    """Parses such a span. Raises BadParameter, which names the option."""
    found = re.fullmatch(r"(\d{1,9})([dhms])", text.strip())
    if found is None or not int(found[1]):
        raise typer.BadParameter(f"{text!r} is no time like 14d, 36h, 30m or 90s", param_hint=option)
    return int(found[1]) * _UNITS_S[found[2]]
