"""Reads spans of time as people write them: 14d, 36h, 30m or 90s; and says when a line of a log that repeats is due."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

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


LINE_S: Final = 60.0  # between two lines of what goes on
LOOK_S: Final = 10.0  # between two looks whether one is due


class Counted(NamedTuple):
    """Holds what was counted at the last line, what is counted now, and the seconds between."""

    before: int
    now: int
    seconds: float

    @property
    def per_s(self) -> float:
        return (self.now - self.before) / max(self.seconds, 1e-3)


class Pacer:
    """Decides when what is counted needs a line in the log: at once when it grows after a pause, then once a minute
    while it grows. A pause is no part of the seconds."""

    def __init__(self, count: int, now_s: float) -> None:
        self._before, self._began_s, self._line_s = count, now_s, float("-inf")

    def take_line(self, count: int, now_s: float) -> Counted | None:
        """Returns what the line is to say, if one is due. Call it every LOOK_S."""
        if count == self._before:
            self._began_s = now_s
        elif now_s - self._line_s >= LINE_S:
            line = Counted(self._before, count, now_s - self._began_s)
            self._before, self._began_s, self._line_s = count, now_s, now_s
            return line
        return None
