"""The state of a training run at one step, and its checkpoint. Batches and losses are elsewhere.

<out>/checkpoint.pt    identity, step, weights, averaged weights, optimizers, losses, the best so far
"""

from __future__ import annotations

import copy
import io
import math
from dataclasses import asdict, dataclass, field, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from model.config import ModelConfig
from model.files import write_whole
from model.network.checkpoint import from_pretrained
from model.network.network import Network, build, with_map
from model.parameters.reading import WEIGHTS_FILE
from train.batches.batches import Batches
from train.batches.options import BatchOptions, FitOptions, has_bfloat16
from train.data.corpus import Corpus
from train.fit import loss as objective
from train.fit.first_map import build_first_table, find_known_cells
from train.fit.optimizer import Optimizer

CHECKPOINT_FILE: Final = "checkpoint.pt"
LAYOUT: Final = "pathcast-fit-2"
# Options that may differ when a run continues: another machine, another directory, another number of ranks for the same
# micro-batches.
ELSEWHERE: Final = ("out", "threads", "device", "checkpoint_every", "accumulate", "bfloat16", "cpu_minutes")


@dataclass
class Best:
    """The averaged weights with the lowest validation loss, and the number of validations since the last gain."""

    loss: float = math.inf  # the lowest loss; `weights` had it
    step: int = 0
    weights: dict[str, Tensor] = field(default_factory=dict)
    mark: float = math.inf  # a gain is a loss below this by `min_gain`; above `loss` while gains are small
    waited: int = 0  # validations since the last gain

    def observe(self, loss: float, step: int, network: Network, min_gain: float) -> None:
        """Takes in one validation, in place."""
        if loss < self.loss:
            self.loss, self.step = loss, step
            self.weights = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        if loss < self.mark - min_gain:
            self.mark, self.waited = loss, 0
        else:
            self.waited += 1


@dataclass
class TrainingRun:
    """The state of a run at one step."""

    network: Network
    average: Network
    optimizer: Optimizer
    retention: Retention | None = None
    step: int = 0
    total: int | None = None
    losses: list[float] = field(default_factory=list)
    validations: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    best: Best = field(default_factory=Best)

    @torch.no_grad()
    def blend(self, keep: float) -> None:
        """Moves the averaged weights towards the present ones."""
        for average, weight in zip(self.average.parameters(), self.network.parameters(), strict=True):
            average.lerp_(weight, 1.0 - keep)

    def is_finite(self) -> bool:
        return all(bool(torch.isfinite(weight).all()) for weight in self.network.parameters())


def begin_run(train: Corpus, config: ModelConfig, options: FitOptions, device: torch.device) -> TrainingRun:
    """Returns the state at step 0. Weights are drawn on the CPU, so that they are the same for every device."""
    if options.init is None:
        network = build(config, options.seed)
        if network.trunk.places is not None:
            network.trunk.places.know(find_known_cells(_real_tracks(train, options), config.places, options.visits))
        return start_run(network, options, device)
    network = _load_init(options.init, config)
    before = copy.deepcopy(network).to(device)
    if network.config.places != config.places:
        network = with_map(network, config.places, options.seed)
        _fill(network, _real_tracks(train, options), options.visits)
    network.config = config
    run = start_run(network, options, device)
    if options.retain is not None:
        run.retention = Retention(before, train, config, options.batch, options.retain, options.seed)
    return run


def _real_tracks(train: Corpus, options: FitOptions) -> Corpus:
    return train.select(~train.of_files(options.batch.invented))


def _fill(network: Network, train: Corpus, visits: int) -> None:
    """Puts the cells of these tracks on the new map, in place, with what things did there."""
    places = network.trunk.places
    assert places is not None
    keys = find_known_cells(train, network.config.places, visits)
    places.know(keys)
    with torch.no_grad():
        places.table[: len(keys)] = torch.from_numpy(build_first_table(train, keys))


def start_run(network: Network, options: FitOptions, device: torch.device) -> TrainingRun:
    """Returns the state at step 0 of a network with these weights."""
    average = copy.deepcopy(network).to(device)
    network = network.to(device)
    if options.only:
        _freeze_all_but(network, options.only)
    optimizer = Optimizer(
        network,
        kind=options.optimizer,
        lr=options.lr,
        muon_lr=options.muon_lr,
        weight_decay=options.weight_decay,
        bfloat16=uses_bfloat16(options, device),
        old_lr=options.old_lr,
        table_lr=options.table_lr,
    )
    return TrainingRun(network.train(), average.eval().requires_grad_(False), optimizer)


def _load_init(weights: str, config: ModelConfig) -> Network:
    """Returns weights to be trained further, their map included. Raises ValueError where they have another config,
    unless that only asks for a map and they have none.
    """
    network = from_pretrained(weights).train().requires_grad_(True)
    own, asked = asdict(network.config), asdict(config)
    other = [name for name, value in asked.items() if name != "name" and value != own[name]]
    if other and not (other == ["places"] and own["places"] == 0):
        given, has = (", ".join(f"{name}={of[name]}" for name in other) for of in (asked, own))
        raise ValueError(
            f"{weights}: {given} was asked for, and weights that exist keep their config, which has {has}: "
            f"leave that out, or leave out --init to train new weights with it"
        )
    return network


def _freeze_all_but(network: Network, parts: tuple[str, ...]) -> None:
    """Freezes the other parts of the network, in place. Raises ValueError for a part that does not exist.

    The parts before the first trained one, such as the trunk, then need no backward pass.
    """
    named = ((name, module) for name, module in network.named_modules() if name and [*module.parameters()])
    known = {name for name, _ in named}
    if not set(parts) <= known:
        wrong = ", ".join(sorted(set(parts) - known))
        raise ValueError(f"no part {wrong}: a network has {', '.join(sorted(n for n in known if '.' not in n))}")
    network.requires_grad_(False)
    for part in parts:
        network.get_submodule(part).requires_grad_(True)


def fingerprint_run(
    train: Corpus, val: Corpus | None, config: ModelConfig, options: FitOptions, device: torch.device, world: int
) -> str:
    """Hashes what must be equal for a checkpoint to be continued: data, model and options, except ELSEWHERE."""
    facts = {name: value for name, value in asdict(options).items() if name not in ELSEWHERE}
    if options.patience is None:
        facts.pop("validate_every")  # without early stopping, validations change nothing
    facts["micro_batches"] = options.accumulate * world
    facts["bfloat16"] = uses_bfloat16(options, device)
    digest = blake2b(repr((LAYOUT, config, sorted(facts.items()))).encode(), digest_size=8)
    for corpus in (train, val):
        if corpus is not None:
            digest.update(corpus.fingerprint.encode() + corpus.tracks.tobytes())
    return digest.hexdigest()


def uses_bfloat16(options: FitOptions, device: torch.device) -> bool:
    return has_bfloat16(device) if options.bfloat16 is None else options.bfloat16


def save_checkpoint(run: TrainingRun, out: Path, who: str) -> None:
    """Writes the checkpoint of the run with that identity; it appears whole or not at all."""
    buffer = io.BytesIO()
    torch.save(
        {
            "identity": who,
            "step": run.step,
            "total": run.total,
            "network": run.network.state_dict(),
            "average": run.average.state_dict(),
            "optimizer": run.optimizer.state_dict(),
            "losses": torch.tensor(run.losses, dtype=torch.float64),
            "validations": run.validations,
            "best": vars(run.best),
        },
        buffer,
    )
    write_whole(out / CHECKPOINT_FILE, [buffer.getvalue()])


def delete_checkpoint(out: Path) -> None:
    """Deletes the checkpoint of a complete run, so that the same command begins a new one."""
    (out / CHECKPOINT_FILE).unlink(missing_ok=True)


def is_finished(out: Path) -> bool:
    """Returns whether the directory holds weights of a complete run."""
    return (out / WEIGHTS_FILE).exists() and not (out / CHECKPOINT_FILE).exists()


def restore_checkpoint(run: TrainingRun, out: Path, who: str) -> None:
    """Fills the run, in place, from the checkpoint. Raises ValueError where it is damaged or another run's."""
    path = out / CHECKPOINT_FILE
    try:
        # weights_only: a checkpoint is data, and data from elsewhere must not run code.
        saved: dict[str, Any] = torch.load(path, weights_only=True, map_location=run.network.device)
        theirs = saved["identity"]
    except Exception as error:
        raise ValueError(f"{path}: damaged ({type(error).__name__}): delete it to start anew") from error
    if theirs != who:
        raise ValueError(f"{path}: of a run with other data, model or options: delete it, or give another directory")
    run.network.load_state_dict(saved["network"])
    run.average.load_state_dict(saved["average"])
    run.optimizer.load_state_dict(saved["optimizer"])
    run.step, run.total, run.losses = saved["step"], saved["total"], saved["losses"].tolist()
    run.validations = [(step, parts) for step, parts in saved["validations"]]
    run.best = Best(**saved["best"])


# Every augmentation is drawn, for these batches are to stand for all that the weights may meet elsewhere.
ANYWHERE: Final[dict[str, Any]] = {
    **{"turn": 1.0, "thin": 0.6, "rescale": 0.5, "noise": 0.3, "reported": 0.3, "drop_clock": 0.3, "drop_place": 1.0},
    **{"gaps": 1, "hidden": 4, "file_power": 0.3},
}
SEED: Final = 0xE15E  # of its own, so that these rows are not those of the other batch
ROWS_SHARE: Final = 0.25  # of the rows of a step: a quarter more work


class Retention:
    """The loss of forgetting, by which weights learn a region and keep the others: where their map knows nothing, they
    answer as before.

    Training on one fleet makes weights forget what they knew of others: after 90 seconds on taxis, buses elsewhere were
    off by twice as much (reports/notes/refresh.md). But such weights have a map, and need not change where it knows
    nothing. So each step has a second batch: tracks of the fleet and of invented towns, turned, stretched and thinned
    at random, whose place is hidden. The loss of these is how far the answers are from those of the weights before the
    training, whatever happened then. (Li and Hoiem, "Learning without forgetting", 2017.)
    """

    def __init__(
        self, before: Network, train: Corpus, config: ModelConfig, options: BatchOptions, weight: float, seed: int
    ) -> None:
        """`before`: the weights whose answers are kept; it is not changed. `config` is of the weights that learn, and
        `weight` what their loss of forgetting is multiplied by."""
        self._before = before.eval().requires_grad_(False)
        rows = max(1, round(ROWS_SHARE * options.rows))
        self._batches = Batches(train, config, replace(options, rows=rows, often=(), **ANYWHERE), seed ^ SEED)
        self._weight = weight

    def loss(self, network: Network, step: int, *, bfloat16: bool) -> Tensor:
        """Returns the loss of a step; the batch depends on the step alone."""
        batch = self._batches.draw(step)
        return self._weight * objective.disagreement(network, self._before, batch, bfloat16=bfloat16)
