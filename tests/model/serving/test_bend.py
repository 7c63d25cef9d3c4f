"""What an atlas moves a gap fill by in serving is its definition, and nothing where it has seen nothing."""

from __future__ import annotations

import numpy as np
import pytest
from atlas_worlds import atlas_of
from numpy.typing import NDArray

from model.api import FIX, Atlas, Gap, Guide, Predictor
from model.atlas import bend, outcomes
from model.atlas.published import Published
from model.serving import atlas_compiled, gaps

ENTITIES, PINGS, STEP_S = 12, 120, 30


@pytest.fixture(scope="module")
def fixes() -> NDArray[np.void]:
    """Tracks [ENTITIES, PINGS] of vehicles that all turn to the north at one crossing, a ping every 30 s."""
    rng = np.random.default_rng(2)
    found = np.zeros((ENTITIES, PINGS), FIX)
    for entity, track in enumerate(found):
        gone = (9.0 * STEP_S * np.arange(PINGS) + rng.uniform(0, 200)) % 8_000
        east, north = np.minimum(gone, 4_000), np.maximum(gone - 4_000, 0)
        track["ts_ms"] = 1000 * STEP_S * np.arange(PINGS) + entity
        track["lon_e7"] = (east * 90 + rng.normal(0, 300, PINGS)).astype(np.int64) + 400_000_000
        track["lat_e7"] = (north * 90 + rng.normal(0, 300, PINGS)).astype(np.int64) + 400_000_000
    return found


@pytest.fixture(scope="module")
def atlas(fixes: NDArray[np.void]) -> Atlas:
    return atlas_of(fixes, {})


def asked(fixes: NDArray[np.void]) -> list[Gap]:
    """A gap of each entity at each of several places, of 2 to 16 minutes, with one to four fixes before it, asked at
    its ends and between."""
    found = []
    for row in fixes:
        for at in range(10, 80, 7):
            after = at + 3 + at % 30
            between = np.linspace(row["ts_ms"][at], row["ts_ms"][after], 7).astype(np.int64)
            found.append(Gap(row[at - at % 4 : at + 1], row[after : after + 3], between))
    return found


def predicted(predictor: Predictor, fixes: NDArray[np.void], some: list[Gap], guide: Guide | None) -> list[gaps.Fill]:
    slots = predictor.acquire(len(some))
    predictor.rebuild(slots, [np.concatenate([gap.before, gap.after]) for gap in some])
    filled = predictor.fill_at(predictor.moment(slots), some, guide)
    predictor.release(slots)
    return filled


def test_the_compiled_bending_is_the_definition(fixes: NDArray[np.void], atlas: Atlas) -> None:
    """Also of gaps that are too long or too short, after a silence, or with a single fix before them: nothing moves
    these."""
    some = asked(fixes)
    late = some[0].before[:1].copy()
    late["ts_ms"] -= outcomes.MAX_APART_MS
    long = Gap(fixes[1][5:9], fixes[1][80:83], fixes[1]["ts_ms"][9:80])
    short = Gap(fixes[1][5:9], fixes[1][9:10].copy(), fixes[1]["ts_ms"][8:9] + 9_000)
    some += [some[0]._replace(before=np.concatenate([late, some[0].before[-1:]])), long, short]
    batch = gaps.stack(some)
    begin = bend.starts(batch.before, batch.before_stop)
    size = np.random.default_rng(8).uniform(100, 90_000, len(batch.t_s))
    due = bend.bent(atlas.sums, begin, batch.ends.gap_s, batch.of, batch.t_s, 1.5 * size)
    cov = np.stack([size, 0.3 * size, 2 * size], axis=-1)[:, None]
    mean, which = np.zeros((len(batch.t_s), 1, 2)), np.zeros(len(some), np.int64)
    ways = batch.before, batch.before_stop, batch.ends.gap_s, batch.of, batch.t_s
    pings = atlas_compiled.move_fills(mean, cov, which == 0, *ways, [atlas], which)
    assert np.array_equal(pings, due.pings)
    assert np.allclose(mean[:, 0], due.moved_m, rtol=0, atol=1e-6)
    assert 0.5 < (pings > 0).mean() < 1
    assert np.linalg.norm(due.moved_m, axis=1).max() > 100
    assert not pings[-3:].any(), "after a silence, too long, too short"
    assert not pings[[len(gap.before) == 1 for gap in some]].any()
    ends = np.isclose(batch.t_s, 0) | np.isclose(batch.t_s, batch.ends.gap_s[batch.of])
    assert ends.sum() >= 2 * len(asked(fixes))
    assert np.abs(mean[ends]).max() < 1e-6, "the two ends stay"
    assert not atlas_compiled.move_fills(mean, cov, which > 0, *ways, [atlas], which).any(), "what is not sound stays"


def test_a_fill_is_moved_by_its_own_atlas_and_keeps_each_bit_without_one(fixes: NDArray[np.void], atlas: Atlas) -> None:
    predictor, some = Predictor.untrained(), asked(fixes)
    plain = predicted(predictor, fixes, some, None)
    nothing = predicted(
        predictor, fixes, some, Guide([Atlas(Published.none(), {}, "w")], np.zeros(len(some), np.int64))
    )
    which = np.arange(len(some)) % 2 - 1
    guided = predicted(predictor, fixes, some, Guide([atlas], which))
    batch = gaps.stack(some)
    var_m2 = np.concatenate([fill.cov_m2[:, [0, 2]].mean(-1) for fill in plain])
    begin = bend.starts(batch.before, batch.before_stop)
    due = bend.bent(atlas.sums, begin, batch.ends.gap_s, batch.of, batch.t_s, var_m2)
    for number, (one, none, other) in enumerate(zip(plain, nothing, guided, strict=True)):
        assert (one.atlas_pings, none.atlas_pings) == (0, 0)
        assert all(np.array_equal(a, b) for a, b in zip(one[:3], none[:3], strict=True))
        assert np.array_equal(one.cov_m2, other.cov_m2), "the spread is the model's"
        assert other.atlas_pings == (due.pings[number] if which[number] == 0 else 0)
        if not other.atlas_pings:
            assert np.array_equal(one.lat, other.lat)
            assert np.array_equal(one.lon, other.lon)
            continue
        north_m = (other.lat - one.lat) * 111_195.0797
        assert np.allclose(north_m, due.moved_m[batch.of == number, 1], rtol=0, atol=1e-3)
    assert any(one.atlas_pings for one in guided)
