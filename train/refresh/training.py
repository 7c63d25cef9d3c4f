"""How a challenger is trained in minutes: what learns, how fast, and from what.

The map learns fast; the weights that came with the champion change only in directions that they hardly used
(train.fit.guard), so that nothing is forgotten of where the map knows nothing. Rows keep the cadence and the shape that
they have, as the weights are for this fleet. Found by short runs on taxis: train/experiments/notes/refresh.md.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

from model.config import ModelConfig
from train.batches.options import BatchOptions, FitOptions, choose_device

PLACES: Final = 60_000  # cells of a new map: 2 MB of weights, and more than a week of 500 taxis fills
VISITS: Final = 4  # of a cell in training: with its neighbours' vectors beside it, four teach it something
# With 0.003 a refresh of 440 steps was 3.7 % farther off for the demo's buses, and was refused.
GUARD: Final = 1e-3
# At least as many as the steps after which minutes become steps: until then the schedule must not depend on them.
WARMUP: Final = 40
CHECKPOINT_EVERY: Final = 100  # steps: half a minute of a core
TOWNS_SHARE: Final = 0.15  # of the frequency that the size of their file would give them
BATCH: Final = BatchOptions(
    gaps=1,
    travels=1,
    hidden=4,
    forced=0.2,
    thin=0.1,
    noise=0.05,
    rescale=0.1,
    drop_place=0.1,
    drop_clock=0.1,
)


def with_places(config: ModelConfig, places: int = PLACES) -> ModelConfig:
    """Returns the config of a challenger: a champion without a map gets one."""
    return config if config.places else replace(config, places=places)


def options(
    out: Path,
    champion: str,
    invented: tuple[str, ...],
    *,
    minutes: float | None,
    steps: int | None,
    seed: int,
    device: str = "auto",
    rows: int | None = None,
) -> FitOptions:
    """Returns the options of the training. `minutes` are those that this process has of a core; on a GPU they are
    those of the clock.
    """
    batch = replace(BATCH, invented=invented, often=tuple(f"{name}={TOWNS_SHARE:g}" for name in invented))
    return FitOptions(
        out=out,
        minutes=minutes,
        steps=steps,
        cpu_minutes=choose_device(device).type != "cuda",
        init=champion,
        guard=GUARD,
        visits=VISITS,
        seed=seed,
        lr=1.5e-3,
        muon_lr=0.02,
        warmup=WARMUP,
        weight_decay=0.0,
        ema=0.99,
        device=device,  # type: ignore[arg-type]
        threads=1,
        checkpoint_every=CHECKPOINT_EVERY,
        batch=batch if rows is None else replace(batch, rows=rows),
    )
