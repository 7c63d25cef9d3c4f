"""What most tests of delivery begin with: a broker and a store in memory, and pauses of a millisecond."""

from __future__ import annotations

import pytest
from delivery_rig import FlakyStore, Kafka

from stream.delivery import checkpointer
from stream.delivery.ownership import ownership


@pytest.fixture
def kafka() -> Kafka:
    return Kafka()


@pytest.fixture
def store() -> FlakyStore:
    return FlakyStore()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpointer, "RETRY_S", (0.001,))
    monkeypatch.setattr(ownership, "FENCED_PAUSE_S", 0.001)
