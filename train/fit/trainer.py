"""The training loop: steps of micro-batches, warm-up and cosine schedule, EMA, early stopping.

A run lives in its output directory and can be killed at any moment: `checkpoint.pt` appears whole or not at all,
batches are a function of (seed, step), and nothing else is random, so a resumed run has the losses of an uninterrupted
one.

    <out>/checkpoint.pt                            the state for resuming, which is deleted at the end
    <out>/model.safetensors config.json README.md  the averaged weights, at the end

One step is one sum over W ranks x A accumulated micro-batches. Micro-batch number a of rank r in step s is drawn as
number (s * W + r) * A + a, so two ranks, one rank with A = 2, and one rank with a batch of all those rows give the same
result.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Final, NamedTuple

import torch

from model.config import ModelConfig
from model.network.checkpoint import save_pretrained
from model.network.network import Network
from train.batches.batches import Batch, Batches
from train.batches.options import FitOptions, choose_device
from train.data.corpus import Corpus
from train.fit import loss as objective
from train.fit import run_state
from train.fit.distributed import Peers
from train.fit.loss import Counts, Losses
from train.fit.model_card import write_card
from train.fit.run_state import CHECKPOINT_FILE

# steps in one session after which `minutes` becomes a number of steps; the first ones are slower
TIMED_STEPS: Final = 30
VAL_BATCHES: Final = 4
VAL_SEED: Final = 0x5EED  # a seed of its own, so that all runs are validated on the same batches


class TrainingDiverged(RuntimeError):
    """A loss or gradient is not finite."""


class Interrupted(Exception):
    """A watcher raises it to end a training between two steps. It leaves a checkpoint of the last one."""


class Tick(NamedTuple):
    """The report of one step to a watcher. Losses of the step as in loss.Losses, by name."""

    step: int  # steps done
    total: int | None  # steps of the run; None until `minutes` has been converted to steps
    loss: float
    parts: dict[str, float]
    lr: float
    gradient_norm: float  # before clipping
    pings: int  # pings of the step, of all ranks together
    seconds: float  # duration of the step, without validation
    validation: dict[str, float] | None  # losses of the averaged weights, on steps with a validation


class Report(NamedTuple):
    """The result of a complete run. `losses` has those of every step, including steps before a resumption."""

    steps: int
    losses: list[float]
    validations: list[tuple[int, dict[str, float]]]  # step, losses by name
    network: Network  # the averaged weights; with early stopping, the best of them
    validation: dict[str, float] | None  # losses of these weights


def fit(
    train: Corpus,
    val: Corpus | None,
    config: ModelConfig,
    options: FitOptions,
    *,
    resume: bool = True,
    unfinished: bool = False,
    watch: Callable[[Tick], None] = lambda tick: None,
    say: Callable[[str], None] = lambda line: None,
    peers: Peers | None = None,
) -> Report:
    """Trains on one corpus, validates on another, and writes the averaged weights and their card to `options.out`.

    `unfinished`: the caller has more to do with the weights before it deletes the checkpoint, so that a run that is
    killed meanwhile continues after its last step. `say` gets the step from which a run continues. `watch` may raise
    Interrupted, which is passed on once there is a checkpoint. With peers
    (train.fit.distributed) every rank calls this with the same arguments, and the leader writes. Raises
    TrainingDiverged; PeerLost; ValueError when the checkpoint in `out` belongs to another run, or is damaged; OSError.
    """
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    peers = peers or Peers(device=choose_device(options.device))
    trainer = _Trainer(train, val, config, options, peers)
    trainer.begin(resume=resume, say=say)
    trainer.train_to_end(watch)
    return trainer.finish(unfinished=unfinished)


def learning_rate(step: int, total: int | None, options: FitOptions) -> float:
    """Returns the learning rate of step `step`, counted from 0: a linear warm-up, then a cosine down to `last_lr` of
    the peak.
    """
    if step < options.warmup:
        return options.lr * (step + 1) / options.warmup
    if total is None:
        return options.lr
    share = (step - options.warmup) / max(1, total - options.warmup)
    return options.lr * (options.last_lr + (1 - options.last_lr) * 0.5 * (1 + math.cos(math.pi * min(share, 1.0))))


class _Trainer:
    """One rank's part of one run."""

    def __init__(
        self, train: Corpus, val: Corpus | None, config: ModelConfig, options: FitOptions, peers: Peers
    ) -> None:
        if options.patience is not None and not val:
            raise ValueError("patience needs tracks to validate on, and there are none")
        self.train, self.val, self.config, self.options, self.peers = train, val, config, options, peers
        self.batches = Batches(train, config, options.batch, options.seed)
        self.exam = _validation_batches(val, config, options)
        self.run = run_state.begin_run(train, config, options, peers.device)
        self.who = run_state.fingerprint_run(train, val, config, options, peers.device, peers.world)
        self.bfloat16 = run_state.uses_bfloat16(options, peers.device)

    def begin(self, *, resume: bool, say: Callable[[str], None]) -> None:
        """Creates the directory, and continues from its checkpoint if there is one."""
        out = self.options.out
        out.mkdir(parents=True, exist_ok=True)
        if resume and (out / CHECKPOINT_FILE).exists():
            run_state.restore_checkpoint(self.run, out, self.who)
        self.run.total = self.run.total or self.options.steps
        # Before anything is written, or a rank that starts late would find the checkpoint of a later step.
        if not self.peers.agree(f"{self.who} {self.run.step}"):
            raise ValueError("the ranks differ in data, options or checkpoint: do they see the same files?")
        if self.run.step:
            say(f"going on from step {self.run.step:,}{f' of {self.run.total:,}' if self.run.total else ''}")

    def train_to_end(self, watch: Callable[[Tick], None]) -> None:
        """Trains until the number of steps is reached or early stopping ends the run."""
        clock = time.process_time if self.options.cpu_minutes else time.monotonic
        run, first, started = self.run, self.run.step, clock()
        while not self._is_over():
            before = time.monotonic()
            tick = self._step()
            seconds = time.monotonic() - before
            if run.total is None and run.step - first >= TIMED_STEPS:
                run.total = self._length(run.step - first, clock() - started)
            due = bool(self.exam) and self._is_due(self.options.validate_every, at_end=True)
            validation = self._validate() if due else None
            if self._is_due(self.options.checkpoint_every, at_end=False):
                self._checkpoint(tick.lr)
            tick = tick._replace(total=run.total, seconds=seconds, validation=validation)
            try:
                watch(tick)
            except Interrupted:
                self._checkpoint(tick.lr)
                raise

    def finish(self, *, unfinished: bool) -> Report:
        """Writes the weights, and deletes the checkpoint or, if `unfinished`, writes that of the last step."""
        run, options = self.run, self.options
        if unfinished and self.peers.leads:
            run_state.save_checkpoint(run, options.out, self.who)
        if options.patience is not None:
            run.average.load_state_dict(run.best.weights)
        kept = run.step if options.patience is None else run.best.step
        average = run.average.cpu()
        if self.peers.leads:
            card = write_card(self.config, options, self.train, run.validations, run.step, kept, self.peers.world)
            save_pretrained(average, options.out, card)
            if not unfinished:
                run_state.delete_checkpoint(options.out)
        return Report(run.step, run.losses, run.validations, average, dict(run.validations).get(kept))

    def _is_over(self) -> bool:
        run, patience = self.run, self.options.patience
        return run.step == run.total or (patience is not None and run.best.waited >= patience)

    def _is_due(self, every: int, *, at_end: bool) -> bool:
        return at_end if self.run.step == self.run.total else self.run.step % every == 0

    def _length(self, timed: int, elapsed_s: float) -> int:
        """Returns the number of steps of the whole run, from the time that the leader needed for some. Steps before a
        resumption count with the same duration, so that a run that was killed is as long as one that was not.
        """
        assert self.options.minutes is not None
        steps = int(timed * 60 * self.options.minutes / elapsed_s)
        return max(self.run.step, int(self.peers.from_leader(steps)))

    def _step(self) -> Tick:
        """Makes one update, in place. The losses are those before it; its duration is not known here."""
        run, options = self.run, self.options
        lr = learning_rate(run.step, run.total, options)
        mine = self._draw()
        counts = Counts(*self.peers.total([sum(n) for n in zip(*map(objective.count_answers, mine), strict=True)]))
        losses = self._gradients(mine, counts)
        norm = float(torch.nn.utils.clip_grad_norm_(run.network.parameters(), options.clip))
        if not math.isfinite(losses["total"]) or not math.isfinite(norm):
            raise self._describe_divergence(f"loss {losses['total']:g} with gradient norm {norm:g}", lr)
        run.optimizer.step(lr / options.lr)
        run.step += 1
        run.blend(min(options.ema, run.step / (run.step + 10.0)))  # at first the average covers few steps
        run.losses.append(losses["total"])
        # A track has one more ping than intervals.
        rows = options.batch.rows * options.accumulate * self.peers.world
        pings = int(counts.interval) + rows
        return Tick(run.step, run.total, losses["total"], losses, lr, norm, pings, seconds=0.0, validation=None)

    def _draw(self) -> list[Batch]:
        """Draws all of this rank's micro-batches at once, because their losses are divided by the number of answers in
        all of them.
        """
        each, peers = self.options.accumulate, self.peers
        first = (self.run.step * peers.world + peers.rank) * each
        drawn = (self.batches.draw(number) for number in range(first, first + each))
        return [objective.whole_patches(batch, self.config.patch) for batch in drawn]  # before answers are counted

    def _gradients(self, mine: list[Batch], counts: Counts) -> dict[str, float]:
        """Writes the step's gradients to the network, the same on all ranks, and returns its losses by name."""
        sums = torch.zeros(len(Losses._fields), device=self.peers.device)
        for batch in mine:
            losses = objective.measure(self.run.network, batch, bfloat16=self.bfloat16, counts=counts)
            losses.total.backward()  # type: ignore[no-untyped-call]
            sums += torch.stack([loss.detach() for loss in losses])
        if self.run.retention is not None:
            step = self.run.step * self.peers.world + self.peers.rank
            kept = self.run.retention.loss(self.run.network, step, bfloat16=self.bfloat16) / self.peers.world
            kept.backward()  # type: ignore[no-untyped-call]
        weights = [weight for weight in self.run.network.parameters() if weight.requires_grad]
        if self.peers.world > 1:  # weights without gradient on one rank may have one on another
            for weight in weights:
                weight.grad = torch.zeros_like(weight) if weight.grad is None else weight.grad
        self.peers.add([*(weight.grad for weight in weights if weight.grad is not None), sums])
        return dict(zip(Losses._fields, sums.tolist(), strict=True))

    @torch.inference_mode()
    def _validate(self) -> dict[str, float]:
        """Returns the mean losses over the validation batches, each rank computing its share of them."""
        mine = [
            [float(loss) for loss in objective.measure(self.run.average, batch)]
            for batch in self.exam[self.peers.rank :: self.peers.world]
        ]
        sums = [sum(values) for values in zip(*mine, strict=True)] if mine else [0.0] * len(Losses._fields)
        means = [total / len(self.exam) for total in self.peers.total(sums)]
        found = dict(zip(Losses._fields, means, strict=True))
        self.run.validations.append((self.run.step, found))
        if self.options.patience is not None:
            self.run.best.observe(found["total"], self.run.step, self.run.average, self.options.min_gain)
        return found

    def _checkpoint(self, lr: float) -> None:
        if not self.run.is_finite():
            raise self._describe_divergence("weights that are not finite", lr)  # keep the good checkpoint
        if self.peers.leads:
            run_state.save_checkpoint(self.run, self.options.out, self.who)

    def _describe_divergence(self, what: str, lr: float) -> TrainingDiverged:
        checkpoint = self.options.out / CHECKPOINT_FILE
        good = f"the last good checkpoint is {checkpoint}" if checkpoint.exists() else "there is no checkpoint yet"
        return TrainingDiverged(f"{what} at step {self.run.step}, learning rate {lr:.2g}: try a lower --lr; {good}")


def _validation_batches(val: Corpus | None, config: ModelConfig, options: FitOptions) -> list[Batch]:
    if not val:
        return []
    batches = Batches(val, config, options.batch, VAL_SEED)
    return [batches.draw(i) for i in range(VAL_BATCHES)]
