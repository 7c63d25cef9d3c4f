"""The tracks that train beside a fleet: what they must not contain."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from train.data.corpus import load
from train.data.splits import Holdout
from train.refresh import reference_tracks


def test_nothing_by_which_weights_are_judged_is_rehearsed(tmp_path: Path) -> None:
    """Neither a bus of the demo, nor its day; and no ping of the golden buses under another name."""
    corpus = load(reference_tracks.rehearsal(), tmp_path)
    assert corpus.pings > 80_000
    assert not Holdout.bundled().touches(corpus).any()
    judged = load([reference_tracks.golden_buses()], tmp_path)
    where = {(ts, round(lat, 5)) for ts, lat in zip(judged.ts_ms.tolist(), judged.lat.tolist(), strict=True)}
    rehearsed = zip(corpus.ts_ms.tolist(), np.round(corpus.lat, 5).tolist(), strict=True)
    assert where.isdisjoint(rehearsed)


def test_each_source_is_there_and_small_enough_for_a_repository() -> None:
    sizes = [reference_tracks.rehearsal_path(name).stat().st_size for name in reference_tracks.NAMES]
    assert len(sizes) == 4
    assert sum(sizes) < 1_500_000
