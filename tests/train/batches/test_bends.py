"""Bent tracks: still in one piece, of the same lengths, and turned where and only where they should be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from fit_worlds import circling

from model.config import SMALL, ModelConfig
from model.kinematics.features import steps_between
from train.batches import bends
from train.batches.batches import Batches
from train.batches.bends import Bends
from train.batches.options import BatchOptions

PLAIN = BatchOptions(rows=16, tokens=40, thin=0.0, rescale=0.0, noise=0.0, forced=0.0, drop_clock=0.0)


def one_row(angle: float) -> tuple[Bends, np.ndarray, np.ndarray]:
    """Places 0 to 99 of one track that is turned by `angle` at place 50, and its fixes."""
    corpus, place = circling(tracks=1, pings=100), np.arange(100)[None]
    fixes = corpus.fixes(place)
    at = np.concatenate([[50], np.full(bends.BENDS - 1, 1000)])[None]
    drawn = bends.draw_bends(
        np.random.default_rng(0), at, corpus.fixes(np.minimum(at, 99)), fixes[:, 0], np.array([True])
    )
    turned = np.zeros_like(drawn.angle)
    turned[:, 1:] = angle
    corner = steps_between(np.broadcast_to(fixes[:, 0], (1,)), fixes[:, 50])[1]
    shift = corner - np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) @ corner[0]
    shifts = np.concatenate([np.zeros((1, 1, 2)), np.repeat(shift[:, None], bends.BENDS, axis=1)], axis=1)
    return drawn._replace(angle=turned, shift_en=shifts), place, fixes


def test_a_bend_turns_what_follows_and_keeps_the_track_in_one_piece() -> None:
    bent, place, fixes = one_row(np.pi / 2)
    before, after = steps_between(np.broadcast_to(fixes[:, :1], fixes.shape), fixes)[1][0], bent.where(place, fixes)[0]
    np.testing.assert_allclose(after[:51], before[:51], atol=1e-9)
    steps, turned = np.diff(before, axis=0), np.diff(after, axis=0)
    np.testing.assert_allclose(turned[50:], np.stack([-steps[50:, 1], steps[50:, 0]], axis=-1), atol=1e-9)
    np.testing.assert_allclose(np.hypot(*turned.T), np.hypot(*steps.T), atol=1e-9)  # no jump at the bend


def test_a_bend_begins_with_the_ping_that_it_is_at() -> None:
    bent, place, _ = one_row(np.pi / 2)
    assert bent.rotation_at(place)[0].tolist() == [0.0] * 50 + [np.pi / 2] * 50


def test_things_bend_to_the_left_as_often_as_to_the_right() -> None:
    corpus, place = circling(tracks=8, pings=400), 400 * np.arange(8)[:, None] + np.arange(1, 1 + bends.BENDS)
    bent = bends.draw_bends(
        np.random.default_rng(5), place, corpus.fixes(place), corpus.fixes(place[:, 0] - 1), np.ones(8, bool)
    )
    assert (bent.angle[:, 1:] > 0).mean() == pytest.approx(0.5, abs=0.05)  # of 1024: three standard deviations
    assert bent.angle.min() < -3
    assert bent.angle.max() > 3


def test_drawn_bends_leave_every_step_as_long_as_it_was() -> None:
    corpus, place = circling(tracks=3, pings=400), np.arange(400)[None] + 400 * np.arange(3)[:, None]
    fixes, rng = corpus.fixes(place), np.random.default_rng(1)
    at = np.sort(place[:, 0, None] + rng.integers(1, 400, (3, bends.BENDS)), axis=1)
    bent = bends.draw_bends(rng, at, corpus.fixes(at), fixes[:, 0], np.array([True, True, False]))
    origin = np.broadcast_to(fixes[:, :1], fixes.shape)
    straight, crooked = steps_between(origin, fixes)[1], bent.where(place, fixes)
    length = [np.hypot(*np.moveaxis(np.diff(en, axis=1), -1, 0)) for en in (straight, crooked)]
    np.testing.assert_allclose(length[1], length[0], atol=1e-6)
    np.testing.assert_allclose(crooked[2], straight[2], atol=1e-9)
    assert np.abs(crooked[:2] - straight[:2]).max() > 100
    assert (bent.rotation_at(place)[2] == 0).all()


def test_a_row_bends_from_its_first_ping_to_its_last() -> None:
    first, last = np.zeros(500, np.int64), np.full(500, 20 * 3_600_000)
    moments = bends.draw_times_ms(np.random.default_rng(2), first, last, last)
    assert (np.diff(moments, axis=1) >= 0).all()
    # 40 bends of 1.5 times the pace that they need: hardly a row runs out of them early.
    assert (moments[:, -1] > last).mean() > 0.9


def test_a_row_that_is_too_short_to_show_its_pace_does_not_bend() -> None:
    """Ten minutes of pings tell paces of up to five, and the answers of a straight row are straight to the last."""
    first, last = np.zeros(4000, np.int64), np.full(4000, 3_000_000)
    moments = bends.draw_times_ms(np.random.default_rng(3), first, np.full(4000, 600_000), last)
    straight = moments[:, 0] > last
    paces = np.log(300 / bends.SHORTEST_S) / np.log(bends.LONGEST_S / bends.SHORTEST_S)
    assert (~straight).mean() == pytest.approx(paces, abs=0.04)
    assert (moments[straight] > last[straight, None]).all()
    assert (moments[~straight] < 600_000).sum(axis=1).mean() > bends.TELLING


def test_rows_of_two_minutes_stay_straight_whatever_comes_after_them() -> None:
    """The answers reach far beyond the pings that the network sees: it is these that have to tell."""
    corpus = circling(tracks=4, pings=2000)
    interval_s = float(np.median(np.diff(corpus.ts_ms[:100]))) / 1000.0
    brief = replace(PLAIN, tokens=int(bends.TELLING * bends.SHORTEST_S / interval_s) - 1)
    straight, bent = (Batches(corpus, SMALL, replace(brief, bend=share), 0).draw(0) for share in (0.0, 1.0))
    np.testing.assert_allclose(bent.x_BTF, straight.x_BTF, atol=1e-4)


@pytest.mark.parametrize("asked", ["ahead", "gap"])
def test_answers_follow_the_bent_track(asked: str) -> None:
    """However a track is bent, the next token's answer is the displacement that the next token's features show."""
    batch = Batches(circling(pings=4000), SMALL, replace(PLAIN, forced=1.0, bend=1.0), 0).draw(0)
    straight = Batches(circling(pings=4000), SMALL, replace(PLAIN, forced=1.0), 0).draw(0)
    speed = np.hypot(*np.moveaxis(batch.ahead_en[..., 0, :], -1, 0)) / batch.ahead_s[..., 0]
    assert speed[batch.ahead_mask[..., 0]].max() < 15.5  # of the world's fastest thing
    if asked == "ahead":
        far = batch.ahead_mask[..., 1] & straight.ahead_mask[..., 1]
        assert far.any()
        assert not np.allclose(batch.ahead_en[far], straight.ahead_en[far])
    else:
        gone = np.hypot(*np.moveaxis(batch.gap_en, -1, 0))
        assert (gone <= 15.5 * batch.gap_s[..., None] + 1)[batch.gap_mask].all()


def test_a_row_that_keeps_its_place_is_never_bent() -> None:
    placed = replace(PLAIN, drop_place=0.0)
    config = ModelConfig(absolute=True)
    one, two = (Batches(circling(), config, replace(placed, bend=bend), 0).draw(0) for bend in (0.0, 1.0))
    np.testing.assert_allclose(two.x_BTF, one.x_BTF, atol=1e-3)  # metres from the origin, not from ping to ping


def test_what_is_reported_turns_with_the_track() -> None:
    """A thing that reports the heading it goes by still does so after a bend."""
    corpus = circling(tracks=4, pings=4000)
    _, en = steps_between(corpus.fixes(slice(0, -1)), corpus.fixes(slice(1, None)))
    heading = np.degrees(np.arctan2(en[:, 0], en[:, 1])) % 360
    corpus = replace(corpus, heading_deg=np.append(heading, 0.0).astype(np.float32))
    batch = Batches(corpus, SMALL, replace(PLAIN, bend=1.0, drop_reported=0.0, misreported=0.0), 0).draw(0)
    sin, cos, has = (batch.x_BTF[..., i] for i in (2, 3, 4))
    ahead = batch.ahead_en[..., 0, :] / np.hypot(*np.moveaxis(batch.ahead_en[..., 0, :], -1, 0))[..., None]
    asked = batch.ahead_mask[..., 0] & (has > 0)
    along = (sin * ahead[..., 0] + cos * ahead[..., 1])[asked]
    assert np.quantile(along, 0.05) > 0.99  # a quarter of the tokens comes after a bend
