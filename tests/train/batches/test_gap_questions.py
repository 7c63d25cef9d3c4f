"""A gap asks the same in training as in serving: the same fixes, whole, give the same features and the same physics."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from train_worlds import MakeCorpus, track, wander

from model.config import SMALL
from model.kinematics import motion, queries
from model.kinematics.baselines import scan_fixes
from model.kinematics.geo import M_PER_DEG
from model.serving import gaps
from model.serving.gaps import Gap
from train.batches.batches import Batches
from train.batches.options import BatchOptions
from train.batches.sampling import Tokens
from train.batches.timeline import Line
from train.data.cutting import TRAINING

STILL = BatchOptions(
    rows=6,
    tokens=40,
    gaps=8,
    hidden=3,
    forced=1.0,
    turn=0.0,
    rescale=0.0,
    noise=0.0,
    reported=0.0,
    misreported=0.0,
    drop_reported=0.0,
    drop_clock=0.0,
)


def bursts(entity: str, count: int, seed: int) -> dict[str, list[Any]]:
    """One to five receivers on a vehicle at 8 m/s, which report one after the other and differ by up to a metre."""
    rng = np.random.default_rng(seed)
    receivers = rng.integers(1, 6, count)
    after_s = 0.12 * np.concatenate([np.arange(many) for many in receivers])
    times_s = np.repeat(np.cumsum(rng.uniform(5, 15, count)), receivers) + after_s
    aside_m, along_m = rng.uniform(0, 1, (2, len(times_s)))
    return track(entity, times_s.tolist(), aside_m.tolist(), (8 * times_s + along_m).tolist())


def telling(source: dict[str, list[Any]], seed: int) -> dict[str, list[Any]]:
    """The same, and most pings tell how fast they go, where to, or both: of 64 after 64 what is so, and then anything,
    some faster than anything goes.
    """
    rng = np.random.default_rng(seed)
    count = len(source["t"])
    lat, lon, t_ms = (np.array(source[name]) for name in ("lat", "lon", "t"))
    north, east = np.gradient(lat) * M_PER_DEG, np.gradient(lon) * M_PER_DEG * np.cos(np.radians(lat))
    right = np.arange(count) % 128 < 64
    right_mps, right_deg = np.hypot(east, north) / np.gradient(t_ms / 1000.0), np.degrees(np.arctan2(east, north))
    speed_mps = np.where(right, right_mps, rng.uniform(0, 120, count))
    heading_deg = np.where(right, right_deg % 360, rng.uniform(0, 360, count))
    speed_mps[rng.random(count) < 0.3], heading_deg[rng.random(count) < 0.3] = np.nan, np.nan
    return source | {"speed_mps": speed_mps.tolist(), "heading_deg": heading_deg.tolist()}


SOURCES = {"steps": wander("a", 600, 1), "bursts": bursts("b", 600, 2), "reports": telling(wander("c", 600, 3), 4)}


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES.keys())
def test_a_gap_asks_the_same_in_training_as_in_serving(make_corpus: MakeCorpus, source: dict[str, list[Any]]) -> None:
    """Rows that are thinned and hidden, but not warped, put back together from their tokens as a stream sees them."""
    corpus = make_corpus(source, cut=TRAINING)
    batch, line = Batches(corpus, SMALL, STILL, 3).draw(0), Line(corpus)
    place, _, jumps, _ = Tokens(line, STILL, packs=False).draw(np.random.default_rng([3, 0]), STILL.rows)
    asked = short = 0
    for row, gap in np.argwhere(batch.gap_mask.any(-1)):
        token, jump = batch.gap_token[row, gap], jumps[row, gap]
        fixes = line.fixes(place[row, : token + 1])
        t_s = batch.gap.features[row, gap, :, 19] * batch.gap_s[row, gap]
        times_ms = fixes["ts_ms"][jump - 1] + np.rint(1000 * t_s).astype(np.int64)
        kin = scan_fixes(fixes[None], SMALL)[:, -1]
        stacked = gaps.stack([Gap(fixes[max(0, jump - 4) : jump], fixes[jump:], times_ms)], motion.doubt(kin))
        scale = motion.speed_scale_mps(kin)
        served = queries.gap(stacked.ends, stacked.t_s[None], stacked.fixes_after, scale, SMALL)
        for name, ours, theirs in zip(served._fields, served, batch.gap, strict=True):
            np.testing.assert_allclose(ours[0], theirs[row, gap], rtol=1e-9, atol=1e-6, err_msg=name)
        np.testing.assert_allclose(stacked.ends.chord_en[0], batch.gap_chord_en[row, gap], atol=1e-6)
        asked, short = asked + 1, short + int(np.diff(fixes["ts_ms"])[jump - 2] < 1000 * motion.STEADY_S)
    assert asked > 20
    assert (short > 5) == (source["entity_id"][0] == "b")
    assert (batch.gap.features[..., -2:][batch.gap_mask] == 1).any() == ("speed_mps" in source)
