"""Shows people what `pathcast up` does: on a terminal in a table that is renewed, elsewhere line by line."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from stream.processes.keeper import Status
from stream.wire.escape import escaped

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

# The lines of a log (text or JSON) and of the root command that warn, or say how far the start of a worker is.
_SHOWN: Final = re.compile(
    r"\S+(?: \S+)? (?:WARNING|ERROR|CRITICAL) |error: |warning: |Traceback \(most recent call last\)"
    r'|\{.*"level":"(?:warning|error|critical)"'
    r'|(?:\S+ INFO |\{.*"message":")(?:compiling kernels|ready: partitions|(?:atlas: )?(?:history: |version ))'
)


class Screen:
    """Shows lines, and on a terminal the table below them."""

    def __init__(self, console: Console) -> None:
        from rich.live import Live

        self._console = console
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None

    def __enter__(self) -> Screen:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def say(self, name: str, line: str) -> None:
        """Shows a line with the part's name in front; with none for what concerns all."""
        prefix = f"{name} | " if name else ""
        text = f"{prefix}{escaped(line.rstrip())}"
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def show(self, statuses: Sequence[Status]) -> None:
        if self._live is not None:
            self._live.update(_table(statuses, time.time()), refresh=True)


def _table(statuses: Sequence[Status], now_s: float) -> Table:
    from rich.table import Table

    table = Table("part", "what it does", "for", "restarts", "process", box=None, pad_edge=False)
    for one in statuses:
        pid = "" if one.pid is None else str(one.pid)
        style = "" if one.doing == "runs" else "yellow"
        span = "" if not one.since_s else lasting(now_s - one.since_s)
        table.add_row(one.name, escaped(one.doing), span, str(one.restarts or ""), pid, style=style)
    return table


def is_shown(line: str) -> bool:
    """Returns whether people should see this line."""
    return _SHOWN.match(line) is not None


def lasting(seconds: float) -> str:
    """Returns a duration for people, to the second below a minute and to the minute below a day."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes = whole // 60
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 24 else f"{hours // 24} d {hours % 24} h"
