"""What each mask hides, and that the default hides what it always did."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from fit_worlds import circling

from model.config import SMALL
from train import masks
from train.batches import Batches
from train.data import Corpus
from train.line import Line
from train.options import BatchOptions
from train.tokens import Drawn, Tokens

PLAIN = BatchOptions(rows=16, tokens=40, thin=0.0, rescale=0.0, noise=0.0, forced=1.0)


def places(corpus: Corpus, options: BatchOptions, seed: int = 0) -> Drawn:
    return Tokens(Line(corpus), options, packs=False).draw(np.random.default_rng(seed), options.rows)


def test_a_mask_nobody_knows_is_refused() -> None:
    for wrong in ((), ("word",)):
        with pytest.raises(ValueError, match="masks must be among"):
            BatchOptions(masks=wrong)


def test_rows_without_hidden_pings_are_the_same_under_every_mask() -> None:
    plain = places(circling(), BatchOptions(rows=8, tokens=24, forced=0.0))
    for other in ((mask,) for mask in masks.MASKS[1:]):
        drawn = places(circling(), BatchOptions(rows=8, tokens=24, forced=0.0, masks=other))
        for a, b in zip(plain, drawn, strict=True):
            np.testing.assert_array_equal(a, b)


def test_shares_hide_fifteen_per_cent_in_segments() -> None:
    place, valid, jumps = places(circling(pings=4000), replace(PLAIN, masks=("share",)))
    assert valid.all()
    hidden = np.diff(place, axis=1) - 1
    assert hidden.sum(axis=1).tolist() == [round(0.15 / 0.85 * 40)] * 16
    for row, at in zip(hidden, jumps, strict=True):
        assert set(np.flatnonzero(row) + 1) <= set(at.tolist())


def test_points_are_hidden_one_by_one_at_the_share() -> None:
    place, valid, _ = places(circling(pings=4000), replace(PLAIN, rows=64, masks=("point",)))
    hidden = (np.diff(place, axis=1) - 1)[valid[:, 1:]]  # some rows reach the end of their track
    assert hidden.sum() / (hidden.sum() + hidden.size) == pytest.approx(masks.MASKED_SHARE, abs=0.02)
    assert np.median(hidden[hidden > 0]) == 1


def test_key_points_are_turns_stops_and_ends() -> None:
    north, east, still = [0.0, 10.0], [10.0, 0.0], [0.0, 0.0]
    steps = np.array([north, north, east, east, still, still, north])
    assert masks.is_key(steps, np.ones(7)).tolist() == [True, False, True, False, True, False, True, True]


def test_a_straight_way_west_has_no_turns() -> None:
    """Its bearing jumps between 179 and -179 degrees."""
    steps = np.array([[-100.0, 1.0], [-100.0, -1.0]] * 4)
    assert masks.is_key(steps, np.full(8, 10.0)).tolist() == [True] + [False] * 7 + [True]


def test_a_receiver_that_wanders_about_at_rest_turns_nowhere() -> None:
    steps = np.array([[0.1, 0.0], [0.0, 0.1], [-0.1, 0.0], [0.0, -0.1]])
    assert masks.is_key(steps, np.full(4, 10.0)).tolist() == [True, False, False, False, True]


def test_all_but_key_points_are_hidden_and_asked_for() -> None:
    """Around a block of long sides: every token is a corner or the track's end, and what is asked for lies between."""
    corpus = square(side=12, sides=60)
    options = replace(PLAIN, masks=("key-point",))
    place, valid, _ = places(corpus, options)
    assert ((place % 12 == 0) | (place == 719))[valid].all()
    batch = Batches(corpus, SMALL, options, 0).draw(0)
    assert batch.gap_mask.mean() > 0.5


def test_hidden_pings_are_asked_about() -> None:
    for mask in masks.MASKS[1:]:
        batch = Batches(square(side=12, sides=400), SMALL, replace(PLAIN, masks=(mask,)), 0).draw(0)
        assert batch.gap_mask.any(axis=(1, 2)).mean() > 0.8, mask  # a row at the end of its track may have none


def square(side: int, sides: int) -> Corpus:
    """One thing that drives around a block, a ping a 10 s, corners at every side-th ping."""
    corner = np.array([[0, 0], [0, 1], [1, 1], [1, 0], [0, 0]], float)
    along = np.arange(side) / side
    lap = np.concatenate([corner[i] + along[:, None] * (corner[i + 1] - corner[i]) for i in range(4)])
    where = np.tile(lap, (sides // 4, 1)) * 0.01
    rows = len(where)
    return replace(
        circling(tracks=1, pings=rows),
        ts_ms=1_480_000_000_000 + 10_000 * np.arange(rows, dtype=np.int64),
        lat=30 + where[:, 0],
        lon=-97 + where[:, 1],
    )
