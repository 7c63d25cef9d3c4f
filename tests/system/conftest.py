"""Every test in this folder talks to real servers."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.config import SMALL
from model.network import checkpoint, network


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.system)


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of the real architecture and size, made here: what is delivered does not depend on training."""
    directory = tmp_path_factory.mktemp("weights")
    checkpoint.save_pretrained(network.build(SMALL, seed=0), directory, "made by a test, not trained")
    return directory
