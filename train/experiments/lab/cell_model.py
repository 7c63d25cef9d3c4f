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
from dataclasses import dataclass, replace
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
from model.kinematics.geo import E7, F64, displacement_m, move_deg, to_e7
from model.network.network import Network
from train.batches.batches import Batch, Batches
from train.batches.options import BatchOptions, FitOptions
from train.data.corpus import Corpus, even_indices
from train.experiments.lab.exams import Exam, read_anchors
from train.experiments.lab.inversion import CLOCK, FIRST, LOG_DT
from train.experiments.lab.lab import Lab
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
    # Batches of absolute positions show where a ping is, and so do not rotate it.
    batches = Batches(train, replace(config, absolute=True), PLACED, lab.seed)
    network = build(config, len(vocabulary), lab.seed)
    state = run_state.start_run(network, options, torch.device("cpu"))
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


def cell_loss(net: CellNetwork, batch: Batch, vocabulary: Vocabulary, *, seed: int) -> Tensor:
    """Returns the cross entropy of the true cells, for at most ANSWERS answers that have one."""
    lat, lon = move_deg(batch.lat_deg[..., None], batch.lon_deg[..., None], batch.ahead_en)
    known = np.flatnonzero(batch.ahead_mask)
    few = default_rng(seed).choice(known, min(ANSWERS, len(known)), replace=False)
    truth = vocabulary.number(lat.ravel()[few], lon.ravel()[few])
    few, truth = few[truth < len(vocabulary)], truth[truth < len(vocabulary)]
    hidden = net.read(batch.x_BTF, vocabulary.number(batch.lat_deg, batch.lon_deg)).flatten(0, 1)
    question = batch.ahead.features.reshape(-1, 1, queries.FORECAST_FEATURES)[few]
    logits = net.answer(hidden[torch.from_numpy(few // batch.ahead_mask.shape[-1])], question)[:, 0]
    return fn.cross_entropy(logits, torch.from_numpy(truth))


@torch.inference_mode()
def forecast_cells(net: CellNetwork, exam: Exam, vocabulary: Vocabulary) -> Iterator[tuple[NDArray[np.int64], F64]]:
    """Yields some anchors (n,), and the distributions [n, H, R] over the cells at their targets' times."""
    for hidden in read_anchors(partial(_read, net, vocabulary), exam):
        question = queries.forecast(hidden.kin, exam.anchors.dt_s[hidden.anchor], net.config).features
        yield hidden.anchor, net.answer(hidden.vector, question).double().softmax(-1).numpy()


def _read(net: CellNetwork, vocabulary: Vocabulary, fixes: NDArray[Any]) -> tuple[Tensor, F64]:
    """Reads whole sequences with a network of cells, as `exams.Read`."""
    kin = baselines.scan_fixes(fixes, net.config)
    x = features.encode(kin, features.context(fixes), net.config)
    return net.read(x, vocabulary.number(fixes["lat_e7"] / E7, fixes["lon_e7"] / E7)), kin


MOST_PINGS: Final = 300_000  # pings of the corpus, evenly spaced, that show which cells are visited
MIN_VISITS: Final = 3  # visits among those: a cell that training rarely meets is memorised or not learned
MEDIAN_STEPS: Final = 12  # of Weiszfeld's iteration: the error is then metres, where a cell has hundreds


@dataclass(frozen=True)
class Vocabulary:
    """R cells of one resolution, numbered by ascending ids; R itself means "none of them"."""

    resolution: int
    ids: NDArray[np.uint64]  # (R,)
    lat: F64  # (R,) degrees of the centres
    lon: F64

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def visited(cls, corpus: Corpus, resolution: int) -> Vocabulary:
        """Returns the cells that the tracks visit. Raises ValueError where there are none."""
        rows = corpus.rows[even_indices(corpus.pings, MOST_PINGS)]
        seen = cell_ids(np.asarray(corpus.lat[rows]), np.asarray(corpus.lon[rows]), resolution)
        ids, visits = np.unique(seen, return_counts=True)
        ids = ids[visits >= MIN_VISITS]
        if not len(ids):
            raise ValueError(f"no cell of resolution {resolution} has {MIN_VISITS} pings")
        centres = np.array([require_h3().cell_to_latlng(int(each)) for each in ids])
        return cls(resolution, ids, centres[:, 0], centres[:, 1])

    def number(self, lat: F64, lon: F64) -> NDArray[np.int64]:
        """Returns the numbers [...] of positions [...] in degrees; R for NaN or a cell that is not in the
        vocabulary.
        """
        wanted = cell_ids(lat.ravel(), lon.ravel(), self.resolution)
        at = np.minimum(np.searchsorted(self.ids, wanted), len(self.ids) - 1)
        return np.where(self.ids[at] == wanted, at, len(self.ids)).reshape(lat.shape).astype(np.int64)

    def metres_from(self, fixes: NDArray[Any]) -> F64:
        """Returns the centres (N, R, 2) in metres from FIX records (N,)."""
        return displacement_m(fixes["lat_e7"][:, None], fixes["lon_e7"][:, None], to_e7(self.lat), to_e7(self.lon))


def cell_ids(lat: F64, lon: F64, resolution: int) -> NDArray[np.uint64]:
    """Returns the H3 cells of positions (N,); 0, which is no cell, for NaN."""
    h3 = require_h3()
    pairs = zip(lat.tolist(), lon.tolist(), strict=True)
    ids = [h3.latlng_to_cell(a, b, resolution) if a == a and b == b else 0 for a, b in pairs]
    return np.array(ids, dtype=np.uint64)


def mean_position(share_NHR: F64, centre_NR2: F64) -> F64:
    """Returns the mean position [N, H, 2], which minimises the squared distance; it is often in a cell that nobody
    visits.
    """
    return np.asarray(np.einsum("nhr,nrc->nhc", share_NHR, centre_NR2))


def median_position(share_NHR: F64, centre_NR2: F64) -> F64:
    """Returns the geometric median [N, H, 2], which minimises the mean distance: Weiszfeld's iteration from the mean
    position.
    """
    at = mean_position(share_NHR, centre_NR2)
    for _ in range(MEDIAN_STEPS):
        off = centre_NR2[:, None] - at[:, :, None]
        weight = share_NHR / np.maximum(np.hypot(off[..., 0], off[..., 1]), 1.0)
        at = np.einsum("nhr,nrc->nhc", weight, centre_NR2) / weight.sum(-1, keepdims=True)
    return at


def is_within(share_NHR: F64, truth_NH: NDArray[np.int64], mass: float) -> NDArray[np.bool_]:
    """Returns whether the true cell is among the fewest cells that hold `mass`; false where it is not in the
    vocabulary.
    """
    known = truth_NH < share_NHR.shape[-1]
    own = np.take_along_axis(share_NHR, np.where(known, truth_NH, 0)[..., None], axis=-1)
    likelier = np.where(share_NHR > own, share_NHR, 0.0).sum(-1)
    return np.asarray(known & (likelier < mass))


def require_h3() -> Any:
    """Returns h3 with cells as integers. Raises ValueError that says what to install."""
    try:
        from h3.api import basic_int
    except ImportError as error:
        raise ValueError("cells need h3, which comes with the extra: pip install 'pathcast[experiments]'") from error
    return basic_int
