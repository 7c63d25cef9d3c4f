"""Where the registries of these tests lie."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from registry_rig import BUCKET, CREDENTIALS, s3_server


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """The URL of a bucket of a real S3 server, which this process and those that it starts find by the environment."""
    with s3_server() as endpoint, pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL": endpoint}.items():
            patch.setenv(name, value)
        import s3fs

        s3fs.S3FileSystem().mkdir(BUCKET)
        yield f"s3://{BUCKET}"


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
