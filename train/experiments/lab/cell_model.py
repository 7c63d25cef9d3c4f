"""Trains a model of regions, and returns its distributions over cells: the discrete representation of positions, to be
compared with the continuous one.

A ping is encoded as the vector of its cell and as its time, without any metres, and the answer is a distribution over
the cells at an asked time. Cells that training never visited cannot be told apart and cannot be predicted: this is the
price of a vocabulary. The model is trained like other models in `train.fit.trainer`: with the same batches, optimizer,
schedule and averaged weights.

Shapes: ... any batch, Q queries per row, R cells, C = config.d, F features of a ping.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as fn
from numpy.random import default_rng
from numpy.typing import NDArray
from torch import Tensor, nn

from model.config import ModelConfig
from model.kinematics import baselines, features, queries
from model.kinematics.geo import E7, F64, moved_deg
from model.network.network import Network
from train.batches.batches import Batch, Batches
from train.batches.options import BatchOptions, FitOptions
from train.data.corpus import Corpus
from train.experiments.lab.h3_cells import Vocabulary
from train.experiments.lab.inversion import CLOCK, FIRST, LOG_DT
from train.experiments.lab.lab import Lab
from train.experiments.lab.windows import Windows, look
from train.fit import run_state
from train.fit.trainer import learning_rate

ANSWERS: Final = 2_048  # answers per step: a softmax over all cells for every answer would take seconds
# Rows keep their place, and have no noise: a cell is a place.
PLACED: Final = BatchOptions(drop_place=0.0, noise=0.0)
TIMES: Final = (LOG_DT, FIRST, *range(CLOCK.start, CLOCK.stop))  # the features of a ping that are no metres
METRES: Final = (9, 10, *range(13, 22))  # of a question (queries.forecast): reach, variance, and what is reported


class CellNetwork(Network):
    """A network whose pings are cells and times, and whose answers are distributions over R cells. A cell is a number
    below R, and R is "none of them".
    """

    def __init__(self, config: ModelConfig, cells: int) -> None:
        super().__init__(config)
        self.unknown = cells
        self.trunk.embed = nn.Linear(len(TIMES), config.d)
        del self.trunk.report  # no ping reports a speed
        self.cell_embed = nn.Embedding(cells + 1, config.d)
        nn.init.normal_(self.cell_embed.weight, std=0.3)
        self.cell = CellHead(config, cells)

    def read(self, x: NDArray[np.float32], cell: NDArray[np.int64]) -> Tensor:
        """Returns hidden vectors [B, T, C] from the features [B, T, F] of pings and from their cells. Raises ValueError
        for a number that is neither a cell nor "none of them".
        """
        if cell.size and not 0 <= cell.min() <= cell.max() <= self.unknown:
            raise ValueError(f"cells are 0 to {self.unknown}, got {cell.min()} to {cell.max()}")
        known = self.trunk.embed(torch.from_numpy(np.take(x, TIMES, axis=-1)))
        return self.trunk.run_blocks(known + self.cell_embed(torch.from_numpy(cell)))[0]

    def answer(self, hidden: Tensor, question: F64) -> Tensor:
        """Returns the logits [N, Q, R] of the cells, for questions [N, Q, E] of which only the time is seen."""
        asked = question.copy()
        asked[..., METRES] = 0.0
        logits: Tensor = self.cell(hidden, torch.from_numpy(asked).float(), self.cell_embed.weight[: self.unknown])
        return logits


class CellHead(nn.Module):
    """Returns the logits of all cells, from a hidden vector and an asked time. Its last layer is the table of cells.

    Cells that are alike as inputs should be alike as outputs (Press & Wolf, "Using the Output Embedding to Improve
    Language Models", 2017), and sharing the table saves its parameters once.
    """

    def __init__(self, config: ModelConfig, cells: int) -> None:
        super().__init__()
        c = config.d
        self.from_hidden = nn.Linear(c, 2 * c)
        self.from_question = nn.Linear(queries.FORECAST_FEATURES, 2 * c, bias=False)
        self.middle = nn.Linear(2 * c, c)
        self.norm = nn.LayerNorm(c)
        self.bias = nn.Parameter(torch.zeros(cells))

    def forward(self, h: Tensor, question: Tensor, table: Tensor) -> Tensor:
        """Maps h [..., C], question [..., Q, E] and the vectors [R, C] of the cells to logits [..., Q, R]."""
        x = self.from_hidden(h).unsqueeze(-2) + self.from_question(question)
        y: Tensor = self.norm(self.middle(fn.gelu(x))) @ table.T + self.bias
        return y


def learn(
    lab: Lab, config: ModelConfig, train: Corpus, vocabulary: Vocabulary, steps: int
) -> tuple[CellNetwork, float]:
    """Trains a network, and returns it with the CPU seconds used."""
    started = time.process_time()
    options = FitOptions(out=lab.scratch, steps=steps, seed=lab.seed, batch=PLACED)
    torch.set_num_threads(lab.threads)
    batches = Batches(train, shows_place(config), PLACED, lab.seed)
    network = build(config, len(vocabulary), lab.seed)
    state = run_state.start(network, options, torch.device("cpu"))
    for step in range(steps):
        loss = cell_loss(network, batches.draw(step), vocabulary, seed=step)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), options.clip)
        state.optimizer.step(learning_rate(step, steps, options) / options.lr)
        state.blend(min(options.ema, (step + 1) / (step + 11)))
        if step % 50 == 0 or step + 1 == steps:
            lab.say(f"{config.name}: step {step + 1} of {steps}, loss {loss.item():.3f}")
    assert isinstance(state.average, CellNetwork)
    return state.average, time.process_time() - started


def build(config: ModelConfig, cells: int, seed: int) -> CellNetwork:
    """Returns a network with random weights that depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return CellNetwork(config, cells)


def shows_place(config: ModelConfig) -> ModelConfig:
    """Returns a config whose batches show where a ping is, and so do not rotate it."""
    return replace(config, absolute=True)


def cell_loss(net: CellNetwork, batch: Batch, vocabulary: Vocabulary, *, seed: int) -> Tensor:
    """Returns the cross entropy of the true cells, for at most ANSWERS answers that have one."""
    lat, lon = moved_deg(batch.lat_deg[..., None], batch.lon_deg[..., None], batch.ahead_en)
    known = np.flatnonzero(batch.ahead_mask)
    few = default_rng(seed).choice(known, min(ANSWERS, len(known)), replace=False)
    truth = vocabulary.number(lat.ravel()[few], lon.ravel()[few])
    few, truth = few[truth < len(vocabulary)], truth[truth < len(vocabulary)]
    hidden = net.read(batch.x_BTF, vocabulary.number(batch.lat_deg, batch.lon_deg)).flatten(0, 1)
    question = batch.ahead.features.reshape(-1, 1, queries.FORECAST_FEATURES)[few]
    logits = net.answer(hidden[torch.from_numpy(few // batch.ahead_mask.shape[-1])], question)[:, 0]
    return fn.cross_entropy(logits, torch.from_numpy(truth))


@torch.inference_mode()
def shares(net: CellNetwork, asked: Windows, vocabulary: Vocabulary) -> Iterator[tuple[slice, F64]]:
    """Yields distributions [n, H, R] over the cells, for some windows at a time: those of all would be gigabytes."""
    for rows, hidden, kin in look(partial(_read, net, vocabulary), asked):
        question = queries.forecast(kin, asked.dt_s[rows], net.config).features
        yield rows, net.answer(hidden, question).double().softmax(-1).numpy()


def _read(net: CellNetwork, vocabulary: Vocabulary, fixes: NDArray[Any]) -> tuple[Tensor, F64]:
    """`windows.Read` of a network of cells."""
    kin = baselines.scan_fixes(fixes, net.config)
    x = features.encode(kin, features.context(fixes), net.config)
    return net.read(x, vocabulary.number(fixes["lat_e7"] / E7, fixes["lon_e7"] / E7)), kin
