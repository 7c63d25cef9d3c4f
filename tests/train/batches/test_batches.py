"""Batches: pure in (seed, step), answers that are true, questions that give nothing away."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from fit_worlds import circling, corpus_of

from model.config import SMALL
from model.kinematics.answer_bounds import MAX_GAP_AGE
from model.kinematics.features import context
from model.kinematics.geo import M_PER_DEG
from train.batches.augmentation import misreport
from train.batches.batches import MAX_ANSWER_S, Batch, Batches
from train.batches.options import BatchOptions
from train.batches.sampling import Tokens, file_shares
from train.batches.timeline import Line
from train.data.corpus import Corpus
from train.fit.loss import whole_patches

PLAIN = BatchOptions(
    rows=6, tokens=30, thin=0.0, repace=0.0, rescale=0.0, noise=0.0, misreported=0.0, drop_reported=0.0, drop_clock=0.0
)
SPEED = 10.0  # m/s of everyone below, one ping a 10 s


def driving(tracks: int = 4, pings: int = 200) -> Corpus:
    """Straight lines at one speed, each track another bearing."""
    t, bearing = np.arange(pings) * 10.0, np.arange(tracks)[:, None] * 1.1
    ts_ms = np.tile(1_480_000_000_000 + (1000 * t).astype(np.int64), (tracks, 1))
    lat, lon = (SPEED * t * part(bearing) / 111_195 for part in (np.cos, np.sin))
    return replace(
        corpus_of(ts_ms, lat, lon, "lines"),
        speed_mps=np.full(tracks * pings, SPEED, np.float32),
        heading_deg=np.repeat(np.degrees(bearing) % 360, pings).astype(np.float32),
    )


def flat(batch: Batch) -> list[np.ndarray]:
    parts = [item if isinstance(item, tuple) else (item,) for item in batch if item is not None]
    return [array for part in parts for array in part]


def test_a_batch_is_a_function_of_seed_and_step() -> None:
    one, two = (
        Batches(driving(), SMALL, BatchOptions(rows=4, tokens=30), 5),
        Batches(driving(), SMALL, BatchOptions(rows=4, tokens=30), 5),
    )
    one.draw(0)
    for a, b in zip(flat(one.draw(3)), flat(two.draw(3)), strict=True):
        np.testing.assert_array_equal(a, b)
    assert (one.draw(3).x_BTF != one.draw(4).x_BTF).any()


@pytest.mark.parametrize("batch_options", [PLAIN, BatchOptions(rows=32, tokens=30, noise=0.0)])
def test_answers_lie_where_the_thing_really_was(batch_options: BatchOptions) -> None:
    """On a straight line at one speed every answer is speed x time away, however thinned, turned and stretched."""
    batch = Batches(driving(), SMALL, batch_options, 1).draw(0)
    away, mask = np.hypot(*np.moveaxis(batch.ahead_en, -1, 0)), batch.ahead_mask
    speed = away / np.maximum(batch.ahead_s, 1)
    assert mask.mean() > 0.4
    for row, seen in zip(speed, mask, strict=True):
        np.testing.assert_allclose(row[seen], row[seen][0], rtol=2e-3)
    if batch_options is PLAIN:
        np.testing.assert_allclose(speed[mask], SPEED, rtol=2e-3)


def test_time_is_stretched_by_what_is_asked_for_and_no_more() -> None:
    """Pings every 10 s: intervals are those times the row's stretch."""
    options = replace(PLAIN, rows=64, rescale=1.0, forced=0.0, least_time=0.1, most_time=8.0)
    batch = Batches(driving(), SMALL, options, 5).draw(0)
    stretch = batch.ahead_s[:, 0, 0] / 10.0
    assert 0.1 <= stretch.min() < 0.3
    assert 4 < stretch.max() <= 8.0
    with pytest.raises(ValueError, match="least_time"):
        replace(options, least_time=9.0)


def test_a_thinned_row_has_another_cadence_even_or_by_chance() -> None:
    """Pings every 10 s: a row takes every k-th of them, or each with a chance of 1/k, and k is mostly more than one."""
    options = replace(PLAIN, rows=64, thin=1.0, forced=0.0)
    strides = np.diff(Batches(driving(pings=2_000), SMALL, options, 3).draw(0).time_ms[:, :20], axis=1) / 10_000
    assert np.median(strides) > 1.5
    even = np.ptp(strides, axis=1) == 0
    assert 16 < even.sum() < 48
    assert (strides[even, 0] > 1).sum() > 8
    assert (np.median(strides[~even], axis=1) > 1).sum() > 8


def test_a_thinned_row_may_change_its_cadence_on_the_way() -> None:
    """Every k-th ping for a while, then every j-th or all of them; and no row changes that is not thinned."""
    options = replace(PLAIN, rows=64, tokens=120, thin=1.0, forced=0.0)
    corpus = driving(pings=6_000)

    def strides(o: BatchOptions) -> np.ndarray:
        return np.diff(Batches(corpus, SMALL, o, 3).draw(0).time_ms, axis=1) // 10_000

    changing = strides(replace(options, repace=1.0))
    runs = (np.diff(changing, axis=1) != 0).sum(axis=1)
    even = (runs >= 1) & (runs <= 12)  # the other half keeps each ping by chance
    assert 16 < even.sum() < 48
    assert 0.35 < (changing[even] == 1).mean() < 0.7  # in half of the stretches all, and k = 1 now and then
    assert all(np.unique(row).size > 1 for row in changing[even])
    whole = [stretch for row in changing[even] for stretch in np.split(row, 1 + np.flatnonzero(np.diff(row)))]
    assert 12 < np.mean([len(stretch) for stretch in whole]) < 40
    unthinned = strides(replace(options, thin=0.0, repace=1.0))
    assert (unthinned == 1).all()
    steady = [int((np.ptp(strides(replace(options, repace=chance)), axis=1) == 0).sum()) for chance in (0.0, 0.5, 1.0)]
    assert steady[0] > steady[1] + 6 > steady[2] + 12


def shown(batch: Batch) -> np.ndarray:
    """The displacements [B, T, 2] that the tokens show, in metres: `features.signed_log` of the first numbers of the
    motion.
    """
    logs = batch.x_BTF[..., 9:11].astype(np.float64)
    length = np.hypot(*np.moveaxis(logs, -1, 0))[..., None]
    return np.asarray(logs * 10.0 * np.expm1(length) / np.maximum(length, 1e-9))


def test_a_receiver_errs_in_what_tokens_show_and_in_no_answer() -> None:
    """Answers are where the thing really was, seen from where its token says that it is."""
    calm, noisy = (Batches(driving(), SMALL, replace(PLAIN, noise=noise), 1).draw(0) for noise in (0.0, 1.0))
    off = calm.ahead_en[..., 0, :] - noisy.ahead_en[..., 0, :]  # of each token
    assert np.abs(off).mean() > 0.5
    np.testing.assert_allclose(calm.ahead_en - noisy.ahead_en, np.broadcast_to(off[..., None, :], (6, 30, 3, 2)))
    there = noisy.log_next_mask[:, :-1]  # behind a track's end its last fix is repeated, and nothing errs in no time
    np.testing.assert_allclose((shown(noisy) - shown(calm))[:, 1:][there], np.diff(off, axis=1)[there], atol=0.01)

    rows, ages = np.arange(6)[:, None], 1 + noisy.gap.features[:, :, 0, 6 : 6 + MAX_GAP_AGE].argmax(-1)
    before = off[rows, noisy.gap_token - ages]
    assert noisy.gap_mask.any()
    np.testing.assert_allclose((calm.gap_en - noisy.gap_en), np.broadcast_to(before[:, :, None], noisy.gap_en.shape))


def test_a_steady_cadence_leaves_nothing_to_say_of_the_next_interval() -> None:
    batch = Batches(driving(), SMALL, replace(PLAIN, forced=0.0), 1).draw(0)
    np.testing.assert_allclose(batch.log_next[:, 1:][batch.log_next_mask[:, 1:]], 0.0, atol=1e-9)


def test_a_reported_speed_is_stretched_with_the_row_and_leads_along_a_straight_line() -> None:
    """Turned, mirrored and stretched as the row is."""
    batch = Batches(driving(), SMALL, replace(PLAIN, rows=32, rescale=1.0), 1).draw(0)
    said = np.expm1(batch.x_BTF[..., 0].astype(np.float64))
    gone = np.hypot(*np.moveaxis(batch.ahead_en[..., 0, :], -1, 0)) / np.maximum(batch.ahead_s[..., 0], 1.0)
    reported = batch.ahead_mask[..., 0] & (batch.x_BTF[..., 1] > 0)
    assert np.ptp(said[reported]) > SPEED / 2
    np.testing.assert_allclose(said[reported], gone[reported], rtol=2e-3)
    led, asks = batch.ahead.others_en[..., -1, :][batch.ahead_mask], batch.ahead_en[batch.ahead_mask]
    np.testing.assert_allclose(led, asks, rtol=5e-3, atol=0.5)


def test_what_no_source_kept_is_reported_where_the_step_before_was_short() -> None:
    """At one ping a 3 s, each row or none of it; at one a 10 s nobody knows how fast it went at the end."""
    mute = replace(driving(), speed_mps=np.full(800, np.nan, np.float32), heading_deg=np.full(800, np.nan, np.float32))
    quick = replace(mute, ts_ms=mute.ts_ms[0] + (mute.ts_ms - mute.ts_ms[0]) * 3 // 10)
    options = replace(PLAIN, rows=64, thin=1.0, rescale=1.0, reported=0.5)
    for corpus, some in ((quick, True), (mute, False)):
        batch = Batches(corpus, SMALL, options, 1).draw(0)
        reported = (batch.x_BTF[..., [1, 4]] > 0).all(-1)
        there = np.diff(batch.time_ms, axis=1) > 0  # behind a track's end its last fix is repeated
        rows = reported[:, 1]  # a track's first ping has none before it
        assert (reported[:, 1:] == rows[:, None])[there].all()
        assert (16 < rows.sum() < 48) if some else not reported.any()
        mask = batch.ahead_mask & reported[..., None]
        np.testing.assert_allclose(batch.ahead.others_en[..., -1, :][mask], batch.ahead_en[mask], rtol=5e-3, atol=0.5)


def dense(mps: float = np.nan, pings: int = 200) -> Corpus:
    """The same lines at a ping every 3 s, one after the other, who tell that speed, or nothing."""
    reported, nowhere = np.full((2, 4 * pings), np.array([[mps], [np.nan]]), np.float32)
    ts_ms = 1_480_000_000_000 + 3_000 * np.arange(4 * pings)
    return replace(driving(pings=pings), ts_ms=ts_ms, speed_mps=reported, heading_deg=nowhere)


def test_what_a_source_reports_itself_is_not_replaced() -> None:
    """They go 33 m/s and say 24, which is near enough to be believed."""
    batch = Batches(dense(24.0), SMALL, replace(PLAIN, reported=1.0), 1).draw(0)
    there = batch.log_next_mask
    np.testing.assert_allclose(np.expm1(batch.x_BTF[..., 0][there]), 24.0, rtol=1e-5)


def test_no_step_leads_from_one_track_to_the_next() -> None:
    corpus, place = dense(), np.array([[200, 201]])
    batches = Batches(corpus, SMALL, replace(PLAIN, reported=1.0), 1)
    reported = batches._reported(np.random.default_rng(0), place, context(Line(corpus).fixes(place)), None)
    assert np.isnan(reported.speed_mps).tolist() == [[True, False]]


def test_a_bend_is_not_reported_before_it_is_gone_round() -> None:
    """The velocity is that of the step up to a ping, whichever way the track goes on."""
    options = replace(PLAIN, rows=16, tokens=400, reported=1.0, bend=1.0, turn=0.0, forced=0.0)
    batch = Batches(dense(pings=4_000), SMALL, options, 1).draw(0)
    reported = batch.x_BTF[:, 1:, 4] > 0
    course = np.arctan2(batch.x_BTF[:, 1:, 2], batch.x_BTF[:, 1:, 3])
    step = np.arctan2(*np.moveaxis(shown(batch)[:, 1:], -1, 0))
    off = np.abs((course - step + np.pi) % (2 * np.pi) - np.pi)[
        reported & (np.hypot(*np.moveaxis(shown(batch)[:, 1:], -1, 0)) > 1)
    ]
    turns = np.abs((np.diff(step, axis=1) + np.pi) % (2 * np.pi) - np.pi)
    assert (turns > 0.5).sum() > 20
    assert off.max() < 0.05


def test_batches_tell_wrong_as_often_as_asked_for_and_in_the_row_s_own_frame() -> None:
    """Of those that stand still and look north each looks elsewhere once its row is turned; before any is in doubt."""
    wrong = replace(PLAIN, rows=256, forced=0.0, misreported=1.0)
    x = Batches(driving(), SMALL, wrong, 1).draw(0).x_BTF[:, 0]
    still = (x[:, 0] == 0) & (x[:, 1] == 1)
    assert 40 < still.sum() < 90
    assert np.ptp(x[still, 2]) > 1.5
    assert not (Batches(driving(), SMALL, replace(wrong, misreported=0.0), 1).draw(0).x_BTF[:, 0, 0] == 0).any()


def test_a_receiver_that_errs_does_so_throughout() -> None:
    """Everyone goes straight on at 10 m/s, but what they say: still and north, another unit, late, or turned."""
    rng = np.random.default_rng(2)
    speed, heading = 10 + np.zeros((400, 5)), np.tile(np.arange(5.0), (400, 1))
    speed[:, 4] = np.nan
    said = misreport(
        rng, context(driving().fixes(np.zeros((400, 5), int)))._replace(speed_mps=speed, heading_rad=heading), 0.5
    )
    still = (said.speed_mps[:, 0] == 0) & (said.heading_rad == 0).all(axis=1)
    unit = ~np.isin(said.speed_mps[:, 0], [0.0, 10.0])
    late = (said.heading_rad == [0, 0, 1, 2, 3]).all(axis=1)
    turned = np.ptp(said.heading_rad - heading, axis=1) < 1e-9
    turned &= said.heading_rad[:, 0] > 0
    assert said.heading_rad[turned, 0].max() < 2 * np.pi
    assert (np.isnan(said.speed_mps[:, 4]) != late).all()  # who tells nothing tells nothing wrong
    for kind in (still, unit, late, turned):
        assert 25 < kind.sum() < 75
    assert set(np.round(said.speed_mps[unit][:, :4] / 10, 3).ravel()) == {0.278, 0.514, 1.944, 3.6}
    right = ~(still | unit | late | turned)
    np.testing.assert_array_equal(said.speed_mps[right], speed[right])
    np.testing.assert_array_equal(said.heading_rad[right], heading[right])


def test_an_answer_that_comes_too_late_is_not_asked_for() -> None:
    """Pings every 20 minutes, which most rows stretch to more than the longest answer."""
    slow = replace(driving(), ts_ms=driving().ts_ms[0] + 120 * (driving().ts_ms - driving().ts_ms[0]))
    batch = Batches(slow, SMALL, replace(PLAIN, rescale=1.0, least_time=1.0, most_time=4.0), 1).draw(0)
    assert batch.ahead_s[..., 0].max() > MAX_ANSWER_S >= batch.ahead_s[batch.ahead_mask].max() > 1200


def test_the_physics_is_right_about_a_straight_line() -> None:
    """The base of the questions and the answers share one frame: turned alike, mirrored alike, from the same anchor."""
    batch = Batches(driving(), SMALL, replace(PLAIN, forced=0.0), 2).draw(0)
    settled = batch.ahead_mask & (batch.ahead_s < 30)
    settled[:, :10] = False
    off = np.hypot(*np.moveaxis(batch.ahead.base_en - batch.ahead_en, -1, 0))[settled]
    assert len(off) > 50
    assert off.max() < 0.2 * SPEED * 30


def test_hidden_fixes_lie_on_the_bridge_of_a_straight_line() -> None:
    batch = Batches(driving(), SMALL, PLAIN, 3).draw(0)
    assert batch.gap_mask.any()
    off = np.hypot(*np.moveaxis(batch.gap.base_en - batch.gap_en, -1, 0))[batch.gap_mask]
    assert off.max() < 1.0
    assert (np.hypot(*np.moveaxis(batch.gap_en, -1, 0))[batch.gap_mask] > 1.0).all()


def test_no_answer_crosses_the_end_of_its_track() -> None:
    """All tracks here start at one place, so an answer from the next track would be far off the line."""
    batch = Batches(driving(8, 25), SMALL, PLAIN, 4).draw(0)
    assert batch.ahead_s[batch.ahead_mask].max() <= 240
    assert (~batch.ahead_mask).any()


def test_a_row_that_keeps_its_place_is_neither_turned_nor_stretched() -> None:
    """A street turned is another street: where the map is shown, metres are the track's own."""
    config = replace(SMALL, places=100)
    batch = Batches(driving(), config, BatchOptions(rows=64, tokens=30, noise=0.0, drop_place=0.5), 8).draw(0)
    shown = np.isfinite(batch.lat_deg).all(1)
    assert 0.2 < shown.mean() < 0.8
    assert np.isnan(batch.lat_deg[~shown]).all()
    assert np.isnan(batch.gap_lat_deg[~shown]).all()
    assert np.isfinite(batch.gap_lat_deg[shown]).all()
    north = np.diff(batch.lat_deg[shown], axis=1) * M_PER_DEG
    there = batch.ahead_mask[shown][:, :-1, 0]
    np.testing.assert_allclose(batch.ahead_en[shown][:, :-1, 0, 1][there], north[there], atol=0.5)


def test_a_file_is_drawn_as_much_more_often_as_asked_for() -> None:
    corpus = replace(driving(), file=np.arange(4, dtype=np.int32) % 2, files=("a.parquet", "b.parquet"))
    options = replace(PLAIN, often=("b.parquet=3",))
    np.testing.assert_allclose(file_shares(corpus, options, packs=False), [0.25, 0.75])
    tokens = Tokens(Line(corpus), options, packs=False)
    drawn = [tokens.draw(np.random.default_rng(i), 100).place[:, 0] for i in range(5)]
    assert np.mean(np.concatenate(drawn) // 200 % 2) == pytest.approx(0.75, abs=0.06)  # tracks of 200 places, by turns


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"often": ("c.parquet=3",)}, "often: no file 'c.parquet'"),
        ({"often": ("lines.parquet=x",)}, "no number"),
        ({"often": ("lines.parquet=0",)}, "above 0"),
        ({"invented": ("towns.parquet",)}, "invented: no file towns.parquet"),
    ],
)
def test_files_and_factors_that_are_none_are_refused(wrong: dict[str, tuple[str, ...]], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Batches(driving(), SMALL, replace(PLAIN, **wrong), 1)


@pytest.mark.parametrize("wrong", [{"often": ("a.parquet=3",)}, {"invented": ("a.parquet",)}])
def test_a_name_that_two_files_have_is_refused(wrong: dict[str, tuple[str, ...]]) -> None:
    """The factor went to the first of them; both were invented."""
    corpus = replace(driving(), file=np.arange(4, dtype=np.int32) % 2, files=("a.parquet", "a.parquet"))
    with pytest.raises(ValueError, match=r"a\.parquet stands for 2 files of that name"):
        file_shares(corpus, replace(PLAIN, **wrong), packs=False)


def test_rows_of_an_invented_file_and_no_others_never_show_their_place() -> None:
    invented = np.arange(4) % 2 == 1
    slow = np.repeat(np.where(invented, 2, 1), 200)  # of the invented file: so that a batch tells the two apart
    corpus = replace(
        driving(), ts_ms=driving().ts_ms * slow, file=invented.astype(np.int32), files=("real.parquet", "towns.parquet")
    )
    corpus = replace(corpus, file_start=np.array([0, 400, 800]))
    options = replace(PLAIN, rows=64, drop_place=0.0, rescale=0.0, invented=("towns.parquet",))
    batch = Batches(corpus, replace(SMALL, places=100), options, 9).draw(0)
    hidden = np.isnan(batch.lat_deg).all(1)
    assert (hidden == (batch.time_ms[:, 1] == 20_000)).all()
    assert 10 < hidden.sum() < 54


def test_models_without_a_map_are_never_shown_a_place() -> None:
    assert np.isnan(Batches(driving(), SMALL, BatchOptions(rows=8, tokens=16), 9).draw(0).lat_deg).all()


def test_whole_patches_ask_from_their_last_ping_only() -> None:
    batch = whole_patches(Batches(driving(), SMALL, PLAIN, 10).draw(0), 4)
    asks = batch.ahead_mask.any(-1)
    assert asks[:, 3::4].any()
    assert not asks[:, np.arange(asks.shape[1]) % 4 != 3].any()
    assert (batch.gap_token[batch.gap_mask.any(-1)] % 4 == 3).all()
    assert batch.gap_mask.any()
    assert (np.flatnonzero(batch.log_next_mask.any(0)) % 4 == 3).all()


def test_the_reported_and_the_clock_are_hidden_by_chance() -> None:
    """Of rows that nobody has to doubt, up to where their tracks end."""
    everything = BatchOptions(rows=64, tokens=16, noise=0.0, misreported=0.0, drop_reported=0.5, drop_clock=0.5)
    batch = Batches(driving(), SMALL, everything, 6).draw(0)
    x, there = batch.x_BTF, batch.log_next_mask
    for feature in (1, 4, 39):  # has speed, has heading, has clock
        known = x[:, 0, feature]
        assert set(np.unique(known)) == {0.0, 1.0}
        assert (x[:, :, feature] == known[:, None])[there].all()


def test_an_empty_corpus_is_refused() -> None:
    with pytest.raises(ValueError, match="no track"):
        Batches(driving().select(np.zeros(4, bool)), SMALL, PLAIN, 0)


def test_rows_that_are_not_turned_keep_their_bearing() -> None:
    still = Batches(driving(), SMALL, replace(PLAIN, turn=0.0), 1).draw(0)
    for en, mask in zip(still.ahead_en, still.ahead_mask, strict=True):
        bearing = np.arctan2(en[..., 0], en[..., 1])[mask] % (2 * np.pi)
        assert np.abs(bearing[:, None] - np.arange(4) * 1.1).min(1).max() < 0.02
    turned = Batches(driving(), SMALL, PLAIN, 1).draw(0)
    assert np.abs(turned.ahead_en - still.ahead_en).max() > 10


def test_turned_rows_are_mirrored_half_of_the_time() -> None:
    """Everyone drives counterclockwise: to a network that saw this alone, left turns would be the only ones."""
    options = replace(PLAIN, rows=64, forced=0.0)
    for turn, mirrored in ((0.0, 0), (1.0, 32)):
        e, n = np.moveaxis(shown(Batches(circling(), SMALL, replace(options, turn=turn), 1).draw(0))[:, 1:], -1, 0)
        cross = (e[:, :-1] * n[:, 1:] - n[:, :-1] * e[:, 1:]).sum(axis=1)
        assert (cross < 0).sum() == pytest.approx(mirrored, abs=12 * turn)
