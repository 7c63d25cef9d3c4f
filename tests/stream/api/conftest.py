"""A server of the API with a few entities. No answer is late here: a busy machine is not a failure."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from api_rig import InMemory, Served, asker_of, newest_of, served
from engine_rig import CHECKPOINT, Rig, steady

from stream.api.asking import asker, states, tracks
from stream.api.http import application

PATIENCE_S = 120.0


@pytest.fixture(autouse=True)
def no_answer_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in ((asker, "ANSWER_S"), (states, "CALL_S"), (tracks, "ANSWER_S"), (application, "ANSWER_S")):
        monkeypatch.setattr(module, name, PATIENCE_S)


@pytest.fixture
async def api(rig: Rig, make_predictor: Any) -> AsyncIterator[Served]:
    """Two entities with states and forecasts, one with a state alone."""
    await rig.feed(*steady("bus-1", 30), *steady("bus-2", 3), CHECKPOINT)
    newest = newest_of(rig.out)
    await rig.feed(*steady("quiet", 20), CHECKPOINT)
    asker = asker_of(InMemory(rig.store), make_predictor(), newest=newest)
    async with served(asker, make_predictor(), newest) as found:
        yield found
