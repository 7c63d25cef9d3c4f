"""Trains a model of regions, and returns its distributions over cells.

It is trained like other models in `train.fit.trainer`: with the same batches, optimizer, schedule and averaged weights.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

import numpy as np
import torch
import torch.nn.functional as fn
from numpy.random import default_rng
from torch import Tensor

from model.config import ModelConfig
from model.kinematics import queries
from model.kinematics.geo import F64, moved_deg
from model.network.cells import Cells
from model.network.network import Network
from train.batches.batches import Batch, Batches
from train.batches.options import BatchOptions, FitOptions
from train.data.corpus import Corpus
from train.experiments.lab.h3_cells import Vocabulary
from train.experiments.lab.lab import Lab
from train.experiments.lab.windows import Windows, look
from train.fit import run_state
from train.fit.trainer import learning_rate

ANSWERS: Final = 2_048  # answers per step: a softmax over all cells for every answer would take seconds
# Rows keep their place, and have no noise: a cell is a place.
PLACED: Final = BatchOptions(drop_place=0.0, noise=0.0)


def learn(lab: Lab, config: ModelConfig, train: Corpus, vocabulary: Vocabulary, steps: int) -> tuple[Network, float]:
    """Trains a network, and returns it with the CPU seconds used."""
    started = time.process_time()
    options = FitOptions(out=lab.scratch, steps=steps, seed=lab.seed, batch=PLACED)
    torch.set_num_threads(lab.threads)
    batches = Batches(train, config, PLACED, lab.seed)
    state = run_state.begin(train, config, options, torch.device("cpu"))
    for step in range(steps):
        loss = cell_loss(state.network, batches.draw(step), vocabulary, seed=step)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(state.network.parameters(), options.clip)
        state.optimizer.step(learning_rate(step, steps, options) / options.lr)
        state.blend(min(options.ema, (step + 1) / (step + 11)))
        if step % 50 == 0 or step + 1 == steps:
            lab.say(f"{config.name}: step {step + 1} of {steps}, loss {loss.item():.3f}")
    return state.average, time.process_time() - started


def cell_loss(net: Network, batch: Batch, vocabulary: Vocabulary, *, seed: int) -> Tensor:
    """Returns the cross entropy of the true cells, for at most ANSWERS answers that have one."""
    lat, lon = moved_deg(batch.lat_deg[..., None], batch.lon_deg[..., None], batch.ahead_en)
    known = np.flatnonzero(batch.ahead_mask)
    few = default_rng(seed).choice(known, min(ANSWERS, len(known)), replace=False)
    truth = vocabulary.number(lat.ravel()[few], lon.ravel()[few])
    few, truth = few[truth < len(vocabulary)], truth[truth < len(vocabulary)]
    cell = torch.from_numpy(vocabulary.number(batch.lat_deg, batch.lon_deg))
    hidden = net.trunk(torch.from_numpy(batch.x_BTF), None, None, cell=cell)[0].flatten(0, 1)
    question = torch.from_numpy(batch.ahead.features.reshape(-1, 1, queries.FORECAST_FEATURES)[few]).float()
    logits = _head(net, hidden[torch.from_numpy(few // batch.ahead_mask.shape[-1])], question)[:, 0]
    return fn.cross_entropy(logits, torch.from_numpy(truth))


@torch.inference_mode()
def shares(net: Network, asked: Windows, vocabulary: Vocabulary) -> Iterator[tuple[slice, F64]]:
    """Yields distributions [n, H, R] over the cells, for some windows at a time: those of all would be gigabytes."""
    for rows, hidden, kin in look(net, asked, vocabulary.number):
        question = torch.from_numpy(queries.forecast(kin, asked.dt_s[rows], net.config).features).float()
        yield rows, _head(net, hidden, question).double().softmax(-1).numpy()


def _head(net: Network, hidden: Tensor, question: Tensor) -> Tensor:
    assert net.region is not None
    assert isinstance(net.trunk.cells, Cells)
    logits: Tensor = net.region(hidden, question, net.trunk.cells)
    return logits
