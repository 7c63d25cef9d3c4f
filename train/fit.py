"""The training loop: AdamW, warm-up and cosine, EMA, checkpoints. Knows batches and the objective; reads no data file.

A run lives in its output directory and can be killed at any moment: `checkpoint.pt` appears whole or not at all,
batches are a function of (seed, step), and no other randomness is drawn, so a resumed run has the losses of an
unbroken one.

    <out>/checkpoint.pt                          what resuming needs; deleted when the run is complete
    <out>/model.safetensors config.json README.md  the averaged weights, after every validation and at the end
"""

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import torch
from torch import Tensor

from model.checkpoint import save_pretrained, write_atomic
from model.config import ModelConfig
from model.network import Network, build
from train import objective
from train.batches import Batch, Batches, BatchOptions
from train.card import write_card
from train.data import Corpus
from train.optim import Optimizer

CHECKPOINT_FILE: Final = "checkpoint.pt"
LAYOUT: Final = "pathcast-fit-1"
TIMED_STEPS: Final = 30  # after which `minutes` becomes a number of steps; the first ones are slower
VAL_BATCHES: Final = 4
VAL_SEED: Final = 0x5EED  # of its own, so that all runs are validated on the same batches


class TrainingDiverged(RuntimeError):
    """A loss or gradient is not finite."""


@dataclass(frozen=True)
class FitOptions:
    """One run. Exactly one of `steps` and `minutes` says how long."""

    out: Path
    steps: int | None = None
    minutes: float | None = None  # of this machine as it is in the first steps
    seed: int = 0
    lr: float = 1.5e-3  # at the peak
    warmup: int = 100  # steps
    last_lr: float = 0.02  # share of the peak at the end of the cosine
    optimizer: Literal["adamw", "muon"] = "adamw"  # muon: of hidden matrices, AdamW for the rest
    muon_lr: float = 0.01  # at the peak, of the matrices that Muon moves
    weight_decay: float = 0.02  # of matrices only
    clip: float = 1.0  # norm of the gradient
    ema: float = 0.998  # of the weights, per step
    bfloat16: bool = field(default_factory=lambda: has_bfloat16())  # matrix products only; see there
    threads: int | None = None
    checkpoint_every: int = 200  # steps
    validate_every: int = 500
    batch: BatchOptions = field(default_factory=BatchOptions)

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.minutes is None):
            raise ValueError("give either steps or minutes")
        if (self.steps is not None and self.steps < 1) or (self.minutes is not None and self.minutes <= 0):
            raise ValueError(f"steps and minutes must be positive, got {self.steps} and {self.minutes}")
        if not 0 < self.lr < math.inf or not 0 <= self.ema < 1:
            raise ValueError(f"lr must be above 0 and ema in 0..1, got {self.lr} and {self.ema}")


def has_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 itself: then it is several times faster than float32, else slower."""
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()  # torch 2.9 may lack it
    return bool(capabilities.get("avx512_bf16", False))


class Tick(NamedTuple):
    """What a watcher is told after every step. Losses of a batch as in objective.Losses, by name."""

    step: int  # steps done
    total: int | None  # of the run; None until `minutes` has been turned into steps
    loss: float
    parts: dict[str, float]
    lr: float
    validation: dict[str, float] | None  # of the averaged weights, on the steps that validate


class Report(NamedTuple):
    """A complete run. `losses` has every step's, those before a resumption included."""

    steps: int
    losses: list[float]
    validations: list[tuple[int, dict[str, float]]]  # step, losses by name
    network: Network  # the averaged weights


@dataclass
class _Run:
    """Everything that changes from step to step."""

    network: Network
    average: Network
    optimizer: Optimizer
    step: int = 0
    total: int | None = None
    losses: list[float] = field(default_factory=list)
    validations: list[tuple[int, dict[str, float]]] = field(default_factory=list)


def fit(
    train: Corpus,
    val: Corpus | None,
    config: ModelConfig,
    options: FitOptions,
    *,
    resume: bool = True,
    watch: Callable[[Tick], None] = lambda tick: None,
) -> Report:
    """Train on one corpus, validate on another, and write the averaged weights and their card to `options.out`.

    Raises TrainingDiverged; ValueError when the checkpoint in `out` is of another run, or damaged; OSError.
    """
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    run = _begin(config, options)
    identity = _identity(train, val, config, options)
    if resume and (options.out / CHECKPOINT_FILE).exists():
        _restore(run, options, identity)
    batches = Batches(train, config, options.batch, options.seed)
    exam = _exam(val, config, options)
    run.total = run.total or options.steps
    started = time.monotonic()
    while run.total is None or run.step < run.total:
        losses, lr = _step(run, batches.draw(run.step), options)
        if run.total is None and run.step >= TIMED_STEPS:
            assert options.minutes is not None
            run.total = max(run.step, int(run.step * 60 * options.minutes / (time.monotonic() - started)))
        last = run.step == run.total
        validation = None
        if exam and (last or run.step % options.validate_every == 0):
            validation = _validate(run.average, exam)
            run.validations.append((run.step, validation))
        if not last and run.step % options.checkpoint_every == 0:
            if not all(bool(torch.isfinite(p).all()) for p in run.network.parameters()):
                raise _diverged("weights that are not finite", run, lr, options)  # keep the good checkpoint
            write_atomic(options.out / CHECKPOINT_FILE, _dump(run, identity))
        watch(Tick(run.step, run.total, losses["total"], losses, lr, validation))
    report = Report(run.step, run.losses, run.validations, run.average)
    save_pretrained(run.average, options.out, write_card(config, options, train, report.validations, report.steps))
    (options.out / CHECKPOINT_FILE).unlink(missing_ok=True)
    return report


def learning_rate(step: int, total: int | None, options: FitOptions) -> float:
    """Of the step-th step, from 0: a linear warm-up, then a cosine down to `last_lr` of the peak."""
    if step < options.warmup:
        return options.lr * (step + 1) / options.warmup
    if total is None:
        return options.lr
    share = (step - options.warmup) / max(1, total - options.warmup)
    return options.lr * (options.last_lr + (1 - options.last_lr) * 0.5 * (1 + math.cos(math.pi * min(share, 1.0))))


def _begin(config: ModelConfig, options: FitOptions) -> _Run:
    network = build(config, options.seed)
    optimizer = Optimizer(
        network,
        kind=options.optimizer,
        lr=options.lr,
        muon_lr=options.muon_lr,
        weight_decay=options.weight_decay,
    )
    return _Run(network.train(), build(config, options.seed).eval().requires_grad_(False), optimizer)


def _step(run: _Run, batch: Batch, options: FitOptions) -> tuple[dict[str, float], float]:
    """One update in place. Returns the losses of the batch before it, by name, and the learning rate."""
    lr = learning_rate(run.step, run.total, options)
    losses = objective.measure(run.network, batch, bfloat16=options.bfloat16)
    losses.total.backward()  # type: ignore[no-untyped-call]
    norm = torch.nn.utils.clip_grad_norm_(run.network.parameters(), options.clip)
    if not math.isfinite(float(losses.total.detach())) or not math.isfinite(float(norm)):
        raise _diverged(f"loss {float(losses.total.detach()):g} with gradient norm {float(norm):g}", run, lr, options)
    run.optimizer.step(lr / options.lr)
    run.step += 1
    _blend(run, min(options.ema, run.step / (run.step + 10.0)))
    named = {name: float(value.detach()) for name, value in losses._asdict().items()}
    run.losses.append(named["total"])
    return named, lr


def _diverged(what: str, run: _Run, lr: float, options: FitOptions) -> TrainingDiverged:
    checkpoint = options.out / CHECKPOINT_FILE
    good = f"the last good checkpoint is {checkpoint}" if checkpoint.exists() else "there is no checkpoint yet"
    return TrainingDiverged(f"{what} at step {run.step}, learning rate {lr:.2g}: try a lower --lr; {good}")


@torch.no_grad()
def _blend(run: _Run, keep: float) -> None:
    """Move the averaged weights towards the present ones; early on the average is short."""
    for average, weight in zip(run.average.parameters(), run.network.parameters(), strict=True):
        average.lerp_(weight, 1.0 - keep)


def _exam(val: Corpus | None, config: ModelConfig, options: FitOptions) -> list[Batch]:
    if val is None or len(val) == 0:
        return []
    batches = Batches(val, config, options.batch, VAL_SEED)
    return [batches.draw(i) for i in range(VAL_BATCHES)]


@torch.inference_mode()
def _validate(network: Network, exam: list[Batch]) -> dict[str, float]:
    all_losses = [objective.measure(network, batch) for batch in exam]
    return {
        name: sum(float(getattr(losses, name)) for losses in all_losses) / len(all_losses)
        for name in objective.Losses._fields
    }


def _identity(train: Corpus, val: Corpus | None, config: ModelConfig, options: FitOptions) -> str:
    """What must be equal for a checkpoint to be continued: data, model and options, but not where or how often."""
    facts = asdict(options)
    for name in ("out", "threads", "checkpoint_every", "validate_every"):
        facts.pop(name)
    digest = blake2b(repr((LAYOUT, config, sorted(facts.items()))).encode(), digest_size=8)
    for corpus in (train, val):
        if corpus is not None:
            digest.update(corpus.fingerprint.encode() + corpus.tracks.tobytes())
    return digest.hexdigest()


def _dump(run: _Run, identity: str) -> bytes:
    buffer = io.BytesIO()
    torch.save(
        {
            "identity": identity,
            "step": run.step,
            "total": run.total,
            "network": run.network.state_dict(),
            "average": run.average.state_dict(),
            "optimizer": run.optimizer.state_dict(),
            "losses": torch.tensor(run.losses, dtype=torch.float64),
            "validations": run.validations,
        },
        buffer,
    )
    return buffer.getvalue()


def _restore(run: _Run, options: FitOptions, identity: str) -> None:
    path = options.out / CHECKPOINT_FILE
    try:
        # weights_only: a checkpoint is data, and data from elsewhere must not run code.
        saved: dict[str, Any] = torch.load(path, weights_only=True)
        theirs = saved["identity"]
    except Exception as error:
        raise ValueError(f"{path}: damaged ({type(error).__name__}): delete it to start anew") from error
    if theirs != identity:
        raise ValueError(f"{path}: of a run with other data, model or options: delete it, or give another directory")
    run.network.load_state_dict(saved["network"])
    run.average.load_state_dict(saved["average"])
    run.optimizer.load_state_dict(saved["optimizer"])
    losses: Tensor = saved["losses"]
    run.step, run.total, run.losses = saved["step"], saved["total"], losses.tolist()
    run.validations = [(step, parts) for step, parts in saved["validations"]]
