"""What the judge of cadences asks: tracks of two cadences in turn, the pings of each bin, true words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from train_worlds import LabOf, MakeCorpus, assert_it_becomes_a_report, fleet, track

from model.config import ModelConfig
from train.data.cutting import EVALUATION
from train.experiments.questions import cadence
from train.experiments.questions.cadence import Row, Usual

TINY = ModelConfig(name="tiny", d=16, blocks=1, heads=2, window=8)


def test_cadences_take_turns_and_each_ping_knows_how_many_of_the_new_it_has_seen(make_corpus: MakeCorpus) -> None:
    """A ping every 2 s for 50 minutes, as one every 10 s for 15 minutes, one a minute for 15, and again."""
    times_s = 2.0 * np.arange(1_500)
    corpus, seen = cadence.alternating(make_corpus(track("a", times_s, 7 * times_s), cut=EVALUATION), 10.0, 60.0)
    (first, last), ts_s = corpus.tracks[0], (corpus.ts_ms - corpus.ts_ms[0]) / 1000
    assert (first, last) == (0, len(corpus.ts_ms))
    steps = np.diff(ts_s)
    assert set(steps) == {10.0, 60.0}
    second = (ts_s % 1_800) >= 900
    np.testing.assert_array_equal(seen == -1, ~second)
    assert seen[second].tolist() == [*range(15)] * 1 + [*range(len(seen[second]) - 15)]
    # What has been seen is how many of the last intervals are of the new cadence.
    for at in np.flatnonzero(seen > 0):
        assert (steps[at - seen[at] : at] == 60).all()
        assert steps[at - seen[at] - 1] == 10


def test_it_leads_from_files_to_a_report(lab_of: LabOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cadence, "WEIGHTS", {"small": "test"})
    monkeypatch.setattr(cadence, "CHANGES_S", ((6.0, 18.0),))
    monkeypatch.setattr(cadence, "PHASE_S", 240.0)
    monkeypatch.setattr(cadence, "FEW", 1)
    finding = cadence.run(lab_of({"cars": fleet(24, 400, cadence_s=3.0)}))
    assert_it_becomes_a_report(finding, "cadence", tmp_path)
    changes, files = finding.tables
    assert [row[2] for row in changes.rows] == ["0", "1", "2 to 3", "4 to 8", "9 to 15"]
    # The last interval again is right from the first on; before, it is off by the change, whatever is forecast.
    assert changes.rows[1][5] < 1.5 < 2.0 < changes.rows[0][5] < 3.0
    assert all(row[4] > 1 for row in changes.rows)
    assert 1.05 < files.rows[0][-1] < 1.5  # the cadence of a wanderer is uneven
    assert files.rows[0][-2] != files.rows[0][-1]


def test_a_file_without_a_change_that_can_be_judged_is_refused(lab_of: LabOf, monkeypatch: pytest.MonkeyPatch) -> None:
    """It once concluded that the next ping's time is missed "by factors of nan, nan, nan, nan"."""
    monkeypatch.setattr(cadence, "WEIGHTS", {"small": "all"})
    said = r"cars\.parquet: fewer than 30 pings come 1, 2 to 3, 4 to 8, 9 to 15 intervals"
    with pytest.raises(ValueError, match=said):
        cadence.run(lab_of({"cars": fleet(3, 90, cadence_s=5.0)}))


def row(seen: str, off: float, ahead: float) -> Row:
    return Row("small", "10 s to 60 s", seen, 100, off, 1.1, 2.2, (ahead, np.nan))


def test_the_words_follow_from_the_numbers() -> None:
    bins = zip(cadence.BINS, (6.0, 4.0, 3.0, 1.5, 1.2), (1.2, 0.9, 1.0, 0.9, 0.8), strict=True)
    rows = [row(*one) for one in bins]
    other = replace(rows[2], change="60 s to 10 s", off=np.nan, ahead=(0.1, 0.1))  # late of it is not known
    good = Usual("small", "taxis", 1_000, 1.2, 1.5, 1.3)
    said = cadence.conclude([*rows, other], [good])
    assert "by factors of 4.00, 3.00, 1.50, 1.20 after 1, 2 to 3, 4 to 8, 9 to 15 intervals" in said
    assert "the last interval again is off by 1.10 and the median of the last eight by 2.20; " in said
    assert "100 % of the best physics' error after 2 to 3 and 80 % after 9 to 15" in said
    assert said.endswith("they are nearer than the last interval again and the median of the last eight in each.")
    said = cadence.conclude(rows[:4], [good, replace(good, data="buses", typical=1.1)])
    assert said.endswith("the median of the last eight but in buses (small: 1.20, 1.10).")
    said = cadence.conclude(rows[:4], [good, replace(good, data="ships", off=1.6)])
    assert "best physics" not in said
    assert said.endswith("the median of the last eight but in ships (small: 1.60, 1.30).")
