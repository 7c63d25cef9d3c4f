"""Packs several tracks into one row of the trunk, so that few rows are padding.

Batches are drawn with one track per row, each padded to T tokens. The trunk, where most of the time goes, gets them
packed: tracks lie one after the other in fewer rows, attention ends where a track begins (Trunk.forward's
`segment_BT`), and the hidden vectors are put back in their rows before the heads run, so that only the trunk is
affected.

Off by default. On the free files a batch then holds 4,075 pings instead of 3,164, but a core learns from as many per
second (20,900 against 20,600; 25 November 2026, one core of a shared AMD EPYC): the cost of heads and drawing grows
with the pings, and only the trunk's padding is saved. On a GPU, where matrices are cheap and padding is not, it may
pay.

Shapes: B tracks of up to T tokens, P packed rows.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Rows = NDArray[np.int64]

DRAWN: Final = 4.0  # tracks drawn per packed row: enough to fill all but the last few places


class Packing(NamedTuple):
    """The position of each token in the packed rows."""

    track: Rows  # P, T: index in B; 0 in padding
    token: Rows  # P, T: index in that track's T; 0 in padding
    segment: Rows  # P, T: number that differs between tracks of a row; -1 is padding


def pack(lengths: Rows, rows: int, tokens: int) -> tuple[Rows, Packing]:
    """Returns the indices of the tracks with `lengths` (B,) that fit into `rows` rows of `tokens`, and their positions.

    It is a first fit in the order in which the tracks were drawn: taking short tracks first would draw them more often.
    """
    free = np.full(rows, tokens)
    chosen: list[int] = []
    out = Packing(*(np.full((rows, tokens), fill, np.int64) for fill in (0, 0, -1)))
    for track, length in enumerate(lengths):
        fits = np.flatnonzero(free >= length)
        if len(fits) == 0:
            continue
        row, at = fits[0], tokens - free[fits[0]]
        place = slice(at, at + length)
        out.track[row, place] = len(chosen)
        out.token[row, place] = np.arange(length)
        out.segment[row, place] = track
        free[row] -= length
        chosen.append(track)
    return np.array(chosen, np.int64), out


def pack_values(packing: Packing, values: NDArray[np.generic]) -> Tensor:
    """Returns values [B, T, ...] in packed rows [P, T, ...]; padding has the values of the first track's first
    token.
    """
    return torch.from_numpy(np.ascontiguousarray(values[packing.track, packing.token]))


def unpack_hidden(packing: Packing, hidden_PTC: Tensor, tracks: int) -> Tensor:
    """Returns the hidden vectors [B, T, C]; those of tokens that do not exist are zero."""
    row, place = np.nonzero(packing.segment >= 0)
    source = hidden_PTC[torch.from_numpy(row), torch.from_numpy(place)]
    where = (torch.from_numpy(packing.track[row, place]), torch.from_numpy(packing.token[row, place]))
    out = hidden_PTC.new_zeros((tracks, *hidden_PTC.shape[1:]))
    return out.index_put(where, source)
