"""Examples of what an atlas is worth: which versions they read, and whose pings these leave out."""

from __future__ import annotations

import numpy as np
import pytest
from train_worlds import MakeCorpus, together, track

from model.api import Predictor
from model.atlas.sums import buckets, entity_ids
from model.config import SMALL
from train.atlas import examples
from train.data.anchors import find
from train.data.corpus import Corpus
from train.data.snapshots import HOUR_MS, Snapshot, keys_at, snapshots
from train.evaluation.forecasts import Sample

START_MS = 1_211_018_400_000  # a full hour
NAMES = ["a", "b", "c", "d"]


def circling(entity: str, hours: float, seed: int) -> dict[str, list[object]]:
    """A bus that goes to and fro on one street of 2 km, a ping every 30 s."""
    times = np.arange(0, hours * 3600, 30.0)
    gone = (10.0 * times + np.random.default_rng(seed).uniform(0, 4_000)) % 4_000
    return track(entity, times.tolist(), np.where(gone < 2_000, gone, 4_000 - gone).tolist(), start_ms=START_MS)


@pytest.fixture
def buses(make_corpus: MakeCorpus) -> Corpus:
    return make_corpus(together(*(circling(name, 4, n) for n, name in enumerate(NAMES))))


def versions(fleet: Corpus, *, without: bool = False, min_entities: int = 1, every_ms: int = HOUR_MS) -> list[Snapshot]:
    anchors = find(fleet)
    own = buckets(entity_ids(fleet.names))[fleet.entity[anchors.track]]
    asked, ts_ms = keys_at(fleet, anchors.row), fleet.ts_ms[anchors.row]
    how = {"min_entities": min_entities, "every_ms": every_ms}
    return list(snapshots(fleet, asked, ts_ms, without=own if without else None, **how))


def sample(fleet: Corpus) -> Sample:
    return Sample("buses", "all", "", fleet, len(fleet), 1, fleet=fleet)


def test_a_row_without_its_own_is_told_what_an_atlas_of_the_others_says(make_corpus: MakeCorpus, buses: Corpus) -> None:
    anchors = find(buses)
    for n, name in enumerate(NAMES):
        rows = np.flatnonzero(buses.entity[anchors.track] == buses.names.index(name))
        others = make_corpus(
            together(*(circling(other, 4, m) for m, other in enumerate(NAMES) if m != n)), name=f"{name}.parquet"
        )
        asked, ts_ms = keys_at(buses, anchors.row[rows]), buses.ts_ms[anchors.row[rows]]
        of_others = list(snapshots(others, asked, ts_ms, min_entities=1))
        own = [now for now in versions(buses, without=True) if np.isin(now.rows, rows).all()]
        assert len(own) == len(of_others) == 4
        for mine, theirs in zip(own, of_others, strict=True):
            for column in ("key", "n", "off_cm", "off_cm2"):
                assert np.array_equal(getattr(mine.published, column), getattr(theirs.published, column))
    assert any(len(now.published) for now in own)


def test_without_its_own_a_key_needs_as_many_others(buses: Corpus) -> None:
    """Four buses are enough for all, and of the three others each is needed."""
    for least, told in ((3, True), (4, False)):
        assert any(len(now.published) for now in versions(buses, min_entities=least))
        assert any(len(now.published) for now in versions(buses, without=True, min_entities=least)) is told


@pytest.mark.parametrize("every_ms", [HOUR_MS, 2 * HOUR_MS])
def test_a_version_knows_no_ping_of_its_cut_off_or_later_and_says_when_it_knew_the_last(
    buses: Corpus, every_ms: int
) -> None:
    anchors, seen = find(buses), np.sort(buses.ts_ms)
    for now in versions(buses, every_ms=every_ms):
        cut_off_ms = buses.ts_ms[anchors.row[now.rows]].min() // every_ms * every_ms
        before = seen[seen < cut_off_ms]
        ends = (int(before[0]), int(before[-1])) if len(before) else (0, 0)
        assert now.contains == {"pings": len(before), "from_ms": ends[0], "to_ms": ends[1]}


def test_half_of_the_rows_are_not_told_of_their_own_and_which_is_drawn_by_the_seed(
    buses: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = []

    def noted(*given: object, without: np.ndarray, **how: object) -> object:
        told.append(without)
        return snapshots(*given, without=without, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(examples, "snapshots", noted)
    found = [examples.of_sample(sample(buses), Predictor.untrained(SMALL), seed=seed) for seed in (0, 0, 1)]
    own = buckets(entity_ids(buses.names))[buses.entity[find(buses).track]]
    for without in told:
        assert ((without == own) | (without == -1)).all()
        assert (without == own).mean() == pytest.approx(examples.WITHOUT_OWN, abs=0.05)
    hour, day = told[:2]
    assert not np.array_equal(hour, day)
    assert np.array_equal(found[0].features, found[1].features)
    assert not np.array_equal(found[0].features, found[2].features)
    assert len(told) == 3 * len(examples.EVERY_MS)
