"""A server of the API with a few entities. No answer is late here: a busy machine is not a failure."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any

import pytest
import pytest_asyncio
from api_rig import InMemory, Served, newest_of, questions_of, served
from engine_rig import CHECKPOINT, Rig, steady

from stream.api.answers import questions, states, tracks
from stream.api.http import application
from stream.api.live.newest import Newest

PATIENCE_S = 120.0


@pytest.fixture(autouse=True)
def no_answer_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in ((questions, "ANSWER_S"), (states, "CALL_S"), (tracks, "ANSWER_S"), (application, "ANSWER_S")):
        monkeypatch.setattr(module, name, PATIENCE_S)


def start(
    rig: Rig, make_predictor: Any, newest: Newest | None = None, *, asks: dict[str, Any] | None = None, **how: Any
) -> AbstractAsyncContextManager[Served]:
    """Serves the states that a rig has stored, and the forecasts of `newest`. See `questions_of` and `served`."""
    heard = newest_of() if newest is None else newest
    asker = questions_of(how.pop("reader", InMemory(rig.store)), make_predictor(), newest=heard, **asks or {})
    return served(asker, make_predictor(), heard, **how)


@pytest.fixture
def serve(rig: Rig, make_predictor: Any) -> Callable[..., AbstractAsyncContextManager[Served]]:
    return partial(start, rig, make_predictor)


async def newest_of_entities(rig: Rig) -> Newest:
    """Feeds two entities with states and forecasts, and one with a state alone."""
    await rig.feed(*steady("bus-1", 30), *steady("bus-2", 3), CHECKPOINT)
    newest = newest_of(rig.out)
    await rig.feed(*steady("quiet", 20), CHECKPOINT)
    return newest


@pytest.fixture
async def own_api(rig: Rig, serve: Any) -> AsyncIterator[Served]:
    """A server for a test that changes something in it, or in the store of the rig."""
    async with serve(await newest_of_entities(rig)) as found:
        yield found


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def api(make_predictor: Any) -> AsyncIterator[Served]:
    """One server of the same entities for all tests that only ask: they run in its loop, too."""
    rig = Rig(make_predictor)
    async with start(rig, make_predictor, await newest_of_entities(rig)) as found:
        yield found
