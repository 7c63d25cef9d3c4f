"""Shows the progress of a training run on stderr and, if requested, in TensorBoard. Heavy imports wait for the call.

Of the ranks that torchrun started, only the leader shows anything. The scalars of TensorBoard:

loss/<name>, validation/<name>                     as in train.fit.loss.Losses
step/lr, step/gradient_norm, step/pings_per_s
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from train.data.corpus import Corpus
    from train.data.splits import Splits
    from train.fit.trainer import Tick

LOG_EVERY_S = 30.0  # between two lines of progress where there is no terminal
SMOOTH = 0.95  # smoothing of the displayed rate, per step, so that it does not flicker
THINNED = (
    "metres of validation are of batches that are thinned and turned as training's are: "
    "`pathcast evaluate` has those of tracks as they were recorded"
)


def leads() -> bool:
    """Returns whether this process prints for its run."""
    from train.fit.distributed import rank_place

    return rank_place().rank == 0


def tell(line: str) -> None:
    if leads():
        typer.echo(line, err=True)


@contextmanager
def watch_training(tensorboard: Path | None) -> Iterator[Callable[[Tick], None]]:
    """Yields a function that passes each step to the terminal or the log, and to event files if requested."""
    with ExitStack() as stack:
        watchers: list[Callable[[Tick], None]] = []
        if leads() and tensorboard is not None:
            watchers.append(stack.enter_context(write_events(tensorboard)))
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

    console, rate = Console(stderr=True), Rate()
    columns = (BarColumn(None), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task, validation = bar.add_task("", total=None), ""
        shown_at: float | None = None

        def watch(tick: Tick) -> None:
            nonlocal validation, shown_at
            if tick.validation is not None:
                if not validation:
                    typer.echo(THINNED, err=True)
                total = tick.validation["total"]
                validation = f", validation {total:.3f}"
                typer.echo(
                    f"step {tick.step:,}: validation loss {total:.3f}{describe_metres(tick.validation)}", err=True
                )
            state = f"loss {tick.loss:.3f}{validation}, {rate.observe(tick):,.0f} pings/s"
            bar.update(task, completed=tick.step, total=tick.total, description=state)
            now = time.monotonic()
            shown_at = now if shown_at is None else shown_at
            if not console.is_terminal and now - shown_at >= LOG_EVERY_S:
                shown_at = now
                typer.echo(f"step {tick.step:,}{f' of {tick.total:,}' if tick.total else ''}: {state}", err=True)

        yield watch


class Rate:
    """Pings per second, smoothed."""

    def __init__(self) -> None:
        self._pings = self._seconds = 0.0

    def observe(self, tick: Tick) -> float:
        """Returns the rate up to this step."""
        self._pings = SMOOTH * self._pings + tick.pings
        self._seconds = SMOOTH * self._seconds + tick.seconds
        return self._pings / max(self._seconds, 1e-9)


@contextmanager
def write_events(directory: Path) -> Iterator[Callable[[Tick], None]]:
    """Yields a watcher that writes every step's scalars to event files in the directory. A resumed run hides what an
    earlier one wrote for the steps that are repeated. Raises ValueError that says what to install.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ValueError(f"--tensorboard needs the extra `train`: pip install 'pathcast[train]' ({error})") from error
    with ExitStack() as stack:
        writers: list[Any] = []

        def watch(tick: Tick) -> None:
            if not writers:
                writers.append(SummaryWriter(str(directory), purge_step=tick.step))
                stack.callback(writers[0].close)
            for kind, losses in (("loss", tick.parts), ("validation", tick.validation or {})):
                for name, value in losses.items():
                    writers[0].add_scalar(f"{kind}/{name}", value, tick.step)
            rate = tick.pings / max(tick.seconds, 1e-9)
            for name, value in (("lr", tick.lr), ("gradient_norm", tick.gradient_norm), ("pings_per_s", rate)):
                writers[0].add_scalar(f"step/{name}", value, tick.step)

        yield watch


def describe_data(splits: Splits, dropped: Mapping[str, int], unreadable: Sequence[str] = ()) -> Iterator[str]:
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


def describe_metres(losses: dict[str, float] | None) -> str:
    """Returns the losses in metres, as text to be appended to a line."""
    if losses is None:
        return ""
    return "".join(f", {name} {losses[f'{name}_m']:,.0f} m" for name in ("next", "far", "gap"))
