"""Forecasts in one pass over whole windows, for models that cannot be served.

Every model answers at the same anchors as served models in `train.evaluation.rollout`.

Shapes: N windows, T pings each, H = 1 + horizons (the first is the next ping), C = config.d, K = motion.WIDTH.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.kinematics import baselines, features, queries
from model.kinematics.geo import E7, F64, haversine_m, moved_deg
from model.network import network
from model.network.heads import Spread, combine
from model.network.network import Network
from train.data.anchors import find
from train.data.corpus import Corpus

ROWS: Final = 128  # windows per batch


class Windows(NamedTuple):
    """The last T pings up to N anchors, and the targets after them."""

    fixes: NDArray[Any]  # (N, T) FIX; the anchor is the last
    dt_s: F64  # (N, H) seconds to the target; where there is none, the horizon itself
    lat: F64  # (N, H) degrees of the target; NaN where there is none
    lon: F64
    entity: NDArray[np.int32]  # (N,)


class Seen(NamedTuple):
    """A model's vectors at the anchors of some windows."""

    rows: slice
    hidden: Tensor  # (n, C) of the anchor
    kin: F64  # (n, K)


def windows(corpus: Corpus, *, tokens: int, most: int) -> Windows:
    """Returns at most `most` anchors, evenly spaced among all that have `tokens` pings up to them in their track.

    Raises ValueError where there is none.
    """
    anchors = find(corpus)
    whole = np.flatnonzero(anchors.row - corpus.tracks[anchors.track, 0] >= tokens - 1)
    if not len(whole):
        raise ValueError(f"{', '.join(corpus.files)}: no track has {tokens} pings and one more")
    chosen = whole[np.unique(np.linspace(0, len(whole) - 1, min(most, len(whole))).round().astype(np.int64))]
    target = anchors.target[chosen]
    known = target >= 0
    lat, lon = (np.where(known, np.asarray(column)[target], np.nan) for column in (corpus.lat, corpus.lon))
    fixes = corpus.fixes(anchors.row[chosen, None] + np.arange(1 - tokens, 1))
    return Windows(fixes, anchors.dt_s[chosen], lat, lon, corpus.entity[anchors.track[chosen]])


# Returns hidden vectors (n, T, C) and kinematic rows (n, T, K) of whole sequences (n, T) of FIX records.
Read = Callable[[NDArray[Any]], tuple[Tensor, F64]]


def read(net: Network, fixes: NDArray[Any]) -> tuple[Tensor, F64]:
    """`Read` of one network."""
    kin = baselines.scan_fixes(fixes, net.config)
    x = torch.from_numpy(features.encode(kin, features.context(fixes), net.config))
    time_ms = torch.from_numpy(np.array(fixes["ts_ms"]))
    return net.trunk(x, net.locate(fixes), time_ms)[0], kin


def answer(net: Network, hidden: Tensor, kin: F64, fixes: NDArray[Any], dt_s: F64) -> Spread:
    """Forecasts dt_s (n, H) seconds after fixes (n,), whose hidden vectors are (n, C) and kinematic rows (n, K)."""
    at_en = queries.from_origin(fixes, net.config)
    physics = queries.forecast(kin, dt_s, net.config, at_en, context=features.context(fixes))
    asked = network.to_tensors(physics, torch.float64)
    return combine(net.forecast(hidden, asked.features), asked)


@torch.inference_mode()
def look(read: Read, asked: Windows) -> list[Seen]:
    """Returns the hidden vectors of the anchors."""
    out = []
    for first in range(0, len(asked.fixes), ROWS):
        rows = slice(first, min(first + ROWS, len(asked.fixes)))
        hidden, kin = read(asked.fixes[rows])
        out.append(Seen(rows, hidden[:, -1], kin[:, -1]))
    return out


@torch.inference_mode()
def forecast(net: Network, asked: Windows) -> tuple[F64, F64]:
    """Returns means (N, H, 2) in metres from the anchors, and covariances (N, H, 3)."""
    mean, cov = np.empty((*asked.dt_s.shape, 2)), np.empty((*asked.dt_s.shape, 3))
    for rows, hidden, kin in look(partial(read, net), asked):
        spread = answer(net, hidden, kin, asked.fixes[rows, -1], asked.dt_s[rows])
        mean[rows], cov[rows] = spread.mean_en.numpy(), spread.cov_m2.numpy()
    return mean, cov


def error_m(asked: Windows, mean_en: F64) -> F64:
    """Returns the great-circle metres (N, H) between positions, in metres from the anchors, and the targets; NaN: no
    target.
    """
    return haversine_m(*place(asked, mean_en), asked.lat, asked.lon)


def place(asked: Windows, en_m: F64) -> tuple[F64, F64]:
    """Returns the degrees (N, H) of positions (N, H, 2) in metres from the anchors."""
    last = asked.fixes[:, -1:]
    return moved_deg(last["lat_e7"] / E7, last["lon_e7"] / E7, en_m)
