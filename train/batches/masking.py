"""Masks: the pings and fields of a row that the model does not see.

    segment    blocks of 20 s to 20 min; their number is random
    share      segments that are together MASKED_SHARE of the row's pings
    point      each ping with a chance of MASKED_SHARE
    key-point  all but the key points: where the track turns, stops or starts, and its ends
    feature    no ping; of each ping its speed, its heading and its clock, each with a chance of MASKED_SHARE

The first is the default of BatchOptions; the others belong to the experiment `masking`. BatchOptions.drop_* hide speed,
heading and clock of whole rows.

Places number the pings of all tracks, one track after the other. Shapes: B rows, T tokens, G gaps per row.
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
MASKED_SHARE: Final = 0.15  # as in the tutorial, and in BERT


class Tracks(NamedTuple):
    """The first place of each row's track and the place after its last ping, [B] each."""

    start: Rows
    stop: Rows


def draw_shares(rng: Generator, rows: int, tokens: int, gaps: int) -> Rows:
    """Returns the number of pings that each gap hides [B, G]; together they are MASKED_SHARE of the tokens and the
    hidden pings.
    """
    hidden = round(MASKED_SHARE / (1 - MASKED_SHARE) * tokens)
    return np.asarray(rng.multinomial(hidden, np.full(gaps, 1 / gaps), size=rows), np.int64)


def draw_points(rng: Generator, place: Rows, gaps: int) -> tuple[Rows, Rows]:
    """Returns the rows' places [B, T] with single pings hidden in between, and tokens [B, G] before which some are
    hidden.
    """
    extra = rng.geometric(1 - MASKED_SHARE, place.shape) - 1
    extra[:, 0] = 0
    return place + np.cumsum(extra, axis=1), _choose_tokens(rng, extra > 0, gaps)


def draw_key_points(rng: Generator, place: Rows, tracks: Tracks, keys: Rows, gaps: int) -> tuple[Rows, Rows]:
    """Returns the key places from each row's first token on [B, T] (its track's stop after the last), and tokens as
    above.
    """
    index = np.searchsorted(keys, place[:, 0])[:, None] + np.arange(place.shape[1])
    stop = tracks.stop[:, None]
    chosen = np.minimum(np.where(index < len(keys), keys[np.minimum(index, len(keys) - 1)], stop), stop)
    hides = np.diff(chosen, axis=1, prepend=chosen[:, :1]) > 1
    return chosen, _choose_tokens(rng, hides & (chosen < stop), gaps)


def draw_features(rng: Generator, rows: int, tokens: int) -> NDArray[np.bool_]:
    """Returns which of speed, heading and clock are hidden for each token [B, T, 3]."""
    return rng.random((rows, tokens, 3)) < MASKED_SHARE


def is_key(en_m: F64, dt_s: F64) -> NDArray[np.bool_]:
    """Returns which pings [N] of one track are key points, from its steps: en_m [N - 1, 2] and dt_s [N - 1]."""
    speed = np.hypot(en_m[:, 0], en_m[:, 1]) / np.maximum(dt_s, 1e-3)
    going = speed >= STOPPED_MPS
    turn = np.diff(np.arctan2(en_m[:, 1], en_m[:, 0]))
    turned = np.abs((turn + np.pi) % (2 * np.pi) - np.pi) > np.radians(TURNING_DEG)
    inner = (going[1:] != going[:-1]) | (turned & going[1:] & going[:-1])
    return np.concatenate([[True], inner, [True]])


def _choose_tokens(rng: Generator, wanted: NDArray[np.bool_], gaps: int) -> Rows:
    """Returns tokens [B, G] from 2 to T - 2: those in `wanted` [B, T] where there are enough, else also others."""
    inner = wanted[:, 2:-1] + rng.random((len(wanted), wanted.shape[1] - 3))
    return np.asarray(2 + np.argsort(-inner, axis=1)[:, :gaps], np.int64)
