"""What serving computes for a gap fill, row by row, is what training computes in numpy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from model.config import SMALL
from model.kinematics import queries
from model.kinematics.calibration_terms import GAP_TERMS
from model.kinematics.features import ABSENT, FIX, context, steps_between, velocity_mps
from model.kinematics.motion import MOST_DOUBT, agrees
from model.kinematics.queries import GapEnds
from model.network.calibration import Calibration
from model.serving import gapfill_compiled, gaps
from model.serving.gaps import Gap, stack

Tracks = Callable[..., NDArray[Any]]
RNG = np.random.default_rng(8)


def gap_of(row: NDArray[Any], number: int) -> Gap:
    """With one to four fixes on each side, and none to twelve asked times, the ends among them."""
    at = 10 + number % 7
    before, after = row[at - 1 - number % 4 : at], row[at + number % 5 : at + 1 + number % 5 + number % 3]
    start, end = int(before["ts_ms"][-1]), int(after["ts_ms"][0])
    return Gap(before, after, np.linspace(start, end, number % 13).astype(np.int64))


def defined(gap: Gap) -> GapEnds:
    """Its ends by `features.steps_between` and `features.velocity_mps`, one gap alone."""
    gap_s, chord = steps_between(gap.before[-1:], gap.after[:1])

    def velocity(near: NDArray[Any], pair: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        told = velocity_mps(context(near))
        if len(pair) < 2:
            return (chord / gap_s[:, None], *np.zeros((2, 1))) if np.isnan(told).any() else (told, *np.ones((2, 1)))
        dt, d = steps_between(pair[:1], pair[1:2])
        if agrees(told, d / dt[:, None], dt).any():
            return told, *np.ones((2, 1))
        return d / dt[:, None], np.ones(1), np.zeros(1)

    before, has_before, reported_before = velocity(gap.before[-1:], gap.before[-2:])
    after, has_after, reported_after = velocity(gap.after[:1], gap.after[:2])
    return GapEnds(chord, gap_s, before, after, has_before, has_after, reported_before, reported_after)


def test_a_fill_is_not_bent_by_a_receiver_that_tells_wrong() -> None:
    """A straight track at 20 m/s, a ping every 10 s: what it tells is taken where its steps do not belie it."""
    fixes = np.zeros(12, FIX)
    fixes["ts_ms"], fixes["lon_e7"] = 10_000 * np.arange(12), 18_000 * np.arange(12)
    fixes["lon_e7"][6:] += 18_000 * 20  # and a gap of 210 s
    fixes["ts_ms"][6:] += 200_000
    mps = 1e-7 * 111_195 * 1_800
    ends = {}
    for name, speed, course in (
        ("right", mps, 90),
        ("faster", 1.3 * mps, 90),
        ("0", 0, 0),
        ("km/h", 3.6 * mps, 90),
        ("turned", mps, 0),
    ):
        fixes["speed_cms"], fixes["heading_cdeg"] = round(100 * speed), 100 * course
        ends[name] = stack([Gap(fixes[2:6], fixes[6:9], np.array([100_000]))]).ends
    for name in ("right", "faster"):
        assert (ends[name].reported_before, ends[name].reported_after) == (1, 1)
    np.testing.assert_allclose(ends["faster"].after_mps, [[1.3 * mps, 0]], atol=0.01)
    for name in ("0", "km/h", "turned"):
        assert (ends[name].reported_before, ends[name].reported_after) == (0, 0), name
        np.testing.assert_allclose(ends[name].before_mps, [[mps, 0]], atol=0.01)


def test_a_fill_does_not_believe_who_has_told_wrong_before(tracks: Tracks) -> None:
    """Of two gaps alike, that of the receiver in doubt: its steps alone would bear it out."""
    fixes = tracks(1, 12, seed=9)[0]
    dt, d = steps_between(fixes[:-1], fixes[1:])
    fixes["speed_cms"][1:] = np.rint(100 * np.hypot(*d.T) / dt)
    fixes["heading_cdeg"][1:] = np.rint(100 * np.degrees(np.arctan2(*d.T))) % 36_000
    times_ms = np.array([int(fixes["ts_ms"][5]) + 1_000])
    one = Gap(fixes[2:6], fixes[6:9], times_ms)
    ends = stack([one, one], np.array([MOST_DOUBT, MOST_DOUBT + 0.01])).ends
    assert ends.reported_before.tolist() == [1, 0]
    silent = one._replace(before=one.before.copy(), after=one.after.copy())
    silent.before["speed_cms"] = silent.after["speed_cms"] = ABSENT
    for ours, theirs in zip(ends, stack([silent]).ends, strict=True):
        np.testing.assert_array_equal(ours[1], theirs[0])


def test_ends_and_questions_are_those_that_training_asks(tracks: Tracks) -> None:
    fixes = tracks(60, 30, seed=9)
    fixes["speed_cms"][::7], fixes["heading_cdeg"][::5] = 9_001, ABSENT
    asked = [gap_of(row, number) for number, row in enumerate(fixes)]
    scale = np.exp(RNG.normal(size=len(asked)))
    batch = gaps.stack(asked)
    got = gapfill_compiled.question(batch.ends, batch.fixes_after, scale, batch.of, batch.t_s, SMALL)
    assert len(batch.of) == sum(len(gap.times_ms) for gap in asked) > 300
    for number, gap in enumerate(asked):
        ends = defined(gap)
        for name, ours, theirs in zip(ends._fields, batch.ends, ends, strict=True):
            np.testing.assert_allclose(ours[number], theirs[0], rtol=1e-12, atol=1e-9, err_msg=name)
        t_s = (gap.times_ms - gap.before["ts_ms"][-1])[None] / 1000.0
        want = queries.gap(ends, t_s, np.array([float(len(gap.after))]), scale[[number]], SMALL)
        for name, ours, theirs in zip(want._fields, got, want, strict=True):
            rows = ours[batch.of == number][:, 0]
            np.testing.assert_allclose(rows, theirs[0], rtol=1e-6, atol=1e-6, err_msg=name)


def test_covariances_are_calibrated_as_training_calibrates_them(tracks: Tracks) -> None:
    asked = [gap_of(row, number) for number, row in enumerate(tracks(20, 30, seed=10))]
    batch, by = gaps.stack(asked), Calibration()
    with torch.no_grad():
        by.gap.copy_(torch.from_numpy(RNG.normal(size=GAP_TERMS)))
    mean, cov = RNG.normal(size=(len(batch.of), 1, 2)), RNG.normal(size=(len(batch.of), 1, 3))
    cov[batch.of == 5, 0, 1], mean[batch.of == 6, 0, 0] = np.nan, np.inf
    want = cov * by.of_gap(batch.ends.gap_s[batch.of], batch.t_s[:, None])[..., None]
    sound = gapfill_compiled.calibrate(mean, cov, batch.ends.gap_s, batch.of, batch.t_s, by.gap.double().numpy())
    np.testing.assert_allclose(cov, want, rtol=1e-12)
    assert np.flatnonzero(~sound).tolist() == [5, 6]


def test_times_padded_by_gap_are_those_that_were_asked_one_after_the_other() -> None:
    fixes = np.zeros(4, FIX)
    fixes["ts_ms"] = [0, 10_000, 60_000, 70_000]
    asked = ([20_000, 30_000, 45_000], [], [50_000])
    batch = stack([Gap(fixes[:2], fixes[2:], np.array(times, np.int64)) for times in asked])
    t_s, which = batch.pad()
    assert t_s.tolist() == [[10.0, 20.0, 35.0], [0.0, 0.0, 0.0], [40.0, 0.0, 0.0]]
    assert which.tolist() == [[True, True, True], [False, False, False], [True, False, False]]
    assert t_s[which].tolist() == batch.t_s.tolist()
    assert stack([Gap(fixes[:2], fixes[2:], np.array([], np.int64))]).pad()[0].shape == (1, 0)
