"""The progress of a training run on stderr, and in TensorBoard. Heavy imports wait for the call.

Of the ranks that torchrun started, only the leader shows anything.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from train.data.corpus import Corpus
    from train.data.splits import Splits
    from train.fit.trainer import Tick

LOG_EVERY_S = 30.0  # between two lines of progress where there is no terminal
THINNED = (
    "metres of validation are of batches that are thinned and turned as training's are: "
    "`pathcast evaluate` has those of tracks as they were recorded"
)


def leads() -> bool:
    """Returns whether this process prints for its run."""
    from train.fit.distributed import place

    return place().rank == 0


def tell(line: str) -> None:
    if leads():
        typer.echo(line, err=True)


@contextmanager
def watching(tensorboard: Path | None) -> Iterator[Callable[[Tick], None]]:
    """Yields a function that passes each step to the terminal or the log, and to event files if requested."""
    from train.fit.tensorboard import board

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
    """Shows a progress bar on a terminal, elsewhere a line now and then; and a line per validation, for a log."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from train.fit.tensorboard import Rate

    console, rate = Console(stderr=True), Rate()
    columns = (BarColumn(None), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task, validation = bar.add_task("", total=None), ""
        said_at: float | None = None

        def watch(tick: Tick) -> None:
            nonlocal validation, said_at
            if tick.validation is not None:
                if not validation:
                    typer.echo(THINNED, err=True)
                total = tick.validation["total"]
                validation = f", validation {total:.3f}"
                typer.echo(f"step {tick.step:,}: validation loss {total:.3f}{metres(tick.validation)}", err=True)
            said = f"loss {tick.loss:.3f}{validation}, {rate.observe(tick):,.0f} pings/s"
            bar.update(task, completed=tick.step, total=tick.total, description=said)
            now = time.monotonic()
            said_at = now if said_at is None else said_at
            if not console.is_terminal and now - said_at >= LOG_EVERY_S:
                said_at = now
                typer.echo(f"step {tick.step:,}{f' of {tick.total:,}' if tick.total else ''}: {said}", err=True)

        yield watch


def of_data(splits: Splits, dropped: Mapping[str, int], unreadable: Sequence[str] = ()) -> Iterator[str]:
    """Yields lines about the training data, and about what is left out and why."""
    from stream.adapters.tables import UNREADABLE_FILE, why

    train, val, test, final = map(_size, (splits.train, splits.val, splits.test, splits.final))
    left = f"{test} left for `pathcast evaluate`, {final} for its --split final (split {splits.fingerprint})"
    yield f"training on {train}; {val} to validate with, {left}"
    if len(splits.copies):
        yield f"left out of the test, as training or validation has them under another id: {_size(splits.copies)}"
    if left_out := why(dropped):
        yield f"rows left out: {left_out}"
    if unreadable:
        yield f"files left out, as they cannot be read: {dropped[UNREADABLE_FILE]:,}, first {', '.join(unreadable)}"


def _size(corpus: Corpus) -> str:
    return f"{len(corpus):,} track{'' if len(corpus) == 1 else 's'} of {corpus.pings:,} pings"


def metres(parts: dict[str, float] | None) -> str:
    """Returns the losses in metres, as text to be appended to a line."""
    if parts is None:
        return ""
    return "".join(f", {name} {parts[f'{name}_m']:,.0f} m" for name in ("next", "far", "gap"))
