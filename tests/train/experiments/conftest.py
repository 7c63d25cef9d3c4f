"""A lab over files that a test writes itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from train_worlds import Columns, LabOf, WriteFile

from stream.adapters.sources import parse
from train.experiments.lab.lab import Lab


@pytest.fixture
def lab_of(write_file: WriteFile, tmp_path: Path) -> LabOf:
    """lab_of({"cars": columns}, effort=0.02) -> a lab over cars.parquet, with a cache and a scratch folder."""

    def lab_of(files: dict[str, Columns], **options: Any) -> Lab:
        sources = tuple(parse(write_file(columns, f"{name}.parquet")) for name, columns in files.items())
        return Lab(sources, tmp_path / "scratch", cache=tmp_path / "cache", **options)

    return lab_of
