"""What receivers are made to tell: thinned tracks with what the full ones knew, and no more than that."""

from __future__ import annotations

import numpy as np
from train_worlds import MakeCorpus, track

from train.calibration.residuals import thin_tracks
from train.data.cutting import EVALUATION


def test_a_thinned_ping_tells_what_the_full_track_knew_then(make_corpus: MakeCorpus) -> None:
    """A ping a second: 5 m/s north for 60 s, then 8 m/s east."""
    times_s = np.arange(240.0)
    north, east = 5 * np.minimum(times_s, 60), 8 * np.maximum(times_s - 60, 0)
    thin = thin_tracks(make_corpus(track("a", times_s, east, north), cut=EVALUATION), 15.0)
    np.testing.assert_array_equal(np.diff(thin.ts_ms), 15_000)
    assert thin.tracks.tolist() == [[0, 16]]
    assert np.isnan(thin.speed_mps[0])  # nothing came before
    np.testing.assert_allclose(thin.speed_mps[1:], [5] * 4 + [8] * 11, rtol=1e-3)  # at 60 s still what was
    np.testing.assert_allclose(thin.heading_deg[1:5], 0, atol=0.1)
    np.testing.assert_allclose(thin.heading_deg[5:], 90, atol=0.1)


def test_a_velocity_is_of_the_last_seconds_or_of_none(make_corpus: MakeCorpus) -> None:
    """A ping every 4 s, and a silence of 20 s before the one at 60, which does not know how fast it went at its end."""
    times_s = np.array([4.0 * i for i in range(60) if not 10 < i < 15])
    thin = thin_tracks(make_corpus(track("a", times_s, 7 * times_s), cut=EVALUATION), 12.0)
    known = ~np.isnan(thin.speed_mps)
    assert (thin.ts_ms - thin.ts_ms[0])[~known].tolist() == [0, 60_000]
    np.testing.assert_allclose(thin.speed_mps[known], 7, rtol=1e-3)
