"""Fixtures that turn columns into files and corpora, in the test's own directory."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from train_worlds import Columns, MakeCorpus, WriteFile

from train.data.corpus import Corpus, load
from train.data.cutting import Cut
from train.evaluation.baselines import fitted_filters


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
    """make_corpus(columns, cut=..., name=...) -> the corpus of one file."""

    def make(columns: Columns, *, cut: Cut | None = None, name: str = "tracks.parquet") -> Corpus:
        return load([write_file(columns, name)], tmp_path / "cache", cut=cut or Cut())

    return make


@pytest.fixture
def few_for_the_imm(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fit of the IMM takes nine tenths of the time of all fits: for tests that ask nothing of its numbers."""
    monkeypatch.setattr(fitted_filters, "IMM_ANCHORS", 60)  # of 600


@pytest.fixture
def quick_fit(few_for_the_imm: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests that ask no more than what is fitted to which file."""
    monkeypatch.setattr(fitted_filters, "ANCHORS", 200)  # of 2,000
