"""The kinds of storage, for the tests of the archive."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest


@pytest.fixture(params=["folder", "memory", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where an archive may lie: a folder, fsspec's memory, or a real S3 server."""
    return _root(request, tmp_path)


@pytest.fixture(params=["folder", "memory"])
def near_root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The same without a server, for tests of many writes."""
    return _root(request, tmp_path)


def _root(request: pytest.FixtureRequest, folder: Path) -> str:
    if request.param == "folder":
        return str(folder / "pings")
    if request.param == "memory":
        return f"memory://archive-{uuid.uuid4().hex}"
    return f"{request.getfixturevalue('s3')}/{uuid.uuid4().hex}"
