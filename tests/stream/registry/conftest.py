"""Where the registries of these tests lie."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest


@pytest.fixture(params=["local", "memory", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty registry of each kind."""
    if request.param == "local":
        return str(tmp_path / "registry")
    if request.param == "memory":
        return f"memory://{uuid.uuid4().hex}"
    return f"{request.getfixturevalue('s3')}/{uuid.uuid4().hex}"


@pytest.fixture(params=["local", "s3"])
def shared_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty registry that several processes reach."""
    if request.param == "local":
        return str(tmp_path / "registry")
    return f"{request.getfixturevalue('s3')}/{uuid.uuid4().hex}"
