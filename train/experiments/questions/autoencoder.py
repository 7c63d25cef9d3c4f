"""Can the coordinates be recovered from the features, by formula and through a learned bottleneck?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final, NamedTuple

import numpy as np
import torch
import torch.nn.functional as fn
from numpy.typing import NDArray
from torch import Tensor, nn

from model.config import ModelConfig
from model.kinematics import baselines, features, motion
from model.kinematics.geo import E7, F64, haversine_m
from model.network.transformer import Trunk
from train.batches.batches import Batches
from train.batches.options import BatchOptions
from train.data.corpus import Corpus, even_indices, load
from train.data.cutting import Cut
from train.data.splits import split
from train.experiments.lab import inversion as back
from train.experiments.lab.lab import Lab, require_moving
from train.experiments.lab.report import Finding, Line, Picture, Table

CONFIG = ModelConfig()  # d=128, as the tutorial's hidden vector
BATCH = BatchOptions(rows=16, tokens=64, thin=0.0, forced=0.0, rescale=0.0, noise=0.0)
STEPS: Final = 400
LR: Final = 2e-3
SILENT: Final = Cut(gap_s=30 * 86_400.0)  # a path of 1,000 pings contains nights and holidays
LONG_PINGS: Final = 1_001  # pings of a path: 1,000 displacements
PATHS: Final = 24  # at most
COLUMNS: Final = [
    back.MOVE.start,
    back.MOVE.start + 1,
    back.LOG_DT,
]  # outputs of the decoder: the displacement's signed log, the interval's log
DRIFTS: Final = (1, 10, 100, 1_000)

OFF, WAY = "displacement, m", "length of the displacement itself, m"
FORMULA, BFLOAT16, LEARNED = "formula, float32 features", "formula, bfloat16 features", "learned, d=128"

QUESTION = """Question: do a ping's features hold its displacement and interval, so that the coordinates come back, and
how far does a path drift that is summed from them? Source: "Building a Foundation Model for Trajectory from Scratch"
(arXiv 2511.20610), whose first experiment is an autoencoder from coordinates through the hidden width and back."""
METHOD = """By formula: each feature of `model.kinematics.features.encode` is inverted alone, from float32 as the
network gets it. Learned: the default trunk (d=128, two blocks) under one linear layer that gives back displacement and
interval of each ping from its hidden vector, trained on the training part of the first file. Paths are an entity's
pings in a row; a path's drift is the distance between the summed displacements and the real ping."""


class Paths(NamedTuple):
    """B paths of T pings and their features."""

    fixes: NDArray[np.void]  # B, T
    kin: F64  # B, T, K
    x: F64  # B, T, F: float32 values, with absolute positions


def run(lab: Lab) -> Finding:
    """Inverts the features of long paths, then trains an autoencoder and runs the same paths through it."""
    file = lab.data[0]
    corpus = load([file], lab.cache, cut=SILENT)
    paths = encode_paths(corpus)
    require_moving(corpus, file.name)
    decoded = _decode_paths(lab, split(corpus).train, paths)
    drift = {
        FORMULA: drift_m(paths, paths.x),
        BFLOAT16: drift_m(paths, torch.from_numpy(paths.x).bfloat16().double().numpy()),
        LEARNED: drift_m(paths, decoded),
    }
    parts = invert_components(paths)
    learned = step_errors(paths, decoded)
    return Finding(
        question=QUESTION,
        method=METHOD,
        tables=[_parts(parts), _drifts(drift), _steps(learned)],
        pictures=[_picture(drift)],
        conclusion=conclude(parts, drift, learned),
        seeds=(lab.seed,),
        notes=[
            f"{len(paths.x)} paths of {paths.x.shape[1]:,} pings from {file.name}, silences up to 30 days included",
            f"Trained for {lab.steps(STEPS):,} steps",
        ],
    )


def encode_paths(corpus: Corpus) -> Paths:
    """Returns the first pings of tracks that are long enough, as features of the model."""
    length = corpus.lengths
    pings = min(LONG_PINGS, int(length.max(initial=0)))
    if pings < 3:
        raise ValueError(
            f"{', '.join(corpus.files)}: no path has 3 pings, two steps to invert, without a month between"
        )
    chosen = np.flatnonzero(length >= pings)
    chosen = chosen[even_indices(len(chosen), PATHS)]
    fixes = corpus.fixes(corpus.tracks[chosen, :1] + np.arange(pings))
    kin = baselines.scan_fixes(fixes, CONFIG)
    x = features.encode(kin, features.context(fixes), replace(CONFIG, absolute=True))
    return Paths(fixes, kin, x.astype(np.float64))


class Component(NamedTuple):
    """One original value of the features: its error after inversion, and where it cannot be recovered."""

    unit: str
    median: float  # NaN where it is lost everywhere
    most: float
    lost: float  # share of pings where it cannot be recovered: clipped, or below the noise


def invert_components(paths: Paths) -> dict[str, Component]:
    """Returns every part by name; errors over all pings except the first two of a path, which have no previous step."""
    k, x = np.moveaxis(paths.kin[:, 2:], -1, 0), paths.x[:, 2:]
    moved = np.stack([k[motion.D_E], k[motion.D_N]], axis=-1)
    speed1 = np.hypot(k[motion.D1_E], k[motion.D1_N]) / k[motion.DT1]
    cross = k[motion.D1_E] * k[motion.D_N] - k[motion.D1_N] * k[motion.D_E]
    dot = k[motion.D1_E] * k[motion.D_E] + k[motion.D1_N] * k[motion.D_N]
    turn = back.turn_rad(x) - np.arctan2(cross, dot)
    week = back.week_s(x) - features.week_phase_ms(paths.fixes["ts_ms"], paths.fixes["lon_e7"])[:, 2:] / 1000
    clipped = np.abs(x[..., back.LOG_RATIO]) >= back.MAX_LOG_RATIO
    none = np.zeros(turn.shape, dtype=np.bool_)
    off = {
        "displacement": ("m", _length(back.invert_metres(x) - moved), none),
        "displacement, from velocity and interval": ("m", _length(back.metres_by_velocity(x) - moved), none),
        "interval": ("s", back.invert_seconds(x) - k[motion.DT], none),
        "running interval (clipped)": ("s", back.running_seconds(x) - np.exp(k[motion.LOG_DT]), clipped),
        "turn from the step before": ("deg", np.degrees(_wrap(turn, 2 * np.pi)), np.hypot(dot, cross) == 0),
        "speed of the step before": ("m/s", back.speed_before_mps(x) - speed1, none),
        "time in the week (which week is lost)": ("s", _wrap(week, back.WEEK_S), none),
        "position (with absolute=True, modulo 16°)": ("m", _position_errors_m(paths)[:, 2:], none),
    }
    return {name: _component(*one) for name, one in off.items()}


def drift_m(paths: Paths, x: F64) -> F64:
    """Returns the distance [B, T] between the real pings and the paths summed from the features x, given the first
    ping.
    """
    lat, lon = paths.fixes["lat_e7"] / E7, paths.fixes["lon_e7"] / E7
    path = back.path_deg(lat[:, 0], lon[:, 0], back.invert_metres(x[:, 1:]))
    return haversine_m(path[..., 0], path[..., 1], lat, lon)


def step_errors(paths: Paths, x: F64) -> dict[str, F64]:
    """Returns, for each ping except the first, the errors in metres of displacement and in seconds of interval."""
    k = np.moveaxis(paths.kin[:, 1:], -1, 0)
    moved = np.stack([k[motion.D_E], k[motion.D_N]], axis=-1)
    return {
        OFF: _length(back.invert_metres(x[:, 1:]) - moved).ravel(),
        "interval, s": np.abs(back.invert_seconds(x[:, 1:]) - k[motion.DT]).ravel(),
        WAY: _length(moved).ravel(),
    }


def conclude(parts: Mapping[str, Component], drift: Mapping[str, F64], learned: Mapping[str, F64]) -> str:
    """Concludes whether the formula recovers the coordinates, and what the learned bottleneck loses."""
    move, interval = parts["displacement"], parts["interval"]
    end = {name: float(rows[:, -1].mean()) for name, rows in drift.items()}
    count = drift[FORMULA].shape[1] - 1
    exact = "invert" if end[FORMULA] < 1.0 else "do not invert exactly"
    lost = [f"{name} in {100 * part.lost:.1f} % of the pings" for name, part in parts.items() if part.lost > 0]
    first = (
        f"The features {exact}: the displacement to {1000 * move.most:.2g} mm and the interval to "
        f"{interval.most:.2g} s at worst, a path summed over {count:,} pings drifts {end[FORMULA]:.2g} m "
        f"({end[BFLOAT16]:,.0f} m once rounded to bfloat16), and what is lost is {' and '.join(lost) or 'nothing'}."
    )
    step_m, way_m = (float(np.mean(learned[name])) for name in (OFF, WAY))
    loses = end[LEARNED] > 2 * end[FORMULA]
    second = (
        f"Through the learned bottleneck a step of {way_m:,.0f} m comes back to {step_m:,.1f} m "
        f"({100 * step_m / max(way_m, 1e-9):.1f} %) on average and the path drifts {end[LEARNED]:,.0f} m, so the "
        f"bottleneck {'and not the features loses the coordinates' if loses else 'loses no more than the features do'}."
    )
    return f"{first} {second}"


class Autoencoder(nn.Module):
    """Maps features to hidden vectors of the trunk, and these to the features of displacement and interval."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = Trunk(CONFIG, features.width(CONFIG))
        self.decode = nn.Linear(CONFIG.d, len(COLUMNS))

    def forward(self, x_BTF: Tensor) -> Tensor:
        y: Tensor = self.decode(self.trunk(x_BTF)[0])
        return y


def _decode_paths(lab: Lab, train: Corpus, paths: Paths) -> F64:
    """Returns the paths' features, with displacement and interval as decoded by the trained autoencoder."""
    model, steps = _train(lab, train), range(0, len(paths.x), 4)
    x = torch.from_numpy(paths.x[..., : features.width(CONFIG)]).float()
    with torch.inference_mode():
        found = torch.cat([model(x[first : first + 4]) for first in steps]).double().numpy()
    out = paths.x.copy()
    out[..., COLUMNS] = found
    return out


def _train(lab: Lab, train: Corpus) -> Autoencoder:
    torch.manual_seed(lab.seed)
    torch.set_num_threads(lab.threads)
    model, total = Autoencoder(), lab.steps(STEPS)
    batches, optimizer = Batches(train, CONFIG, BATCH, lab.seed), torch.optim.AdamW(model.parameters(), lr=LR)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, total_steps=total + 1)
    for step in range(total):
        x = torch.from_numpy(batches.draw(step).x_BTF)
        loss = fn.smooth_l1_loss(model(x), x[..., COLUMNS], beta=0.02)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        schedule.step()
        if (step + 1) % max(1, total // 8) == 0:
            lab.say(f"autoencoder: step {step + 1:,} of {total:,}, loss {loss.item():.4f}")
    return model


def _component(unit: str, off: F64, lost: NDArray[np.bool_]) -> Component:
    kept = np.abs(off[~lost])
    found = (float(np.median(kept)), float(kept.max())) if len(kept) else (np.nan, np.nan)
    return Component(unit, *found, float(lost.mean()))


def _position_errors_m(paths: Paths) -> F64:
    """Returns the error of the position in metres, given the multiple of 16 degrees that is missing."""
    real = np.stack([paths.fixes["lat_e7"], paths.fixes["lon_e7"]], axis=-1) / E7
    found = real + _wrap(back.invert_degrees(paths.x) - real, back.SCALES_DEG[0])
    return haversine_m(real[..., 0], real[..., 1], found[..., 0], found[..., 1])


def _wrap(value: F64, period: float) -> F64:
    return np.asarray((value + period / 2) % period - period / 2)


def _length(vector: F64) -> F64:
    return np.asarray(np.hypot(vector[..., 0], vector[..., 1]))


def _parts(parts: Mapping[str, Component]) -> Table:
    rows = [
        (name, part.unit, *("" if np.isnan(v) else f"{v:.2g}" for v in part[1:3]), f"{100 * part.lost:.2f}")
        for name, part in parts.items()
    ]
    return Table(
        "Inverted by formula",
        ("part", "unit", "median error", "largest error", "not given back, % of pings"),
        list(rows),
    )


def _drifts(drift: Mapping[str, F64]) -> Table:
    counts = [count for count in DRIFTS if count < drift[FORMULA].shape[1]]
    rows = [(name, *(f"{rows[:, count].mean():,.3g}" for count in counts)) for name, rows in drift.items()]
    columns = ("from", *(f"after {count:,}" for count in counts))
    return Table("Drift of the summed path in metres, mean of the paths, by pings", columns, list(rows))


def _steps(learned: Mapping[str, F64]) -> Table:
    rows = [(name, *(float(v) for v in (off.mean(), *np.quantile(off, (0.5, 0.9))))) for name, off in learned.items()]
    return Table("Learned: error of one ping", ("of", "mean", "median", "90 %"), list(rows), digits=2)


def _picture(drift: Mapping[str, F64]) -> Picture:
    count = drift[FORMULA].shape[1]
    x = np.unique(np.geomspace(1, count - 1, 30).round().astype(int))
    lines = [Line(name, x.tolist(), rows.mean(0)[x].tolist()) for name, rows in drift.items()]
    title = "Summed displacements leave the real path"
    return Picture("drift", title, "pings since the start", "mean drift, m", lines, log_x=True, log_y=True)
