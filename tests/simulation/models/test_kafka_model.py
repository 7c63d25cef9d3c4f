"""Holds the model of Kafka to Apache Kafka: the same requests are sent to both, and every answer must be the same: its
error, offsets, epochs, what readers of both kinds see, committed offsets and generations.

What one broker cannot show, and is held to Kafka's sources and texts alone: elections, clean or not, and what follows
from them (more than one leader epoch, logs that get shorter, coordinators that move), power cuts, and compaction, which
a broker does when it likes. Times are the real ones: a session takes six seconds, a late abort up to eleven.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial

import kafka_chance_histories as chance
import kafka_group_histories as groups
import kafka_histories as logs
import pytest
from kafka_server import Broker
from kafka_sides import ModelSide, RealSide, Side
from kafka_wire import Wire

pytestmark = pytest.mark.slow

History = Callable[[Side], Awaitable[None]]
SEEDS = range(6)
HISTORIES: dict[str, History] = {
    **{one.__name__: one for one in (*logs.ALL, *groups.ALL)},
    **{f"transactions_by_chance_{seed}": partial(chance.transactions_by_chance, seed=seed) for seed in SEEDS},
    **{f"groups_by_chance_{seed}": partial(chance.groups_by_chance, seed=seed) for seed in SEEDS},
}


async def run_on_model(history: History, prefix: str) -> list[str]:
    side = ModelSide(prefix, time.time())
    await history(side)
    return side.trace


async def run_on_broker(history: History, prefix: str, bootstrap: str) -> list[str]:
    wire = Wire(bootstrap)
    try:
        await wire.find_coordinators(f"{prefix}-g", f"{prefix}-t")
        side = RealSide(prefix, wire)
        await history(side)
    finally:
        await wire.close()
    return side.trace


async def compare(bootstrap: str, prefix: str, histories: dict[str, History]) -> dict[str, str]:
    """Runs all side by side, as most of them wait, and returns the first difference of each that has one."""
    names = list(histories)
    real = await asyncio.gather(
        *(run_on_broker(histories[name], f"{prefix}-{at}", bootstrap) for at, name in enumerate(names)),
        return_exceptions=True,
    )
    found = {}
    for at, (name, trace) in enumerate(zip(names, real, strict=True)):
        if isinstance(trace, BaseException):
            found[name] = f"the broker's side ended with {trace!r}"
            continue
        modelled = await run_on_model(histories[name], f"{prefix}-{at}")
        assert len(modelled) > 10, name
        for step, (one, other) in enumerate(zip(trace, modelled, strict=False)):
            if one != other:
                found[name] = f"step {step}\n  Kafka {one}\n  model {other}"
                break
        else:
            if len(trace) != len(modelled):
                found[name] = f"{len(trace)} steps, and {len(modelled)} of the model"
    return found


@pytest.mark.system
async def test_the_model_answers_as_apache_kafka(broker: Broker, topic_prefix: str) -> None:
    if not broker.apache:
        pytest.skip("needs Apache Kafka: the model is one of it")
    found = await compare(broker.bootstrap, topic_prefix, HISTORIES)
    assert not found, "\n".join(f"{name}: {what}" for name, what in found.items())
