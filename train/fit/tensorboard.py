"""Writes a run's numbers as TensorBoard scalars, and computes the rate of pings.

loss/<name>, validation/<name>    as in train.fit.loss.Losses step/lr, step/gradient_norm, step/pings_per_s
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from train.fit.trainer import Tick

SMOOTH = 0.95  # smoothing of the displayed rate, per step, so that it does not flicker


class MissingExtra(ValueError):
    """An option needs packages that are not part of a plain install."""


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
def board(directory: Path) -> Iterator[Callable[[Tick], None]]:
    """Yields a watcher that writes every step's scalars to event files in the directory. Raises MissingExtra.

    A resumed run hides what an earlier one wrote for the steps that are repeated.
    """
    make = _writer()
    writers: list[Any] = []

    def watch(tick: Tick) -> None:
        if not writers:
            writers.append(make(str(directory), purge_step=tick.step))
        for name, value in scalars(tick).items():
            writers[0].add_scalar(name, value, tick.step)

    try:
        yield watch
    finally:
        for writer in writers:
            writer.close()


def scalars(tick: Tick) -> dict[str, float]:
    """Returns the scalars of one step, by tag."""
    found = {f"loss/{name}": value for name, value in tick.parts.items()}
    found |= {f"validation/{name}": value for name, value in (tick.validation or {}).items()}
    return found | {
        "step/lr": tick.lr,
        "step/gradient_norm": tick.gradient_norm,
        "step/pings_per_s": tick.pings / max(tick.seconds, 1e-9),
    }


def _writer() -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingExtra(f"--tensorboard needs the extra `train`: pip install 'pathcast[train]' ({error})") from error
    return SummaryWriter
