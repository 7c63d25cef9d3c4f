"""What each mask hides, and that the default hides what it always did."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from fit_worlds import circling

from model.config import SMALL
from model.kinematics import features
from model.kinematics.features import Context
from train.batches import masking
from train.batches.batches import Batches
from train.batches.options import BatchOptions
from train.batches.packing import DRAWN, pack
from train.batches.sampling import DrawnTokens, Tokens
from train.batches.timeline import Line
from train.data.corpus import Corpus

PLAIN = BatchOptions(rows=16, tokens=40, thin=0.0, rescale=0.0, noise=0.0, forced=1.0)


def places(corpus: Corpus, options: BatchOptions, seed: int = 0) -> DrawnTokens:
    return Tokens(Line(corpus), options, packs=False).draw(np.random.default_rng(seed), options.rows)


def test_a_mask_nobody_knows_is_refused() -> None:
    for wrong in ((), ("word",)):
        with pytest.raises(ValueError, match="masks must be among"):
            BatchOptions(masks=wrong)


def test_rows_without_hidden_pings_are_the_same_under_every_mask() -> None:
    plain = places(circling(), BatchOptions(rows=8, tokens=24, forced=0.0))
    for other in ((mask,) for mask in masking.MASKS[1:]):
        drawn = places(circling(), BatchOptions(rows=8, tokens=24, forced=0.0, masks=other))
        for a, b in zip(plain, drawn, strict=True):
            np.testing.assert_array_equal(a, b)


def test_shares_hide_fifteen_per_cent_in_segments() -> None:
    place, valid, jumps, _ = places(circling(pings=4000), replace(PLAIN, masks=("share",)))
    assert valid.all()
    hidden = np.diff(place, axis=1) - 1
    assert hidden.sum(axis=1).tolist() == [round(0.15 / 0.85 * 40)] * 16
    for row, at in zip(hidden, jumps, strict=True):
        assert set(np.flatnonzero(row) + 1) <= set(at.tolist())


def test_points_are_hidden_one_by_one_at_the_share() -> None:
    place, valid, _, _ = places(circling(pings=4000), replace(PLAIN, rows=64, masks=("point",)))
    hidden = (np.diff(place, axis=1) - 1)[valid[:, 1:]]  # some rows reach the end of their track
    assert hidden.sum() / (hidden.sum() + hidden.size) == pytest.approx(masking.MASKED_SHARE, abs=0.02)
    assert np.median(hidden[hidden > 0]) == 1


def test_key_points_are_turns_stops_and_ends() -> None:
    north, east, still = [0.0, 10.0], [10.0, 0.0], [0.0, 0.0]
    steps = np.array([north, north, east, east, still, still, north])
    assert masking.is_key(steps, np.ones(7)).tolist() == [True, False, True, False, True, False, True, True]


def test_a_straight_way_west_has_no_turns() -> None:
    """Its bearing jumps between 179 and -179 degrees."""
    steps = np.array([[-100.0, 1.0], [-100.0, -1.0]] * 4)
    assert masking.is_key(steps, np.full(8, 10.0)).tolist() == [True] + [False] * 7 + [True]


def test_a_receiver_that_wanders_about_at_rest_turns_nowhere() -> None:
    steps = np.array([[0.1, 0.0], [0.0, 0.1], [-0.1, 0.0], [0.0, -0.1]])
    assert masking.is_key(steps, np.full(4, 10.0)).tolist() == [True, False, False, False, True]


def test_all_but_key_points_are_hidden_and_asked_for() -> None:
    """Around a block of long sides: every token is a corner or the track's end, and what is asked for lies between."""
    corpus = square(side=12, sides=60)
    options = replace(PLAIN, masks=("key-point",))
    place, valid, _, _ = places(corpus, options)
    assert ((place % 12 == 0) | (place == 719))[valid].all()
    batch = Batches(corpus, SMALL, options, 0).draw(0)
    assert batch.gap_mask.mean() > 0.5


def test_hidden_pings_are_asked_about() -> None:
    for mask in ("share", "point", "key-point"):
        batch = Batches(square(side=12, sides=400), SMALL, replace(PLAIN, masks=(mask,)), 0).draw(0)
        assert batch.gap_mask.any(axis=(1, 2)).mean() > 0.8, mask  # a row at the end of its track may have none


@pytest.mark.parametrize("pack", [False, True])
def test_features_are_hidden_one_by_one_at_the_share_and_nothing_else_is(pack: bool) -> None:
    """Speed, heading and clock of a ping are each hidden by a draw of their own, as if they had not been reported."""
    corpus = telling(circling(pings=400))
    options = replace(
        PLAIN, rows=64, pack=pack, turn=0.0, drop_reported=0.0, drop_clock=0.0, reported=0.0, misreported=0.0
    )
    plain = contexts(corpus, replace(options, masks=("share",), forced=0.0))
    masked = contexts(corpus, replace(options, masks=("feature",)))
    hidden = np.stack([np.isnan(masked.speed_mps), np.isnan(masked.heading_rad), masked.phase_ms == -1], axis=-1)
    np.testing.assert_array_equal(masked.speed_mps[~hidden[..., 0]], plain.speed_mps[~hidden[..., 0]])
    np.testing.assert_array_equal(masked.heading_rad[~hidden[..., 1]], plain.heading_rad[~hidden[..., 1]])
    np.testing.assert_array_equal(masked.phase_ms[~hidden[..., 2]], plain.phase_ms[~hidden[..., 2]])
    share = masking.MASKED_SHARE
    assert hidden.mean(axis=(0, 1)) == pytest.approx(share, abs=0.02)
    assert hidden.all(axis=-1).mean() == pytest.approx(share**3, abs=0.004)  # else one draw hides them together
    assert hidden.any(axis=1).mean() > 0.95  # in every row


def test_features_are_hidden_only_in_rows_of_their_mask() -> None:
    options = replace(PLAIN, rows=200, masks=("share", "feature"), forced=0.75)
    _, _, _, hides = places(circling(pings=4000), options)
    assert hides.any(axis=(1, 2)).mean() == pytest.approx(0.375, abs=0.08)
    for others in (("segment",), ("segment", "share", "point", "key-point")):
        assert not places(circling(), replace(options, masks=others)).hides.any()


def test_packed_rows_hide_what_was_drawn_for_them() -> None:
    """Which of the drawn rows are packed is chosen by their lengths: what they hide goes with them."""
    whole = circling(tracks=24, pings=30)
    first = whole.tracks[:, 0]  # by turns long ones and short ones, which fill what the long ones leave
    corpus = telling(whole.cut(np.stack([first, first + np.where(np.arange(24) % 2, 9, 30)], axis=1), np.arange(24)))
    options = replace(
        PLAIN, rows=8, pack=True, turn=0.0, drop_reported=0.0, drop_clock=0.0, reported=0.0, misreported=0.0
    )
    options = replace(options, masks=("share", "feature"))
    drawn = Tokens(Line(corpus), options, packs=True).draw(np.random.default_rng([0, 0]), round(DRAWN * options.rows))
    chosen, _ = pack(drawn.valid.sum(axis=1), options.rows, options.tokens)
    assert chosen.tolist() != list(range(len(chosen))), "some of the first have found no place"
    seen = contexts(corpus, options)
    assert 0 < drawn.hides[chosen].any(axis=(1, 2)).mean() < 1
    np.testing.assert_array_equal(np.isnan(seen.speed_mps), drawn.hides[chosen][..., 0])


def telling(corpus: Corpus) -> Corpus:
    rng = np.random.default_rng(0)
    speed_mps, heading_deg = rng.uniform([[1], [0]], [[20], [360]], (2, len(corpus.ts_ms))).astype(np.float32)
    return replace(corpus, speed_mps=speed_mps, heading_deg=heading_deg)


def contexts(corpus: Corpus, options: BatchOptions) -> Context:
    """What the features of a batch were made of."""
    seen: list[Context] = []
    with pytest.MonkeyPatch.context() as patch:
        encode = features.encode
        patch.setattr(features, "encode", lambda kin, ctx, config: seen.append(ctx) or encode(kin, ctx, config))
        Batches(corpus, SMALL, options, 0).draw(0)
    return seen[0]


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
