"""Every test in this folder talks to real servers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import shared_stack
from shared_stack import Stack

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


@pytest.fixture(scope="session")
def stack(kafka: str, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A worker that has answered pings of buses, for all tests that only ask; its module says what they may do."""
    with shared_stack.running(kafka, weights, tmp_path_factory.mktemp("stack")) as found:
        yield found
