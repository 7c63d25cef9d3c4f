"""Fixtures that turn columns into files and corpora, in the test's own directory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from train_worlds import Columns, MakeCorpus, MakeSample, WriteFile

from stream.adapters.column_names import ColumnMap
from stream.adapters.sources import parse
from train.data.corpus import Corpus, load
from train.data.cutting import EVALUATION, TRAINING, Cut
from train.evaluation.baselines import fitted_filters
from train.evaluation.forecasts import Sample


@pytest.fixture
def write_file(tmp_path: Path) -> WriteFile:
    """write_file(columns, name="tracks.parquet") -> path; the suffix chooses the format."""

    def write(columns: Columns, name: str = "tracks.parquet") -> Path:
        path, table = tmp_path / name, pa.table(dict(columns))
        if path.suffix == ".csv":
            pa.csv.write_csv(table, path)
        else:
            pa.parquet.write_table(table, path)
        return path

    return write


@pytest.fixture
def make_corpus(write_file: WriteFile, tmp_path: Path) -> MakeCorpus:
    """make_corpus(columns, cut=..., name=..., mapped="lat=y") -> the corpus of one file."""

    def make(columns: Columns, *, cut: Cut = TRAINING, name: str = "tracks.parquet", mapped: str = "") -> Corpus:
        file = parse(write_file(columns, name), ColumnMap.parse(mapped) if mapped else None)
        return load([file], tmp_path / "cache", cut=cut)

    return make


@pytest.fixture
def open_corpus(tmp_path: Path) -> Callable[..., Corpus]:
    """open_corpus(given, ...) -> the corpus of what a user may give to --data."""
    return lambda *given: load(given, tmp_path / "cache")


@pytest.fixture
def make_sample(make_corpus: MakeCorpus) -> MakeSample:
    """make_sample(columns) -> all tracks of one file, as they are cut for the judge."""

    def make(columns: Columns, *, name: str = "tracks.parquet") -> Sample:
        corpus = make_corpus(columns, cut=EVALUATION, name=name)
        return Sample("world", "all", "-", corpus, len(corpus), 1)

    return make


@pytest.fixture
def few_for_the_imm(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fit of the IMM takes nine tenths of the time of all fits: for tests that ask nothing of its numbers."""
    monkeypatch.setattr(fitted_filters, "IMM_ANCHORS", 60)  # of 600


@pytest.fixture
def quick_fit(few_for_the_imm: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests that ask no more than what is fitted to which file."""
    monkeypatch.setattr(fitted_filters, "ANCHORS", 200)  # of 2,000
