"""The two kinds of storage, for all tests of the archive."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(params=["folder", "memory"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Where an archive may lie: a folder, or fsspec's memory."""
    if request.param == "folder":
        yield str(tmp_path / "pings")
        return
    import fsspec

    name = f"/archive-{uuid.uuid4().hex}"
    yield f"memory:/{name}"
    memory = fsspec.filesystem("memory")
    if memory.exists(name):
        memory.rm(name, recursive=True)
