"""What the judge of the fleet's earlier pings asks: passages that were known, numbers that others chose."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from train_worlds import Columns, LabOf, MakeCorpus, assert_it_becomes_a_report, together, track

from train.data.cutting import EVALUATION
from train.experiments.lab.passages import Fleet
from train.experiments.questions import between

DAY_S = 86_400
SIDE_M = 3_000.0
MPS = 10.0


def corner(entity: str, *, day: int = 0, cadence_s: float = 30.0, late_s: float = 0.0) -> Columns:
    """Goes east, and then north: no straight line is its way."""
    times_s = np.arange(0.0, 2 * SIDE_M / MPS + 1, cadence_s)
    east, north = np.minimum(MPS * times_s, SIDE_M), np.maximum(MPS * times_s - SIDE_M, 0)
    return track(entity, (times_s + late_s + day * DAY_S).tolist(), east.tolist(), north.tolist())


def test_a_passage_is_the_way_beside_the_straight_line_and_no_way_that_is_not_over_yet(make_corpus: MakeCorpus) -> None:
    corpus = make_corpus(together(*(corner(f"car-{i}", day=i) for i in range(4))), cut=EVALUATION)
    fleet, share = Fleet(corpus), np.array([0.25, 0.5])
    first, last = corpus.tracks[0, 0], corpus.tracks[0, 1] - 1
    start, end = (fleet.metres(corpus.lat[row], corpus.lon[row]) for row in (first, last))
    took_s = 2 * SIDE_M / MPS

    def known(before_ms: int) -> int:
        found = fleet.between(start, end, took_s, before_ms, share)
        # After half of the time it is at the corner, 1,500 m east and as much south of the middle of the line.
        for bow in found.bow_m:
            np.testing.assert_allclose(bow, [[750, -750], [1500, -1500]], atol=150)
        return len(np.unique(found.entity))

    begins, ends = (np.sort(corpus.ts_ms[corpus.tracks[:, 1] - 1 if last else corpus.tracks[:, 0]]) for last in (0, 1))
    assert known(int(ends[-1]) + 1) == 4
    assert known(int(ends[1]) + 1) == 2
    assert known(int(begins[1]) + 60_000) == 1, "the second is on its way"
    assert not len(fleet.between(end, start, took_s, int(ends[-1]) + 1, share).entity), "nobody goes back"
    assert not len(fleet.between(start, end, took_s / 4, int(ends[-1]) + 1, share).entity), "nobody is that fast"


def test_a_number_is_chosen_by_some_entities_and_judged_by_the_others() -> None:
    entity = np.array([0, 0, 2, 2, 1, 1, 3, 3])
    errors = {0.0: np.full(8, 5.0), 1.0: np.array([1.0, 1, 1, 1, 9, 9, 9, 9])}
    number, gain = between.judged(errors, errors[0.0], entity)
    assert number == 1.0
    assert gain.ratio == pytest.approx(9 / 5)


def test_it_leads_from_files_to_a_report_and_knows_the_corner_that_others_took(
    lab_of: LabOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(between, "BLOCKS_S", (300.0,))
    # At any moment of the day, so that gaps begin anywhere.
    cars = together(*(corner(f"car-{i}", day=day, late_s=977.0 * (7 * i + day)) for i in range(24) for day in range(6)))
    finding = between.run(lab_of({"cars": cars}))
    assert_it_becomes_a_report(finding, "between", tmp_path)
    (row,) = finding.tables[0].rows
    found = dict(zip(finding.tables[0].columns, row, strict=False))
    assert found["passages known, %"] > 80
    assert found["passages, %"] < -30
    ((_, trips, _, like_min, *_),) = finding.tables[1].rows
    assert trips > 0
    assert like_min < 0.1, "every trip takes as long as those before"


def test_a_file_without_room_for_a_gap_is_refused(lab_of: LabOf) -> None:
    cars = together(*(corner(f"car-{i}", day=day, cadence_s=130.0) for i in range(24) for day in range(6)))
    with pytest.raises(ValueError, match=r"no track"):
        between.run(lab_of({"cars": cars}))
