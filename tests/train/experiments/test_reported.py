"""What the judge of reported velocities asks: thinned tracks that report what the full ones knew, and no more."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from train_worlds import LabOf, MakeCorpus, assert_it_becomes_a_report, fleet, wander

from train.data.cutting import EVALUATION
from train.data.resampling import thinned
from train.experiments.questions import reported
from train.experiments.questions.reported import BOTH, NOTHING, SPEED, STILL, TURNED, UNIT, Row


def test_a_way_of_telling_tells_no_more(make_corpus: MakeCorpus) -> None:
    thin = thinned(make_corpus(wander("a", 300, 1, cadence_s=3.0), cut=EVALUATION), 12.0)
    ways = {NOTHING: (False, False), SPEED: (True, False), BOTH: (True, True), TURNED: (True, True)}
    for way, tells in ways.items():
        asked = reported.with_reports(thin, way)
        assert (np.isfinite(asked.speed_mps).any(), np.isfinite(asked.heading_deg).any()) == tells
        np.testing.assert_array_equal(asked.lat, thin.lat)


def test_a_receiver_that_errs_does_so_in_one_way(make_corpus: MakeCorpus) -> None:
    thin = thinned(make_corpus(wander("a", 300, 1, cadence_s=3.0), cut=EVALUATION), 12.0)
    known = np.isfinite(thin.speed_mps)
    still, unit, turned = (reported.with_reports(thin, way) for way in (STILL, UNIT, TURNED))
    assert not still.speed_mps[known].any()
    assert not still.heading_deg[known].any()
    np.testing.assert_allclose(unit.speed_mps, 3.6 * thin.speed_mps, rtol=1e-6)
    np.testing.assert_array_equal(unit.heading_deg, thin.heading_deg)
    np.testing.assert_array_equal(turned.speed_mps, thin.speed_mps)
    np.testing.assert_allclose((turned.heading_deg - thin.heading_deg)[known] % 360, 90, atol=1e-3)
    assert (turned.heading_deg[known] < 360).all()
    for asked in (still, unit, turned):
        assert not np.isfinite(asked.speed_mps[~known]).any()


@pytest.mark.slow
def test_it_leads_from_files_to_a_report(lab_of: LabOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which says which file it is of, as its command names all that were given: the dense one, or the first."""
    monkeypatch.setattr(reported, "WEIGHTS", {"small": "test"})
    monkeypatch.setattr(reported, "GAPS", 5)
    cars, said = fleet(24, 700, cadence_s=3.0), list[str]()
    finding = reported.run(lab_of({"cars": cars, "more": cars}, say=said.append))
    assert finding.notes[0] == said[0] == "Only cars.parquet is judged on, not more.parquet"
    assert_it_becomes_a_report(finding, "reported", tmp_path)
    forecasts, _ = finding.tables
    assert [row[1:3] for row in forecasts.rows] == [
        (f"{s}", w) for s in (15, 60) for w in (*reported.RIGHT, *reported.WRONG)
    ]
    assert [row[-4] is not None for row in forecasts.rows] == ([False] * 2 + [True] * 4) * 2
    assert len({row[3] for row in forecasts.rows}) == 12  # each way asks something else


@pytest.mark.parametrize(
    ("pings", "cadence_s", "says"),
    [
        (90, 15.0, "every 15 s, no track of 10 pings or more tells a speed"),  # no two fixes tell how fast it goes
        (130, 3.0, "every 60 s, no track of 10 pings or more tells a speed"),  # 7 of each are left
        (215, 3.0, "every 60 s, no track has room for a gap of 2 min"),
    ],
)
def test_a_file_that_tells_nothing_is_refused(
    lab_of: LabOf, monkeypatch: pytest.MonkeyPatch, pings: int, cadence_s: float, says: str
) -> None:
    """It once wrote NaN, and concluded from numbers that were all alike that whoever knows them should send them."""
    monkeypatch.setattr(reported, "WEIGHTS", {"small": "all"})
    monkeypatch.setattr(reported, "BLOCKS_S", (120.0,))
    monkeypatch.setattr(reported, "RIGHT", (NOTHING,))
    monkeypatch.setattr(reported, "WRONG", ())
    with pytest.raises(ValueError, match=f"cars.parquet: thinned to a ping {says}"):
        reported.run(lab_of({"cars": fleet(3, pings, cadence_s=cadence_s)}))


def row(way: str, next_m: float, fill_m: float) -> Row:
    ahead_m, fills_m = (next_m, 90.0, 500.0, 900.0), (fill_m, 40.0, np.nan)
    return Row("small", 60.0, way, ahead_m, (0.9,) * 4, (np.nan,) * 4, fills_m, (1.0,) * 3)


def test_the_words_follow_from_the_numbers() -> None:
    nothing, both = row(NOTHING, 100.0, 40.0), row(BOTH, 80.0, 30.0)
    both = replace(both, ahead_m=(80.0, 90.0, 500.0, 450.0))  # of forecasts, the next ping alone is named
    wrong = [row(STILL, 101.0, 40.0), row(UNIT, 90.0, 40.8), row(TURNED, 100.0, 40.0)]
    good = reported.conclude([nothing, row(SPEED, 90.0, 40.0), both, *wrong])
    assert "-20.0 and -12.5 % (small, a ping every 60 s)" in good
    assert "No error gets larger by more than 1 %" in good
    assert good.endswith("changes most does so by +2.0 % (small, a ping every 60 s, km/h for m/s).")
    harming = replace(both, ahead_m=(80.0, 95.0, 500.0, 900.0))
    bad = reported.conclude([nothing, row(SPEED, 90.0, 44.0), harming, *wrong])
    assert "every 60 s, reported speed (+10.0 %); small, a ping every 60 s, reported speed and course (+5.6 %);" in bad
