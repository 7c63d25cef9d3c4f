"""Packing: tracks that share a row do not see each other, and nobody but the trunk notices."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from fit_worlds import circling

from model.config import ModelConfig
from model.network.network import build
from train.batches.batches import Batch, Batches
from train.batches.options import BatchOptions
from train.batches.packing import pack
from train.fit import loss

OPTIONS = BatchOptions(rows=6, tokens=60, pack=True)
TINY = ModelConfig(name="tiny", d=32, blocks=2, heads=2, window=16)


def short_tracks(config: ModelConfig = TINY) -> Batch:
    return Batches(circling(tracks=30, pings=25), config, OPTIONS, 1).draw(0)


@pytest.mark.parametrize("positions", ["rope", "time-rope", "sinusoidal", "learned", "none"])
def test_packed_tracks_have_the_hidden_vectors_and_losses_of_separate_rows(positions: str) -> None:
    config = replace(TINY, positions=positions)
    batch, network = short_tracks(config), build(config, 0)
    assert batch.packing is not None
    assert len(batch.x_BTF) > OPTIONS.rows  # more tracks than rows
    with torch.no_grad():
        together, apart = (loss._hidden(network, b) for b in (batch, batch._replace(packing=None)))
        losses = [loss.measure(network, b).total for b in (batch, batch._replace(packing=None))]
    there = torch.from_numpy(batch.log_next_mask)
    torch.testing.assert_close(together[there], apart[there], rtol=0, atol=1e-5)
    torch.testing.assert_close(*losses, rtol=1e-5, atol=1e-5)


def test_a_packed_row_is_nearly_full() -> None:
    batch = short_tracks()
    assert batch.packing is not None
    assert (batch.packing.segment >= 0).mean() > 0.75
    plain = Batches(circling(tracks=30, pings=25), TINY, replace(OPTIONS, pack=False), 1).draw(0)
    assert plain.packing is None
    assert batch.log_next_mask.sum() > 1.5 * plain.log_next_mask.sum()


def test_every_token_of_every_chosen_track_lies_somewhere_once() -> None:
    lengths = np.array([50, 30, 20, 60, 5, 55, 10])
    chosen, packing = pack(lengths, 3, 60)
    assert chosen.tolist() == [0, 1, 2, 3, 4, 6]  # 55 fits nowhere any more; 10 still does
    for number, track in enumerate(chosen):
        where = (packing.segment >= 0) & (packing.track == number)
        assert sorted(packing.token[where].tolist()) == list(range(lengths[track]))
        assert len(np.unique(np.nonzero(where)[0])) == 1


def test_long_tracks_fill_a_row_each_as_before() -> None:
    batch = Batches(circling(tracks=8, pings=400), TINY, OPTIONS, 2).draw(0)
    assert batch.packing is not None
    assert len(np.unique(batch.packing.segment[batch.packing.segment >= 0])) >= OPTIONS.rows
