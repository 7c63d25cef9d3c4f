"""Shows how far a command is with a file, and which rows were no pings."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from stream.config.wording import counted

if TYPE_CHECKING:  # the engine takes a second to import
    from stream.atlas.own import OwnAtlas
    from stream.commands.files.answering import RejectedRow
    from stream.commands.files.survey import Progress as RowsDone

SHOWN: Final = 20  # rows that were no pings
EVERY_S: Final = 10.0  # between two lines where no terminal is


class Steps:
    """Shows the steps of a command one after the other."""

    def __init__(self, console: Console, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._console, self._clock_s = console, clock_s

    @contextmanager
    def step(self, what: str, total: int | None = None) -> Iterator[RowsDone]:
        """Yields a function that is told how many rows are done: a bar on a terminal, elsewhere a line now and then."""
        if not self._console.is_terminal:
            yield self._lines(what, total)
            return
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        with Progress(
            *columns, TimeElapsedColumn(), TimeRemainingColumn(), console=self._console, transient=True
        ) as bar:
            task = bar.add_task(what, total=total)
            yield lambda done: bar.update(task, completed=done)

    def _lines(self, what: str, total: int | None) -> RowsDone:
        shown_s = self._clock_s()

        def rows_done(done: int) -> None:
            nonlocal shown_s
            if self._clock_s() - shown_s >= EVERY_S:
                shown_s = self._clock_s()
                of = "" if total is None else f" of {total:,}"
                self._console.print(f"{what}: {done:,}{of} rows", highlight=False, soft_wrap=True)

        return rows_done


def describe_own(own: OwnAtlas, moved: int, of: int, what: str) -> str:
    """Returns what an atlas of the file itself did: `moved` of so many gaps or forecasts."""
    if not own.atlases:
        return "no atlas of this file: too little repeats in it"
    made = f"an atlas of {counted(own.pings, 'ping')} of {counted(own.entities, 'entity', 'entities')} of this file"
    return f"{made}; {counted(moved, what)} of {of:,} follow it"


def list_rejects(
    first: Sequence[RejectedRow], codes: Mapping[str, int], lines: Mapping[int, int], where: str
) -> list[str]:
    """Returns a line for each of the first rows that were no pings, and one for the rest. `where` is what `lines`
    counts: "line", "point" or "row"."""
    shown = [f"{where} {lines.get(one.row, one.row + 1):,}: {one.code}: {one.message}" for one in islice(first, SHOWN)]
    if (more := sum(codes.values()) - len(shown)) > 0:
        shown.append(f"and {more:,} more")
    return shown


def rejects_json(first: Sequence[RejectedRow], lines: Mapping[int, int], where: str) -> list[dict[str, Any]]:
    return [{where: lines.get(one.row, one.row + 1), "code": one.code, "message": one.message} for one in first]
