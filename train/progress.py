"""What a training run shows on stderr while it lasts, and in TensorBoard. Knows ticks; heavy imports wait for the call.

Of the ranks that torchrun started only the leader shows anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from train.fit import Tick


def leads() -> bool:
    """Whether this process speaks for its run."""
    from train.parallel import place

    return place().rank == 0


def tell(line: str) -> None:
    if leads():
        typer.echo(line, err=True)


@contextmanager
def watching(tensorboard: Path | None) -> Iterator[Callable[[Tick], None]]:
    """Tells everyone who wants to know of every step: the terminal or the log, and event files where asked for."""
    from train.log import board

    with ExitStack() as stack:
        watchers: list[Callable[[Tick], None]] = []
        if leads() and tensorboard is not None:
            watchers.append(stack.enter_context(board(tensorboard)))
        if leads():
            watchers.append(stack.enter_context(_bar()))

        def watch(tick: Tick) -> None:
            for watcher in watchers:
                watcher(tick)

        yield watch


@contextmanager
def _bar() -> Iterator[Callable[[Tick], None]]:
    """A bar on a terminal; there and elsewhere a line per validation, fit for a log."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from train.log import Rate

    console, rate = Console(stderr=True), Rate()
    columns = (BarColumn(None), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task, validation = bar.add_task("", total=None), ""

        def watch(tick: Tick) -> None:
            nonlocal validation
            if tick.validation is not None:
                total = tick.validation["total"]
                validation = f", validation {total:.3f}"
                typer.echo(f"step {tick.step:,}: validation loss {total:.3f}{metres(tick.validation)}", err=True)
            said = f"loss {tick.loss:.3f}{validation}, {rate.observe(tick):,.0f} pings/s"
            bar.update(task, completed=tick.step, total=tick.total, description=said)

        yield watch


def metres(parts: dict[str, float] | None) -> str:
    """The losses that people can picture, to be appended to a line."""
    if parts is None:
        return ""
    return "".join(f", {name} {parts[f'{name}_m']:,.0f} m" for name in ("next", "far", "gap"))
