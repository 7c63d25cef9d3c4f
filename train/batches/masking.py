"""What of a row the model does not see. Knows places and speeds; knows no network.

    segment    blocks of 20 s to 20 min; how many is up to chance
    share      segments that are together MASKED_SHARE of the row's pings
    point      each ping with a chance of MASKED_SHARE
    key-point  all but the key points: where it turns, stops or goes, and the ends of the track
    feature    no ping; of each ping its speed, its heading and its clock, each with a chance of MASKED_SHARE

The first is what BatchOptions does by default; the others are of the experiment `masking`. Speed, heading and clock of
whole rows are a matter of BatchOptions.drop_*.

Places number the pings of all tracks, one after the other. Shapes: B rows, T tokens, G gaps per row.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from model.kinematics.geo import F64
from train.data.anchors import STOPPED_MPS, TURNING_DEG

Rows = NDArray[np.int64]

MASKS: Final = ("segment", "share", "point", "key-point", "feature")
MASKED_SHARE: Final = 0.15  # the tutorial's, and BERT's


class Tracks(NamedTuple):
    """First place and the place after the last of each row's track, [B] each."""

    start: Rows
    stop: Rows


def shares(rng: Generator, rows: int, tokens: int, gaps: int) -> Rows:
    """Pings that each gap hides [B, G], together MASKED_SHARE of the tokens and the hidden ones."""
    hidden = round(MASKED_SHARE / (1 - MASKED_SHARE) * tokens)
    return np.asarray(rng.multinomial(hidden, np.full(gaps, 1 / gaps), size=rows), np.int64)


def points(rng: Generator, place: Rows, gaps: int) -> tuple[Rows, Rows]:
    """The rows' places [B, T] with single pings left out in between, and tokens [B, G] before which some are."""
    extra = rng.geometric(1 - MASKED_SHARE, place.shape) - 1
    extra[:, 0] = 0
    return place + np.cumsum(extra, axis=1), _some(rng, extra > 0, gaps)


def key_points(rng: Generator, place: Rows, tracks: Tracks, keys: Rows, gaps: int) -> tuple[Rows, Rows]:
    """The key places from each row's first token on [B, T] (its track's stop after the last), and tokens as above."""
    index = np.searchsorted(keys, place[:, 0])[:, None] + np.arange(place.shape[1])
    stop = tracks.stop[:, None]
    chosen = np.minimum(np.where(index < len(keys), keys[np.minimum(index, len(keys) - 1)], stop), stop)
    hides = np.diff(chosen, axis=1, prepend=chosen[:, :1]) > 1
    return chosen, _some(rng, hides & (chosen < stop), gaps)


def features(rng: Generator, rows: int, tokens: int) -> NDArray[np.bool_]:
    """Which of speed, heading and clock are hidden of each token [B, T, 3]."""
    return rng.random((rows, tokens, 3)) < MASKED_SHARE


def is_key(en_m: F64, dt_s: F64) -> NDArray[np.bool_]:
    """Which pings [N] of one track are key points, from its steps: en_m [N - 1, 2] and dt_s [N - 1]."""
    speed = np.hypot(en_m[:, 0], en_m[:, 1]) / np.maximum(dt_s, 1e-3)
    going = speed >= STOPPED_MPS
    turn = np.diff(np.arctan2(en_m[:, 1], en_m[:, 0]))
    turned = np.abs((turn + np.pi) % (2 * np.pi) - np.pi) > np.radians(TURNING_DEG)
    inner = (going[1:] != going[:-1]) | (turned & going[1:] & going[:-1])
    return np.concatenate([[True], inner, [True]])


def _some(rng: Generator, wanted: NDArray[np.bool_], gaps: int) -> Rows:
    """Tokens [B, G] from 2 to T - 2, of those wanted [B, T] where there are enough, else others."""
    inner = wanted[:, 2:-1] + rng.random((len(wanted), wanted.shape[1] - 3))
    return np.asarray(2 + np.argsort(-inner, axis=1)[:, :gaps], np.int64)
