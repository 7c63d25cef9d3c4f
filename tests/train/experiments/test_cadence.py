"""What the judge of cadences asks: tracks of two cadences in turn, the pings of each bin, true words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from train_worlds import MakeCorpus, WriteFile, assert_it_becomes_a_report, lively, together, track, wander

from model.config import ModelConfig
from stream.adapters.sources import parse
from train.data.cutting import EVALUATION
from train.evaluation.forecasts import Sample, answers_of, errors_en_m
from train.experiments.lab.lab import Lab
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


def test_it_leads_from_files_to_a_report(
    write_file: WriteFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cadence, "WEIGHTS", {"small": "test"})
    monkeypatch.setattr(cadence, "CHANGES_S", ((6.0, 18.0),))
    monkeypatch.setattr(cadence, "PHASE_S", 240.0)
    monkeypatch.setattr(cadence, "FEW", 1)
    cars = write_file(together(*(wander(f"car-{i}", 400, i, cadence_s=3.0) for i in range(24))), "cars.parquet")
    finding = cadence.run(Lab((parse(cars),), tmp_path / "scratch", cache=tmp_path / "cache"))
    assert_it_becomes_a_report(finding, "cadence", tmp_path)
    changes, files = finding.tables
    assert [row[2] for row in changes.rows] == ["0", "1", "2 to 3", "4 to 8", "9 to 15"]
    # The last interval again is right from the first on; before, it is off by the change, whatever is forecast.
    assert changes.rows[1][5] < 1.5 < 2.0 < changes.rows[0][5] < 3.0
    assert all(row[4] > 1 for row in changes.rows)
    assert 1.05 < files.rows[0][-1] < 1.5  # the cadence of a wanderer is uneven
    assert files.rows[0][-2] != files.rows[0][-1]


def test_a_file_without_a_change_that_can_be_judged_is_refused(
    write_file: WriteFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It once concluded that the next ping's time is missed "by factors of nan, nan, nan, nan"."""
    monkeypatch.setattr(cadence, "WEIGHTS", {"small": "all"})
    cars = write_file(together(*(wander(f"car-{i}", 90, i, cadence_s=5.0) for i in range(3))), "cars.parquet")
    with pytest.raises(
        ValueError, match=r"cars\.parquet: fewer than 30 pings come 1, 2 to 3, 4 to 8, 9 to 15 intervals"
    ):
        cadence.run(Lab((parse(cars),), tmp_path / "scratch", cache=tmp_path / "cache"))


def test_of_each_track_as_it_is_only_the_first_pings_are_asked(
    write_file: WriteFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cars = write_file(together(*(wander(f"car-{i}", 60, i) for i in range(24))), "cars.parquet")
    lab = Lab((parse(cars),), tmp_path / "scratch", cache=tmp_path / "cache")
    whole = cadence._usual(lively(TINY), "tiny", lab.data[0], lab)
    monkeypatch.setattr(cadence, "LONGEST", 20)
    first = cadence._usual(lively(TINY), "tiny", lab.data[0], lab)
    assert first.n % (20 - 9) == 0, "of twenty pings the first eight have too few before them, and the last has no next"
    assert 0 < first.n < whole.n / 2


def test_errors_are_those_of_the_anchors_of_the_bin(make_corpus: MakeCorpus, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each horizon's own, over the best physics' on the same anchors; and times of the pings of the bin."""
    monkeypatch.setattr(cadence, "PHASE_S", 240.0)
    monkeypatch.setattr(cadence, "FEW", 1)
    whole = make_corpus(together(*(wander(f"e{i}", 400, i, cadence_s=3.0) for i in range(6))), cut=EVALUATION)
    corpus, seen = cadence.alternating(whole, 6.0, 18.0)
    predictor = lively(TINY)
    sample = Sample("f", "test", "", corpus, len(corpus), 1)
    rows = cadence._judge(predictor, "tiny", "change", sample, seen)
    judged = answers_of(sample, predictor)
    assert judged.next_s is not None
    for row, (low, high) in zip(rows, cadence.BINS.values(), strict=True):
        mine = (low <= seen[judged.anchors.row]) & (seen[judged.anchors.row] <= high)
        for share, column in zip(row.ahead, (1, 2), strict=True):
            asked = np.flatnonzero(mine & (judged.anchors.target[:, column] >= 0))
            errors = {
                name: np.hypot(*errors_en_m(corpus, judged.anchors, answer, asked, column).T).mean()
                for name, answer in judged.answers.items()
            }
            assert share == pytest.approx(errors.pop("model") / min(errors.values()))
        assert row.n == mine.sum() > 0
        at = judged.anchors.row[mine]
        last, true = ((corpus.ts_ms[at + offset] - corpus.ts_ms[at + offset - 1]) / 1000.0 for offset in (0, 1))
        eight = np.array([np.median(np.diff(corpus.ts_ms[one - 8 : one + 1])) for one in at]) / 1000.0
        for factor, told in ((row.off, judged.next_s[mine]), (row.repeated, last), (row.typical, eight)):
            assert factor == pytest.approx(np.exp(np.abs(np.log(told / true)).mean()))
        assert row.off != row.repeated


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
