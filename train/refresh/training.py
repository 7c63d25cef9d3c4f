"""Chooses how a challenger is trained in minutes: what learns, how fast, and from what.

The layers that read the map learn fast, the map itself and the weights that came with the champion slowly. Rows of the
fleet always show their place, and keep the cadence and the shape that they have, as the weights are for this fleet. Two
things keep what is known of elsewhere: a loss of answers that change where no place is shown (train.fit.run_state), and
tracks of other places (train.refresh.reference_tracks). Found by short runs on taxis: reports/notes/refresh.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from model.config import ModelConfig
from train.batches.options import BatchOptions, FitOptions, choose_device

PLACES: Final = 60_000  # cells of a new map: 2 MB of weights, and more than a week of 500 taxis fills
VISITS: Final = 4  # of a cell in training: with its neighbours' vectors beside it, four teach it something
RETAIN: Final = 3.0  # weight of the loss of answers that change elsewhere; with 1 it was not enough
# Of the table, which begins with what things did in each cell. A day is seen some twenty times in ten minutes: at the
# usual rate, four, the table learns by heart where each thing that stood went, and others that stand there, which stay,
# are told to go. At this rate nearly all is learned by the layers that read it.
TABLE_LR: Final = 0.04
OLD_LR: Final = 0.3  # of the weights that are not the map's; with 1 they forgot first, and came back in part
# At least as many as the steps after which minutes become steps: until then the schedule must not depend on them.
WARMUP: Final = 40
CHECKPOINT_EVERY: Final = 100  # steps: half a minute of a core
# Of the frequency that the size of a file would give it (`BatchOptions.file_power`).
TOWNS_SHARE: Final = 0.15
REHEARSAL_SHARE: Final = 0.3
BATCH: Final = BatchOptions(
    gaps=1,
    hidden=4,
    forced=0.2,
    thin=0.1,
    noise=0.05,
    rescale=0.1,
    drop_place=0.0,
    drop_clock=0.1,
)


def add_map(config: ModelConfig, places: int = PLACES) -> ModelConfig:
    """Returns the config of a challenger: a champion without a map gets one."""
    return config if config.places else replace(config, places=places)


def training_options(
    out: Path,
    champion: str,
    often: Mapping[str, float],
    *,
    minutes: float | None,
    steps: int | None,
    seed: int,
    device: str = "auto",
    rows: int | None = None,
) -> FitOptions:
    """Returns the options of the training. `often` names the files that are not the fleet's, whose rows show no place,
    and how often each is drawn. `minutes` are those that this process has of a core; on a GPU they are those of the
    clock.
    """
    drawn = tuple(f"{name}={share:g}" for name, share in often.items())
    batch = replace(BATCH, invented=tuple(often), often=drawn)
    return FitOptions(
        out=out,
        minutes=minutes,
        steps=steps,
        cpu_minutes=choose_device(device).type != "cuda",
        init=champion,
        retain=RETAIN,
        old_lr=OLD_LR,
        table_lr=TABLE_LR,
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
