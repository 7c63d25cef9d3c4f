"""The picture: which cases it shows, the ellipse by hand, and that a file comes out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from train_worlds import MakeCorpus, fleet

from model.kinematics.geo import haversine_m
from train.data.anchors import motion_strata
from train.data.cutting import EVALUATION
from train.evaluation import plots
from train.evaluation.forecasts import JudgedForecasts, Sample, build_report, roll_out


@pytest.fixture
def sample(make_corpus: MakeCorpus) -> Sample:
    corpus = make_corpus(fleet(3, 80), cut=EVALUATION)
    return Sample("world.parquet", "all", "-", corpus, len(corpus), 1)


@pytest.fixture
def judged(sample: Sample) -> JudgedForecasts:
    return roll_out(sample, None)


def test_an_ellipse_holds_nine_tenths_and_lies_along_the_larger_variance() -> None:
    width, height, angle = plots.ellipse(np.array([5.0, 4.0, 5.0]))  # variance 9 along (1, 1), 1 across
    assert width == pytest.approx(2 * 3 * 2.1460, rel=1e-4)
    assert height == pytest.approx(2 * 2.1460, rel=1e-4)
    assert angle % 180 == pytest.approx(45.0)


def test_each_example_does_what_it_stands_for_and_is_a_typical_one(sample: Sample, judged: JudgedForecasts) -> None:
    examples = plots.find_examples(sample.corpus, judged, "kalman")
    anchors, answer, corpus = judged.anchors, judged.answers["kalman"], sample.corpus
    for doing, mask in motion_strata(corpus, anchors).items():
        index = examples[doing]
        assert index is not None
        assert mask[index]
        assert (anchors.target[index] >= 0).all()
        whole = mask & (anchors.target >= 0).all(axis=1)
        lat, lon = (column[anchors.target[:, 2]] for column in (corpus.lat, corpus.lon))
        error = haversine_m(lat, lon, answer.lat[:, 2], answer.lon[:, 2])
        assert 0.25 < (error[whole] < error[index]).mean() < 0.75
    assert plots.find_examples(corpus, judged, "kalman") == examples


@pytest.mark.parametrize(
    ("files", "drawn"),
    [
        (["a.parquet"], ["p.png"]),
        (["taxis.2019.csv", "porto:taxis.csv"], ["p-taxis.2019.png", "p-porto:taxis.png"]),
        (["a.csv", "a.csv", "1-a.csv"], ["p-1-a.png", "p-2-a.png", "p-3-1-a.png"]),  # of two folders
        (["a.csv", "A.parquet"], ["p-1-a.png", "p-2-A.png"]),  # where a disk takes them for one
    ],
)
def test_no_two_files_share_a_picture(files: list[str], drawn: list[str]) -> None:
    assert plots.picture_paths(Path("out/p.png"), files) == [Path("out", name) for name in drawn]


@pytest.mark.parametrize(("name", "starts"), [("a.png", b"\x89PNG"), ("a.svg", b"<?xml")])
def test_a_picture_is_written_in_the_kind_that_its_name_asks_for(
    sample: Sample, judged: JudgedForecasts, tmp_path: Path, name: str, starts: bytes
) -> None:
    plots.draw_report(tmp_path / name, sample, build_report(sample, judged), judged, "no model")
    assert (tmp_path / name).read_bytes().startswith(starts)


def test_errors_of_zero_have_a_place_in_the_picture(sample: Sample, judged: JudgedForecasts) -> None:
    """Parked tracks: baselines without an error were in the legend and not on the logarithmic axis."""
    horizons = build_report(sample, judged)["horizons"]
    for mean_m, scale in ((0.1, "log"), (0.0, "linear")):
        horizons["60"]["stay"] |= {"mean_m": mean_m, "mean_low_m": mean_m}
        axis = plots._figure()[1][0]
        plots._draw_errors(axis, horizons, ["stay", "kalman"])
        assert axis.get_yscale() == scale
        assert all(np.isfinite(axis.transData.transform(line.get_xydata())).all() for line in axis.get_lines())
