"""Schemathesis asks every operation what its document allows and what it forbids: no answer is a 5xx, and each fits the
document. Streams never end, so they are left out: their parameters are those of other operations.

`positive_data_acceptance` is not checked: that a box lies the right way round, that a text is a time, or that there are
as many times as positions cannot be said in a schema. Such requests get a documented 4xx.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from api_rig import NOW_MS, SECRET, InMemory, newest_of, questions_of, served
from engine_rig import CHECKPOINT, Rig, steady
from hypothesis import HealthCheck, Phase, seed, settings
from schemathesis.checks import CHECKS

from stream.api.openapi import document
from stream.api.operations import OPERATIONS

pytestmark = pytest.mark.slow

EXAMPLES = 25  # of each operation: some 10 s in all
SEED = 35
STREAMS = ("/v1/stream", "/v1/ws")
NOT_CHECKED = ("positive_data_acceptance",)

schema = schemathesis.openapi.from_dict(document()).exclude(path=list(STREAMS))


@pytest.fixture(scope="module")
def base(make_predictor: Any) -> Iterator[str]:
    """A server on an event loop of its own thread, as the tests of schemathesis block theirs."""
    found: list[str] = []
    up, over = threading.Event(), threading.Event()

    async def serve() -> None:
        rig = Rig(make_predictor)
        await rig.feed(*steady("0", 30), *steady("bus-1", 30), CHECKPOINT)
        newest = newest_of(rig.out)
        asker = questions_of(InMemory(rig.store), make_predictor(), newest=newest, now_ms=NOW_MS)
        async with served(asker, make_predictor(), newest, token=SECRET) as api:
            found.append(api.base)
            up.set()
            await asyncio.to_thread(over.wait)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert up.wait(60)
    yield found[0]
    over.set()
    thread.join(60)


@schema.parametrize()
@seed(SEED)
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=False,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)
def test_no_request_breaks_it_and_every_answer_fits_the_document(case: Any, base: str) -> None:
    response = case.call(base_url=base, headers={"Authorization": f"Bearer {SECRET}"})
    excluded = [CHECKS.get_one(name) for name in NOT_CHECKED]
    case.validate_response(response, excluded_checks=excluded)


def test_all_operations_but_streams_are_fuzzed() -> None:
    fuzzed = {operation.ok().path for operation in schema.get_all_operations()}
    assert fuzzed == {one.path for one in OPERATIONS} - set(STREAMS)
