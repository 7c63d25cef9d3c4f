"""The options of a training run and of its batches, as frozen values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

import torch

from train.batches.masking import MASKS

CHANCES: Final = (
    *("forced", "thin", "repace", "bend", "turn", "rescale", "noise"),
    *("reported", "misreported", "drop_reported", "drop_clock", "drop_place"),
)
RENAMED: Final = {"told": "reported", "mistold": "misreported"}  # by the names until 29 November 2026
LEAST_TOKENS: Final = 3  # a gap lies after the second token or later, because the velocity before it needs two tokens
MASK_TOKENS: Final = 3  # first, second and last token: single pings are hidden before none of these


@dataclass(frozen=True)
class BatchOptions:
    """The options of batches. Chances are per row; letters are the shapes of train.batches.batches."""

    rows: int = 32  # B: small, because in a short run many updates are worth more than smooth ones
    pack: bool = False  # short tracks share rows of the trunk: `rows` is then the number of shared rows
    tokens: int = 128  # T: twice the attention window, so that half of the tokens have a full window before them
    questions: int = 3  # Q: the next token, and Q-1 random times
    gaps: int = 6  # G
    hidden: int = 8  # M
    forced: float = 0.6  # chance that a row has hidden segments, and then for each of its gaps
    # from train.batches.masking.MASKS: each row with hidden pings has one of them
    masks: tuple[str, ...] = ("segment",)
    file_power: float = 0.5  # a file of n pings is drawn ∝ n^power: a large source must not displace small ones
    often: tuple[str, ...] = ()  # FILE=FACTOR: the file is drawn that much more often than by the power
    thin: float = 0.6  # chance that a row is resampled to another cadence
    # Chance that a resampled row has several cadences: trackers report more often while they move. Weights that never
    # saw a change need some 20 pings to follow it, and until then expect the next ping at the wrong time.
    repace: float = 0.2
    # chance of bends at random moments (train.batches.bends): for models that are used in other regions
    bend: float = 0.0
    turn: float = 1.0  # chance of a rotation by any angle; half of these rows are also mirrored
    rescale: float = 0.5  # chance that space and time are stretched
    least_time: float = 0.4  # smallest and largest factor of a stretched row's time
    most_time: float = 2.0
    noise: float = 0.3  # chance of added GPS noise
    # `reported`: chance that pings without a reported velocity get that of the step before them on the full track, if
    # it is short. Receivers know it, but few free sources contain it, and a network that saw it only for ships took
    # everything that reports one for a ship. `misreported`: chance that a row's receiver reports wrongly
    # (train.batches.augmentation.misreport), so that the network checks reports against the steps.
    reported: float = 0.3
    misreported: float = 0.1
    drop_reported: float = 0.5  # chances that speed, heading and clock are hidden: other sources may not have them
    drop_clock: float = 0.3
    # for models with places: chance that a row hides its place; rows that show it are not rotated or stretched
    drop_place: float = 0.3
    # Files of the corpus without a real place, such as those of `pathcast train synth`: their rows never show a place.
    invented: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.masks or not set(self.masks) <= set(MASKS):
            raise ValueError(f"masks must be among {', '.join(MASKS)}, got {self.masks!r}")
        _check_least(self, ("rows", "questions"), 1)
        _check_least(self, ("tokens",), LEAST_TOKENS)
        _check_least(self, ("gaps", "hidden", "file_power"), 0)
        _check_shares(self, CHANCES)
        if self.masks != ("segment",) and not 1 <= self.gaps <= self.tokens - MASK_TOKENS:
            raise ValueError(
                f"masks {', '.join(self.masks)} need at least 1 gap, and {MASK_TOKENS} tokens more than gaps, "
                f"got {self.gaps} and {self.tokens}"
            )
        if not 0 < self.least_time <= self.most_time < math.inf:
            raise ValueError(
                f"least_time must be above 0 and not above most_time, which is finite, "
                f"got {self.least_time} and {self.most_time}"
            )


@dataclass(frozen=True)
class FitOptions:
    """The options of one training run. Exactly one of `steps` and `minutes` sets its length."""

    out: Path
    steps: int | None = None
    minutes: float | None = None  # of this machine, at its speed in the first steps
    cpu_minutes: bool = False  # whether `minutes` are those that this process had of its cores, not those on the clock
    init: str | None = None  # initial weights, by name or directory; None: random ones
    only: tuple[str, ...] = ()  # the parts of the network that are trained, e.g. ("gap",); empty: all of it
    # With `init` and a map: the weight of the loss of answers that change where the map knows nothing
    # (train.fit.run_state); None: there is no such loss.
    retain: float | None = None
    # With `init` and a map: a factor on the learning rates of all weights but the map's.
    old_lr: float = 1.0
    table_lr: float = 4.0  # a factor on the learning rates of tables, such as the map
    visits: int = 8  # of a cell in training, before it is on the map: fewer teach it little
    seed: int = 0
    accumulate: int = 1  # micro-batches of each rank in one step; each has `batch.rows` rows
    lr: float = 1.5e-3  # peak learning rate
    warmup: int = 100  # steps
    last_lr: float = 0.02  # final share of the peak, after the cosine schedule
    # Muon for hidden matrices and AdamW for the rest is better than AdamW for all, at equal CPU time too: validation
    # loss 4.639 against 4.784 after 800 steps of 175 and 161 ms CPU (`small`, the Austin, AIS, Aracaju and delivery
    # files, seed 0, one thread; 2026-11-25), and 4.758 already after 400. AdamW at 3e-3 had 4.847; Muon at 0.005, 0.01,
    # 0.02 had 4.715, 4.662, 4.639. AdamW stays for comparison.
    optimizer: Literal["adamw", "muon"] = "muon"
    muon_lr: float = 0.02  # peak learning rate of the matrices that Muon updates
    weight_decay: float = 0.02  # for matrices only
    clip: float = 1.0  # largest norm of the gradient
    ema: float = 0.998  # decay of the weights' moving average, per step
    # early stopping: validations without a gain before the run stops; None: it runs to its end
    patience: int | None = None
    min_gain: float = 0.002  # smallest decrease of the validation loss that counts as a gain
    device: Literal["auto", "cpu", "cuda"] = "auto"  # auto: a GPU where there is one
    bfloat16: bool | None = None  # whether matrix products use bfloat16; None: where the device supports it natively
    threads: int | None = None
    checkpoint_every: int = 200  # steps
    validate_every: int = 500
    batch: BatchOptions = field(default_factory=BatchOptions)

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.minutes is None):
            raise ValueError("give either steps or minutes")
        if self.retain is not None and not (self.init and 0 < self.retain < math.inf):
            raise ValueError(f"retain must be above 0, and is for init, got {self.retain}")
        if self.visits < 1:
            raise ValueError(f"visits must be at least 1, got {self.visits}")
        if (self.steps is not None and self.steps < 1) or not (self.minutes is None or 0 < self.minutes < math.inf):
            raise ValueError(f"steps and minutes must be positive, got {self.steps} and {self.minutes}")
        _check_least(self, ("accumulate", "checkpoint_every", "validate_every"), 1)
        _check_least(self, ("seed", "warmup", "weight_decay", "min_gain"), 0)
        _check_shares(self, ("last_lr",))
        for name in ("lr", "muon_lr", "old_lr", "table_lr"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be above 0, and finite, got {getattr(self, name)}")
        if not self.clip > 0:  # infinity: no clipping
            raise ValueError(f"clip must be above 0, got {self.clip}")
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema must be at least 0 and below 1, got {self.ema}")
        for name in ("patience", "threads"):
            if getattr(self, name) is not None:
                _check_least(self, (name,), 1)
        if self.only and self.init is None:
            raise ValueError(f"only {', '.join(self.only)} can be trained under weights that are given by init")


def _check_least(options: object, names: Sequence[str], least: int) -> None:
    for name in names:
        value = getattr(options, name)
        if not least <= value < math.inf:  # false for NaN
            finite = ", and finite" if isinstance(value, float) else ""
            raise ValueError(f"{name} must be at least {least}{finite}, got {value}")


def _check_shares(options: object, names: Sequence[str]) -> None:
    for name in names:
        if not 0 <= getattr(options, name) <= 1:
            raise ValueError(f"{name} must be in 0..1, got {getattr(options, name)}")


def choose_device(wanted: str, local_rank: int = 0) -> torch.device:
    """Returns the device of one rank. Raises ValueError where a GPU is requested and none is available."""
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    if wanted == "cpu":
        return torch.device("cpu")
    if torch.cuda.device_count() <= local_rank:
        raise ValueError(
            f"GPU {local_rank} was asked for and torch {torch.__version__} sees {torch.cuda.device_count()}: "
            f"is this a CPU build, or are there more ranks than GPUs?"
        )
    return torch.device("cuda", local_rank)


def has_bfloat16(device: torch.device) -> bool:
    """Returns whether the device multiplies bfloat16 natively: if so, it is several times faster than float32, else
    slower.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()  # torch 2.9 may not have it
    return bool(capabilities.get("avx512_bf16", False))
