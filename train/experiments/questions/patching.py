"""Several pings in one token: how much latency and memory this saves at a high rate, and what it costs in metres."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from model.config import ModelConfig
from model.kinematics import features
from model.kinematics.geo import F64
from model.network.network import Network
from train.batches.batches import Batches
from train.batches.options import BatchOptions
from train.data.corpus import Corpus
from train.experiments.lab.exams import Exam, examine, judged_tracks, pose_questions
from train.experiments.lab.inversion import MOVE
from train.experiments.lab.lab import Lab
from train.experiments.lab.report import Finding, Line, Picture, Table, table_cells

STEPS: Final = 500
DECODER_STEPS: Final = 600
DECODER_LR: Final = 2e-3
PATCHES: Final = (1, 2, 4, 8)
FILES: Final = ("geolife_labelled.parquet", "gotrack_aracaju.parquet")  # a ping every 2 and 6 s
TOKENS: Final = 128  # pings of a row, and of a timed pass
# nothing hidden, because the question is about the rate
BATCH: Final = BatchOptions(thin=0.0, forced=0.0, tokens=TOKENS)
MOST_ANCHORS: Final = 12_000  # per file, of which one in eight is asked
EXAM: Final = 4  # batches for the evaluation of the decoder
TIMED: Final = 50  # passes of each network, in turn; the median counts
HORIZONS: Final = ("next", "60 s", "300 s")
UNIT_M: Final = 10.0  # unit of the logarithm of displacements in the features (model.kinematics.features)

QUESTION = (
    "Pings that come every few seconds say little each. May a token be a patch of them, and what does the model "
    'then no longer know? A next check that the tutorial "Building a Foundation Model for Trajectory from Scratch" '
    "(arXiv 2511.20610) names."
)
METHOD = (
    "Four trainings on high-rate tracks, the same steps, with 1, 2, 4 and 8 pings per token. Asked at the same "
    "anchors, each the eighth ping of eight. Beside the forecasts, a small decoder (one hidden layer) learns to give "
    "back the steps of a patch from its hidden vector while the trunk stays as it is; its error is how far the pings "
    "of a patch then lie from where they were, counted from the patch's start. Latency is that of one pass over a "
    "window, a row at a time, in CPU time of one thread, the four in turn; memory is keys and values in float32."
)


@dataclass(frozen=True)
class PatchScore:
    """One size of patch. Metres are means."""

    patch: int
    ahead_m: tuple[float, ...]  # by HORIZONS; NaN where there is no target
    inside_m: float
    us_per_ping: float
    kv_bytes_per_ping: float
    cpu_s: float  # of the training


def run(lab: Lab) -> Finding:
    names = [file.name for file in lab.data if file.name in FILES] or [file.name for file in lab.data]
    parts = lab.splits(without=[file.name for file in lab.data if file.name not in names])
    exams = [_pose_questions(lab, name) for name in names]
    learned = [_score(lab, patch, parts.train, parts.val, exams) for patch in PATCHES]
    spent = microseconds([network for network, _ in learned])
    rows = [replace(row, us_per_ping=us) for (_, row), us in zip(learned, spent, strict=True)]
    note = f"{', '.join(names)}; {sum(len(exam.token) for exam in exams):,} anchors of the test split"
    return Finding(
        QUESTION,
        METHOD,
        [_table(rows)],
        _pictures(rows),
        conclude(rows),
        (lab.seed,),
        [f"{note}; {lab.steps(STEPS):,} steps each, no thinning, {lab.steps(DECODER_STEPS)} steps of the decoder"],
    )


def _pose_questions(lab: Lab, name: str) -> Exam:
    """Returns the questions that patches of every size answer: at the last pings of the largest ones."""
    exam = pose_questions(judged_tracks(lab, lab.file(name), MOST_ANCHORS))
    exam = exam.keep(exam.token % PATCHES[-1] == PATCHES[-1] - 1)
    if not len(exam.token):
        raise ValueError(f"{name}: no test track has {2 * PATCHES[-1]} pings and one more")
    return exam


def _score(lab: Lab, patch: int, train: Corpus, val: Corpus, exams: Sequence[Exam]) -> tuple[Network, PatchScore]:
    """Returns the trained network, and its score without the time that a pass takes."""
    config = replace(lab.config, patch=patch)
    trained = lab.train(f"patching/{patch}", config, STEPS, train=train, batch=BATCH)
    errors = np.concatenate([examine(trained.network, exam).error_m for exam in exams])
    decoder = learn_decoder(trained.network, Batches(train, config, BATCH, lab.seed), lab.steps(DECODER_STEPS))
    batches = Batches(val if len(val) else train, config, replace(BATCH, noise=0.0), lab.seed + 1)
    ahead_m = tuple(np.nanmean(errors[:, : len(HORIZONS)], axis=0).tolist())
    inside = inside_m(trained.network, decoder, batches)
    return trained.network, PatchScore(patch, ahead_m, inside, np.nan, kv_bytes(config), trained.cpu_s)


def learn_decoder(net: Network, batches: Batches, steps: int) -> nn.Module:
    """Trains a decoder of a patch's steps from its hidden vector; the network does not change."""
    c, out = net.config.d, 2 * net.config.patch
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(batches.seed)
        decoder = nn.Sequential(nn.Linear(c, 2 * c), nn.GELU(), nn.Linear(2 * c, out))
    optimizer = torch.optim.AdamW(decoder.parameters(), lr=DECODER_LR)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(steps, 1))
    for step in range(steps):
        hidden, true = _patches(net, batches, step)
        loss = (decoder(hidden) - true.flatten(1)).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return decoder


@torch.inference_mode()
def inside_m(net: Network, decoder: nn.Module, batches: Batches) -> float:
    """Returns the mean metres between the pings of a patch and their decoded positions, both from the patch's start."""
    off = []
    for number in range(EXAM):
        hidden, true = _patches(net, batches, number)
        guess = decoder(hidden).view(true.shape)
        off.append((_metres(guess) - _metres(true)).cumsum(1).norm(dim=-1).flatten())
    return float(torch.cat(off).mean())


def _patches(net: Network, batches: Batches, number: int) -> tuple[Tensor, Tensor]:
    """Returns the hidden vectors [N, C] of whole patches of one batch, and their steps as features [N, P, 2]."""
    batch, p = batches.draw(number), net.config.patch
    x, time_ms = torch.from_numpy(batch.x_BTF), torch.from_numpy(batch.time_ms)
    with torch.no_grad():
        hidden = net.trunk(x, net.find(batch.lat_deg, batch.lon_deg), time_ms)[0]
    whole = torch.from_numpy(batch.log_next_mask.reshape(len(x), -1, p).all(-1))
    whole[:, 0] = False  # a track's first ping has no step
    return hidden[whole], x[..., MOVE].reshape(len(x), -1, p, 2)[whole]


def _metres(steps: Tensor) -> Tensor:
    """Returns displacements [..., 2] from those that `features.signed_log` has shrunk."""
    length = steps.norm(dim=-1, keepdim=True)
    metres: Tensor = steps * (UNIT_M * torch.expm1(length.clamp(max=12.0)) / length.clamp_min(1e-9))
    return metres


@torch.inference_mode()
def microseconds(networks: Sequence[Network]) -> list[float]:
    """Returns the CPU time per ping of one pass over one window of TOKENS pings, the median of TIMED.

    The networks take turns, so that other load on the machine affects all of them.
    """
    x = torch.randn(1, TOKENS, features.width(networks[0].config), generator=torch.Generator().manual_seed(0))
    spent = np.empty((TIMED, len(networks)))
    for turn in spent:
        for i, network in enumerate(networks):
            started = time.thread_time()
            network.trunk(x)
            turn[i] = time.thread_time() - started
    return [1e6 * float(median) / TOKENS for median in np.median(spent, axis=0)]


def kv_bytes(config: ModelConfig) -> float:
    """Returns the bytes of keys and values in float32 per remembered ping."""
    return config.blocks * 2 * config.head_dim * 4 / config.patch


def conclude(rows: Sequence[PatchScore]) -> str:
    """Concludes what patches save, and what they lose."""
    one, most = rows[0], rows[-1]
    free = [row for row in rows[1:] if max(_loss(row, one).values()) <= 0.02]
    advice = (
        f"a patch of {free[-1].patch} is free for forecasts (at most 2 % at every horizon)"
        if free
        else f"already {rows[1].patch} pings per token cost up to {100 * max(_loss(rows[1], one).values()):.1f} %"
    )
    losses = ", ".join(f"{100 * loss:+.1f} % ({h})" for h, loss in _loss(most, one).items())
    return (
        f"{most.patch} pings per token make a ping {one.us_per_ping / most.us_per_ping:.1f} times as cheap and its "
        f"memory {one.kv_bytes_per_ping / most.kv_bytes_per_ping:.0f} times as small, while the pings of a patch can "
        f"be given back to {most.inside_m:.1f} m ({one.inside_m:.1f} m with one). "
        f"Forecasts change by {losses}, so {advice}, and a forecast is then due only every so many pings."
    )


def _loss(row: PatchScore, one: PatchScore) -> dict[str, float]:
    return {h: a / b - 1 for h, a, b in zip(HORIZONS, row.ahead_m, one.ahead_m, strict=True) if not np.isnan(a)}


def _table(rows: Sequence[PatchScore]) -> Table:
    columns = ("pings per token", *(f"{h}: error m" for h in HORIZONS), "error inside a patch, m")
    more = ("latency, µs per ping", "keys and values, bytes per ping", "training, CPU s")
    body = [(r.patch, *table_cells(r.ahead_m), r.inside_m, r.us_per_ping, r.kv_bytes_per_ping, r.cpu_s) for r in rows]
    return Table("Patches of pings at a high rate", (*columns, *more), body)


def _pictures(rows: Sequence[PatchScore]) -> list[Picture]:
    def over(values: Sequence[float]) -> F64:
        return np.asarray(values) / values[0]

    x = [float(row.patch) for row in rows]
    errors = [Line(h, x, over([row.ahead_m[i] for row in rows]).tolist()) for i, h in enumerate(HORIZONS)]
    errors.append(Line("inside a patch", x, over([row.inside_m for row in rows]).tolist()))
    costs = [
        Line("latency", x, over([row.us_per_ping for row in rows]).tolist()),
        Line("keys and values", x, over([row.kv_bytes_per_ping for row in rows]).tolist()),
    ]
    label = "over that of one ping per token"
    return [
        Picture("errors", "What patches lose", "pings per token", f"mean error {label}", errors, True, x),
        Picture("costs", "What patches save", "pings per token", f"cost per ping {label}", costs, True, x),
    ]
